"""When a strategy is called: how far the training is, how often it saw the batch, how sure the networks are."""

from __future__ import annotations

from dataclasses import dataclass

SURE = 8.0
"""Scale of the features at which a made-up network gives about half of its answers a probability above 0.9."""


@dataclass(frozen=True)
class Moment:
    """When a strategy is called.

    Args:
        progress: of the training.
        times: calls on the same batch, of which the last one counts: a memory may have to be filled first.
        scale: of the features, and so of the logits: a loss may wait for a teacher that is sure.
    """

    progress: float
    times: int
    scale: float = 1.0

    @property
    def told(self) -> str:
        """In words."""
        seen = ", on a batch that it has seen before" if self.times > 1 else ""
        return f"at progress {self.progress:g}{seen}" + (", where the networks are sure" if self.scale > 1 else "")


MOMENTS = tuple(
    Moment(progress, times, scale) for scale in (1.0, SURE) for times in (1, 2) for progress in (0.5, 0.99, 0.0)
)
"""All that are tried, the usual ones first."""
