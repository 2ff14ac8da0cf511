"""Where weights come from: a teacher's by ``--teacher-weights``, what students start from by ``--student-init``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

from kdzoo.cell import ModelRef, StrategyRef, TeacherRef
from kdzoo.config import StudentInit
from kdzoo.data.load import LoadedData
from kdzoo.errors import UsageError
from kdzoo.models.weights import body_digest, file_digest, load_weights
from kdzoo.models.zoo import create_model, names_weights, pretrained_classes
from kdzoo.recipe import Recipe

Weights: TypeAlias = Literal["trained", "finetuned", "pretrained", "file"]


def choose_weights(model: ModelRef, wanted: str, num_classes: int) -> Weights:
    """What ``auto``, ``train``, ``pretrained`` or a path means for a teacher.

    ``auto`` decides by the name alone, so that it means the same with and without a network: timm's weights where
    they have as many classes as the dataset, fine-tuned from them where the name says which (a tag, or a hub's
    model), else trained from scratch.

    Raises:
        UsageError: timm's weights are wanted, and do not fit.
    """
    if wanted not in ("auto", "pretrained"):
        return "trained" if wanted == "train" else "file"
    classes = pretrained_classes(model)
    if classes == num_classes:
        return "pretrained"
    if wanted == "pretrained":
        has = {None: "do not exist", 0: "have no classifier"}.get(classes, f"were trained for {classes} classes")
        raise UsageError(
            f"timm's weights of {model} {has}, and {num_classes} classes are needed; "
            "take --teacher-weights train, or a file"
        )
    return "finetuned" if names_weights(model) else "trained"


def choose_init(student: ModelRef, wanted: StudentInit | None, data: LoadedData) -> str:
    """What a student starts from, as its cells have it.

    A name that says which weights are meant is not passed over in silence: then one of the two must be asked for.

    Args:
        student: the network.
        wanted: ``random``, ``pretrained``, or None where nothing was said.
        data: the dataset.

    Raises:
        UsageError: the name says which weights are meant, and nothing was said; or there are none.
    """
    if wanted is None and names_weights(student):
        raise UsageError(
            f"the student {student} names weights, and students start at random: add --student-init pretrained to "
            "start from these weights, or --student-init random"
        )
    if wanted != "pretrained":
        return "random"
    if pretrained_classes(student) is None:
        raise UsageError(f"timm has no weights of the student {student}: leave --student-init out")
    return f"pretrained:{_pretrained_digest(student, data)[:16]}"


def resolve_teacher(
    model: ModelRef, wanted: str, data: LoadedData, recipe: Recipe, baseline: StrategyRef
) -> tuple[TeacherRef, Path | None]:
    """A teacher as cells name it, and its file if it has one; its weights are loaded once, to find out what is wrong.

    Args:
        model: the network.
        wanted: ``auto``, ``train``, ``pretrained`` or the path of a file.
        data: the dataset.
        recipe: how it is trained, if it must be.
        baseline: the strategy of that training.

    Raises:
        UsageError: the weights cannot be had, or belong to another network.
    """
    weights = choose_weights(model, wanted, data.ref.num_classes)
    if weights == "file":
        path = Path(wanted)
        load_weights(create_model(model, data.ref, data.mean, data.std).model, path)
        return TeacherRef(model=model, weights=weights, digest=file_digest(path)), path
    digest = None
    if weights != "trained":
        digest = _pretrained_digest(model, data)
    if weights == "pretrained":
        return TeacherRef(model=model, weights=weights, digest=digest), None
    return TeacherRef(model=model, weights=weights, recipe=recipe, strategy=baseline, seed=0, digest=digest), None


def _pretrained_digest(model: ModelRef, data: LoadedData) -> str:
    """Of timm's weights: a name alone would let timm publish better ones under an old cell's name."""
    return body_digest(create_model(model, data.ref, data.mean, data.std, pretrained=True).model)
