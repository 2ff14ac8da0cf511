"""One cell of a store by itself: in this process, or divided among those that a launcher started."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from kdzoo.bench.banking import share_teacher
from kdzoo.bench.crashes import marking_exits
from kdzoo.bench.events import Reporter
from kdzoo.bench.executors.worker import LabSettings, PluginFile, check_cell
from kdzoo.bench.lab import Expected, Lab
from kdzoo.bench.results import must_run
from kdzoo.bench.run import follow_cell, run_cell
from kdzoo.bench.teachers import pretrained_digest
from kdzoo.bench.weightfiles import teachers_again
from kdzoo.cell import PROTOCOL, Cell
from kdzoo.config import Rerun
from kdzoo.engine.devices import check_precision
from kdzoo.engine.division import check_batch, overlaps
from kdzoo.engine.world import LostRankError, World
from kdzoo.errors import KdzooError, UsageError
from kdzoo.matrix import cell_title
from kdzoo.models.folders import name_by_content, require_folder
from kdzoo.models.weights import file_digest
from kdzoo.needed import trainings
from kdzoo.record import Record, parse_record
from kdzoo.refs import ModelRef
from kdzoo.registry import Registry
from kdzoo.store import Store
from kdzoo.strategy import Strategy

_SHOWN = 8
"""Cells that a message names."""


@dataclass(frozen=True)
class Task:
    """What rank 0 tells the others before anything runs.

    Args:
        settings: of the lab that each of them makes.
        cells: what is run: the cell, and before it that of its teacher where that is still to be trained.
        rerun: whether the last cell runs though it is done.
        record: what the last cell gave before, where it is taken from a record.
    """

    settings: LabSettings
    cells: tuple[Cell, ...]
    rerun: Rerun
    record: Record | None = None


def find_cell(store: Store, start: str) -> Cell:
    """The planned cell whose id begins so.

    Raises:
        UsageError: there is none, or there are several.
    """
    ids = sorted(path.parent.name for path in store.cells.glob("*/cell.json"))
    found = [each for each in ids if each.startswith(start)]
    if len(found) == 1:
        return store.cell(found[0])
    if found:
        raise UsageError(f"{len(found)} cells of {store.path} begin with {start!r}: {_names(store, found)}")
    there = f"there are {len(ids)}: {_names(store, ids)}" if ids else "it has none; kdzoo bench plans them"
    raise UsageError(f"no cell of {store.path} begins with {start!r}; {there}")


def read_record_file(path: Path) -> Record:
    """The record in a file of a published leaderboard, or of a store.

    Raises:
        UsageError: there is no such file.
        KdzooError: it is not a record, was changed after it was written, or is newer than this kdzoo.
    """
    if not path.is_file():
        raise UsageError(f"{path} is not there; give the path of a record, or the id of a planned cell")
    return parse_record(path.read_bytes(), str(path))


def _names(store: Store, ids: list[str]) -> str:
    shown = [f"{each} ({_title(store, each)})" for each in ids[:_SHOWN]]
    return ", ".join(shown) + (f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else "")


def _title(store: Store, cell_id: str) -> str:
    try:
        return cell_title(store.cell(cell_id))
    except KdzooError:
        return "damaged"


def plan_task(
    store: Store,
    asked: Cell | Record,
    world: World,
    rerun: Rerun,
    *,
    device: torch.device,
    dataset: str | None = None,
    data_dir: Path | None = None,
    download: bool = False,
    teacher_weights: Path | None = None,
    models: Sequence[Path] = (),
    plugins: Sequence[Path] = (),
    others: Mapping[str, Any],
) -> Task:
    """Find out what is to be done, and that it can be.

    Args:
        store: of the cell.
        asked: the cell, or the record of a cell that is trained again.
        world: who will do it.
        rerun: whether the cell runs though it is done.
        device: where.
        dataset: the name that opens its data here; by default the one that it was planned with.
        data_dir: folder of the data.
        download: whether missing data may be fetched.
        teacher_weights: the file of its teacher, for one that was planned with a file.
        models: the folders of its models, where it was planned with such.
        plugins: the files of ``--plugin``.
        others: further fields of the lab.

    Raises:
        UsageError: the cell cannot be run here and so.
    """
    record = asked if isinstance(asked, Record) else None
    cell = asked.cell if isinstance(asked, Record) else asked
    if cell.protocol != PROTOCOL:
        raise UsageError(f"cell {cell.id} was planned for protocol {cell.protocol}, and this kdzoo has {PROTOCOL}")
    if record and cell.data.name.startswith("folder:") and dataset is None:
        raise UsageError(
            f"the data of cell {cell.id} are a folder of images, {cell.data.name}; give it by --dataset folder:PATH"
        )
    if cell.study:
        raise UsageError(
            f"cell {cell.id} is a trial whose study may end it early; run the bench that tunes it, or kdzoo tune"
        )
    for folder in models:
        name_by_content(ModelRef(name=f"local-dir:{folder}"))
    for model in cell.models:
        require_folder(model)
    if record:
        store.plan(cell)
    cells = (*_to_train_before(cell, store, rerun), cell)
    registry = Registry.load(plugins) if world.size > 1 else None
    for each in cells:
        kind = registry.of(each.strategy).value if registry else Strategy
        check_batch(min(each.recipe.batch_size, each.data.fit), world, uneven=overlaps(kind))
        check_precision(device, each.recipe.precision)
    settings = LabSettings(
        store=store.path.absolute(),
        device=str(device),
        datasets=(dataset or cell.data.name,),
        data_dir=data_dir.absolute() if data_dir else None,
        img_size=cell.data.img_size,
        folder=Path.cwd(),
        files=_teacher_file(cell, teacher_weights),
        plugins=tuple(map(PluginFile.read, plugins)),
        download=download,
        others={**others, "expected": _expected(cell, store)},
    )
    return Task(settings, cells, rerun, record)


def _expected(cell: Cell, store: Store) -> dict[str, Expected]:
    """The planned cells that share this one's teacher: what the bank keeps was decided, or will be, by all of them."""
    planned = store.planned(problems=[])  # what is wrong with another cell is told where it is asked for
    sharing = (each for each in planned if each.kind == "student" and share_teacher(each, cell))
    return {each.id: Expected(each, 1, True) for each in sharing if each.data == cell.data}


