"""The flow of the solution procedure against plain loops, and its two phases."""

from __future__ import annotations

import pytest
import torch

from kdzoo import PairError, Phase, UsageError
from kdzoo_zoo.feature.fsp import FlowOfSolution
from kdzoo_zoo.functional import flow_of_solution_loss

SAME = ((8, 8, 8), (10, 5, 3), (12, 1, 1))


def pooled(image, size):
    """Average pooling of C x H x W where the sizes divide, by its definition."""
    step = image.shape[1] // size[0], image.shape[2] // size[1]
    rows = [
        [
            image[:, y * step[0] : (y + 1) * step[0], x * step[1] : (x + 1) * step[1]].mean(dim=(1, 2))
            for x in range(size[1])
        ]
        for y in range(size[0])
    ]
    return torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)


def by_loops(*maps):
    batch, total = len(maps[0]), 0.0
    for b in range(batch):
        flows = []
        for bottom, top in ((maps[0][b], maps[1][b]), (maps[2][b], maps[3][b])):
            size = tuple(min(bottom.shape[d], top.shape[d]) for d in (1, 2))
            low, high = pooled(bottom, size), pooled(top, size)
            flows.append([[(low[j] * high[i]).mean() for j in range(len(low))] for i in range(len(high))])
        squares = [(s - t) ** 2 for row, other in zip(*flows, strict=True) for s, t in zip(row, other, strict=True)]
        total = total + sum(squares) / len(squares)
    return total / batch


def drawn(batch=3, dtype=torch.float64):
    shapes = ((2, 4, 4), (3, 2, 2), (2, 2, 2), (3, 2, 2))
    return [torch.randn(batch, *shape, dtype=torch.float64).to(dtype).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("batch", [1, 3])
def test_value_and_gradients_are_those_of_the_loops(batch):
    maps = drawn(batch)
    values = [form(*maps) for form in (flow_of_solution_loss, by_loops)]
    torch.testing.assert_close(*values, rtol=1e-10, atol=0)
    torch.testing.assert_close(*(torch.autograd.grad(value, maps) for value in values), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_single_and_half_precision_are_computed_in_float32(dtype):
    maps = drawn(dtype=dtype)
    value = flow_of_solution_loss(*maps)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(flow_of_solution_loss(*maps), value)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), by_loops(*(x.double() for x in maps)), rtol=1e-5, atol=0)


def test_equal_networks_have_no_loss():
    bottom, top = drawn()[:2]
    value = flow_of_solution_loss(bottom, top, bottom.detach().clone(), top.detach().clone())
    slopes = torch.autograd.grad(value, (bottom, top))
    assert value == 0
    assert all((slope == 0).all() for slope in slopes)


def test_channels_must_be_equal():
    maps = drawn()
    with pytest.raises(ValueError, match="channels of the lower maps"):
        flow_of_solution_loss(maps[0][:, :1], *maps[1:])
    with pytest.raises(ValueError, match="channels of the upper maps"):
        flow_of_solution_loss(maps[0], maps[1][:, :1], *maps[2:])


def test_the_first_phase_has_the_flows_and_the_main_one_nothing(setup, outputs, step):
    fsp = FlowOfSolution(setup(student=SAME), beta=3.0)
    student, teacher = outputs(fsp.setup.student, 4, trained=True), outputs(fsp.setup.teacher, 4)
    assert step(fsp, student, teacher) == {}
    terms = step(fsp, student, teacher, phase="flow")
    expected = sum(flow_of_solution_loss(*student.stages[i : i + 2], *teacher.stages[i : i + 2]) for i in range(2))
    torch.testing.assert_close(terms["flow"], 3 * expected)
    assert not list(fsp.parameters())


def test_phases_share_the_epochs(setup):
    fsp = FlowOfSolution(setup(student=SAME))
    first, main = fsp.phases(240)
    assert first == Phase("flow", 30, hard_labels=False)
    assert main == Phase("main", 210, trains="student", teacher=False)
    assert [phase.epochs for phase in fsp.phases(2)] == [1, 1]
    with pytest.raises(UsageError, match=r"fsp\.share 0\.125 of 1 epochs leaves none"):
        fsp.phases(1)


def test_other_channels_are_refused_unless_an_adapter_is_set(setup, outputs, step):
    with pytest.raises(PairError, match=r"student has \[4, 6, 8\], the teacher \[8, 10, 12\]: set fsp.adapter=true"):
        FlowOfSolution(setup())
    with pytest.raises(PairError, match="two paired stages"):
        FlowOfSolution(setup(student=((12, 1, 1),)))
    fsp = FlowOfSolution(setup(), adapter=True)
    student, teacher = outputs(fsp.setup.student, 4, trained=True), outputs(fsp.setup.teacher, 4)
    terms = step(fsp, student, teacher, phase="flow")
    maps = [adapter(stage) for adapter, stage in zip(fsp.adapters, student.stages, strict=True)]
    expected = sum(flow_of_solution_loss(*maps[i : i + 2], *teacher.stages[i : i + 2]) for i in range(2))
    torch.testing.assert_close(terms["flow"], expected)
    assert all(parameter.grad is not None for parameter in fsp.parameters())
