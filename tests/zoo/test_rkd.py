from __future__ import annotations

import math
import sys

import pytest
import torch
from waiting import output_of

from kdzoo import UsageError
from kdzoo_zoo.functional import relational_angle_loss, relational_distance_loss
from kdzoo_zoo.relation.rkd import RelationalKD

LOSSES = [relational_distance_loss, relational_angle_loss]


def smooth_l1(a, b):
    gap = abs(a - b)
    return gap**2 / 2 if gap < 1 else gap - 0.5


def naive_distances(rows):
    distances = [
        [0.0 if i == j else math.sqrt(max(math.dist(a, b) ** 2, 1e-12)) for j, b in enumerate(rows)]
        for i, a in enumerate(rows)
    ]
    positive = [d for line in distances for d in line if d > 0]
    return [d / (sum(positive) / len(positive)) for line in distances for d in line] if positive else [0.0]


def naive_angles(rows):
    cosines = []
    for origin in rows:
        units = []
        for row in rows:
            vector = [x - o for x, o in zip(row, origin, strict=True)]
            length = max(math.hypot(*vector), 1e-12)
            units.append([v / length for v in vector])
        cosines += [sum(x * y for x, y in zip(a, b, strict=True)) for a in units for b in units]
    return cosines


def naive(loss, student, teacher):
    relations = {relational_distance_loss: naive_distances, relational_angle_loss: naive_angles}[loss]
    s, t = relations(student.tolist()), relations(teacher.tolist())
    return sum(map(smooth_l1, s, t)) / len(s)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("batch_size", "widths"), [(1, (3, 5)), (2, (4, 4)), (3, (1, 2)), (9, (6, 3))])
def test_equals_the_naive_loop(loss, dtype, batch_size, widths):
    student, teacher = (torch.randn(batch_size, width).to(dtype) for width in widths)
    value = loss(student, teacher)
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert value.item() == pytest.approx(naive(loss, student, teacher), rel=1e-5, abs=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_several_chunks_of_anchors_equal_the_naive_loop(loss, monkeypatch):
    monkeypatch.setattr("kdzoo_zoo.relation.angles.CHUNK_ELEMENTS", 200)
    student, teacher = torch.randn(8, 4), torch.randn(8, 3)
    assert loss(student, teacher).item() == pytest.approx(naive(loss, student, teacher), rel=1e-5)


def test_distances_equal_the_value_computed_by_hand():
    # Student: 0, 1, 3 on a line, distances 1, 3, 2 with mean 2. Teacher: all 1 apart after division by the mean.
    student = torch.tensor([[0.0], [1.0], [3.0]])
    teacher = torch.tensor([[0.0, 0.0], [2.0, 0.0], [1.0, math.sqrt(3)]])
    gaps = [0.5, 0.5, 0.0]
    expected = 2 * sum(gap**2 / 2 for gap in gaps) / 9
    assert relational_distance_loss(student, teacher).item() == pytest.approx(expected, rel=1e-6)


def test_angles_equal_the_value_computed_by_hand():
    # Student: three points on a line, cosines -1, 1, 1. Teacher: an equilateral triangle, cosines 1/2 everywhere.
    student = torch.tensor([[0.0], [1.0], [-1.0]])
    teacher = torch.tensor([[0.0, 0.0], [2.0, 0.0], [1.0, math.sqrt(3)]])
    expected = 2 * ((1.5 - 0.5) + 0.5**2 / 2 + 0.5**2 / 2) / 27
    assert relational_angle_loss(student, teacher).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_near_duplicates_are_precise_far_from_the_origin(loss):
    student = 1000 + torch.randn(6, 8)
    student[1] = student[0] + 1e-3 * torch.randn(8)
    student[2] = student[0] + 1e-3 * torch.randn(8)
    teacher = torch.randn(6, 8)
    assert loss(student, teacher).item() == pytest.approx(naive(loss, student, teacher), rel=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["distinct", "duplicates", "constant", "single"])
def test_is_zero_at_equality_with_zero_gradient(loss, dtype, kind):
    size = 1 if kind == "single" else 6
    teacher = (100 * torch.randn(size, 64)).to(dtype)
    if kind == "duplicates":
        teacher = teacher[[0, 0, 1, 2, 2, 2]]
    if kind == "constant":
        teacher = teacher[:1].expand(6, -1)
    student = teacher.clone().requires_grad_()
    value = loss(student, teacher)
    value.backward()
    assert value.item() == 0.0
    assert (student.grad == 0).all()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("student_rows", [[0, 0, 1, 2, 2, 2], [0] * 6, [0]])
def test_coincident_students_have_the_naive_value_and_a_moderate_gradient(loss, student_rows):
    student = (30 * torch.randn(6, 40))[student_rows].requires_grad_()
    teacher = torch.randn(len(student_rows), 5)
    value = loss(student, teacher)
    value.backward()
    assert value.item() == pytest.approx(naive(loss, student.detach(), teacher), rel=1e-5)
    assert student.grad.abs().max() < 1.0


@pytest.mark.parametrize("loss", LOSSES)
def test_gradient_is_right_through_all_chunks(loss, monkeypatch):
    monkeypatch.setattr("kdzoo_zoo.relation.angles.CHUNK_ELEMENTS", 50)
    teacher = torch.randn(5, 4, dtype=torch.float64)
    student = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher), student)


