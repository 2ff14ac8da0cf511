"""The teacher bank of a lab: which cells share a teacher's passes, and where each of them gets its signals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from kdzoo.bench.build import build_strategy
from kdzoo.bench.lab import Expected, Lab, MeasuredTeacher
from kdzoo.cell import Cell
from kdzoo.data.load import LoadedData
from kdzoo.declarations import Signature, teacher_signals
from kdzoo.engine.bank.bank import Bank
from kdzoo.engine.bank.needs import Need, need_of
from kdzoo.engine.bank.passes import CachedPass, SignalReader
from kdzoo.engine.bank.signal_sources import AsGiven, Averaged, Banked, OnTheFly, SignalSource
from kdzoo.engine.bank.spec import Pass
from kdzoo.engine.devices import make_accelerator
from kdzoo.errors import raise_if_interrupted
from kdzoo.models.teacher import Committee, Teacher
from kdzoo.models.zoo import create_model
from kdzoo.process_state import ProcessState
from kdzoo.recipe import Recipe
from kdzoo.refs import TeacherRef
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
        taught: who gives its signals.
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
    lab.signatures.setdefault((cell.student, cell.data, cell.init), strategy.setup.student)

    def source_of(one: _One, need: Need, loop: OnTheFly) -> SignalSource:
        group = one.group(bank, cell, lab, autocast)

        def readers(planned: bool) -> list[SignalReader]:
            return _readers(_sharing(cell, one.ref, lab, planned=planned), lab, one.taught, group)

        return bank.source(group, group.read(need), readers, loop)

    ones = _each(cell, taught)
    if not taught.members:
        return source_of(ones[0], need, loop)
    sources = [source_of(one, need.of_logits(), OnTheFly(one.taught.teacher, AsGiven.of(strategy))) for one in ones]
    return Averaged(sources, loop) if any(isinstance(source, Banked) for source in sources) else loop


@dataclass(frozen=True)
class _One:
    """One teacher of a cell.

    Args:
        ref: the teacher.
        taught: the same, loaded.
        first: whether it is the first of several, or alone.
    """

    ref: TeacherRef
    taught: MeasuredTeacher
    first: bool

    def group(self, bank: Bank, cell: Cell, lab: Lab, autocast: Autocast) -> CachedPass:
        """What the bank has of its pass; those of a cell's other teachers stay at hand."""
        owner = Pass(
            teacher=str(self.ref.model),
            weights=self.taught.weights,
            data=cell.data,
            augment=cell.recipe.augment,
            precision=cell.recipe.precision,
        )
        return bank.group(owner, self.taught.teacher, lab.data[cell.data], autocast, beside=not self.first)


def _each(cell: Cell, taught: MeasuredTeacher) -> list[_One]:
    """The teachers of a cell."""
    parts = cell.giver.parts if cell.giver else ()
    pairs = zip(parts, taught.members or (taught,), strict=True)
    return [_One(ref, one, number == 0) for number, (ref, one) in enumerate(pairs)]


def share_teacher(cell: Cell, other: Cell) -> bool:
    """Whether who gives the signals of one cell does so in the other one, alone or beside others."""
    if cell.hops != other.hops or (cell.hops and cell.seed != other.seed):
        return False
    parts = cell.giver.parts if cell.giver else ()
    return other.giver is not None and any(part in parts for part in other.giver.parts)


def choose(cell: Cell, lab: Lab) -> str:
    """Decide what the bank keeps of the passes that a cell reads, so that it is said before any cell runs.

    For a process that prepares what others will run: each of them decides the same by itself.

    Returns:
        The lines that say it; empty where there is nothing to say.
    """
    bank, taught = lab.open_bank(), lab.giver(cell)
    if bank is None or taught is None:
        return ""
    accelerator = make_accelerator(lab.device, cell.recipe.precision)
    said = []
    for one in _each(cell, taught):
        group = one.group(bank, cell, lab, accelerator.autocast)
        readers = _readers(_sharing(cell, one.ref, lab, planned=True), lab, one.taught, group)
        said += [bank.decide(group, readers).said] if readers else []
    return "\n".join(filter(None, said))


def _sharing(cell: Cell, ref: TeacherRef, lab: Lab, *, planned: bool) -> list[Expected]:
    """The cells of the bench that see what this one sees of a teacher, alone or beside others; this one alone where
    there are none."""

    def sees(other: Cell) -> tuple[object, ...]:
        recipe, parts = other.recipe, other.giver.parts if other.giver else ()
        own = (other.hops, other.seed if other.hops else None)
        return ref in parts, own, other.data, recipe.augment, recipe.precision, bool(recipe.mixup or recipe.cutmix)

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
        several = cell.giver is not None and bool(cell.giver.members)
        key = (cell.student, cell.strategy, _length(cell.recipe), several)
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
            several = cell.giver is not None and bool(cell.giver.members)
            teacher = Committee([taught.teacher]) if several else taught.teacher
            need = need_of(_build(kind, cell, lab.signatures[place], teacher), cell.strategy, cell.recipe)
            readers.append(group.read((need.of_logits() if several else need).times(count)))
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


def _build(kind: type[Strategy], cell: Cell, student: Signature, teacher: Teacher) -> Strategy:
    with torch.random.fork_rng(devices=[]):
        return build_strategy(kind, cell.strategy.params, student, teacher, cell.data)
