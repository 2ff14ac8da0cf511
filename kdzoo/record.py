"""The record: the result of one cell, typed, versioned and complete in itself. No torch here."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from kdzoo.cell import Cell, Frozen, canonical_json
from kdzoo.jsontext import damaged, parse_sealed, sealed

SCHEMA = 5
"""Version of the record's form: 2 brought trials, which can be pruned and are not measured on test; 3 what the teacher
bank did; 4 epochs that were not measured on tune, and compiled networks; 5 how a teacher from a file is shown images,
which of the file's entries was taken, teachers that were vouched for, settings that a strategy changed, cells that
ended their process, a seal, and the digests of the weights.

A reader refuses what is newer than itself and still reads what is older.
"""

EVALUATION = 1
"""Version of how measures are computed; raised when the same weights would be given other numbers."""

Percent = Annotated[float, Field(ge=0, le=100)]
Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0)]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]

_SEALED = 5
"""The first schema whose records are sealed."""


class Measures(Frozen):
    """What one network scores on one split.

    Args:
        n: samples.
        correct1: samples whose first guess is right.
        correct5: samples whose label is among the first five guesses (all guesses, below five classes).
        nll: mean negative log-likelihood of the label, nats.
        ece: expected calibration error, 15 equal-width bins of confidence, percent.
    """

    n: Annotated[int, Field(ge=1)]
    correct1: Count
    correct5: Count
    nll: Annotated[float, Field(ge=0)]
    ece: Percent

    @model_validator(mode="after")
    def _counts_fit(self) -> Measures:
        if not self.correct1 <= self.correct5 <= self.n:
            raise ValueError("counts must satisfy correct1 <= correct5 <= n")
        return self

    @property
    def counts(self) -> tuple[int, int, int]:
        """Samples, and those that are right by the first guess and by the first five."""
        return self.n, self.correct1, self.correct5

    @property
    def top1(self) -> float:
        """Top-1 accuracy, percent."""
        return 100 * self.correct1 / self.n

    @property
    def top5(self) -> float:
        """Top-5 accuracy, percent."""
        return 100 * self.correct5 / self.n


class Size(Frozen):
    """Parameters, and multiply-accumulates of one sample's forward pass."""

    parameters: Annotated[int, Field(ge=1)]
    macs: Count


class Epoch(Frozen):
    """One line of the learning curve: mean of each loss term over the epoch, and top-1 on tune after it, percent.

    The latter is None where tune was not measured after the epoch (``eval_every``); after the last one it always is.
    """

    epoch: Count
    phase: str
    terms: dict[str, float]
    lr: float
    tune_top1: Percent | None


class TeacherMeasures(Frozen):
    """The teacher as it was measured before it taught.

    Args:
        size: of the network.
        tune: on tune.
        test: on test.
        vouched: whether it taught only because somebody vouched for it: on test it was not above chance.
    """

    size: Size
    tune: Measures
    test: Measures
    vouched: bool = False


class Cost(Frozen):
    """What the cell took. Seconds of wall time; all sittings together where a run was resumed.

    Args:
        train: training steps, the teacher's passes included.
        teacher: the teacher's passes alone, as part of ``train``.
        evaluate: evaluation of tune and test.
        bank: filling the teacher bank with what this cell was the first to read; not part of ``train``.
        peak_memory: largest memory of the process (resident) or, on an accelerator, of the device; bytes.
    """

    train: Seconds
    teacher: Seconds
    evaluate: Seconds
    bank: Seconds = 0.0
    peak_memory: Count


class Environment(Frozen):
    """Where the cell ran; nothing here is part of its identity.

    Args:
        versions: distribution -> version.
        device: the accelerator or the processor; ``2 x`` before it where two processes trained the cell together.
        threads: of torch.
        bank: what was read from the teacher bank, where it was kept and in which types; empty where the teacher ran
            in the loop.
        compiled: whether student and teacher ran through torch.compile.
        restored: settings of the process that the cell's strategy changed and that were put back after it.
    """

    versions: dict[str, str]
    device: str
    threads: Annotated[int, Field(ge=1)]
    bank: str = ""
    compiled: bool = False
    restored: tuple[str, ...] = ()


