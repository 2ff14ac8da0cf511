"""``kdzoo pair``: the stages of two networks, which of them face each other, and what each network costs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from tabulate import tabulate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdzoo.bench.facts import PairPlan
    from kdzoo.declarations import Profile, Signature
    from kdzoo.refs import DataRef, ModelRef

Rows = list[list[str]]


def pair(
    *,
    teacher: Annotated[str, typer.Option(help="A timm model; arguments as in NAME:patch_size=4.")],
    student: Annotated[str, typer.Option(help="A timm model.")],
    dataset: Annotated[str, typer.Option(help="The dataset that sets classes, channels and size.")] = "digits",
    img_size: Annotated[str | None, typer.Option(help="Size of the images, pixels: 32 or 32x48.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the data.")] = None,
    teacher_weights: Annotated[
        str, typer.Option(help="auto, train, pretrained, or a file of weights, as in bench.")
    ] = "auto",
    teacher_input: Annotated[str | None, typer.Option(help="Input of a teacher from a file, as in bench.")] = None,
    student_init: Annotated[str, typer.Option(help="random or pretrained, as in bench.")] = "random",
    download: Annotated[bool, typer.Option("--download", help="Download missing data.")] = False,
    plugin: Annotated[list[Path] | None, typer.Option(help="A Python file with datasets or models.")] = None,
) -> None:
    """Show how the stages of two networks are paired, and how much smaller the student is. Nothing is trained."""
    from kdzoo.bench.facts import TeacherFacts
    from kdzoo.bench.teachers import choose_weights, resolve_file, teacher_network
    from kdzoo.data.load import open_data
    from kdzoo.declarations import pair_stages
    from kdzoo.errors import UsageError, unknown
    from kdzoo.files import from_home
    from kdzoo.inputs import parse_size, read_input
    from kdzoo.models.folders import name_by_content
    from kdzoo.models.zoo import check_model, create_model, profile_model
    from kdzoo.refs import ModelRef, TeacherRef
    from kdzoo.registry import Registry

    lookup = Registry.load(plugin or ()).find_dataset  # before any model is looked up: plugins bring those too
    if len(ModelRef.parse_several(teacher)) > 1:
        raise UsageError(f"{teacher} are several teachers, which share only their logits: give one of them")
    refs = name_by_content(ModelRef.parse(teacher)), name_by_content(ModelRef.parse(student))
    for ref in refs:
        check_model(ref)
    if student_init not in ("random", "pretrained"):
        raise UsageError(unknown("student init", student_init, ("random", "pretrained")))
    try:
        size = None if img_size is None else parse_size(img_size)
    except ValueError as error:
        raise UsageError(f"--img-size {error}") from error
    data = open_data(dataset, lookup, data_dir=data_dir, download=download, img_size=size)
    # As in a bench: a teacher with timm's weights sees the images as those weights expect them.
    weights = choose_weights(refs[0], teacher_weights, data.ref.num_classes)
    found = TeacherFacts(TeacherRef(model=refs[0], weights=weights))
    if weights == "file":
        try:
            asked = read_input(teacher_input) if teacher_input else None
        except ValueError as error:
            raise UsageError(f"--teacher-input {error}") from error
        found = resolve_file(refs[0], Path(from_home(teacher_weights)), data, asked)
        typer.echo("\n".join(filter(None, [found.line, found.warning and f"warning: {found.warning}"])), err=True)
    elif teacher_input:
        raise UsageError("--teacher-input is for weights from a file: give that file too (--teacher-weights)")
    models = [
        teacher_network(found.ref, data),
        create_model(refs[1], data.ref, data.mean, data.std, own_input=student_init == "pretrained"),
    ]
    signatures = [model.signature() for model in models]
    profiles = [profile_model(model, data.ref) for model in models]
    stages = stage_rows(signatures[1], signatures[0], pair_stages(signatures[1], signatures[0]))
    sizes = size_rows(profiles[1], profiles[0])
    typer.echo(_text(refs, data.ref, stages, sizes))


def stages_text(plan: PairPlan) -> str:
    """A planned pair in plain text: stages, pairing, sizes."""
    student, teacher = plan.student_plan, plan.teacher_plan
    stages = stage_rows(student.signature, teacher.signature, plan.stage_pairs)
    sizes = size_rows(student.profile, teacher.profile)
    return _text((plan.teacher.model, plan.student), plan.data, stages, sizes) + "\n"


def _text(refs: tuple[ModelRef, ModelRef], data: DataRef, *tables: Rows) -> str:
    height, width = data.img_size
    title = f"{refs[0]} -> {refs[1]} on {data.name} ({data.channels} x {height} x {width})"
    return "\n\n".join([title, *map(_plain, tables)])


def stage_rows(student: Signature, teacher: Signature, pairs: Sequence[tuple[int, int]]) -> Rows:
    """The stages of both networks, header first: those that face each other on one line, the others alone.

    Stages are counted from 1 at the input, and so are the paired ones, which is how parameters name them.
    """
    faces = dict(pairs)
    numbers = {s: str(number) for number, (s, _) in enumerate(pairs, start=1)}
    alone = [["", _stage(teacher, t), ""] for t in range(len(teacher.stages)) if t not in faces.values()]
    paired = [
        [numbers.get(s, ""), _stage(teacher, faces[s]) if s in faces else "", _stage(student, s)]
        for s in range(len(student.stages))
    ]
    ends = [
        ["", f"embedding: {teacher.embedding or 'none'}", f"embedding: {student.embedding}"],
        ["", "classes: " + str(teacher.num_classes), "classes: " + str(student.num_classes)],
    ]
    return [["paired", "teacher", "student"], *alone, *paired, *ends]


def size_rows(student: Profile, teacher: Profile) -> Rows:
    """Parameters and MACs of both networks and how many times the student is smaller, header first."""
    rows = [["", "teacher", "student", "compression"]]
    for name, of_teacher, of_student in (
        ("parameters", teacher.parameters, student.parameters),
        ("MACs of an image", teacher.macs, student.macs),
    ):
        rows.append([name, f"{of_teacher:,}", f"{of_student:,}", f"{of_teacher / max(of_student, 1):.2f}x"])
    return rows


def _stage(signature: Signature, index: int) -> str:
    channels, height, width = signature.stages[index]
    return f"stage {index + 1}: {channels} x {height} x {width}"


def _plain(rows: Rows) -> str:
    right = ["left"] + ["right"] * (len(rows[0]) - 1) if not rows[0][0] else None
    return tabulate(rows[1:], headers=rows[0], disable_numparse=True, colalign=right)
