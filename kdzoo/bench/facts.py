"""What a plan knows of data, teachers, networks and pairs: plain values. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from kdzoo.declarations import Profile, Signature, shared_signature
from kdzoo.refs import DataRef, ModelRef, Scalar, TeacherRef


@dataclass(frozen=True)
class DataFacts:
    """A dataset, as far as a plan shows it.

    Args:
        ref: what cells know of it.
        classes: the classes' names in the order of the labels.
        notes: what people should know of how the data were read.
        covers: what the fingerprint covers and what it trusts.
        files: whether its images are files that are decoded on the way.
        warning: what loading it changed of the process; empty where nothing was.
    """

    ref: DataRef
    classes: tuple[str, ...]
    notes: tuple[str, ...]
    covers: str
    files: bool
    warning: str = ""


@dataclass(frozen=True)
class TeacherFacts:
    """A teacher as cells name it.

    Args:
        ref: the teacher.
        file: of its weights, if they come from one.
        line: how a teacher from a file is shown images, and where that is known from.
        warning: what may be wrong with the file; empty where nothing is.
    """

    ref: TeacherRef
    file: Path | None = None
    line: str = ""
    warning: str = ""


@dataclass(frozen=True)
class NetworkFacts:
    """A network's shapes and size on a dataset.

    Args:
        signature: its shapes.
        profile: its size.
        classifier: its last linear layer with blank values, or why it has none; None where torch was not asked.
        pre_activations: what stands before the activations of its stages, likewise; see :class:`kdzoo.Setup`.
    """

    signature: Signature
    profile: Profile
    classifier: Annotated[Any, Field(exclude=True)] = None
    pre_activations: Annotated[Any, Field(exclude=True)] = None


def facts_together(members: Sequence[NetworkFacts]) -> NetworkFacts:
    """The shapes of what several teachers give together, and the size of all of them."""
    profiles = [member.profile for member in members]
    size = Profile(sum(one.parameters for one in profiles), sum(one.macs for one in profiles))
    return NetworkFacts(shared_signature([member.signature for member in members]), size)


@dataclass(frozen=True)
class PairPlan:
    """A pair on a dataset: shapes, sizes and the stages that face each other."""

    data: DataRef
    teacher: TeacherRef
    student: ModelRef
    init: str
    teacher_plan: NetworkFacts
    student_plan: NetworkFacts
    stage_pairs: tuple[tuple[int, int], ...]

    @property
    def question(self) -> list[Any]:
        """All that the shapes of the two networks depend on."""
        return [
            self.data.model_dump(),
            *network_question(self.teacher),
            *network_question(self.student, own_input=self.init != "random"),
        ]

    @property
    def plain(self) -> bool:
        """Whether both networks are timm's own."""
        return is_plain(self.teacher.model) and is_plain(self.student)

    def __str__(self) -> str:
        return f"{self.teacher.model} -> {self.student} on {self.data.name}"


@dataclass(frozen=True)
class PairCheck:
    """What came of building a strategy for a pair.

    Args:
        refused: why it cannot serve the pair; empty where it can.
        broken: the bug that showed; empty where none did.
        warning: what it changed of the process; empty where nothing was.
        hops: the networks between teacher and student, each with the hyperparameters by which it is trained.
        peer: the second student; empty for none.
        competes: whether terms stand beside the hard-label loss, so that they can be balanced.
    """

    refused: str = ""
    broken: str = ""
    warning: str = ""
    hops: tuple[tuple[str, dict[str, Scalar]], ...] = ()
    peer: str = ""
    competes: bool = False


def is_plain(model: ModelRef) -> bool:
    """Whether a model is timm's own by name; what a hub or a folder has may change."""
    return ":" not in model.name


def network_question(network: TeacherRef | ModelRef, own_input: bool = False) -> list[Any]:
    """What the shapes of a network depend on, beside the data."""
    if isinstance(network, TeacherRef):
        return [network.model.model_dump(), network.own_input, network.input and network.input.model_dump()]
    return [network.model_dump(), own_input, None]
