"""What is worth keeping, and the one line that says so. Plain arithmetic.

The decision counts all trainings of a bench, done or not. It is noted in the store
(:mod:`kdzoo.engine.bank.inventory`): a bench that is stopped and resumed reads the bank where it read it before, so
that its results stay the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, TypeAlias

from kdzoo.engine.bank.spec import signal_of

READING = 10**9
"""Bytes that a second reads, about, of rows that lie far apart."""

EntryView: TypeAlias = tuple[str, int]
"""One view of one entry: the entry's key, the view's number."""

Outcome = Literal["kept", "over", "single", "slow"]
"""Of a demand: it is kept; or over the budget, or each view is read once, or reading takes longer than the teacher."""


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

    @cached_property
    def places(self) -> frozenset[EntryView]:
        """Entries and views."""
        return frozenset(bytes_of([self]))


@dataclass
class Selection:
    """What is kept of some demands, and why the rest is not."""

    kept: list[Demand] = field(default_factory=list)
    over: list[tuple[Demand, int]] = field(default_factory=list)
    single: list[Demand] = field(default_factory=list)
    slow: list[Demand] = field(default_factory=list)

    @property
    def numbers(self) -> frozenset[int]:
        """Of the kept views."""
        return frozenset(number for demand in self.kept for number in demand.numbers)

    @property
    def bytes(self) -> int:
        """Of all that is kept."""
        return sum(bytes_of(self.kept).values())

    def by_outcome(self) -> dict[Outcome, list[Demand]]:
        """The demands, by what came of them."""
        over = [demand for demand, _ in self.over]
        return {"kept": self.kept, "over": over, "single": self.single, "slow": self.slow}


def choose_kept(
    demands: Sequence[Demand],
    budget: int,
    *,
    frugal: bool,
    have: Collection[EntryView] = (),
    pass_seconds: float | None = None,
) -> Selection:
    """Choose what is kept: first what spares most passes of the teacher for its bytes, as far as the budget goes.

    Args:
        demands: of trainings that share the passes of one teacher.
        budget: bytes that are left.
        frugal: keep nothing that is read only as often as it is made, or takes longer to read than to make.
        have: what was chosen before, and is free.
        pass_seconds: of the teacher over all samples of one view; None where that does not matter.
    """
    selection = Selection()
    left = list(demands)
    if frugal and pass_seconds is not None:
        selection.slow = [demand for demand in left if sum(demand.sizes.values()) > READING * pass_seconds]
        left = [demand for demand in left if demand not in selection.slow]
    while left:
        costs = [_cost(demand, {*have, *bytes_of(selection.kept)}) for demand in left]
        best = max(range(len(left)), key=lambda i: (left[i].showings / max(costs[i], 1), -i))
        demand, cost = left.pop(best), costs[best]
        if sum(size for place, size in bytes_of(selection.kept).items() if place not in have) + cost > budget:
            selection.over.append((demand, cost))
        else:
            selection.kept.append(demand)
    if frugal and sum(demand.showings for demand in selection.kept) <= len(selection.numbers):
        selection.single, selection.kept = selection.kept, []
    return selection


def recall_selection(outcomes: Iterable[tuple[Demand, Outcome]], have: Collection[EntryView]) -> Selection:
    """The selection that was made, from what came of each demand, and from all that is kept."""
    selection = Selection()
    for demand, outcome in outcomes:
        if outcome == "over":
            selection.over.append((demand, _cost(demand, have)))
        else:
            selection.by_outcome()[outcome].append(demand)
    return selection


def bytes_of(demands: Sequence[Demand]) -> dict[EntryView, int]:
    """The bytes of each entry in each view."""
    return {
        (key, number): size for demand in demands for key, size in demand.sizes.items() for number in demand.numbers
    }


def _cost(demand: Demand, have: Collection[EntryView]) -> int:
    return sum(size for place, size in bytes_of([demand]).items() if place not in have)


def explain_selection(
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
    everything = [demand for demands in selection.by_outcome().values() for demand in demands]
    whole = sum(demand.showings for demand in everything) * samples * seconds
    parts = []
    if selection.kept:
        views = len(selection.numbers)
        passes = views * samples * seconds
        spared = sum(demand.showings for demand in selection.kept) * samples * seconds - passes
        cells = sum(demand.count for demand in selection.kept)
        parts.append(
            f"{form}, {views} {_plural('view', views)} x {samples:,} samples of {of}, {_contents(selection)}, "
            f"{bytes_text(selection.bytes)}, saves about {_duration(spared)} of {_duration(whole)} of teacher time "
            f"({cells} {_plural('cell', cells)})"
        )
    for demand, cost in selection.over:
        what = " and ".join(dict.fromkeys(signal_of(text) for text in demand.texts.values()))
        parts.append(
            f"{what} of {demand.strategy} on the fly: {bytes_text(cost)} "
            + (
                f"over the budget of {bytes_text(budget)}"
                if cost > budget
                else f"more than is left of {bytes_text(budget)}"
            )
        )
    for demands, why in (
        (selection.single, "each cached view would be read only once"),
        (selection.slow, "reading the cache would take longer"),
    ):
        if demands:
            names = ", ".join(dict.fromkeys(demand.strategy for demand in demands))
            parts.append(f"not used for {names}: {why}; {of} runs on the fly")
    return "bank: " + "; ".join([*parts, *remarks])


def _contents(selection: Selection) -> str:
    """The kept signals: ``logits + embedding + 2 maps``."""
    texts = sorted({text for demand in selection.kept for text in demand.texts.values()})
    named = [signal_of(text) for text in texts]
    maps = named.count("stages") + named.count("pre_stages")
    words = [name for name in dict.fromkeys(named) if name not in ("stages", "pre_stages")]
    words.sort(key=lambda name: (name != "logits", name))
    return " + ".join(words + ([f"{maps} {_plural('map', maps)}"] if maps else []))


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"


def bytes_text(count: int) -> str:
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
