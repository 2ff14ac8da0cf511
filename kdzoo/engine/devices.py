"""Devices, precision, compilation and clocks, by accelerate and torch."""

from __future__ import annotations

import random
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, distributed, nn

from kdzoo.engine.world import launched
from kdzoo.errors import UsageError
from kdzoo.models.taps import TappedModel

_MIXED = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


def pick_device(name: str) -> torch.device:
    """The device of that name; ``auto`` takes CUDA, then MPS, then the CPU.

    Raises:
        UsageError: there is no such device here.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, available in there.items() if available)
    if not there.get(name, False):
        raise UsageError(f"--device {name} is not available on this machine; there is {_here(there)}")
    return torch.device(name)


def _here(there: dict[str, bool]) -> str:
    return " and ".join(kind for kind, available in there.items() if available)


def check_precision(device: torch.device, precision: str) -> None:
    """Refuse a precision that the device cannot train in.

    Raises:
        UsageError: fp16 on a CPU, where gradients would need a scaler that is not there, or what accelerate refuses.
    """
    if precision == "fp16" and device.type == "cpu":
        raise UsageError("--precision fp16 needs a GPU; on a CPU take bf16 or fp32")
    try:
        make_accelerator(device, precision)
    except ValueError as error:
        raise UsageError(f"--precision {precision} does not work on {device.type}: {error}") from None


def make_accelerator(device: torch.device, precision: str) -> Accelerator:
    """An accelerator for one cell. Accelerate keeps one state per process, which the next cell's may replace.

    Raises:
        UsageError: a launcher started several processes, and they have not met (see :class:`kdzoo.engine.world.World`).
    """
    if launched() > 1 and not distributed.is_initialized():
        raise UsageError(
            f"a launcher started {launched()} processes, and only kdzoo run-cell divides its work among them; "
            "start this command alone (kdzoo bench --workers N runs several cells at a time)"
        )
    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(cpu=device.type == "cpu", mixed_precision=_MIXED[precision])


class AcceleratorBackward:
    """What :meth:`kdzoo.Strategy.gradients` calls to add the gradients of a loss to those of the parameters.

    Attributes:
        parameters: those that the running phase trains, in a fixed order; each call adds to their ``grad``.
    """

    def __init__(self, accelerator: Accelerator, parameters: tuple[nn.Parameter, ...]) -> None:
        self._accelerator = accelerator
        self.parameters = parameters

    def __call__(self, loss: Tensor, *, retain_graph: bool = False) -> None:
        """Run the backward pass of a scalar; all but the last of several must retain the graph they share."""
        self._accelerator.backward(loss, retain_graph=retain_graph)


def seed_everything(seed: int) -> None:
    """Seed the global generators of torch, numpy and Python; kdzoo draws from torch's only, a strategy from any."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


class Clock:
    """Sums the time of marked sections; on an accelerator by events, so that measuring does not make it wait."""

    def __init__(self, device: torch.device) -> None:
        self._seconds = 0.0
        self._pending: list[tuple[Any, Any]] = []
        self._on_device = device.type != "cpu"
        self._device = device

    @contextmanager
    def section(self) -> Iterator[None]:
        """Count the time of the ``with`` block."""
        if not self._on_device:
            start = time.perf_counter()
            yield
            self._seconds += time.perf_counter() - start
            return
        first, last = (torch.Event(self._device, enable_timing=True) for _ in range(2))
        first.record()
        yield
        last.record()
        self._pending.append((first, last))

    def seconds(self) -> float:
        """All sections so far; waits for the device to end them."""
        for first, last in self._pending:
            last.synchronize()
            self._seconds += first.elapsed_time(last) / 1000
        self._pending.clear()
        return self._seconds


def reset_peak_memory(device: torch.device) -> None:
    """Start a new measurement of the largest memory use, where the system can forget the old one."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif sys.platform == "linux":
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            return  # then the peak of the whole process is what is reported


def peak_memory(device: torch.device) -> int:
    """Largest memory use since the last reset, bytes: the device's, or the process's resident memory on a CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if sys.platform == "linux":
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


_FORMS = 256
"""Torch gives up in silence after eight forms of a function; each network, mode and choice of signals has its own."""


def check_compiler(device: torch.device) -> None:
    """Refuse ``--compile`` where it cannot work, before anything trains.

    Args:
        device: where networks are trained.

    Raises:
        UsageError: torch.compile fails on the smallest function, as it does without a C++ compiler.
    """
    import torch._inductor.config as inductor

    try:
        with inductor.patch(force_disable_caches=True):  # what was compiled before says nothing of a compiler now
            torch.compile(_double)(torch.ones(2, device=device))
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UsageError(
            f"--compile: torch.compile does not work here ({reason}); install what it needs (on a CPU a C++ compiler), "
            "or leave out --compile"
        ) from None


def _double(values: Tensor) -> Tensor:
    return values + values


def compile_network(network: TappedModel, *, several_passes: bool = False) -> None:
    """Run a network through torch.compile from its next call on; its state dict stays as it is.

    A copy of it, such as a moving average, runs without.

    Args:
        network: the network.
        several_passes: whether several backward passes go through one graph, so that none may use up its buffers.
    """
    import torch._dynamo.config as dynamo
    import torch._functorch.config as functorch

    if several_passes:
        functorch.donated_buffer = False
    dynamo.recompile_limit = max(dynamo.recompile_limit, _FORMS)
    dynamo.accumulated_recompile_limit = max(dynamo.accumulated_recompile_limit, _FORMS)
    network.compile()
