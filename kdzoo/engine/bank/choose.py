"""What is worth keeping, and the one line that says so. Plain arithmetic: the same bench decides the same again.

The decision counts all trainings of a bench, done or not, and never how fast the machine was: a bench that is stopped
and taken up again reads the bank where it read it before, so that its results stay the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kdzoo.engine.bank.spec import signal_of


@dataclass(frozen=True)
class Demand:
    """What equal trainings read.

    Args:
        strategy: their name.
        texts: key of an entry -> its text.
        sizes: key of an entry -> bytes of one view.
        numbers: of the views, one for each time that a training shows one.
        count: how many trainings.
    """

    strategy: str
    texts: Mapping[str, str]
    sizes: Mapping[str, int]
    numbers: tuple[int, ...]
    count: int

    @property
    def showings(self) -> int:
        """How often the teacher would run over the whole split in the loop."""
        return self.count * len(self.numbers)


@dataclass
class Selection:
    """What is kept of some demands, and why the rest is not."""

    kept: list[Demand] = field(default_factory=list)
    over: list[tuple[Demand, int]] = field(default_factory=list)
    single: list[Demand] = field(default_factory=list)

    @property
    def keys(self) -> frozenset[str]:
        """Of the kept entries."""
        return frozenset(key for demand in self.kept for key in demand.texts)

    @property
    def numbers(self) -> frozenset[int]:
        """Of the kept views."""
        return frozenset(number for demand in self.kept for number in demand.numbers)

    @property
    def bytes(self) -> int:
        """Of all that is kept."""
        return sum(_bytes(self.kept).values())


def select(demands: Sequence[Demand], budget: int, *, frugal: bool) -> Selection:
    """Choose what is kept: first what spares most passes of the teacher for its bytes, as far as the budget goes.

    Args:
        demands: of trainings that share the passes of one teacher.
        budget: bytes.
        frugal: keep nothing that is read only as often as it is made.
    """
    selection = Selection()
    left = list(demands)
    while left:
        have = _bytes(selection.kept)
        costs = [sum(size for place, size in _bytes([demand]).items() if place not in have) for demand in left]
        best = max(range(len(left)), key=lambda i: (left[i].showings / max(costs[i], 1), -i))
        demand, cost = left.pop(best), costs[best]
        if selection.bytes + cost > budget:
            selection.over.append((demand, cost))
        else:
            selection.kept.append(demand)
    if frugal and sum(demand.showings for demand in selection.kept) <= len(selection.numbers):
        selection.single, selection.kept = selection.kept, []
    return selection


def _bytes(demands: Sequence[Demand]) -> dict[tuple[str, int], int]:
    """The bytes of each entry in each view."""
    return {
        (key, number): size for demand in demands for key, size in demand.sizes.items() for number in demand.numbers
    }


def sentence(
    selection: Selection, form: str, *, of: str, samples: int, seconds: float, budget: int, remarks: Sequence[str] = ()
) -> str:
    """The line that says what was chosen and why.

    Args:
        selection: the choice.
        form: ``ram`` or ``disk``.
        of: the teacher and the dataset.
        samples: of the split.
        seconds: of the teacher's pass, for one sample.
        budget: bytes.
        remarks: more to say.
    """
    everything = [*selection.kept, *(demand for demand, _ in selection.over), *selection.single]
    whole = sum(demand.showings for demand in everything) * samples * seconds
    parts = []
    if selection.kept:
        views = len(selection.numbers)
        passes = views * samples * seconds
        spared = sum(demand.showings for demand in selection.kept) * samples * seconds - passes
        cells = sum(demand.count for demand in selection.kept)
        parts.append(
            f"{form}, {views} {_plural('view', views)} x {samples:,} samples of {of}, {_contents(selection)}, "
            f"{size_text(selection.bytes)}, saves about {_duration(spared)} of {_duration(whole)} of teacher time "
            f"({cells} {_plural('cell', cells)})"
        )
    for demand, cost in selection.over:
        what = " and ".join(dict.fromkeys(signal_of(text) for text in demand.texts.values()))
        parts.append(
            f"{what} of {demand.strategy} in the loop: {size_text(cost)} over the budget of {size_text(budget)}"
            if cost > budget
            else f"{what} of {demand.strategy} in the loop: {size_text(cost)} more than is left of {size_text(budget)}"
        )
    if selection.single:
        names = ", ".join(dict.fromkeys(demand.strategy for demand in selection.single))
        parts.append(f"{of} in the loop for {names}: each view would be read once")
    return "bank: " + "; ".join([*parts, *remarks])


def _contents(selection: Selection) -> str:
    """The kept signals: ``logits + embedding + 2 maps``."""
    texts = sorted({text for demand in selection.kept for text in demand.texts.values()})
    named = [signal_of(text) for text in texts]
    maps = named.count("stages")
    words = [name for name in dict.fromkeys(named) if name != "stages"]
    words.sort(key=lambda name: (name != "logits", name))
    return " + ".join(words + ([f"{maps} {_plural('map', maps)}"] if maps else []))


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"


def size_text(count: int) -> str:
    """Bytes for people: ``48 MiB``."""
    size, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.0f} {unit}" if size >= 10 or unit == "B" else f"{size:.1f} {unit}".replace(".0 ", " ")


def _duration(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"
