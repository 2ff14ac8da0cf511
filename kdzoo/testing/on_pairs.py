"""Calls a strategy on pairs of networks of which it may refuse some."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kdzoo.errors import PairError
from kdzoo.testing.check import Verdict, failed, passed
from kdzoo.testing.made import Pair, Shape
from kdzoo.testing.subject import Subject

Stages = Sequence[Shape]


def on_pairs(where: str, *pairs: Callable[[Subject], Pair]) -> Callable[[Subject], Verdict]:
    """A check that calls the strategy on each of these pairs; one that it refuses does not excuse the others."""

    def run(subject: Subject) -> Verdict:
        found, refusals = list[str](), list[PairError]()
        for make in pairs:
            try:
                pair = make(subject)
                call = subject.call(pair, subject.draw(pair))
            except PairError as error:
                refusals.append(error)
                continue
            if call.fault:
                return failed(f"{call.fault} {where}")
            found.append(call.told)
        if not found:
            raise refusals[0]
        return passed("; ".join([*found, *(f"one pair is refused: {error}" for error in refusals)]))

    return run
