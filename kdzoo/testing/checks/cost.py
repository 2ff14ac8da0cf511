"""Checks of what a strategy costs: memory, by samples and by classes, and time."""

from __future__ import annotations

import tempfile
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kdzoo.outputs import Batch, Outputs
from kdzoo.strategy import Strategy, Terms
from kdzoo.testing.kit import Check, CheckResult, failed, passed, skipped, warned
from kdzoo.testing.kit.instruments import one_step
from kdzoo.testing.kit.networks import NetworkPair
from kdzoo.testing.kit.subject import Subject
from kdzoo.testing.kit.synthetic import NO_TERMS
from kdzoo.testing.kit.trainings import BATCH, phases_of

_BATCHES = (64, 128, 256)

_CLASSES = (250, 500, 1000)

_SAMPLES = 8
"""Of the batches with many classes."""

_LEAST_BYTES = 2.0
"""Bytes for each pair from which on there is a tensor over all pairs; the smallest float has as many."""


def _memory(subject: Subject) -> CheckResult:
    if not subject.gives_terms:
        return skipped(NO_TERMS)
    pair = subject.pair()
    peaks = {size: _peak(subject, pair, size) for size in _BATCHES}
    message = f"peak of forward and backward: {_listed(peaks)} samples"
    each = bytes_for_each_pair(peaks)
    if each < _LEAST_BYTES:
        return passed(message)
    return warned(
        f"{message}; it grows with the square of the batch, or faster: about {each:,.0f} bytes for each pair of "
        f"samples, at least {each * 1024**2 / 2**20:,.0f} MiB at 1,024"
    )


def _thousand_classes(subject: Subject) -> CheckResult:
    fault = subject.call(subject.pair(classes=_CLASSES[-1])).fault
    if fault:
        return failed(f"{fault} with 1,000 classes")
    if not subject.gives_terms:
        return passed(NO_TERMS)
    peaks = {classes: _peak(subject, subject.pair(classes=classes), _SAMPLES) for classes in _CLASSES}
    message = f"finite; peak {_listed(peaks)} classes at batch {_SAMPLES}"
    each = bytes_for_each_pair(peaks)
    if each < _LEAST_BYTES:
        return passed(message)
    return warned(
        f"{message}; it grows with the square of the classes, or faster: about {each:,.0f} bytes for each pair"
    )


def _peak(subject: Subject, pair: NetworkPair, samples: int) -> int:
    drawn, strategy = subject.draw(pair, samples), subject.build(pair.setup(subject.kind))

    def step() -> None:
        call = subject.call(pair, drawn, strategy=strategy)
        if call.total.requires_grad:
            torch.autograd.backward(call.total)

    return peak_bytes(step)


def _listed(peaks: Mapping[int, int]) -> str:
    return ", ".join(f"{peak / 2**20:.2f} MiB at {size:,}" for size, peak in peaks.items())


def bytes_for_each_pair(peaks: Mapping[int, int]) -> float:
    """The quadratic part of peaks at three sizes, each twice the one before: c in a + b x size + c x size^2."""
    sizes = sorted(peaks)
    first, second, third = (peaks[size] for size in sizes)
    return (third - second - 2 * (second - first)) / (6 * sizes[0] ** 2)


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the storages that operations make, forward and backward, while they live."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._alive: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        # A view, and what is changed in place, has the memory of what was given.
        given = {_storage_key(value) for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)}
        for value in tree_leaves(made):
            if isinstance(value, Tensor) and _storage_key(value) not in given:
                self._count(value)
        return made

    def _count(self, tensor: Tensor) -> None:
        storage: Any = tensor.untyped_storage()
        key, size = _storage_key(tensor), storage.nbytes()
        if key in self._alive:
            return

        def gone(_: Any) -> None:
            del self._alive[key]
            self.now -= size

        self._alive[key] = weakref.ref(storage, gone)
        self.now += size
        self.peak = max(self.peak, self.now)


def _storage_key(tensor: Tensor) -> int:
    key: int = tensor.untyped_storage()._cdata
    return key


def peak_bytes(run: Callable[[], object]) -> int:
    """The most memory, in bytes, that tensors made by ``run`` held at one time."""
    with _Counter() as counter:
        run()
    return int(counter.peak)


_DEAR = 5.0
"""Times a step of the student alone; beyond, a warning."""


class _Labels(Strategy):
    """The student alone, to compare costs with."""

    name = "labels-alone"
    teacher_signals = ()

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """No distillation terms."""
        return {}


def _cost(subject: Subject) -> CheckResult:
    pair = subject.trainings.pair
    with tempfile.TemporaryDirectory() as folder:
        plain = subject.trainings.begin(*pair, Path(folder), kind=_Labels)
        own = subject.trainings.begin(*pair, Path(folder))
    phases = phases_of(own)
    (labels,) = phases_of(plain)
    plain.start_phase(labels)
    found, dear = [], False
    for phase in phases:
        own.start_phase(phase)
        whole, alone = _times(partial(one_step, own, phase), partial(one_step, plain, labels))
        dear |= whole > _DEAR * alone
        where = f" in the phase {phase.name!r}" if len(phases) > 1 else ""
        found.append(
            f"{whole / alone:.2f} times that of labels alone{where} ({1e3 * whole:.1f} ms against {1e3 * alone:.1f} ms)"
        )
    message = f"a step at batch {BATCH}, the teacher's pass included, takes {', '.join(found)}"
    return warned(message) if dear else passed(message)


def _times(*steps: Callable[[], object]) -> Iterator[float]:
    """The shortest time of each, seconds; they take turns."""
    seconds: list[list[float]] = [[] for _ in steps]
    for _ in range(7):
        for each, taken in zip(steps, seconds, strict=True):
            began = time.perf_counter()
            each()
            taken.append(time.perf_counter() - began)
    return map(min, seconds)


MEMORY_GROWTH = Check(
    name="memory-growth",
    verifies="peak memory of forward and backward, counted at 64, 128 and 256 samples; a warning, with the numbers, "
    "where it has a part that grows with the square of the batch or faster",
    matters="a loss that fits in memory at batch 64 may not fit at 1,024, the batch size of some papers",
    mend="a matrix of B x B may be part of the method; avoid tensors of B x B x D: use matrix products (`x @ x.T`, "
    "`torch.cdist`), or work in chunks",
    run=_memory,
    needs=("terms",),
)


THOUSAND_CLASSES = Check(
    name="thousand-classes",
    verifies="a thousand classes give finite terms and gradients; a warning where memory grows with the square of the "
    "classes",
    matters="ImageNet has a thousand: a tensor of B x classes x classes takes a gigabyte at batch 256",
    mend="average over classes, or sum as the paper does and say so; use matrix products instead of all pairwise "
    "products",
    run=_thousand_classes,
    needs=("terms",),
)


STEP_COST = Check(
    name="step-cost",
    verifies="the time of a step in each phase, relative to training on labels alone, on tiny networks; a warning "
    "above five times",
    matters="a gain that takes five times the time should be compared with five times the epochs",
    mend="look for loops over samples or pairs, copies to the CPU (`.item()`), and signals that are not needed",
    run=_cost,
    needs=("two-epochs",),
)