def test_distances_have_a_second_derivative():
    teacher = torch.randn(4, 3, dtype=torch.float64)
    student = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda s: relational_distance_loss(s, teacher), student)


@pytest.mark.parametrize("loss", LOSSES)
def test_order_shift_scale_and_rotation_do_not_matter(loss):
    student, teacher = torch.randn(7, 5), torch.randn(7, 6)
    expected = loss(student, teacher)
    order = torch.randperm(7)
    rotation = torch.linalg.qr(torch.randn(5, 5)).Q
    torch.testing.assert_close(loss(student[order], teacher[order]), expected)
    torch.testing.assert_close(loss(3 * student @ rotation + 7, teacher), expected)
    torch.testing.assert_close(loss(student.T.contiguous().T, teacher.repeat(1, 2)[:, :6]), expected)


@pytest.mark.parametrize("loss", LOSSES)
def test_autocast_does_not_lower_the_precision(loss, monkeypatch):
    # Float64 is never autocast; devices without it compute in float32, which is.
    monkeypatch.setattr("kdzoo_zoo.relation.geometry.precision", lambda device: torch.float32)
    student, teacher = torch.randn(8, 32), torch.randn(8, 16)
    expected = naive(loss, student, teacher)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert loss(student, teacher).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("loss", LOSSES)
def test_devices_without_float64_are_precise_far_from_the_origin(loss, monkeypatch):
    monkeypatch.setattr("kdzoo_zoo.relation.geometry.precision", lambda device: torch.float32)
    student, teacher = 1000 + torch.randn(6, 8), torch.randn(6, 8)
    assert loss(student, teacher).item() == pytest.approx(naive(loss, student, teacher), rel=1e-4)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_broken_embedding_stays_visible(loss):
    student = torch.randn(4, 3)
    student[2, 1] = math.nan
    assert loss(student, torch.randn(4, 3)).isnan()


@pytest.mark.parametrize("loss", LOSSES)
def test_batches_that_differ_are_refused(loss):
    with pytest.raises(ValueError, match="batch of student and teacher"):
        loss(torch.zeros(4, 3), torch.zeros(1, 3))


MEMORY = """
import resource, sys, torch
from pathlib import Path
from kdzoo_zoo.functional import relational_angle_loss

def peak():
    status = Path("/proc/self/status")
    if status.exists():  # on Linux ru_maxrss begins with the peak of the process that started this one
        return next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if "VmHWM" in line)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

relational_angle_loss(torch.randn(4, 512, requires_grad=True), torch.randn(4, 512)).backward()
student, teacher = torch.randn(256, 512, requires_grad=True), torch.randn(256, 512)
before = peak()
relational_angle_loss(student, teacher).backward()
assert student.grad.abs().sum() > 0
print(peak() - before)
"""


def test_angles_of_a_large_batch_stay_under_one_gibibyte():
    # Its own process, because a peak of the test process may be an older one.
    growth = int(output_of(sys.executable, "-P", "-c", MEMORY))
    assert 0 < growth < 2**30


def test_strategy_weighs_both_terms(setup, outputs, step):
    strategy = RelationalKD(setup())
    student, teacher = outputs(strategy.setup.student, 6, trained=True), outputs(strategy.setup.teacher, 6)
    terms = step(strategy, student, teacher)
    torch.testing.assert_close(terms["distance"], 25 * relational_distance_loss(student.embedding, teacher.embedding))
    torch.testing.assert_close(terms["angle"], 50 * relational_angle_loss(student.embedding, teacher.embedding))
    assert student.embedding.grad.abs().sum() > 0


@pytest.mark.parametrize(("weights", "left"), [({"angle": 0.0}, {"distance"}), ({"distance": 0.0}, {"angle"})])
def test_a_weight_of_zero_leaves_its_term_out(setup, outputs, step, weights, left):
    strategy = RelationalKD(setup(), **weights)
    student, teacher = outputs(strategy.setup.student, 6, trained=True), outputs(strategy.setup.teacher, 6)
    assert step(strategy, student, teacher).keys() == left


def test_embeddings_can_be_scaled_to_length_one_first(setup, outputs, step):
    strategy = RelationalKD(setup(), normalize=True, distance=1.0, angle=0.0)
    student, teacher = outputs(strategy.setup.student, 6, trained=True), outputs(strategy.setup.teacher, 6)
    own, theirs = (
        each / each.pow(2).sum(dim=1, keepdim=True).sqrt() for each in (student.embedding, teacher.embedding)
    )
    torch.testing.assert_close(step(strategy, student, teacher)["distance"], relational_distance_loss(own, theirs))


def test_wrong_weights_are_refused(setup):
    with pytest.raises(UsageError, match=r"rkd\.angle must be a number at least 0"):
        RelationalKD(setup(), angle=-1.0)
