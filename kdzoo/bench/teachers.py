"""Where weights come from: a teacher's by ``--teacher-weights``, what students start from by ``--student-init``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

from kdzoo.bench.facts import TeacherFacts
from kdzoo.config import StudentInit
from kdzoo.data.load import LoadedData
from kdzoo.errors import UsageError
from kdzoo.inputs import AskedInput
from kdzoo.models.preprocessing import DatasetImages, check_classes, choose_input, stated_input
from kdzoo.models.taps import TappedModel
from kdzoo.models.teacher import Committee, Teacher
from kdzoo.models.weightfile import open_weights
from kdzoo.models.weights import body_digest, file_digest, fit_weights
from kdzoo.models.zoo import create_model, names_weights, pretrained_classes
from kdzoo.recipe import Recipe
from kdzoo.refs import ModelRef, StrategyRef, TeacherRef

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
    return f"pretrained:{pretrained_digest(student, data)[:16]}"


def resolve_teacher(
    model: ModelRef,
    wanted: str,
    data: LoadedData,
    recipe: Recipe,
    baseline: StrategyRef,
    asked: AskedInput | None = None,
) -> TeacherFacts:
    """Find out what a teacher is; weights that are there are loaded once, to find out what is wrong with them.

    Args:
        model: the network.
        wanted: ``auto``, ``train``, ``pretrained`` or the path of a file.
        data: the dataset.
        recipe: how it is trained, if it must be.
        baseline: the strategy of that training.
        asked: how the network of a file is shown images, over what the file tells.

    Raises:
        UsageError: the weights cannot be had, or belong to another network.
    """
    weights = choose_weights(model, wanted, data.ref.num_classes)
    if weights == "file":
        return resolve_file(model, Path(wanted), data, asked)
    digest = None
    if weights != "trained":
        digest = pretrained_digest(model, data)
    if weights == "pretrained":
        return TeacherFacts(TeacherRef(model=model, weights=weights, digest=digest))
    return TeacherFacts(
        TeacherRef(model=model, weights=weights, recipe=recipe, strategy=baseline, seed=0, digest=digest)
    )


def pretrained_digest(model: ModelRef, data: LoadedData) -> str:
    """Of timm's weights: a name alone would let timm publish better ones under an old cell's name."""
    return body_digest(create_model(model, data.ref, data.mean, data.std, pretrained=True).model)


def resolve_file(model: ModelRef, path: Path, data: LoadedData, asked: AskedInput | None = None) -> TeacherFacts:
    """A teacher whose weights are in a file, which is read and tried.

    Raises:
        UsageError: it cannot be read, is not this network's, or has the dataset's classes in another order.
    """
    file = open_weights(path)
    images = DatasetImages(data.ref, data.mean, data.std, data.shown.crop)
    shown, line = choose_input(asked, stated_input(file, model), model, images, path.name)
    ref = TeacherRef(model=model, weights="file", digest=file_digest(path), input=shown, average=file.average)
    notes = fit_weights(teacher_network(ref, data).model, file, ref.average)
    warning = check_classes(file.classes, data.classes, path)
    return TeacherFacts(
        ref, path, "; ".join([f"teacher {model} from {path} on {data.ref.name}: {line}", *notes]), warning
    )


def blank_teacher(ref: TeacherRef, data: LoadedData) -> Teacher:
    """A teacher, or several, with random weights."""
    made = [Teacher(teacher_network(part, data)) for part in ref.parts]
    return Committee(made) if ref.members else made[0]


def teacher_network(ref: TeacherRef, data: LoadedData, *, pretrained: bool = False) -> TappedModel:
    """The network of one teacher, as it is shown the images of a dataset.

    Args:
        ref: the teacher.
        data: the dataset.
        pretrained: whether timm's weights are loaded; else they are random.
    """
    return create_model(
        ref.model,
        data.ref,
        data.mean,
        data.std,
        pretrained=pretrained,
        own_input=ref.own_input,
        shown=ref.input,
        seen=data.shown.crop,
    )
