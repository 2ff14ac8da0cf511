"""The kit's own instruments, against values computed by hand."""

from __future__ import annotations

import random
from collections import deque

import numpy as np
import pytest
import torch
from sound_strategy import Sound
from torch import nn

from kdzoo.testing.checks.cost import bytes_for_each_pair, peak_bytes
from kdzoo.testing.checks.precision import WideFloats
from kdzoo.testing.kit.instruments import difference, plain_state, same
from kdzoo.testing.kit.networks import make_pair
from kdzoo.testing.kit.synthetic import draw_batch, tap_student, tap_teacher


def test_peak_memory_counts_what_lives_at_one_time() -> None:
    def run() -> None:
        a = torch.zeros(1000)  # 4,000 bytes
        b = a + 1  # 8,000
        del a  # 4,000
        c = b * 2  # 8,000
        view = c[10:]  # no memory of its own
        d = torch.cat([b, view])  # 8,000 + 7,960
        assert len(d) == 1990

    assert peak_bytes(run) == 15960
    assert peak_bytes(run) == peak_bytes(run)


def test_peak_memory_counts_the_backward_pass() -> None:
    def run() -> None:
        x = torch.zeros(1000, requires_grad=True)
        (x * x).sum().backward()

    # x, x * x and the sum; then the gradients of the sum and of each factor, and their sum.
    assert peak_bytes(run) >= 4 * 4000


def test_bytes_for_each_pair_whatever_grows_with_the_size() -> None:
    assert bytes_for_each_pair({size: 10**6 + 700 * size for size in (32, 64, 128)}) == 0
    assert bytes_for_each_pair({size: 10**6 + 700 * size + 12 * size**2 for size in (32, 64, 128)}) == 12
    assert bytes_for_each_pair({size: size**3 for size in (32, 64, 128)}) > 32


def test_wide_floats_make_every_precision_float64() -> None:
    narrow = torch.tensor([1 / 3])
    with WideFloats():
        assert narrow.float().dtype == torch.float64
        assert narrow.to(torch.float32).dtype == torch.float64
        assert narrow.bfloat16().softmax(dim=0, dtype=torch.float32).dtype == torch.float64
        assert torch.zeros(1).dtype == torch.float64
        assert narrow.long().dtype == torch.int64
    assert torch.zeros(1).dtype == torch.float32
    assert narrow.double().float().dtype == torch.float32


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (torch.tensor([1.0]), torch.tensor([1.0 + 1e-7])),
        (torch.tensor([1.0]), torch.tensor([[1.0]])),
        (torch.tensor([1.0]), torch.tensor([1.0], dtype=torch.float64)),
        (torch.tensor(0.0), torch.tensor(-0.0)),
        ({"a": [1, (2.0,)]}, {"a": [1, (2.5,)]}),
        ([1], (1,)),
        (deque([1, 2]), deque([2, 1])),
        ({1, 2}, {1, 3}),
        (np.zeros(2), np.ones(2)),
        (torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)),
        (random.Random(1), random.Random(2)),
        (np.random.default_rng(1), np.random.default_rng(2)),
        (1, True),
        (None, 0),
    ],
)
def test_values_that_differ_are_told_apart(one: object, other: object) -> None:
    assert same(one, one)
    assert not same(one, other)


def test_equal_values_are_the_same() -> None:
    class Holder:
        def __init__(self) -> None:
            self.me, self.values = self, [torch.ones(2, dtype=torch.bfloat16), float("nan"), {"a": None}]

    assert same(Holder(), Holder())


def test_plain_state_is_what_a_checkpoint_leaves_out() -> None:
    class Inner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.count = 3
            self.register_buffer("kept", torch.zeros(1))
            self.register_buffer("lost", torch.zeros(1), persistent=False)

    outer = nn.Sequential(nn.Linear(1, 1), Inner())
    outer.note = "here"
    found = plain_state(outer)
    assert {"note", "1.count", "1.lost", "1.kept", "training"} <= set(found)
    assert not {"0.weight", "0", "1"} & set(found)


def test_made_up_signals_fit_each_other() -> None:
    pair = make_pair()
    drawn = draw_batch(pair, 5, views=2)
    student = tap_student(Sound, drawn.student, pair.layers[0])
    teacher = tap_teacher(Sound, drawn.teacher, pair.layers[1])
    assert set(student.outputs.values) == {"logits", "embedding"}
    assert student.outputs.logits.requires_grad
    assert not teacher.outputs.logits.requires_grad
    weight, bias = pair.layers[1]
    torch.testing.assert_close(teacher.outputs.logits, teacher.outputs.embedding @ weight.T + bias)
    assert student.outputs.logits.shape == (10, 10)
    assert torch.equal(*drawn.batch.index.chunk(2))
    assert not torch.equal(*drawn.batch.inputs.chunk(2))
    turned = drawn.rows(torch.tensor([4, 3, 2, 1, 0]))
    assert torch.equal(turned.batch.index, drawn.batch.index[torch.tensor([4, 3, 2, 1, 0, 9, 8, 7, 6, 5])])
    twins = make_pair().twins()
    assert twins.student == twins.teacher
    assert twins.layers[0] is twins.layers[1]


def test_random_terms_are_compared_by_their_means() -> None:
    def noisy(seed: int) -> dict[str, float]:
        return {"term": 1.0 + random.Random(seed).uniform(-0.1, 0.1)}

    def otherwise(seed: int) -> dict[str, float]:
        return noisy(seed + 1000)

    def larger(seed: int) -> dict[str, float]:
        return {"term": otherwise(seed)["term"] + 0.1}

    assert difference(noisy, noisy, relative=1e-6, draws=False) == ""
    assert difference(noisy, otherwise, relative=1e-6, draws=False)
    assert difference(noisy, otherwise, relative=1e-6, draws=True) == ""
    assert "means over 48 seeds" in difference(noisy, larger, relative=1e-6, draws=True)
    assert difference(lambda seed: {"term": float("nan")}, noisy, relative=1.0, draws=False)
