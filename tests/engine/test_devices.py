"""Devices, precision, clocks, seeds, and the tally of terms."""

from __future__ import annotations

import mmap
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from kdzoo import UsageError
from kdzoo.engine import devices
from kdzoo.engine.course import Tally
from kdzoo.engine.devices import (
    AcceleratorBackward,
    Clock,
    check_precision,
    make_accelerator,
    peak_memory,
    pick_device,
    reset_peak_memory,
    seed_everything,
)
from kdzoo.errors import NonFiniteLossError

CPU = torch.device("cpu")


def test_auto_takes_the_first_accelerator_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pick_device("cpu") == CPU
    for cuda, mps, expected in ((True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=cuda: there)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda there=mps: there)
        assert pick_device("auto").type == expected


def test_a_device_that_is_not_there_is_refused_with_what_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match=r"--device cuda is not available on this machine; there is .*cpu"):
        pick_device("cuda")


def test_half_precision_needs_a_gpu() -> None:
    with pytest.raises(UsageError, match="--precision fp16 needs a GPU"):
        check_precision(CPU, "fp16")
    check_precision(CPU, "bf16")
    check_precision(torch.device("cuda"), "fp16")


def test_each_cell_gets_its_own_precision() -> None:
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp32", torch.float32)):
        accelerator = make_accelerator(CPU, precision)
        assert accelerator.device.type == "cpu"
        with accelerator.autocast():
            assert nn.functional.linear(torch.ones(1, 2), torch.ones(3, 2)).dtype == dtype


def test_a_clock_sums_its_sections(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(CPU)
    assert clock.seconds() == 0
    moments = iter([10.0, 12.0, 50.0, 51.5])
    monkeypatch.setattr(devices, "time", SimpleNamespace(perf_counter=lambda: next(moments)))
    for _ in range(2):
        with clock.section():
            pass
    assert clock.seconds() == 3.5
    assert clock.seconds() == 3.5


def test_one_seed_fixes_all_global_draws() -> None:
    def draws() -> tuple[float, float, float]:
        return float(torch.rand(1)), float(np.random.rand()), random.random()

    seed_everything(2**62 + 5)
    first = draws()
    draws()
    seed_everything(2**62 + 5)
    assert draws() == first
    seed_everything(2**62 + 6)
    assert all(one != other for one, other in zip(draws(), first, strict=True))


def test_peak_memory_sees_what_was_held_since_the_reset() -> None:
    reset_peak_memory(CPU)
    before = peak_memory(CPU)
    # Not by an allocator, which may have as much at hand from tests before.
    with mmap.mmap(-1, 64 * 2**20, flags=mmap.MAP_PRIVATE) as held:
        held.write(bytes(64 * 2**20))
    assert peak_memory(CPU) >= before + 32 * 2**20


def test_backward_adds_and_can_keep_the_graph() -> None:
    weight = nn.Parameter(torch.tensor(3.0))
    backward = AcceleratorBackward(make_accelerator(CPU, "fp32"), (weight,))
    square = weight**2
    backward(square, retain_graph=True)
    assert float(weight.grad) == 6
    backward(square)
    assert float(weight.grad) == 12
    assert backward.parameters == (weight,)
    with pytest.raises(RuntimeError, match="second time"):
        backward(square)


def test_a_tally_gives_means() -> None:
    tally = Tally()
    for step in range(4):
        tally.add({"ce": torch.tensor(float(step), requires_grad=True), "kd": torch.tensor(2.0)})
    assert tally.means(4, "here") == {"ce": 1.5, "kd": 2.0}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_tally_names_the_term_that_broke_first(value: float) -> None:
    tally = Tally()
    for ce, kd in ((1.0, 1.0), (1.0, value), (float("nan"), float("nan"))):
        tally.add({"ce": torch.tensor(ce), "kd": torch.tensor(kd)})
    with pytest.raises(NonFiniteLossError, match=r"the term 'kd' was NaN or infinite from step 2 of 3 on in epoch 7"):
        tally.means(3, "epoch 7")


def test_terms_that_cancel_do_not_hide_an_infinity() -> None:
    tally = Tally()
    tally.add({"kd": torch.tensor(float("inf"))})
    tally.add({"kd": torch.tensor(-float("inf"))})
    with pytest.raises(NonFiniteLossError, match="from step 1 of 2"):
        tally.means(2, "epoch 0")