def _to_train_before(cell: Cell, store: Store, rerun: Rerun) -> list[Cell]:
    teachers_again([cell], store, lambda each: must_run(each, store, rerun))
    found = []
    for training in trainings(cell):
        record = store.find_record(training.id)
        if record and record.status == "done":
            continue
        if record and rerun == "never":
            raise UsageError(
                f"the training of its {training.kind} failed ({record.reason}), and --rerun never does not retry it"
            )
        found.append(training)
    return found


def _teacher_file(cell: Cell, path: Path | None) -> dict[str, Path]:
    if cell.teacher is None or cell.teacher.weights != "file":
        return {}
    if path is None:
        raise UsageError(
            f"the teacher of cell {cell.id} has its weights from a file with the SHA-256 {cell.teacher.digest}; give "
            "that file by --teacher-weights"
        )
    if not path.is_file():
        raise UsageError(f"--teacher-weights {path} is not a file")
    if (digest := file_digest(path)) != cell.teacher.digest:
        raise UsageError(
            f"--teacher-weights {path} has the SHA-256 {digest}, and the file of the teacher of cell {cell.id} has "
            f"{cell.teacher.digest}"
        )
    return {cell.teacher.digest or "": path.absolute()}


def _check_weights(cell: Cell, lab: Lab) -> None:
    """See that timm's weights are those that a record was made with: the names of cells hold their hash.

    Raises:
        UsageError: timm has published others since.
    """
    data, teacher = lab.data[cell.data], cell.teacher
    needed = [(cell.student, cell.init.partition(":")[2])]
    parts = teacher.parts if teacher else ()
    needed += [(part.model, part.digest) for part in parts if part.own_input and part.digest]
    for model, digest in needed:
        if digest and not (here := pretrained_digest(model, data)).startswith(digest):
            raise UsageError(
                f"timm's weights of {model} have the SHA-256 {here} here, and the record was made with {digest}"
            )


def run_task(task: Task, lab: Lab, report: Reporter) -> Record:
    """Run the cells of a task, as the rank that leads.

    Returns:
        The record of the last one that was run: of the teacher if that failed.

    Raises:
        UsageError: another process runs one of them, or the disk is full.
    """
    *before, last = task.cells
    for cell in task.cells:
        check_cell(cell, lab)
    if task.record:
        _check_weights(last, lab)
    lab.count_crashes()
    with marking_exits():
        for cell in before:
            record = _run(cell, lab, report, "failed")
            if record.status == "failed":
                return record
        return _run(last, lab, report, task.rerun)


def _run(cell: Cell, lab: Lab, report: Reporter, rerun: Rerun) -> Record:
    record = run_cell(cell, lab, report.cell(cell), rerun)
    if record is None:
        raise UsageError(f"another process runs {cell_title(cell)}; run the command again when that is done")
    report.done(record)
    return record


def follow(task: Task, lab: Lab) -> bool:
    """Do one's part, as any other rank; gives whether no cell failed."""
    for cell in task.cells:
        check_cell(cell, lab)
        record = follow_cell(cell, lab)
        if record is not None and record.status == "failed":
            return False
    return True


@contextmanager
def together(world: World) -> Iterator[None]:
    """In the ``with`` block the ranks work together. None is left waiting, however the block ends.

    Raises:
        KdzooError: on rank 0, what another rank failed by.
        SystemExit: on the others, where anything failed; they say nothing, unless rank 0 cannot.
    """
    try:
        yield
    except BaseException as error:
        if world.size == 1:
            raise
        first = world.fail(" ".join(str(error).split()) or type(error).__name__, traceback.format_exc())
        in_time = world.end(lost=isinstance(error, LostRankError))
        if world.leads:
            if not world.failed_here:
                raise KdzooError(first.reason) from error
            raise
        if not in_time:
            print(f"rank {world.rank}: {first.reason}\n{first.story}", file=sys.stderr)
        raise SystemExit(1) from None
    world.end()
    world.leave()
