"""The union of two collections of records and studies, and where they contradict each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from kdzoo.board.escape import visible
from kdzoo.leaderboard.check.agreement import differences, told
from kdzoo.leaderboard.private import publishable, publishable_study
from kdzoo.record import Record
from kdzoo.study import Study

T = TypeVar("T", Record, Study)
Prefer = Literal["neither", "first", "second"]


@dataclass
class Union:
    """What two collections hold together.

    Attributes:
        records: by id.
        studies: by id.
        added: ids that only the second one brought.
        replaced: ids whose first one gave way to the second.
        kept: ids that both hold, where the first one stays.
        conflicts: one line for each id that both hold with different outcomes, which nothing decides.
    """

    records: dict[str, Record] = field(default_factory=dict)
    studies: dict[str, Study] = field(default_factory=dict)
    added: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)

    def add(self, records: Iterable[Record], studies: Iterable[Study], prefer: Prefer = "neither") -> None:
        """Take more in.

        Where one cell has two records, a done one goes before a failed one, and of two failed ones the later one.
        Two done ones with different outcomes are a conflict; NLL and ECE within 1e-4 of each other are not different.

        Args:
            records: as they are published.
            studies: as they are published.
            prefer: which of two that contradict each other is kept.
        """
        for record in records:
            self._add(self.records, record, prefer, _choose_record, _explain_record)
        for study in studies:
            self._add(self.studies, study, prefer, _choose_study, _explain_study)

    def _add(
        self,
        held: dict[str, T],
        new: T,
        prefer: Prefer,
        choose: Callable[[T, T], Literal["same", "first", "second", "conflict"]],
        explain: Callable[[T, T], str],
    ) -> None:
        old = held.setdefault(new.id, new)
        if old is new:
            self.added.append(new.id)
            return
        choice = choose(old, new)
        if choice == "conflict":
            if prefer == "neither":
                self.conflicts.append(visible(explain(old, new)))
            choice = "second" if prefer == "second" else "first"
        if choice == "second":
            held[new.id] = new
            self.replaced.append(new.id)
        else:
            self.kept.append(new.id)


def _choose_record(old: Record, new: Record) -> Literal["same", "first", "second", "conflict"]:
    if not _differences(old, new):
        return "same"
    if old.status == new.status == "done":
        return "conflict"
    return "second" if (new.status == "done", new.ended) > (old.status == "done", old.ended) else "first"


def _differences(old: Record, new: Record) -> list[str]:
    return differences(publishable(old).outcome(), publishable(new).outcome())


def _choose_study(old: Study, new: Study) -> Literal["same", "conflict"]:
    return "conflict" if differences(_outcome(old), _outcome(new)) else "same"


def _outcome(study: Study) -> list[dict[str, Any]]:
    """What a study found, without what it took."""
    return [trial.model_dump(mode="json", exclude={"seconds"}) for trial in publishable_study(study).trials]


def _explain_record(old: Record, new: Record) -> str:
    cell = old.cell
    pair = f"{cell.teacher.model} -> {cell.student}" if cell.teacher else str(cell.student)
    what = f"{cell.strategy.name} {pair} on {cell.data.name}, seed {cell.seed}"
    first, second = _told(old), _told(new)
    if first != second:
        return f"record {old.id} ({what}): {first} and {second}"
    return f"record {old.id} ({what}): {first} in both, and {told(_differences(old, new))}"


def _told(record: Record) -> str:
    top1 = f"{record.test.top1:.2f}%" if record.test else "no measure"
    return f"{top1}, evaluation {record.evaluation}"


def _explain_study(old: Study, new: Study) -> str:
    plan = old.plan
    what = f"{plan.strategy.name} {plan.teacher.model} -> {plan.student} on {plan.data.name}"
    found = differences(_outcome(old), _outcome(new), "trials")
    return f"study {old.id} ({what}): its trials gave other results: {told(found)}"
