"""What is measured of a network. Each measure is declared once; records, boards, pages and checks follow from it.

A measure of a split is stored under its name in the split's scores, and one that depends on the machine (``volatile``)
in the record's cost. No torch here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from kdzoo.refs import Frozen

Scores: TypeAlias = dict[str, float | int]
"""What one network scores on one split: name of a measure -> number, beside the number of samples."""

SAMPLES = "n"
"""The name under which scores hold their number of samples."""

_NEAR = 1e-6
"""Samples by which a counted percentage may be off a whole number: rounding, at up to a billion samples."""


class Measure(Frozen):
    """A number that is measured of a network.

    Args:
        name: its name in records, in a board's frame, in CSV, JSON and trackers.
        label: what texts call it; the name, unless another one is given.
        header: the header of its column in tables; the label with a percent sign, unless another one is given.
        unit: ``%``, ``nats``, ``seconds``, ``bytes`` or another; empty for a pure number.
        digits: decimals that tables show.
        best: which values are the better ones.
        low, high: the least and the largest value that there is; None for no bound.
        main: whether it is what tuning selects and boards rank by; one measure of a kind of data is.
        counted: whether it is the percentage of the samples that something is true of, and so exact.
        volatile: whether it depends on the machine: it is kept in a record's cost, and never compared.
        tolerance: by how much two measurements of one network may differ; another processor adds up in another order.
        tolerance_elsewhere: the same where weights are measured again on another device.
        over_seeds: what a board gives of several seeds.
        help: what the column of a board's frame says, with the unit.
        note: what a printed board explains; empty for nothing.
        shown: where it is a column: of the ``frame`` (CSV, JSON), of the first ``table`` of a group, of the table with
            ``more`` of its rows, of the HTML ``page``.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    label: str = ""
    header: str = ""
    unit: str = ""
    digits: Annotated[int, Field(ge=0, le=9)] = 2
    best: Literal["highest", "lowest"] = "highest"
    low: float | None = None
    high: float | None = None
    main: bool = False
    counted: bool = False
    volatile: bool = False
    tolerance: Annotated[float, Field(ge=0)] = 0.0
    tolerance_elsewhere: Annotated[float, Field(ge=0)] = 0.05
    over_seeds: Literal["mean", "max"] = "mean"
    help: str = ""
    note: str = ""
    shown: tuple[Literal["frame", "table", "more", "page"], ...] = ("frame", "table", "more", "page")

    @property
    def title(self) -> str:
        """What texts call it."""
        return self.label or self.name

    @property
    def heading(self) -> str:
        """The header of its column in tables."""
        return self.header or (f"{self.title} %" if self.unit == "%" else self.title)

    @property
    def column(self) -> str:
        """The column of a frame: the name, with the unit where it is a time."""
        return f"{self.name}_seconds" if self.unit == "seconds" else self.name

    @property
    def sign(self) -> int:
        """1 where a higher value is better, else -1."""
        return 1 if self.best == "highest" else -1

    @property
    def unit_words(self) -> str:
        """The unit behind a comma; empty without one."""
        return f", {'percent' if self.unit == '%' else self.unit}" if self.unit else ""

    @property
    def difference_words(self) -> str:
        """The unit of a difference behind a comma; empty without one."""
        return ", points" if self.unit == "%" else self.unit_words

    def text(self, value: float, space: str = "") -> str:
        """A value as texts show it, never minus zero, with a percent sign where its values have one.

        Args:
            value: of the measure.
            space: what stands before the percent sign.
        """
        rounded = round(value, self.digits) + 0.0
        return f"{rounded:.{self.digits}f}" + (f"{space}%" if self.unit == "%" else "")

    def on(self, split: str) -> str:
        """Its column on a split; test is the split that boards are about."""
        return self.column if split == "test" else f"{split}_{self.column}"

    def bound_fault(self, value: float) -> str:
        """Why a value cannot be, by its bounds alone; empty where it can."""
        outside = (self.low is not None and value < self.low) or (self.high is not None and value > self.high)
        return f"{self.title} cannot be {value:g}" if outside else ""

    def fault(self, value: float, samples: int) -> str:
        """Why a value cannot be, of so many samples; empty where it can."""
        if fault := self.bound_fault(value):
            return fault
        if self.counted and abs(value * samples / 100 - round(value * samples / 100)) > _NEAR:
            return f"{self.title} of {value:g}% is no number of {samples:,} samples"
        return ""


TOP1 = Measure(
    name="top1",
    label="top-1",
    unit="%",
    low=0,
    high=100,
    main=True,
    counted=True,
    help="mean test top-1, percent",
)
TOP5 = Measure(
    name="top5",
    label="top-5",
    unit="%",
    low=0,
    high=100,
    counted=True,
    help="mean test top-5, percent",
    shown=("frame",),
)
NLL = Measure(
    name="nll",
    label="NLL",
    unit="nats",
    best="lowest",
    low=0,
    tolerance=1e-4,
    help="mean negative log-likelihood on test, nats",
    shown=("frame",),
)
ECE = Measure(
    name="ece",
    label="ECE",
    unit="%",
    best="lowest",
    low=0,
    high=100,
    tolerance=1e-4,
    help="mean expected calibration error on test, percent",
    note="expected calibration error, 15 bins",
    shown=("frame", "more", "page"),
)
AGREEMENT = Measure(
    name="agreement",
    header="agreement",
    unit="%",
    low=0,
    high=100,
    help="share of test samples on which student and teacher predict the same class, percent",
    note="share of test samples on which student and teacher predict the same class",
    shown=("frame", "more", "page"),
)
PEER = Measure(
    name="peer_top1",
    label="peer top-1",
    header="peer %",
    unit="%",
    low=0,
    high=100,
    counted=True,
    help="mean test top-1 of the second student, percent",
    note="test top-1 of the second student, where two learn at once",
    shown=("frame", "more", "page"),
)
IMAGES = (TOP1, TOP5, NLL, ECE, AGREEMENT)
"""What is measured of a network that classifies images."""


