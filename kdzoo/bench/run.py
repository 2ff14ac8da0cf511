"""Runs one cell: builds, trains, measures once on test, and keeps weights and record. A failure is a record too."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from kdzoo import foreign
from kdzoo.bench.auxiliary import measure_peer, recorded_assistants, second_student
from kdzoo.bench.banking import source_for
from kdzoo.bench.build import build_strategy
from kdzoo.bench.crashes import start_marked
from kdzoo.bench.environment import environment_of
from kdzoo.bench.lab import Lab, MeasuredTeacher, now
from kdzoo.bench.results import crashes_before, disk_is_full, failure_reason, fatal, final_record, frame_of, keep_record
from kdzoo.bench.weightfiles import DEPLOYED, PEER_WEIGHTS, WEIGHTS, weights_header
from kdzoo.cell import Cell
from kdzoo.config import Rerun
from kdzoo.data.load import LoadedData
from kdzoo.declarations import rows_of_sample, student_signals
from kdzoo.engine.bank.signal_sources import OnTheFly, divided
from kdzoo.engine.checkpoint import SharedCheckpoints
from kdzoo.engine.course import Course, PrunedError, Stop, Unwatched, Watch, finish, own_feed
from kdzoo.engine.devices import compile_network, make_accelerator, peak_memory, reset_peak_memory, seed_everything
from kdzoo.engine.distiller import Deployment, Distiller, with_modules
from kdzoo.engine.division import Division, overlaps
from kdzoo.engine.evaluate import agreement, measure
from kdzoo.engine.lockstep_group import LockstepGroup
from kdzoo.engine.norms import share_norms
from kdzoo.engine.optim import has_plain_gradients
from kdzoo.engine.train import Training
from kdzoo.engine.world import LostRankError
from kdzoo.errors import LeftError, NonFiniteLossError, UsageError, raise_if_interrupted
from kdzoo.files import replacing
from kdzoo.matrix import cell_title
from kdzoo.measures import AGREEMENT, ASSISTANTS, PEAK_MEMORY, TRAIN
from kdzoo.models.taps import TappedModel
from kdzoo.models.weights import file_digest, save_weights
from kdzoo.models.zoo import create_model
from kdzoo.process_state import ProcessState
from kdzoo.record import Record
from kdzoo.record_parts import Size
from kdzoo.strategy import Strategy

Sizes: TypeAlias = tuple[Size, Size | None]
"""Of the student, and of a second one."""


def run_cell(
    cell: Cell, lab: Lab, watch: Watch, rerun: Rerun, *, wait: bool = False, stop: Stop | None = None
) -> Record | None:
    """The record of a cell, run if it must be: :func:`course_of` without a rest.

    Args:
        cell: what to run.
        lab: store, data, plugins, device.
        watch: who is told how the training goes.
        rerun: which finished cells run again.
        wait: wait where another process runs the cell; otherwise that gives None.
        stop: who may end it early.

    Raises:
        UsageError: the store's disk is full.
    """
    return finish(course_of(cell, lab, watch, rerun, wait=wait, stop=stop))


def course_of(
    cell: Cell,
    lab: Lab,
    watch: Watch,
    rerun: Rerun,
    *,
    wait: bool = False,
    stop: Stop | None = None,
    lockstep: LockstepGroup | None = None,
) -> Course[Record | None]:
    """What :func:`run_cell` does, with a rest before each step of the training; the cell is held meanwhile.

    Args:
        cell: what to run.
        lab: see there.
        watch: see there.
        rerun: see there.
        wait: see there.
        stop: see there.
        lockstep: the trainings that go along, if any: the cell joins them if its teacher runs in the loop.

    Raises:
        UsageError: the store's disk is full.
    """
    with lab.store.claim(cell.id, wait=wait) as mine:
        found = (final_record(cell, lab, rerun) or fatal(cell, lab)) if mine else None
        if not lab.world.share(mine and found is None):
            return found
        folder = lab.store.folder(cell.id)
        crashes = crashes_before(cell, lab)
        if crashes.count:
            lab.say(f"{cell_title(cell)}: {crashes.summary}; retrying")
        # What is older than a record belongs to the run that it tells of; what is newer, to one that was cut short.
        lab.store.clear(cell.id, before_record=True)
        lab.store.plan(cell)
        lab.store.log("start", cell=cell.id)
        with start_marked(folder, crashes) if lab.counts_crashes else nullcontext():
            lab.events.cell_started(cell)
            record = yield from _attempt(cell, lab, lab.events.watching(cell, watch), stop, lockstep)
        return keep_record(record, lab)


def follow_cell(cell: Cell, lab: Lab) -> Record | None:
    """What the other ranks do while rank 0 runs a cell by :func:`run_cell`; gives None where it need not run.

    Nothing is written: the record is rank 0's to keep.
    """
    return finish(_attempt(cell, lab, Unwatched(), None, None)) if lab.world.share(False) else None


def _attempt(cell: Cell, lab: Lab, watch: Watch, stop: Stop | None, lockstep: LockstepGroup | None) -> Course[Record]:
    frame, state = frame_of(cell, lab), ProcessState.now()
    outcome: dict[str, Any]
    try:
        outcome = yield from _train_and_measure(cell, lab, watch, stop, lockstep, state)
    except LeftError:
        raise GeneratorExit from None  # which whoever closed this course expects
    except BaseException as error:
        raise_if_interrupted(error)
        state.put_back()
        if disk_is_full(error):
            raise UsageError(
                f"the disk of {lab.store.path} is full; free some space and run the command again"
            ) from None
        if isinstance(error, LostRankError) and not lab.world.has_failed():
            raise
        # A cell's failure is its result: it is recorded with its reason, and the bench goes on.
        first = lab.world.fail(failure_reason(error, cell, lab.registry), foreign.story_of(error))
        outcome = {"status": "failed", "reason": first.reason, "traceback": first.story}
    finally:
        state.put_back()
    whole = frame | outcome
    if state.changed:
        lab.say_once(f"{cell.strategy.name} {state.summary()} after its cell")
        if lab.world.leads:
            lab.store.log("restored", cell=cell.id, what=list(state.changed))
        whole["environment"] = whole["environment"].model_copy(update={"restored": tuple(state.changed)})
    return Record(**whole, ended=now())


def _train_and_measure(
    cell: Cell, lab: Lab, watch: Watch, stop: Stop | None, lockstep: LockstepGroup | None, state: ProcessState
) -> Course[dict[str, Any]]:
    data = lab.data[cell.data]
    reset_peak_memory(lab.device)
    taught = lab.world.after_leader(lambda: lab.teacher(cell))
    giver = lab.world.after_leader(lambda: lab.giver(cell)) if cell.hops or cell.peer else taught
    assistants = recorded_assistants(cell, lab.store)
    student, strategy = build(cell, lab, data, giver)
    own = lab.size(cell.student, student, data)
    peer = second_student(cell, data, lab)
    sizes = own, lab.size(cell.peer, peer, data) if cell.peer and peer else None
    if lab.compile:
        several = bool(cell.balance) or not has_plain_gradients(type(strategy))
        for network in (student, peer):
            compile_network(network, several_passes=several) if network else None
    division = _divide(student, strategy, lab)
    whole = None if overlaps(type(strategy)) else division
    distiller = Distiller(student, strategy, cell.recipe.label_smoothing, whole, peer, bool(cell.balance))
    accelerator = make_accelerator(lab.device, cell.recipe.precision)
    source, feed = source_for(cell, lab, strategy, giver, accelerator.autocast), None
    if lockstep is not None and isinstance(source, OnTheFly) and source.signals and strategy.variants == 1:
        source, feed = lockstep.join(cell, source, own_feed(cell, data, strategy.views, lab.device))
    if division:
        source = divided(source, division)
    training = Training(
        cell,
        distiller,
        giver.teacher if giver else None,
        data,
        accelerator,
        SharedCheckpoints(
            lab.store.folder(cell.id).absolute(),
            lab.world,
            [lab.store.folder(each.id).absolute() for each in cell.lower_rungs()],
        ),
        watch,
        stop,
        source,
        feed,
        division,
        lab.eval_every,
    )
    outcome = yield from _finish(training, cell, lab, taught, sizes, state)
    between = {ASSISTANTS.name: sum(one.seconds for one in assistants)} if assistants else {}
    training.seconds[TRAIN.name] += sum(between.values())
    return outcome | {
        "curve": tuple(training.curve),
        "balance": training.balancer.factors(),
        "teacher": taught.measures if taught else None,
        "assistants": assistants,
        "measures": data.measures,
        "cost": {**training.seconds, **between, PEAK_MEMORY.name: peak_memory(lab.device)},
        "environment": environment_of(cell, lab, source.summary()),
    }


def _finish(
    training: Training, cell: Cell, lab: Lab, taught: MeasuredTeacher | None, sizes: Sizes, state: ProcessState
) -> Course[dict[str, Any]]:
    """Train to the end and measure; the early end of a trial or a rung, by the pruner or a non-finite loss, is an
    outcome too."""
    data, strategy, trial = training.data, training.strategy, cell.only_selects
    own, second = sizes
    try:
        trained = yield from training.course()
    except (PrunedError, NonFiniteLossError) as error:
        if not trial:
            raise
        return {"status": "pruned", "reason": str(error)}
    state.put_back()  # the files that follow may have names that start in the current folder
    measured: dict[str, Any] = {"tune": (training.last or training.on_tune()).scores}
    with training.timed("evaluate"):
        if not trial:
            test = measure(trained, strategy, data, "test", lab.device, lab.world)
            agreed = {AGREEMENT.name: agreement(test.guesses, taught.guesses)} if taught else {}
            measured["test"] = test.scores | agreed
        if training.peer is not None:
            measured |= measure_peer(training, training.peer, second or own, lab, measured)
    if not trial and lab.world.leads:
        measured["weights"] = _keep_weights(cell, lab, trained, training.peer, data)
    extra = _count(trained.extra)
    return measured | {
        "status": "done",
        "student": Size(parameters=own.parameters + extra, macs=own.macs + _extra_macs(trained, strategy, data)),
        "adapter_parameters": _count(strategy) - extra,
    }


def build(cell: Cell, lab: Lab, data: LoadedData, taught: MeasuredTeacher | None) -> tuple[TappedModel, Strategy]:
    """Student and strategy, each from a seed of its own, so that no strategy changes another's student."""
    seed_everything(cell.seed_for("init"))
    student = create_model(cell.student, data.ref, data.mean, data.std, pretrained=cell.starts_pretrained)
    kind = lab.registry.of(cell.strategy).value
    teacher, seed = taught.teacher if taught else None, cell.seed_for("adapters")
    return student, build_strategy(kind, cell.strategy.params, student.signature(), teacher, data.ref, seed=seed)


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _divide(student: TappedModel, strategy: Strategy, lab: Lab) -> Division | None:
    """How the ranks divide a student's batches; None in one process."""
    if lab.world.size == 1:
        return None
    student.model = share_norms(student.model, lab.world, lab.device)
    if overlaps(type(strategy)):
        share_norms(strategy, lab.world, lab.device)
    return Division(lab.world, rows_of_sample(strategy), device=lab.device)


