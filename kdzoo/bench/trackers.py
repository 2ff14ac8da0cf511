"""Logs cells with accelerate's trackers: TensorBoard, Weights & Biases, MLflow, and those that plugins bring."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

from kdzoo.cell import Cell
from kdzoo.errors import UsageError, unknown
from kdzoo.matrix import cell_title
from kdzoo.measures import SAMPLES
from kdzoo.record import Record
from kdzoo.record_parts import Epoch
from kdzoo.store import Store

BUILT_IN = ("mlflow", "tensorboard", "wandb")
"""The trackers that need no plugin; each is also the name of its package."""

LOGS = "logs"
"""The folder of a cell's logs, inside the cell's own."""

_PROJECT = "kdzoo"
_RUN = "run"
"""The file that keeps what a service calls a cell's run, so that a cell which is taken up again goes on with it."""

_STARTS = 2
"""Starts that may fail: a service that is not there may take minutes to say so."""

_UNSAFE = re.compile(r"[^A-Za-z0-9._+=-]+")


def check_trackers(names: Sequence[str], brought: Iterable[str], *, lockstep: int = 1) -> None:
    """Refuse trackers that there are not, or that cannot log what runs.

    Args:
        names: what ``--log-with`` asks for.
        brought: the trackers that plugins bring.
        lockstep: how many cells may train at a time in one process.

    Raises:
        UsageError: a name is unknown, its library is not installed, or it keeps one run open at a time and several
            cells would train at a time.
    """
    others = set(brought)
    for name in names:
        if name not in (*BUILT_IN, *others):
            raise UsageError("--log-with: " + unknown("tracker", name, [*BUILT_IN, *others]))
        if name not in others and find_spec(name) is None:
            raise UsageError(f"--log-with {name} needs a package that is not installed: pip install {name}")
        if name in _SERVICES and lockstep > 1:
            raise UsageError(
                f"--log-with {name} and --lockstep exclude each other: {name} keeps one run open per process, but "
                f"a lockstep group trains several cells at a time; leave out one of them"
            )


class Tracking:
    """One tracker, with a run for each cell: loss terms, learning rate and the main measure on tune at each epoch, and
    at the end what the record says.

    A cell that is taken up again goes on with its run; one that begins anew gets a new one.

    Args:
        name: what ``--log-with`` calls it.
        store: where the cells live.
    """

    def __init__(self, name: str, store: Store) -> None:
        self.name = name
        self._store = store
        self._runs: dict[str, Any] = {}
        self._failed = 0

    def cell_started(self, cell: Cell) -> None:
        """Nothing: a run begins when there is something to say."""

    def epoch_ended(self, cell: Cell, epoch: Epoch) -> None:
        """Log an epoch."""
        if cell.id not in self._runs:
            if self._failed == _STARTS:
                return
            self._failed += 1
            self._runs[cell.id] = self._start(cell, fresh=epoch.epoch == 0)
            self._failed -= 1
        terms = {f"loss/{name}": value for name, value in epoch.terms.items()}
        measured = {f"tune/{name}": float(value) for name, value in (epoch.tune or {}).items()}
        self._runs[cell.id].log({**terms, "lr": epoch.lr, **measured}, step=epoch.epoch)

    def record_written(self, record: Record) -> None:
        """Log what was measured, and end the run."""
        run = self._runs.pop(record.id, None)
        if run is None:
            return
        try:
            run.log(_final(record), step=max(0, len(record.curve) - 1))
        finally:
            run.finish()

    def _start(self, cell: Cell, *, fresh: bool) -> Any:
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        folder = self._store.folder(cell.id) / LOGS / self.name
        if fresh and folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        kind: Any = LOGGER_TYPE_TO_CLASS[self.name]
        if self.name in _SERVICES:
            run = kind(_PROJECT, **_SERVICES[self.name](cell, folder, self._store))
        elif kind.requires_logging_directory:
            run = kind(_slug(cell), str(folder))
        else:
            run = kind(_slug(cell))
        run.start()
        if self.name == "mlflow":
            (folder / _RUN).write_text(run.tracker.info.run_id, encoding="utf-8")
        if fresh:
            run.store_init_configuration(_flat(cell.model_dump(mode="json")) | {"cell": cell.id})
        return run


_Service: TypeAlias = Callable[[Cell, Path, Store], dict[str, Any]]


def _wandb(cell: Cell, folder: Path, store: Store) -> dict[str, Any]:
    run = folder / _RUN
    if not run.exists():
        run.write_text(f"{cell.id}-{secrets.token_hex(3)}", encoding="utf-8")
    name = run.read_text(encoding="utf-8")
    return {"name": cell_title(cell), "id": name, "resume": "allow", "dir": str(folder), "reinit": "finish_previous"}


def _mlflow(cell: Cell, folder: Path, store: Store) -> dict[str, Any]:
    import mlflow

    if "MLFLOW_TRACKING_URI" not in os.environ:
        mlflow.set_tracking_uri(f"sqlite:///{store.path.absolute() / 'mlflow.db'}")
    run = folder / _RUN
    known = run.read_text(encoding="utf-8") if run.exists() else None
    artifacts = str(store.path.absolute() / "mlflow")
    return {"run_name": cell_title(cell), "run_id": known, "logging_dir": artifacts}


_SERVICES: dict[str, _Service] = {"wandb": _wandb, "mlflow": _mlflow}
"""Trackers that collect all runs in one place, and what they are told of a cell's."""


def _slug(cell: Cell) -> str:
    return _UNSAFE.sub("-", cell_title(cell).replace("->", "to")).strip("-")


def _final(record: Record) -> dict[str, float]:
    """What was measured and what it took."""
    scored = {"tune": record.tune, "test": record.test}
    if record.teacher:
        scored["teacher/test"] = record.teacher.test
    scored["cost"] = record.cost
    return {
        f"{place}/{name}": float(value)
        for place, scores in scored.items()
        for name, value in (scores or {}).items()
        if name != SAMPLES
    }


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, bool | int | float | str]:
    """The plain values of nested ones, by dotted names."""
    found: dict[str, bool | int | float | str] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{name}.")
        elif value is not None:
            found[prefix + name] = value if isinstance(value, (bool, int, float, str)) else str(value)
    return found
