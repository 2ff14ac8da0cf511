"""The teacher bank of a lab: which cells share a teacher's passes, and where each of them gets its signals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch

from kdzoo.bench.build import build_strategy
from kdzoo.bench.lab import Expected, Lab, MeasuredTeacher
from kdzoo.cell import Cell
from kdzoo.data.load import LoadedData
from kdzoo.declarations import Signature, teacher_signals
from kdzoo.engine.bank.needs import need_of
from kdzoo.engine.bank.passes import CachedPass, SignalReader
from kdzoo.engine.bank.signal_sources import OnTheFly, SignalSource
from kdzoo.engine.bank.spec import Pass
from kdzoo.engine.devices import make_accelerator
from kdzoo.interruption import raise_if_interrupted
from kdzoo.models.zoo import create_model
from kdzoo.process_state import ProcessState
from kdzoo.recipe import Recipe
from kdzoo.strategy import Strategy

Autocast = Callable[[], AbstractContextManager[object]]


def expect(lab: Lab, cells: Iterable[Cell], *, planned: bool = True) -> None:
    """Tell a lab which cells its bench has, done or not: what the bank keeps is decided by all of them.

    Args:
        lab: of the bench.
        cells: one that is there several times stands for as many that are not known yet.
        planned: whether they were known when the bench began.
    """
    cells = list(cells)
    counts = Counter(cell.id for cell in cells)
    for cell in cells:
        known = lab.expected.get(cell.id, Expected(cell, 0, False))
        lab.expected[cell.id] = Expected(cell, max(known.count, counts[cell.id]), known.planned or planned)


def source_for(
    cell: Cell, lab: Lab, strategy: Strategy, taught: MeasuredTeacher | None, autocast: Autocast = nullcontext
) -> SignalSource:
    """Where the training of a cell gets the teacher's signals.

    Args:
        cell: what is trained.
        lab: store, data, plugins, and how the bank is run.
        strategy: as it was built for the cell.
        taught: the cell's teacher.
        autocast: the context in which the teacher runs.
    """
    loop = OnTheFly(taught.teacher if taught else None, strategy)
    bank = lab.open_bank()
    if bank is None or taught is None:
        return loop
    need = need_of(strategy, cell.strategy, cell.recipe)
    if not need.signals or not need.views:
        return loop
    if strategy.variants > 1:
        lab.say_once(f"bank: off for {cell.strategy.name}, which makes {strategy.variants} variants of each image")
        return loop
    if cell.recipe.mixup or cell.recipe.cutmix:
        lab.say_once("bank: off, because mixup and cutmix mix each image differently in each epoch")
        return loop
    group = bank.group(_pass_of(cell, taught), taught.teacher, lab.data[cell.data], autocast)
    reader = group.read(need)
    lab.signatures.setdefault((cell.student, cell.data, cell.init), strategy.setup.student)

    def readers(planned: bool) -> list[SignalReader]:
        return _readers(_sharing(cell, lab, planned=planned), lab, taught, group)

    return bank.source(group, reader, readers, loop)


def choose(cell: Cell, lab: Lab) -> str:
    """Decide what the bank keeps of the passes that a cell reads, so that it is said before any cell runs.

    For a process that prepares what others will run: each of them decides the same by itself.

    Returns:
        The line that says it; empty where there is nothing to say.
    """
    bank, taught = lab.open_bank(), lab.teacher(cell)
    if bank is None or taught is None:
        return ""
    data = lab.data[cell.data]
    accelerator = make_accelerator(lab.device, cell.recipe.precision)
    group = bank.group(_pass_of(cell, taught), taught.teacher, data, accelerator.autocast)
    readers = _readers(_sharing(cell, lab, planned=True), lab, taught, group)
    return bank.decide(group, readers).said if readers else ""


def _pass_of(cell: Cell, taught: MeasuredTeacher) -> Pass:
    return Pass(
        teacher=str(cell.teacher.model) if cell.teacher else "",
        weights=taught.weights,
        data=cell.data,
        augment=cell.recipe.augment,
        precision=cell.recipe.precision,
    )


def _sharing(cell: Cell, lab: Lab, *, planned: bool) -> list[Expected]:
    """The cells of the bench that see what this one sees of the teacher; this one alone where there are none."""

    def sees(other: Cell) -> tuple[object, ...]:
        recipe = other.recipe
        return other.teacher, other.data, recipe.augment, recipe.precision, bool(recipe.mixup or recipe.cutmix)

    own = {} if planned else {cell.id: Expected(cell, 1, False)}
    known = [one for one in (own | lab.expected).values() if one.planned or not planned]
    return [one for one in known if sees(one.cell) == sees(cell)] or [Expected(cell, 1, False)]


def _readers(
    sharing: Sequence[Expected],
    lab: Lab,
    taught: MeasuredTeacher,
    group: CachedPass,
) -> list[SignalReader]:
    """What cells read; those that differ in nothing that matters here count together."""
    alike: dict[object, tuple[Cell, int]] = {}
    for cell, count in ((one.cell, one.count) for one in sharing):
        key = (cell.student, cell.strategy, _length(cell.recipe))
        alike[key] = (cell, alike[key][1] + count if key in alike else count)
    readers = []
    for cell, count in alike.values():
        kind = lab.registry.of(cell.strategy).value
        if not teacher_signals(kind) or kind.variants > 1:
            continue
        place = (cell.student, cell.data, cell.init)
        if place not in lab.signatures:
            lab.signatures[place] = _signature(cell, lab.data[cell.data])
        state = ProcessState.now()
        try:
            need = need_of(_build(kind, cell, lab.signatures[place], taught), cell.strategy, cell.recipe)
            readers.append(group.read(need.times(count)))
        except BaseException as error:  # a plugin's bug is its own cells' to tell
            raise_if_interrupted(error)
            continue
        finally:
            state.put_back()
    return [reader for reader in readers if reader.numbers]


def _length(recipe: Recipe) -> tuple[int, int]:
    return recipe.epochs, recipe.views


def _signature(cell: Cell, data: LoadedData) -> Signature:
    with torch.random.fork_rng(devices=[]):
        return create_model(cell.student, data.ref, data.mean, data.std, own_input=cell.starts_pretrained).signature()


def _build(kind: type[Strategy], cell: Cell, student: Signature, taught: MeasuredTeacher) -> Strategy:
    with torch.random.fork_rng(devices=[]):
        return build_strategy(kind, cell.strategy.params, student, taught.teacher, cell.data)
