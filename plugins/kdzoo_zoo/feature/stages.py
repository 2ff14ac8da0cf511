"""Which paired stages the losses on several of them compare."""

from __future__ import annotations

from kdzoo import PairError, Setup, StageShape
from kdzoo_zoo.tensors import common_size


def deepest_pairs(
    strategy: str, setup: Setup, last: int, *, positions: int = 1
) -> list[tuple[int, int, StageShape, StageShape, tuple[int, int]]]:
    """The deepest paired stages of which the common size has enough positions.

    Args:
        strategy: its name, for messages.
        setup: of the strategy.
        last: how many of the deepest paired stages count at most; 0 for all.
        positions: the fewest that a stage needs in order to count.

    Returns:
        For each stage, from the input to the deepest: the student's stage, the teacher's stage, their shapes, and the
        height and width that both maps are pooled to.

    Raises:
        PairError: there is no such stage.
    """
    if not setup.stage_pairs:
        raise PairError(f"{strategy} needs a paired stage, and these networks have none: choose other models")
    shapes = zip(setup.stage_pairs[-last:], setup.paired_shapes()[-last:], strict=True)
    found = [(s, t, ours, theirs, common_size(ours, theirs)) for (s, t), (ours, theirs) in shapes]
    found = [each for each in found if each[-1][0] * each[-1][1] >= positions]
    if not found:
        raise PairError(
            f"{strategy} compares positions, and every paired stage that counts has a single one: choose a larger "
            f"--img-size, or a smaller patch_size of a transformer"
        )
    return found
