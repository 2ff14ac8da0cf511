from __future__ import annotations

import math

import pytest
import torch

from kdzoo_seed.loss import similarity_distillation


def unit(row):
    norm = max(math.sqrt(sum(x * x for x in row)), 1e-12)
    return [x / norm for x in row]


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def softmax(values):
    powers = [math.exp(value - max(values)) for value in values]
    return [power / sum(powers) for power in powers]


def naive(student, teacher, queue, skip, student_temperature, teacher_temperature):
    """The equation of the docstring, one number at a time."""
    total = 0.0
    kept = [unit(row) for row in queue.tolist()]
    rows = zip(student.tolist(), teacher.tolist(), skip.tolist(), strict=True)
    for own, taught, left_out in ((unit(s), unit(t), k) for s, t, k in rows):
        listed = [taught] + [entry for entry, out in zip(kept, left_out, strict=True) if not out]
        guess = softmax([dot(own, entry) / student_temperature for entry in listed])
        target = softmax([dot(taught, entry) / teacher_temperature for entry in listed])
        total -= sum(t * math.log(g) for t, g in zip(target, guess, strict=True))
    return total / len(student)


def example(size=3, length=5, dtype=torch.float64, skipped=0.3):
    student, teacher, queue = (torch.randn(n, 4).to(dtype) for n in (size, size, length))
    return student, teacher, queue, torch.rand(size, length) < skipped


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("temperatures", [(0.2, 0.01), (0.2, 0.2), (1.0, 0.5)])
@pytest.mark.parametrize(("size", "length"), [(1, 1), (1, 5), (3, 5), (7, 2)])
def test_equals_the_naive_loop(size, length, temperatures, dtype):
    tensors = example(size, length, dtype)
    loss = similarity_distillation(*tensors, *temperatures)
    assert loss.shape == ()
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert loss.item() == pytest.approx(naive(*tensors, *temperatures), rel=1e-4, abs=1e-6)


def test_equals_the_value_computed_by_hand():
    # Teacher: cosine 1 to itself and 0 to the queue; student: 0 to both.
    student, teacher, queue = torch.tensor([[0.0, 0.0, 5.0]]), torch.tensor([[2.0, 0.0, 0.0]]), torch.eye(3)[1:2]
    none = torch.zeros(1, 1, dtype=torch.bool)
    assert similarity_distillation(student, teacher, queue, none, 0.2, 0.01).item() == pytest.approx(math.log(2))


def test_with_everything_skipped_only_the_sample_itself_is_left():
    student, teacher, queue, skip = example()
    student.requires_grad_()
    loss = similarity_distillation(student, teacher, queue, torch.ones_like(skip), 0.2, 0.01)
    loss.backward()
    assert loss.item() == 0
    assert (student.grad == 0).all()


def test_at_equality_with_equal_temperatures_it_is_the_entropy_and_stands_still():
    _, teacher, queue, skip = example()
    student = teacher.clone().requires_grad_()
    loss = similarity_distillation(student, teacher, queue, skip, 0.1, 0.1)
    loss.backward()
    assert loss.item() == pytest.approx(naive(teacher, teacher, queue, skip, 0.1, 0.1))
    torch.testing.assert_close(student.grad, torch.zeros_like(student), rtol=0, atol=1e-12)


def test_gradient_is_right_and_finite_at_the_smallest_temperature():
    student, teacher, queue, skip = example()
    student.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: similarity_distillation(s, teacher, queue, skip, 0.2, 0.1), student)
    similarity_distillation(student, teacher, queue, skip, 0.02, 1e-4).backward()
    assert student.grad.isfinite().all()
    assert (student.grad != 0).any()


def test_neither_the_lengths_nor_the_order_of_samples_and_queue_matter():
    student, teacher, queue, skip = example()
    expected = similarity_distillation(student, teacher, queue, skip, 0.2, 0.05)
    longer = similarity_distillation(3 * student, 0.1 * teacher, 7 * queue, skip, 0.2, 0.05)
    torch.testing.assert_close(longer, expected)
    rows, entries = torch.tensor([2, 0, 1]), torch.tensor([4, 1, 0, 3, 2])
    shuffled = similarity_distillation(student[rows], teacher[rows], queue[entries], skip[rows][:, entries], 0.2, 0.05)
    torch.testing.assert_close(shuffled, expected)


def test_swapping_student_and_teacher_changes_it():
    student, teacher, queue, skip = example()
    there = similarity_distillation(student, teacher, queue, skip, 0.2, 0.05)
    back = similarity_distillation(teacher, student, queue, skip, 0.2, 0.05)
    assert there.item() != pytest.approx(back.item(), rel=1e-3)


def test_autocast_does_not_round_the_similarities():
    tensors = example(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = similarity_distillation(*tensors, 0.2, 0.01)
    torch.testing.assert_close(cast, similarity_distillation(*tensors, 0.2, 0.01), rtol=0, atol=0)


@pytest.mark.parametrize("shapes", [((1, 4), (3, 4), (5, 4)), ((3, 4), (3, 4), (5, 1)), ((3, 1), (3, 4), (5, 4))])
def test_shapes_that_would_broadcast_are_refused(shapes):
    student, teacher, queue = (torch.randn(shape) for shape in shapes)
    with pytest.raises(ValueError, match="B x D, B x D and K x D"):
        similarity_distillation(student, teacher, queue, torch.zeros(3, 5, dtype=torch.bool), 0.2, 0.01)
