"""Where a cell runs: the versions, the device and the threads that its record names."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path

import torch

from kdzoo.bench.lab import Lab
from kdzoo.bench.provenance import plugin_versions
from kdzoo.cell import Cell
from kdzoo.record import Environment


def environment_of(cell: Cell, lab: Lab, bank: str = "") -> Environment:
    """What a record says of where its cell ran.

    Args:
        cell: which.
        lab: device, plugins, ranks.
        bank: what was read from the bank.
    """
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
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{device.type} ({models[0] if models else platform.processor() or platform.machine()})"
