"""The record: the result of one cell, typed, versioned and complete in itself. No torch here."""

from __future__ import annotations

import operator
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from kdzoo.cell import Cell, canonical_json
from kdzoo.jsontext import damaged, parse_sealed, sealed
from kdzoo.measures import (
    AGREEMENT,
    IMAGES,
    TOP1,
    Measure,
    Scores,
    declaration_fault,
    known,
    main_of,
)
from kdzoo.record_parts import (
    NAMED,
    AssistantMeasures,
    Count,
    Digest,
    Environment,
    Epoch,
    Found,
    PeerMeasures,
    Size,
    TeacherMeasures,
    in_older_form,
    in_todays_form,
    scores_fault,
)
from kdzoo.refs import Frozen

SCHEMA = 9
"""Newest version of the record's form.

2 brought trials, which can be pruned and are not measured on test; 3 what the teacher bank did; 4 epochs that were not
measured on tune, and compiled networks; 5 how a teacher from a file is shown images, which of the file's entries was
taken, teachers that were vouched for, settings that a strategy changed, cells that ended their process, a seal, and the
digests of the weights; 6 scores by the names of measures, in the place of counts; 7 several teachers, and networks
between teacher and student, and second students; 8 balanced terms; 9 rungs of a race, and what a race chose.

Whatever has nothing of the last three is still written as the sixth (:func:`schema_of`), to the byte.

A reader refuses what is newer than itself and still reads what is older.
"""

EVALUATION = 1
"""Version of how measures are computed; raised when the same weights would be given other numbers."""


_SEALED = 5
"""The first schema whose records are sealed."""

_CHAINED, _BALANCED = 7, 8
"""The first schemas with several teachers, networks between teacher and student, and second students; and with balanced
terms."""


def schema_of(cell: Cell | None, found: Found | None = None) -> int:
    """The version in whose form the record of a cell is written: the oldest one that can hold it.

    Args:
        cell: whose record it is.
        found: what the record says of a race.
    """
    if found or (cell is not None and cell.kind == "rung"):
        return SCHEMA
    if cell is not None and cell.balance:
        return _BALANCED
    if cell is not None and (cell.hops or cell.peer or (cell.teacher is not None and cell.teacher.members)):
        return _CHAINED
    return NAMED


class Summary(Frozen):
    """What a board uses of a record: neither the curve, which is most of it, nor start, command and traceback. Whether
    the id is the cell's is not looked at.

    A trial or a rung is not measured on test, and can also be pruned: by the pruner, or by a non-finite loss.

    Args:
        record_schema: version of the record's form.
        evaluation: version of the measures.
        id: the cell's id.
        status: ``done``, ``failed``, or of a trial or a rung ``pruned``.
        cell: what was run, with all its configuration.
        family: the strategy's family.
        measures: the declarations of the measures that are not kdzoo's own.
        tune: the scores of the finished student on tune.
        test: its scores on test, how often it agrees with its teacher included; None for a trial or a rung.
        teacher: the teacher's size and measures; None for a teacher's own training.
        assistants: the networks between teacher and student, in the order in which the cell has them.
        peer: the second student, where there is one.
        student: the student's size, with the modules that its strategy leaves in it.
        adapter_parameters: parameters of the strategy that are left behind.
        cost: what it took, by the names of measures: seconds of wall time, bytes.
        environment: where it ran.
        ended: when it was recorded, UTC.
        reason: why it failed or was pruned.
        found: what the race had seen that chose the setting of this student; None where none did.
    """

    model_config = ConfigDict(extra="ignore")

    evaluation: Annotated[int, Field(ge=1)] = EVALUATION
    id: str
    status: Literal["done", "pruned", "failed"]
    cell: Cell
    record_schema: int = Field(ge=1, default_factory=lambda given: schema_of(given.get("cell")))
    family: str = ""
    measures: tuple[Measure, ...] = ()
    tune: Scores | None = None
    test: Scores | None = None
    teacher: TeacherMeasures | None = None
    assistants: Annotated[tuple[AssistantMeasures, ...], Field(exclude_if=operator.not_)] = ()
    peer: Annotated[PeerMeasures | None, Field(exclude_if=operator.not_)] = None
    student: Size | None = None
    adapter_parameters: Count = 0
    cost: Scores | None = None
    environment: Environment
    ended: str
    reason: str = ""
    found: Annotated[Found | None, Field(exclude_if=operator.not_)] = None

    @property
    def main(self) -> Measure:
        """The measure that ranks it."""
        return main_of(self.measures)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        trial = self.cell.only_selects
        if trial and self.test is not None:
            raise ValueError(f"a {self.cell.kind} is not measured on test")
        if self.status == "pruned" and not trial:
            raise ValueError("only a trial or a rung is pruned")
        if self.found and self.cell.kind != "student":
            raise ValueError("a race chooses students")
        if self.status != "done" and not self.reason:
            raise ValueError(f"a {self.status} record needs a reason")
        if self.status == "done" and (missing := sorted(self._missing(trial))):
            raise ValueError(f"a done record needs {', '.join(missing)}")
        return self

    def _missing(self, trial: bool) -> set[str]:
        """What a done record lacks."""
        needed = {"tune", "student", "cost"} | ({"teacher"} if self.cell.teacher else set())
        if not trial:
            needed.add("test")
        missing = {name for name in needed if getattr(self, name) is None}
        if self.teacher and self.cell.teacher and len(self.teacher.members) != len(self.cell.teacher.members):
            missing.add("each of its teachers")
        if len(self.assistants) != len(self.cell.hops):
            missing.add("each of its assistants")
        if (self.peer is None) != (self.cell.peer is None) or (self.peer and trial != (self.peer.test is None)):
            missing.add("its second student")
        scored = [self.main.name]
        if self.main is TOP1:
            scored = [measure.name for measure in IMAGES if measure is not AGREEMENT]
        for split, scores in (("tune", self.tune), ("test", self.test)):
            missing |= {f"{name} on {split}" for name in scored if scores is not None and name not in scores}
        if self.main is TOP1 and self.cell.teacher and self.test is not None and AGREEMENT.name not in self.test:
            missing.add(AGREEMENT.name)
        return missing

    @model_validator(mode="after")
    def _plausible(self) -> Self:
        if fault := declaration_fault(self.measures):
            raise ValueError(fault)
        scored = {"tune": self.tune, "test": self.test}
        if self.teacher is not None:
            for place, one in self.teacher.places():
                scored |= {f"{place}.tune": one.tune, f"{place}.test": one.test}
        for number, between in enumerate(self.assistants):
            scored |= {f"assistants.{number}.tune": between.tune, f"assistants.{number}.test": between.test}
        if self.peer is not None:
            scored |= {"peer.tune": self.peer.tune, "peer.test": self.peer.test}
        for place, scores in scored.items():
            if scores is not None and (fault := scores_fault(scores, self.measures)):
                raise ValueError(f"{place}: {fault}")
        measures = known(self.measures)
        for name, value in (self.cost or {}).items():
            if name not in measures or not measures[name].volatile:
                raise ValueError(f"cost: {name} is not a measure of cost")
            if fault := measures[name].fault(value, 1):
                raise ValueError(f"cost: {fault}")
        return self