@torch.no_grad()
def _extra_macs(trained: Deployment, strategy: Strategy, data: LoadedData) -> int:
    """Multiply-accumulates of the deployed modules for one image, beside the student's own."""
    if not trained.extra:
        return 0
    image = torch.zeros(1, data.ref.channels, *data.ref.img_size, device=trained.student.mean.device)
    outputs = trained.student(image, student_signals(strategy))
    with FlopCounterMode(display=False) as counter:
        with_modules(strategy, trained.extra).predict(outputs)
    return int(counter.get_total_flops()) // 2


def _keep_weights(
    cell: Cell, lab: Lab, trained: Deployment, peer: Deployment | None, data: LoadedData
) -> dict[str, str]:
    """Write the weights beside the record; gives the SHA-256 of each file."""
    folder = lab.store.folder(cell.id)
    header = weights_header(cell, cell.student, trained.student, data)
    modules: dict[str, tuple[nn.Module, dict[str, Any]]] = {WEIGHTS: (trained.student.model, header)}
    if trained.extra:
        modules[DEPLOYED] = trained.extra, header
    if peer is not None and cell.peer:
        modules[PEER_WEIGHTS] = peer.student.model, weights_header(cell, cell.peer, peer.student, data)
    for name, (module, told) in modules.items():
        with replacing(folder / name) as path:
            save_weights(module, path, told)
    return {name: file_digest(folder / name) for name in modules}
