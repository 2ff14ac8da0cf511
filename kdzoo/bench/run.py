"""Runs one cell: builds, trains, measures once on test, and keeps weights and record. A failure is a record too."""

from __future__ import annotations

import errno
import platform
import traceback
from importlib.metadata import version
from typing import Any

import torch
from torch import nn

from kdzoo.bench.lab import WEIGHTS, Lab, MeasuredTeacher, now
from kdzoo.cell import Cell
from kdzoo.config import Rerun
from kdzoo.data.load import LoadedData
from kdzoo.engine.checkpoint import Checkpoints
from kdzoo.engine.devices import make_accelerator, peak_memory, reset_peak_memory, seed_everything
from kdzoo.engine.distiller import Distiller, teacher_signals
from kdzoo.engine.evaluate import agreement
from kdzoo.engine.train import Training, Watch, measure
from kdzoo.errors import KdzooError, UsageError
from kdzoo.models.align import pair_stages
from kdzoo.models.profile import profile_model
from kdzoo.models.taps import TappedModel
from kdzoo.models.weights import save_weights
from kdzoo.models.zoo import create_model
from kdzoo.record import Cost, Environment, Record, Size
from kdzoo.store import replacing
from kdzoo.strategy import Setup, Strategy

_KEPT: dict[Rerun, set[str]] = {"never": {"done", "failed"}, "failed": {"done"}, "always": set()}


def run_cell(cell: Cell, lab: Lab, watch: Watch, rerun: Rerun, *, wait: bool = False) -> Record | None:
    """The record of a cell, run if it must be.

    Args:
        cell: what to run.
        lab: store, data, plugins, device.
        watch: who is told how the training goes.
        rerun: which finished cells run again.
        wait: wait where another process runs the cell; otherwise that gives None.

    Raises:
        UsageError: the store's disk is full.
    """
    with lab.store.claim(cell.id, wait=wait) as mine:
        if not mine:
            return None
        found = lab.store.find_record(cell.id)
        if found and (found.status in _KEPT[rerun] or found.ended >= lab.started):
            return found
        if found:
            lab.store.clear(cell.id)
        lab.store.plan(cell)
        lab.store.log("start", cell=cell.id)
        record = _attempt(cell, lab, watch)
        lab.store.write_record(record)
        lab.store.clear(cell.id)
        lab.store.log(record.status, cell=cell.id)
        return record


def _attempt(cell: Cell, lab: Lab, watch: Watch) -> Record:
    started = now()
    frame: dict[str, Any] = {
        "id": cell.id,
        "cell": cell,
        "family": lab.registry.strategy(f"{cell.strategy.distribution}:{cell.strategy.name}").value.family,
        "environment": _environment(cell, lab),
        "command": lab.command,
        "started": started,
    }
    try:
        return Record(status="done", **frame, **_train_and_measure(cell, lab, watch), ended=now())
    except Exception as error:
        # A cell's failure is its result: it is recorded with its reason, and the bench goes on.
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise UsageError(
                f"the disk of {lab.store.path} is full; free some space and run the command again"
            ) from None
        story = "" if isinstance(error, KdzooError) else traceback.format_exc()
        return Record(status="failed", **frame, reason=_reason(error), traceback=story, ended=now())


def _train_and_measure(cell: Cell, lab: Lab, watch: Watch) -> dict[str, Any]:
    data = lab.data[cell.data]
    reset_peak_memory(lab.device)
    taught = lab.teacher(cell)
    student, strategy = _build(cell, lab, data, taught)
    own = profile_model(student, data.ref)
    distiller = Distiller(student, strategy, cell.recipe.label_smoothing)
    accelerator = make_accelerator(lab.device, cell.recipe.precision)
    training = Training(
        cell,
        distiller,
        taught.teacher if taught else None,
        data,
        accelerator,
        Checkpoints(lab.store.folder(cell.id)),
        watch,
    )
    trained = training.run()
    with training.timed("evaluate"):
        tune = measure(trained, strategy, data, "tune", lab.device)
        test = measure(trained, strategy, data, "test", lab.device)
    deployed = _deployed(strategy)
    _keep_weights(cell, lab, trained, deployed)
    extra = _count(deployed)
    return {
        "curve": tuple(training.curve),
        "tune": tune.measures,
        "test": test.measures,
        "agreement": agreement(test.guesses, taught.guesses) if taught else None,
        "teacher": taught.measures if taught else None,
        "student": Size(parameters=own.parameters + extra, macs=own.macs),
        "adapter_parameters": _count(strategy) - extra,
        "cost": Cost(**training.seconds, peak_memory=peak_memory(lab.device)),
    }


def _build(cell: Cell, lab: Lab, data: LoadedData, taught: MeasuredTeacher | None) -> tuple[TappedModel, Strategy]:
    """Student and strategy, each from a seed of its own, so that no strategy changes another's student."""
    seed_everything(cell.seed_for("init"))
    student = create_model(cell.student, data.ref, data.mean, data.std, pretrained=cell.init == "pretrained")
    kind = lab.registry.strategy(f"{cell.strategy.distribution}:{cell.strategy.name}").value
    signature = student.signature()
    teacher = taught.teacher.signature() if taught else signature
    setup = Setup(
        student=signature,
        teacher=teacher,
        stage_pairs=pair_stages(signature, teacher),
        num_classes=data.ref.num_classes,
        num_samples=data.ref.fit,
        classifier=taught.teacher.classifier() if taught and "classifier" in teacher_signals(kind) else None,
    )
    seed_everything(cell.seed_for("adapters"))
    return student, kind(setup, **cell.strategy.params)


def _deployed(strategy: Strategy) -> nn.ModuleDict:
    return nn.ModuleDict({name: strategy.get_submodule(name) for name in strategy.deployed})


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _keep_weights(cell: Cell, lab: Lab, student: TappedModel, deployed: nn.ModuleDict) -> None:
    folder = lab.store.folder(cell.id)
    metadata = {"cell": cell.id, "model": str(cell.student), "strategy": cell.strategy.name}
    with replacing(folder / WEIGHTS) as path:
        save_weights(student.model, path, metadata)
    if deployed:
        with replacing(folder / "deployed.safetensors") as path:
            save_weights(deployed, path, metadata)


def _environment(cell: Cell, lab: Lab) -> Environment:
    plugin = lab.registry.strategy(f"{cell.strategy.distribution}:{cell.strategy.name}").plugin
    return Environment(
        versions={
            "kdzoo": version("kdzoo"),
            plugin.distribution: plugin.version,
            "torch": torch.__version__,
            "timm": version("timm"),
            "python": platform.python_version(),
        },
        device=_device_name(lab.device),
        threads=torch.get_num_threads(),
    )


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _reason(error: Exception) -> str:
    text = (str(error).strip().splitlines() or [""])[0]
    memory = isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "not enough memory" in text
    if memory:
        return f"out of memory: {text}".rstrip(": ")
    return text if isinstance(error, KdzooError) and text else f"{type(error).__name__}: {text}".rstrip(": ")
