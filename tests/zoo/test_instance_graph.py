"""The instance relationship graph against plain loops."""

from __future__ import annotations

import pytest
import torch

from kdzoo import PairError
from kdzoo_zoo.functional import instance_edge_loss, instance_transformation_loss
from kdzoo_zoo.gram import squared_distances
from kdzoo_zoo.relation.irg import InstanceRelationshipGraph


def edges_by_loops(student, teacher):
    batch = len(student)
    matrices = []
    for x in (student, teacher):
        apart = [((x[i] - x[j]) ** 2).sum() for i in range(batch) for j in range(batch)]
        matrices.append(torch.stack(apart) / max(apart))
    return sum((s - t) ** 2 for s, t in zip(*matrices, strict=True)) / batch**2


def moves_by_loops(*maps):
    ratios = []
    for bottom, top in (maps[:2], maps[2:]):
        moved = []
        for below, above in zip(bottom, top, strict=True):
            step = below.shape[1] // above.shape[1]
            total = 0.0
            for c in range(len(below)):
                for y in range(above.shape[1]):
                    for x in range(above.shape[2]):
                        low = below[c, step * y : step * (y + 1), step * x : step * (x + 1)].mean()
                        if len(above) == 2 * len(below):
                            high = (above[2 * c, y, x] + above[2 * c + 1, y, x]) / 2
                        else:
                            high = above[c, y, x]
                        total = total + (low - high) ** 2
            moved.append(total)
        ratios.append(torch.stack(moved) / max(moved))
    return ((ratios[0] - ratios[1]) ** 2).mean()


def random(*shape, dtype=torch.float64):
    return torch.randn(*shape, dtype=torch.float64).to(dtype).requires_grad_()


def test_edges_have_the_value_and_the_gradients_of_the_loops():
    pair = random(5, 3, 2, 2), random(5, 4)
    torch.testing.assert_close(instance_edge_loss(*pair), edges_by_loops(*pair), rtol=1e-10, atol=0)
    found, expected = (torch.autograd.grad(form(*pair), pair) for form in (instance_edge_loss, edges_by_loops))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


SHAPES = [((2, 4, 4), (4, 2, 2)), ((3, 2, 2), (3, 2, 2)), ((2, 4, 4), (2, 2, 2))]


@pytest.mark.parametrize("student", SHAPES)
@pytest.mark.parametrize("teacher", SHAPES)
def test_moves_have_the_value_and_the_gradients_of_the_loops(student, teacher):
    maps = [random(4, *shape) for shape in (*student, *teacher)]
    torch.testing.assert_close(instance_transformation_loss(*maps), moves_by_loops(*maps), rtol=1e-10, atol=0)
    found, expected = (
        torch.autograd.grad(form(*maps), maps) for form in (instance_transformation_loss, moves_by_loops)
    )
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("below", "above"), [(2, 6), (6, 2), (3, 4), (1, 1)])
def test_other_numbers_of_channels_are_averaged_to_the_smaller(below, above):
    bottom, top = random(3, below, 2, 2), random(3, above, 1, 1)
    low, high = bottom.mean(dim=(2, 3)), top.flatten(1)
    fewer = min(below, above)

    def averaged(x):
        places = [(i * x.shape[1] // fewer, -(-(i + 1) * x.shape[1] // fewer)) for i in range(fewer)]
        return torch.stack([x[:, a:b].mean(dim=1) for a, b in places], dim=1)

    moved = (averaged(low) - averaged(high)).square().sum(dim=1)
    other = random(3, 2, 2, 2), random(3, 4, 1, 1)
    apart = (other[0].mean(dim=(2, 3)) - averaged_pairs(other[1].flatten(1))).square().sum(dim=1)
    expected = (moved / moved.max() - apart / apart.max()).square().mean()
    torch.testing.assert_close(instance_transformation_loss(bottom, top, *other), expected)


def averaged_pairs(x):
    return (x[:, 0::2] + x[:, 1::2]) / 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_single_and_half_precision_are_computed_in_float32(dtype):
    pair = 5 + random(5, 3, 4, 4).to(dtype), random(5, 4).to(dtype)
    value = instance_edge_loss(*pair)
    maps = [random(4, *shape).to(dtype) for shape in (*SHAPES[0], *SHAPES[1])]
    moved = instance_transformation_loss(*maps)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(instance_edge_loss(*pair), value)
        assert torch.equal(instance_transformation_loss(*maps), moved)
    assert value.dtype == moved.dtype == torch.float32
    torch.testing.assert_close(value.double(), edges_by_loops(*(x.double() for x in pair)), rtol=1e-4, atol=0)
    torch.testing.assert_close(moved.double(), moves_by_loops(*(x.double() for x in maps)), rtol=1e-4, atol=0)


@pytest.mark.parametrize("kind", ["single", "alike", "zero", "some alike"])
def test_samples_that_coincide_have_finite_values_and_gradients(kind):
    student = 1e4 * torch.randn(1 if kind == "single" else 6, 3, 2, 2)
    if kind == "alike":
        student[:] = student[:1].clone()
    if kind == "zero":
        student[:] = 0
    if kind == "some alike":
        student[:3] = student[:1].clone()
    student.requires_grad_()
    teacher = torch.randn(len(student), 3, 2, 2)
    value = instance_edge_loss(student, teacher) + instance_transformation_loss(student, student, teacher, teacher + 1)
    value.backward()
    assert value.isfinite()
    assert student.grad.abs().max() < 1


def test_equal_networks_have_no_loss():
    student = random(4, 3, 2, 2)
    value = instance_edge_loss(student, student.detach().clone())
    (slope,) = torch.autograd.grad(value, student)
    assert value == 0
    assert (slope == 0).all()


def test_distances_far_from_the_origin_are_precise_and_have_a_second_gradient():
    rows = 1000 + torch.randn(6, 8)
    expected = (rows.double()[:, None] - rows.double()).square().sum(dim=2)
    torch.testing.assert_close(squared_distances(rows).double(), expected, rtol=1e-4, atol=0)
    assert torch.autograd.gradgradcheck(squared_distances, random(3, 2))


def test_batches_must_be_equal():
    with pytest.raises(ValueError, match="batch of student and teacher"):
        instance_edge_loss(random(2, 3), random(3, 3))
    maps = [random(2, 2, 2, 2)] * 2
    with pytest.raises(ValueError, match="batch of student and teacher"):
        instance_transformation_loss(*maps, *[random(3, 2, 2, 2)] * 2)


def test_terms_carry_their_weights(setup, outputs, step):
    irg = InstanceRelationshipGraph(setup())
    student, teacher = outputs(irg.setup.student, 6, trained=True), outputs(irg.setup.teacher, 6)
    terms = step(irg, student, teacher)
    pairs = [(student.embedding, teacher.embedding), *zip(student.stages[1:], teacher.stages[1:], strict=True)]
    torch.testing.assert_close(terms["vertex"], 0.1 * (student.logits - teacher.logits).square().mean())
    torch.testing.assert_close(terms["edge"], 5 * sum(instance_edge_loss(*pair) for pair in pairs) / 3)
    moved = instance_transformation_loss(*student.stages[1:], *teacher.stages[1:])
    torch.testing.assert_close(terms["transformation"], 5 * moved)


def test_pairs_that_do_not_fit_are_refused(setup):
    with pytest.raises(PairError, match=r"irg .* student has 3 classes and the teacher 4"):
        InstanceRelationshipGraph(setup(classes=(3, 4)))
    with pytest.raises(PairError, match="two paired stages"):
        InstanceRelationshipGraph(setup(student=((4, 2, 2),)))