def _seconds(name: str, help: str, *shown: Literal["frame"]) -> Measure:
    return Measure(name=name, unit="seconds", best="lowest", low=0, volatile=True, help=help, shown=shown)


TRAIN = _seconds("train", "mean seconds of training steps, the teacher's passes included", "frame")
TEACHER = _seconds("teacher", "mean seconds of the teacher's passes", "frame")
EVALUATE = _seconds("evaluate", "evaluation of tune and test")
BANK = _seconds("bank", "filling the teacher bank")
BALANCE = _seconds("balance", "mean seconds of measuring what --balance weighs by, which train counts too", "frame")
ASSISTANTS = Measure(
    name="assistants",
    header="assistants s",
    unit="seconds",
    digits=0,
    best="lowest",
    low=0,
    volatile=True,
    help="mean seconds of training the networks between teacher and student, which train counts too",
    note="seconds of training the networks between teacher and student, which time counts too",
    shown=("frame", "more", "page"),
)
PEAK_MEMORY = Measure(
    name="peak_memory",
    unit="bytes",
    best="lowest",
    low=0,
    volatile=True,
    over_seeds="max",
    help="largest memory of any seed, bytes",
    shown=("frame",),
)
COST = (TRAIN, TEACHER, EVALUATE, BANK, PEAK_MEMORY)
"""What every cell took: seconds of wall time (all sittings together where a run was resumed), and the largest memory of
the process (resident) or, on an accelerator, of the device."""

OWN = {measure.name: measure for measure in (*IMAGES, PEER, *COST, ASSISTANTS, BALANCE)}
"""The measures that kdzoo declares, by name. A record brings the declarations of others along."""


def known(declared: Sequence[Measure]) -> dict[str, Measure]:
    """All measures that a record may hold, by name: those it declares, and kdzoo's own."""
    return OWN | {measure.name: measure for measure in declared} if declared else OWN


def in_order(measures: Iterable[Measure]) -> tuple[Measure, ...]:
    """Measures in the order of their columns: kdzoo's own as they are declared, then others by name."""
    places = {name: place for place, name in enumerate(OWN)}
    return tuple(sorted(measures, key=lambda measure: (places.get(measure.name, len(places)), measure.name)))


def main_of(declared: Sequence[Measure]) -> Measure:
    """What ranks: the declared main measure, or top-1 where none is declared."""
    return next((measure for measure in declared if measure.main), TOP1)


def declaration_fault(declared: Sequence[Measure]) -> str:
    """What is wrong with the declarations of a kind of data; empty where nothing is."""
    names = [measure.name for measure in declared]
    if taken := sorted({name for name in names if name in OWN or name == SAMPLES or names.count(name) > 1}):
        return f"the measure {taken[0]} is declared already"
    if sum(measure.main for measure in declared) > 1:
        return "only one measure can be the main one"
    if volatile := [measure.name for measure in declared if measure.main and measure.volatile]:
        return f"the measure {volatile[0]} depends on the machine, so it cannot be the main one"
    return ""


def exact_scores(scores: Mapping[str, int | float], declared: Sequence[Measure]) -> tuple[tuple[str, int | float], ...]:
    """The scores that two measurements of one network share to the last digit, by name."""
    measures = known(declared)
    nearly = {name for name in scores if name in measures and measures[name].tolerance}
    return tuple(sorted((name, value) for name, value in scores.items() if name not in nearly))


def image_scores(n: int, correct1: int, correct5: int, nll: float, ece: float) -> Scores:
    """The scores of a network that classifies images.

    Args:
        n: samples.
        correct1: samples whose first guess is right.
        correct5: samples whose label is among the first five guesses (all guesses, below five classes).
        nll: mean negative log-likelihood of the label, nats.
        ece: expected calibration error, 15 equal-width bins of confidence, percent.

    Raises:
        ValueError: the counts cannot be.
    """
    if not all(type(count) is int for count in (n, correct1, correct5)):
        raise ValueError("counts must be whole numbers")
    if not 0 <= correct1 <= correct5 <= n or n < 1:
        raise ValueError("counts must satisfy correct1 <= correct5 <= n")
    top1, top5 = (100 * count / n for count in (correct1, correct5))
    return {SAMPLES: n, TOP1.name: top1, TOP5.name: top5, NLL.name: nll, ECE.name: ece}


def hits(scores: Mapping[str, int | float], measure: Measure = TOP1) -> int:
    """How many samples a counted measure is true of, exactly."""
    return round(scores[measure.name] * scores[SAMPLES] / 100)


def image_counts(scores: Mapping[str, int | float]) -> Scores:
    """The scores as records up to schema 5 have them: the arguments of :func:`image_scores`."""
    counts = {"correct1": hits(scores, TOP1), "correct5": hits(scores, TOP5)}
    return {SAMPLES: scores[SAMPLES], **counts, NLL.name: scores[NLL.name], ECE.name: scores[ECE.name]}
