"""The check that what is random at each step is meant to be."""

from __future__ import annotations

from torch import nn

from kdzoo.testing.calls import NO_TERMS
from kdzoo.testing.check import Check, Verdict, failed, passed, skipped, warned
from kdzoo.testing.subject import Subject


def _stochastic(subject: Subject) -> Verdict:
    if not subject.gives_terms:
        return skipped(NO_TERMS)
    claimed = subject.kind.stochastic
    if not subject.draws:
        if claimed:
            return warned("stochastic is claimed, and the terms are the same whatever is drawn: drop the claim")
        return passed("nothing is drawn at a step")
    if claimed:
        return passed("its terms depend on what is drawn at each step, as claimed (stochastic)")
    modules = subject.usual.strategy.modules()
    if any(isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0 for module in modules):
        return passed("its terms depend on its dropout modules")
    return failed(
        f"on the same batch and the same state {_told(subject)}: forward draws random numbers at each call, as where a "
        "projection or an adapter is made there instead of in build; if masks, negatives or the like shall be new at "
        "each step, claim stochastic = True"
    )


def _told(subject: Subject) -> str:
    """The terms under two seeds, in words."""
    one, other = subject.usual.values, subject.call(seed=1).values
    for name, value in one.items():
        if value != other.get(name):
            return f"{name} is {value:.6g} at one call and {other.get(name, 0.0):.6g} at another"
    return "the gradients of two calls differ"


STOCHASTIC = Check(
    name="stochastic",
    verifies="two calls on the same batch and the same state give the same terms and gradients, unless `stochastic` "
    "is claimed or the strategy has dropout modules of its own; a warning where it is claimed and not so",
    matters="a projection that is drawn again at each step is another target at each step, which no student can follow",
    mend="draw in `build`, and keep the result by `self.register_buffer(name, tensor)`; or claim `stochastic = True`",
    run=_stochastic,
    needs=("terms", "repeatable"),
)