class Summary(Frozen):
    """What a board uses of a record: neither the curve, which is most of it, nor start, command and traceback. Whether
    the id is the cell's is not looked at.

    A trial is not measured on test, and can also be pruned: by the pruner, or by a non-finite loss.

    Args:
        record_schema: version of the record's form.
        evaluation: version of the measures.
        id: the cell's id.
        status: ``done``, ``failed``, or of a trial ``pruned``.
        cell: what was run, with all its configuration.
        family: the strategy's family.
        tune: the finished student on tune.
        test: the finished student on test; None for a trial.
        agreement: how often student and teacher guess the same class on test, percent.
        teacher: the teacher's size and measures; None for a teacher's own training.
        student: the student's size, with the modules that its strategy leaves in it.
        adapter_parameters: parameters of the strategy that are left behind.
        cost: what it took.
        environment: where it ran.
        ended: when it was recorded, UTC.
        reason: why it failed or was pruned.
    """

    model_config = ConfigDict(extra="ignore")

    record_schema: Annotated[int, Field(ge=1)] = SCHEMA
    evaluation: Annotated[int, Field(ge=1)] = EVALUATION
    id: str
    status: Literal["done", "pruned", "failed"]
    cell: Cell
    family: str = ""
    tune: Measures | None = None
    test: Measures | None = None
    agreement: Percent | None = None
    teacher: TeacherMeasures | None = None
    student: Size | None = None
    adapter_parameters: Count = 0
    cost: Cost | None = None
    environment: Environment
    ended: str
    reason: str = ""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        trial = self.cell.kind == "trial"
        if trial and (self.test, self.agreement) != (None, None):
            raise ValueError("a trial is not measured on test")
        if self.status == "pruned" and not trial:
            raise ValueError("only a trial is pruned")
        if self.status != "done" and not self.reason:
            raise ValueError(f"a {self.status} record needs a reason")
        if self.status == "done":
            needed = {"tune", "student", "cost"}
            needed |= set() if trial else {"test"}
            needed |= {"teacher"} if self.cell.teacher else set()
            needed |= {"agreement"} if self.cell.teacher and not trial else set()
            missing = sorted(name for name in needed if getattr(self, name) is None)
            if missing:
                raise ValueError(f"a done record needs {', '.join(missing)}")
        return self


class Record(Summary):
    """The result of one cell: done, with every measure, or failed, with the reason.

    Args (those of a :class:`Summary`, and):
        curve: one line an epoch.
        started: when its last sitting began, UTC; ``cost`` sums all sittings of a run that was resumed.
        command: the command line of that sitting.
        traceback: where it failed.
        weights: SHA-256 of each file of weights that it left beside the record, by the file's name.
        deaths: how often it ended its process, where that is why it failed.
    """

    model_config = ConfigDict(extra="forbid")

    curve: tuple[Epoch, ...] = ()
    started: str
    command: str
    traceback: str = ""
    weights: dict[str, Digest] = Field(default={})
    deaths: Count = 0

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.id != self.cell.id:
            raise ValueError(f"the id {self.id!r} is not the hash of the cell, {self.cell.id!r}")
        if self.status == "done" and self.curve and self.curve[-1].tune_top1 is None:
            raise ValueError("a done record needs top-1 on tune after its last epoch")
        return self

    def outcome(self) -> dict[str, Any]:
        """The part that the same cell must give again: all but cost, environment, times, command and, as other
        processors round otherwise, the digests of its weights."""
        volatile = {"cost", "environment", "started", "ended", "command", "traceback", "weights", "deaths"}
        return self.model_dump(mode="json", exclude=volatile)

    def to_json(self) -> str:
        """The record as it stands in its file: one canonical line, sealed (see :mod:`kdzoo.jsontext`)."""
        told = self.model_dump(mode="json")
        return sealed(told) if self.record_schema >= _SEALED else canonical_json(told) + "\n"


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
    record = parse_sealed(Record, text, where, version="record_schema", newest=SCHEMA)
    if cell_id is not None and record.id != cell_id:
        raise damaged(where, f"the record of cell {record.id}, which belongs into the folder of that name")
    return record
