"""Which cells are trained before another one can be, and in which order."""

from __future__ import annotations

from collections.abc import Iterable

from kdzoo.cell import PROTOCOL, Cell
from kdzoo.refs import DataRef, TeacherRef


def teacher_cell(teacher: TeacherRef, data: DataRef, protocol: int | None = None) -> Cell | None:
    """The cell that trains this teacher, which is one, by today's protocol or another; None where its weights come from
    elsewhere."""
    if teacher.recipe is None or teacher.strategy is None or teacher.seed is None:
        return None
    return Cell(
        kind="teacher",
        data=data,
        student=teacher.model,
        teacher=None,
        strategy=teacher.strategy,
        recipe=teacher.recipe,
        seed=teacher.seed,
        init="pretrained" if teacher.weights == "finetuned" else "random",
        protocol=protocol or PROTOCOL,
    )


def trainings(cell: Cell) -> list[Cell]:
    """The cells that are trained before this one can be, each behind those that it needs: those of its teachers, as far
    as kdzoo trains them, and those of the networks between teacher and student."""
    parts = cell.teacher.parts if cell.teacher else ()
    found = (teacher_cell(part, cell.data, cell.protocol) for part in parts)
    return [*(training for training in found if training), *assistant_cells(cell)]


def assistant_cells(cell: Cell) -> list[Cell]:
    """The cells of the networks between the teacher and the student of a cell, from the teacher's side.

    They have the recipe before tuning, and the seed of the cell: each seed of a row has assistants of its own.
    """
    return [
        Cell(
            kind="assistant",
            data=cell.data,
            student=hop.student,
            teacher=cell.teacher,
            strategy=hop.strategy,
            recipe=cell.tuned_from or cell.recipe,
            seed=cell.seed,
            init=hop.init,
            hops=cell.hops[:number],
            balance=hop.balance,
            protocol=cell.protocol,
        )
        for number, hop in enumerate(cell.hops)
    ]


def in_stages(cells: Iterable[Cell]) -> list[list[Cell]]:
    """Cells in groups, in the order in which these are trained: no cell waits for another one of its group."""
    stages: dict[tuple[int, int], list[Cell]] = {}
    for cell in cells:
        order = {"teacher": 0, "assistant": 1}.get(cell.kind, 2)
        stages.setdefault((order, len(cell.hops) if order == 1 else 0), []).append(cell)
    return [stages[place] for place in sorted(stages)]
