"""Where a cell ran: versions, device and threads for its record, and plugins that were edited since."""

from __future__ import annotations

import hashlib
import inspect
import platform
from collections import defaultdict
from collections.abc import Iterable
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from kdzoo.cell import Cell
from kdzoo.plugins import Plugin
from kdzoo.record import Record
from kdzoo.record_parts import Environment
from kdzoo.registry import Registry

if TYPE_CHECKING:
    import torch

    from kdzoo.bench.lab import Lab

_OWN = "kdzoo"
_CODE = "code of "


def plugin_versions(cell: Cell, registry: Registry) -> dict[str, str]:
    """The versions of the distributions behind a cell, and digests of their files that define its strategy and models.

    A digest is kept because an edit, as of a package that is installed in place, changes neither the version nor the
    cell's name. kdzoo's own code has its version; a single file is named by its content already.

    Args:
        cell: of whatever kind.
        registry: the loaded plugins.
    """
    brought: list[tuple[Plugin, str, str]] = [
        (one.plugin, one.name, "" if one.plugin.is_file else one.declared.file)
        for one in registry.of(cell.strategy).sources
    ]
    for model in cell.models:
        plugin = registry.model(model.name)
        if plugin:
            brought.append((plugin, model.name, _file_of(model.name.partition(".")[0])))
    found: dict[str, set[str]] = defaultdict(set)
    for plugin, name, file in brought:
        found[plugin.distribution].add(plugin.version)
        if plugin.distribution != _OWN and (digest := _digest(Path(file)) if file else ""):
            found[f"{_CODE}{plugin.distribution}:{name}"].add(digest)
    return {name: " and ".join(sorted(versions)) for name, versions in found.items()}


def changes(records: Iterable[Record], registry: Registry) -> list[str]:
    """What was edited since the records were made, without a new name or revision, in one sentence for each thing.

    Args:
        records: those that a bench takes as they are.
        registry: the loaded plugins.
    """
    older: dict[str, int] = defaultdict(int)
    for record in records:
        then = {key: digest for key, digest in record.environment.versions.items() if key.startswith(_CODE)}
        now = plugin_versions(record.cell, registry) if then else {}
        for key, digest in then.items():
            older[key] += now.get(key, digest) != digest
    return [
        f"{key.removeprefix(_CODE)} was edited since {count} of these cells ran, and their results are kept: "
        f"raise its revision (for a model, change its name), or give --rerun always"
        for key, count in older.items()
        if count
    ]


def _file_of(model: str) -> str:
    """The file that defines a plugin's model."""
    from timm.models import model_entrypoint

    return inspect.getsourcefile(model_entrypoint(model)) or ""


def _digest(path: Path) -> str:
    """Twelve hex digits of the SHA-256 of a file; empty where there is none."""
    return _file_digest(path, path.stat().st_mtime_ns) if path.is_file() else ""


@lru_cache
def _file_digest(path: Path, mtime: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def environment_of(cell: Cell, lab: Lab, bank: str = "") -> Environment:
    """What a record says of where its cell ran.

    Args:
        cell: which.
        lab: device, plugins, ranks.
        bank: what was read from the bank.
    """
    import torch

    return Environment(
        versions={
            "kdzoo": version("kdzoo"),
            **plugin_versions(cell, lab.registry),
            "torch": torch.__version__,
            "timm": version("timm"),
            "python": platform.python_version(),
        },
        device=_device_name(lab.device) if lab.world.size == 1 else f"{lab.world.size} x {_device_name(lab.device)}",
        threads=torch.get_num_threads(),
        bank=bank,
        compiled=lab.compile,
    )


def _device_name(device: torch.device) -> str:
    """The accelerator's or the processor's name: times are compared only where it is the same."""
    if device.type == "cuda":
        import torch

        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{device.type} ({models[0] if models else platform.processor() or platform.machine()})"