class Record(Summary):
    """The result of one cell: done, with every measure, or failed, with the reason.

    Args (those of a :class:`Summary`, and):
        curve: one line an epoch.
        balance: by what the terms of the strategy, or of each strategy of a combination, were multiplied, by its name;
            empty where they have the weights of their parameters.
        started: when its last sitting began, UTC; ``cost`` sums all sittings of a run that was resumed.
        command: the command line of that sitting.
        traceback: where it failed.
        weights: SHA-256 of each file of weights that it left beside the record, by the file's name.
        deaths: how often it ended its process, where that is why it failed.
    """

    model_config = ConfigDict(extra="forbid")

    curve: tuple[Epoch, ...] = ()
    balance: dict[str, Annotated[float, Field(gt=0)]] = Field(default={}, exclude_if=operator.not_)
    started: str
    command: str
    traceback: str = ""
    weights: dict[str, Digest] = Field(default={})
    deaths: Count = 0

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.id != self.cell.id:
            raise ValueError(f"the id {self.id!r} is not the hash of the cell, {self.cell.id!r}")
        if self.status == "done" and self.curve and self.curve[-1].tune is None:
            raise ValueError(f"a done record needs {self.main.title} on tune after its last epoch")
        if self.status == "done" and bool(self.balance) != bool(self.cell.balance):
            raise ValueError("a done record needs the weights of balanced terms, and of no others")
        for number, line in enumerate(self.curve):
            if line.tune is not None and line.tune.keys() != {self.main.name}:
                raise ValueError(f"curve.{number}: tune needs {self.main.name} and nothing else")
            if line.score is not None and (fault := self.main.bound_fault(line.score)):
                raise ValueError(f"curve.{number}: {fault}")
        return self

    def of_race(self, found: Found) -> Record:
        """The record of a setting that a race chose, with what the race had seen."""
        return self.model_copy(update={"found": found, "record_schema": SCHEMA})

    def outcome(self) -> dict[str, Any]:
        """The part that the same cell must give again: all but cost, environment, times, command, who chose it and, as
        other processors round otherwise, the digests of its weights."""
        volatile = {"cost", "environment", "started", "ended", "command", "traceback", "weights", "deaths", "found"}
        exclude: dict[str, Any] = dict.fromkeys(volatile, True)
        exclude["teacher"] = {"members": {"__all__": {"weights"}}}
        exclude["assistants"] = {"__all__": {"weights", "seconds"}}
        schema = {"record_schema": schema_of(self.cell)} if self.found else {}
        return self.model_dump(mode="json", exclude=exclude) | schema

    def to_json(self) -> str:
        """The record as it stands in its file: one canonical line of its schema, sealed (see :mod:`kdzoo.jsontext`)."""
        values = self.model_dump(mode="json")
        if self.record_schema < NAMED:
            values = in_older_form(values)
        return sealed(values) if self.record_schema >= _SEALED else canonical_json(values) + "\n"


def parse_record(text: str | bytes, where: str, *, cell_id: str | None = None) -> Record:
    """Read a record from its JSON. Boards take for a record what this does, and nothing else.

    Args:
        text: the file's content.
        where: what to call the file in a message.
        cell_id: the cell whose record it should be; None takes that of any.

    Raises:
        DamagedError: it is not JSON, not a record, another cell's, or was changed after it was written.
        NewerError: it is of a newer schema.
    """
    record = parse_sealed(Record, text, where, version="record_schema", newest=SCHEMA, modern=in_todays_form)
    if cell_id is not None and record.id != cell_id:
        raise damaged(where, f"the record of cell {record.id}, which belongs into the folder of that name")
    return record
