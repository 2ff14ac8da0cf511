"""Cells in lockstep: those whose teacher runs in the loop share its passes, as many at a time as memory holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from kdzoo.bench.crashes import crashes_of
from kdzoo.bench.events import Reporter
from kdzoo.bench.lab import Lab
from kdzoo.bench.run import build, course_of
from kdzoo.cell import Cell
from kdzoo.config import Rerun
from kdzoo.engine.bank.policy import bytes_text
from kdzoo.engine.course import Course, Stop
from kdzoo.engine.distiller import Distiller
from kdzoo.engine.lockstep_group import GeneratorState, LockstepGroup, MemoryEstimate, estimate_memory
from kdzoo.engine.resources import free_memory
from kdzoo.errors import raise_if_interrupted
from kdzoo.process_state import ProcessState
from kdzoo.record import Record

_SHARE = 0.8
"""Of the free memory, at most."""


def lockstep_groups(cells: Sequence[Cell], lab: Lab) -> list[list[Cell]]:
    """Cells that see the same batches and the same teacher, together, in the order in which each kind comes first.

    Args:
        cells: what to run.
        lab: knows the strategies.
    """
    kinds: dict[object, list[Cell]] = {}
    for cell in cells:
        recipe = cell.recipe
        strategy = lab.registry.of(cell.strategy).value
        key = (
            cell.teacher,
            cell.hops,
            cell.data,
            cell.seed_for("order"),
            cell.seed_for("mixup"),
            (recipe.batch_size, recipe.epochs, recipe.views, recipe.augment, recipe.mixup, recipe.cutmix),
            recipe.precision,
            strategy.views,
        )
        # One that ended its process goes alone, so that no other is taken for what ends the next one.
        apart: object = cell.kind == "teacher" or cell.peer or crashes_of(lab.store.folder(cell.id)).count
        kinds.setdefault(cell.id if apart else key, []).append(cell)
    return list(kinds.values())


@dataclass
class _Member:
    cell: Cell
    course: Course[Record | None]
    draws: GeneratorState = field(default_factory=GeneratorState)
    settings: ProcessState | None = None
    step: int = 0
    record: Record | None = None

    def go_on(self) -> bool:
        """Up to the next rest; False at the end.

        What the cell's strategy changed of the process holds for its own turns.
        """
        outer = ProcessState.now(quick=True)
        if self.settings is not None:
            self.settings.put_back()
        try:
            with self.draws.here():
                try:
                    self.step = next(self.course)
                except StopIteration as end:
                    self.record = end.value
                    return False
            return True
        finally:
            inner = ProcessState.now(quick=True)
            self.settings = None if inner.values == outer.values else inner
            outer.put_back()


def run_alike(
    cells: Sequence[Cell], lab: Lab, report: Reporter, rerun: Rerun, stops: Mapping[str, Stop], most: int
) -> Iterator[tuple[Cell, Record | None]]:
    """Run cells that :func:`lockstep_groups` put together.

    Args:
        cells: what to run.
        lab: store, data, plugins, device.
        report: who shows it.
        rerun: which finished cells run again.
        stops: id of a cell -> who may end it early.
        most: how many go in lockstep at a time, if memory allows it.

    Yields:
        Each cell when it has ended, with its record, or None where another process runs it.

    Raises:
        UsageError: the disk is full.
    """
    left, room = list(cells), 0
    while left:
        group, members = LockstepGroup(), list[_Member]()
        try:
            while left and (not members or len(members) < room):
                cell = left.pop(0)
                watch, stop = report.cell(cell), stops.get(cell.id)
                member = _Member(cell, course_of(cell, lab, watch, rerun, stop=stop, lockstep=group))
                goes_on = member.go_on()
                if goes_on and cell.id in group.members:
                    members.append(member)
                    room = room or _fitting([cell, *left], lab, most)
                    continue
                while goes_on:
                    goes_on = member.go_on()
                yield cell, member.record
            _say(members, lab)
            while members:
                member = min(members, key=lambda each: _turn(each, members))
                if not member.go_on():
                    members.remove(member)
                    group.leave(member.cell)
                    yield member.cell, member.record
        finally:
            for member in members:
                member.course.close()


def _turn(member: _Member, members: list[_Member]) -> tuple[int, int]:
    """The member with the fewest steps is next. Ties rotate: the first is charged the teacher's time."""
    return member.step, (members.index(member) + member.step) % len(members)


def _say(members: Sequence[_Member], lab: Lab) -> None:
    if len(members) > 1:
        cell = members[0].cell
        names = ", ".join(dict.fromkeys(member.cell.strategy.name for member in members))
        teacher = cell.teacher.model if cell.teacher else ""
        lab.say_once(f"lockstep: {len(members)} cells ({names}) share each pass of {teacher} on {cell.data.name}")


def _fitting(cells: Sequence[Cell], lab: Lab, most: int) -> int:
    """How many of the cells memory holds at a time."""
    free = _free(lab.device)
    estimates = [estimate for estimate in (_memory_needs(cell, lab) for cell in cells[:most]) if estimate]
    for count in range(min(most, len(estimates)), 1, -1):
        group = estimates[:count]
        if sum(each.kept for each in group) + max(each.passing for each in group) <= _SHARE * free:
            return count
    if len(estimates) > 1:
        need = sum(each.kept for each in estimates[:2]) + max(each.passing for each in estimates[:2])
        student, name = cells[0].student, cells[0].data.name
        lab.say_once(
            f"lockstep: off for {student} on {name}: two cells need about {bytes_text(need)} of memory, and "
            f"{bytes_text(int(free))} are free"
        )
    return 1


def _memory_needs(cell: Cell, lab: Lab) -> MemoryEstimate | None:
    """What the training of a cell needs; None if it cannot be built, which its own run will report."""
    data = lab.data[cell.data]
    state = ProcessState.now(quick=True)
    try:
        taught = lab.giver(cell)
        with torch.random.fork_rng():
            student, strategy = build(cell, lab, data, taught)
    except BaseException as error:
        raise_if_interrupted(error)
        return None
    finally:
        state.put_back()
    signature = taught.teacher.signature() if taught else None
    return estimate_memory(Distiller(student, strategy), signature, cell.recipe, data.ref)


def _free(device: torch.device) -> int:
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_memory()
