"""What a record is made of, and the JSON of older schemas in today's form and back. No torch here."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field

from kdzoo.measures import AGREEMENT, BANK, SAMPLES, TOP1, TOP5, Measure, Scores, image_counts, image_scores, known
from kdzoo.refs import Frozen

Count = Annotated[int, Field(ge=0)]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Size(Frozen):
    """Parameters, and multiply-accumulates of one sample's forward pass."""

    parameters: Annotated[int, Field(ge=1)]
    macs: Count


class Epoch(Frozen):
    """One line of the learning curve: mean of each loss term over the epoch, and the main measure on tune after it, by
    its name.

    The latter is None where tune was not measured after the epoch (``eval_every``); after the last one it always is.
    """

    epoch: Count
    phase: str
    terms: dict[str, float]
    lr: float
    tune: Scores | None

    @property
    def score(self) -> float | None:
        """The main measure on tune, if it was measured."""
        return None if self.tune is None else next(iter(self.tune.values()))


class TeacherMeasures(Frozen):
    """The teacher as it was measured before it taught.

    Args:
        size: of the network.
        tune: on tune.
        test: on test.
        vouched: whether it taught only because somebody vouched for it: on test it was not above chance.
        weights: of one of several, the SHA-256 of its file of weights, or of timm's tensors.
        members: each of several teachers, in the order in which the cell has them; the rest is of all together.
    """

    size: Size
    tune: Scores
    test: Scores
    vouched: bool = False
    # Left out where they are empty: a record without them stays as it is, to the byte.
    weights: Annotated[str, Field(pattern="^([0-9a-f]{64})?$", exclude_if=operator.not_)] = ""
    members: Annotated[tuple[TeacherMeasures, ...], Field(exclude_if=operator.not_)] = ()

    def places(self) -> Iterator[tuple[str, TeacherMeasures]]:
        """What was measured, with where it stands in a record: of all together, then of each of several."""
        yield "teacher", self
        yield from ((f"teacher.members.{number}", member) for number, member in enumerate(self.members))


class AssistantMeasures(Frozen):
    """A network between teacher and student, as its own record has it.

    Args:
        cell: id of its cell.
        size: of the network.
        tune: on tune.
        test: on test.
        weights: SHA-256 of its file of weights.
        seconds: of its training alone.
    """

    cell: str
    size: Size
    tune: Scores
    test: Scores
    weights: Digest
    seconds: Annotated[float, Field(ge=0)]


class PeerMeasures(Frozen):
    """A second student, which learned at the same time.

    Args:
        size: of the network.
        tune: on tune.
        test: on test; None for a trial.
    """

    size: Size
    tune: Scores
    test: Scores | None


class Found(Frozen):
    """What a race had seen when it chose a setting, all of it on tune.

    Args:
        strategies: how many it compared, the student alone not among them.
        trials: their settings, each trained as far as it got.
    """

    strategies: Annotated[int, Field(ge=1)]
    trials: Annotated[int, Field(ge=1)]


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


def scores_fault(scores: Mapping[str, int | float], declared: Sequence[Measure]) -> str:
    """What is wrong with the scores of a split; empty where nothing is."""
    samples = scores.get(SAMPLES)
    if not isinstance(samples, int) or samples < 1:
        return f"scores need their number of samples, {SAMPLES}, at least 1"
    measures = known(declared)
    for name, value in scores.items():
        if name == SAMPLES:
            continue
        if name not in measures or measures[name].volatile:
            return f"{name} is not a declared measure"
        if fault := measures[name].fault(value, samples):
            return fault
    if scores.get(TOP1.name, 0) > scores.get(TOP5.name, 100):
        return f"{TOP1.title} cannot be above {TOP5.title}"
    return ""


NAMED = 6
"""The first schema whose scores go by the names of measures."""

_OLD_TUNE = TOP1.on("tune")
"""What a line of the curve called its score before."""


def in_todays_form(values: dict[str, Any]) -> dict[str, Any]:
    """The JSON of a record of any schema as today's has it; it keeps its number, by which it is written again.

    Raises:
        ValueError: an older record holds what its schema does not.
    """
    version = values.get("record_schema")
    if not isinstance(version, int) or not 1 <= version < NAMED:
        return values
    values = dict(values)
    teacher = values.get("teacher")
    if isinstance(teacher, dict):
        values["teacher"] = teacher = dict(teacher)
    for place, holder in (("", values), ("teacher.", teacher or {})):
        for split in ("tune", "test"):
            if isinstance(counts := holder.get(split), dict):
                holder[split] = _scores_of(counts, place + split)
    agreement = values.pop(AGREEMENT.name, None)
    if agreement is not None:
        if values.get("test") is None:
            raise ValueError("a trial is not measured on test")
        values["test"][AGREEMENT.name] = agreement
    if isinstance(values.get("cost"), dict):
        values["cost"] = {BANK.name: 0.0} | values["cost"]
    if isinstance(curve := values.get("curve"), list):
        values["curve"] = [line_in_todays_form(line) for line in curve]
    return values


def line_in_todays_form(line: Any) -> Any:
    """A line of a learning curve of any schema as today's has it."""
    if isinstance(line, dict) and _OLD_TUNE in line:
        score = line[_OLD_TUNE]
        return _without(line, _OLD_TUNE) | {"tune": None if score is None else {TOP1.name: score}}
    return line


def _scores_of(counts: dict[str, Any], place: str) -> Scores:
    try:
        return image_scores(**counts)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{place}: {error}") from error


def in_older_form(values: dict[str, Any]) -> dict[str, Any]:
    """Today's JSON of a record as the schemas before the sixth had it."""
    agreement = (values["test"] or {}).pop(AGREEMENT.name, None)
    teacher = values["teacher"]
    for holder in (values, teacher or {}):
        for split in ("tune", "test"):
            if holder.get(split):
                holder[split] = image_counts(holder[split])
    curve = [_without(line, "tune") | {_OLD_TUNE: (line["tune"] or {}).get(TOP1.name)} for line in values["curve"]]
    return _without(values, "measures") | {AGREEMENT.name: agreement, "curve": curve}


def _without(values: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != name}
