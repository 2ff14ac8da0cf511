"""Where ranks that train one cell together get the teacher's signals from."""

from __future__ import annotations

from kdzoo.engine.bank.sources import Banked, Lesson, Loop, Source
from kdzoo.engine.division import Division
from kdzoo.strategy import Batch, Outputs, Phase


class DividedLoop:
    """The :class:`~kdzoo.engine.bank.sources.Source` whose teacher runs on each rank's rows.

    The signals are reduced there, each sample by itself, and only what is left of them is sent around.

    Args:
        loop: the teacher, for whatever rows it is given.
        division: how batches are divided.
    """

    def __init__(self, loop: Loop, division: Division) -> None:
        self.loop, self.division = loop, division

    def open(self, phase: Phase, view: int) -> Lesson:
        """See :class:`~kdzoo.engine.bank.sources.Source`."""
        lesson = self.loop.open(phase, view)

        def divided(batch: Batch) -> Outputs:
            return self.division.whole(lesson(self.division.rows(batch)))

        return divided

    def told(self) -> str:
        """See :class:`~kdzoo.engine.bank.sources.Source`."""
        return self.loop.told()


def divided(source: Source, division: Division) -> Source:
    """The source for ranks that train together: the bank, of which each reads the whole batch, or the divided loop.

    The bank is read where every rank decided so. A view that one of them cannot have there is made for it by its own
    teacher, for the whole batch, so that nobody waits for anybody.

    Args:
        source: what this rank alone would use.
        division: how batches are divided.
    """
    banked = isinstance(source, Banked)
    if all(division.world.collect(banked)):
        return source
    loop = source.loop if isinstance(source, Banked) else source
    if not isinstance(loop, Loop):
        raise TypeError(f"{type(loop).__name__} cannot be divided among processes")
    return DividedLoop(loop, division)
