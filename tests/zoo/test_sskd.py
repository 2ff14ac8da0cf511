from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from kdzoo import PairError, Phase, UsageError
from kdzoo_zoo.contrast.sskd import SelfSupervision
from kdzoo_zoo.functional import self_supervised_similarity_loss, soft_target_loss, transformed_view_loss

SQUARE = ((8, 8, 8), (10, 4, 4), (12, 1, 1))


def naive_kept(answers, target, keep):
    """Rows by a list: right ones, and the wrong ones of the smallest ranks."""
    ranks = []
    for row, y in zip(answers.tolist(), target.tolist(), strict=True):
        ordered = sorted(range(len(row)), key=lambda c: (-row[c], c))
        ranks.append(ordered.index(y))
    wrong = sorted((rank, r) for r, rank in enumerate(ranks) if rank > 0)
    kept = [r for r, rank in enumerate(ranks) if rank == 0]
    return sorted(kept + [r for _, r in wrong[: int(len(wrong) * keep)]])


def naive_divergence(student, teacher, rows, temperature):
    total = torch.zeros((), dtype=student.dtype)
    for r in rows:
        p, q = ((each[r] / temperature).softmax(dim=0) for each in (teacher, student))
        total = total + sum(a * (a.log() - b.log()) for a, b in zip(p, q, strict=True))
    return temperature**2 * total / max(len(rows), 1)


def naive_transformed(student_logits, teacher_logits, target, temperature, keep):
    return naive_divergence(student_logits, teacher_logits, naive_kept(teacher_logits, target, keep), temperature)


def naive_similarity(student_augmented, student_normal, teacher_normal, teacher_augmented, temperature, keep):
    def cosines(augmented, normal):
        return torch.stack([torch.stack([a @ n / (a.norm() * n.norm()) for n in normal]) for a in augmented])

    student, teacher = cosines(student_augmented, student_normal), cosines(teacher_augmented, teacher_normal)
    target = torch.tensor([r // 3 for r in range(len(student))])
    return naive_divergence(student, teacher, naive_kept(teacher, target, keep), temperature)


def both(loss, naive, tensors, **more):
    found = []
    for function in (loss, naive):
        leaves = {name: value.clone().requires_grad_() for name, value in tensors.items()}
        value = function(**leaves, **more)
        slopes = torch.autograd.grad(value, list(leaves.values()), allow_unused=True, materialize_grads=True)
        found.append((value, *slopes))
    return found


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.75, 1.0])
@pytest.mark.parametrize(("rows", "classes"), [(9, 5), (3, 2)])
def test_transformed_views_equal_the_naive_loop(keep, rows, classes):
    tensors = {name: torch.randn(rows, classes, dtype=torch.float64) for name in ("student_logits", "teacher_logits")}
    tensors["teacher_logits"][0] = 1.0  # all equal
    target = torch.arange(rows) % classes
    tensors["teacher_logits"][1, target[1]] += 9.0  # one that is right
    torch.testing.assert_close(
        *both(transformed_view_loss, naive_transformed, tensors, target=target, temperature=4.0, keep=keep)
    )


@pytest.mark.parametrize("keep", [0.0, 0.75, 1.0])
@pytest.mark.parametrize("size", [2, 4])
def test_similarities_equal_the_naive_loop(keep, size):
    shapes = {
        "student_augmented": (3 * size, 5),
        "student_normal": (size, 5),
        "teacher_normal": (size, 7),
        "teacher_augmented": (3 * size, 7),
    }
    tensors = {name: torch.randn(shape, dtype=torch.float64) for name, shape in shapes.items()}
    tensors["teacher_augmented"][0] = tensors["teacher_normal"][0]
    found = both(self_supervised_similarity_loss, naive_similarity, tensors, temperature=0.5, keep=keep)
    torch.testing.assert_close(*found)


def test_by_hand():
    # Wrong by one place and by two: a keep of one half leaves the first.
    teacher = torch.tensor([[0.0, 1.0, -1.0], [0.0, 2.0, 1.0]])
    student = torch.zeros(2, 3)
    p = torch.tensor([1.0, math.e, math.exp(-1)])
    p = p / p.sum()
    expected = sum(float(each) * (math.log(each) - math.log(1 / 3)) for each in p)
    loss = transformed_view_loss(student, teacher, torch.tensor([0, 0]), temperature=1.0, keep=0.5)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_where_nothing_is_kept_the_loss_is_zero():
    student = torch.randn(2, 3, requires_grad=True)
    loss = transformed_view_loss(student, torch.tensor([[0.0, 1, 2]] * 2), torch.tensor([0, 0]), keep=0.0)
    loss.backward()
    assert loss == 0
    assert (student.grad == 0).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [50.0, 1e4])
def test_extreme_logits_and_one_sample_are_finite(dtype, size):
    student = (size * torch.randn(3, 4).sign()).to(dtype).requires_grad_()
    teacher = (size * F.one_hot(torch.tensor([1, 2, 3]), 4)).to(dtype)
    loss = transformed_view_loss(student, teacher, torch.tensor([1, 2, 0]))
    loss.backward()
    assert loss.isfinite()
    assert loss.dtype == torch.promote_types(dtype, torch.float32)
    assert student.grad.isfinite().all()
    one = torch.zeros(1, 4, dtype=dtype, requires_grad=True)
    many = torch.zeros(3, 4, dtype=dtype)
    alone = self_supervised_similarity_loss(many, one, one.detach(), many)
    alone.backward()
    assert alone == 0
    assert one.grad.isfinite().all()


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="logits"):
        transformed_view_loss(torch.zeros(2, 3), torch.zeros(2, 4), torch.zeros(2).long())
    with pytest.raises(ValueError, match="labels"):
        transformed_view_loss(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(1).long())
    with pytest.raises(ValueError, match="three rows"):
        self_supervised_similarity_loss(torch.zeros(4, 3), torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(6, 3))


def test_images_come_first_and_then_their_rotations(setup):
    images = torch.arange(2 * 4.0).view(2, 1, 2, 2)
    rows = SelfSupervision(setup(teacher=SQUARE)).augment(images)
    assert torch.equal(rows[:2], images)
    assert rows[2].flatten().tolist() == [1, 3, 0, 2]  # counter-clockwise
    assert rows[4].flatten().tolist() == [3, 2, 1, 0]
    assert rows[7].flatten().tolist() == [6, 4, 7, 5]


def test_the_teachers_head_comes_first_and_then_stands_still(setup, outputs, step):
    strategy = SelfSupervision(setup(teacher=SQUARE))
    assert strategy.phases(300) == (
        Phase("head", 60, hard_labels=False, trains="strategy"),
        Phase("main", 240),
    )
    assert [phase.epochs for phase in strategy.phases(2)] == [1, 1]
    with pytest.raises(UsageError, match="no epoch of 1"):
        strategy.phases(1)
    student, teacher = outputs(strategy.setup.student, 12, trained=True), outputs(strategy.setup.teacher, 12)
    assert step(strategy, student, teacher, phase="head").keys() == {"head"}
    assert all(weight.grad.abs().sum() > 0 for weight in strategy.teacher_head.parameters())
    assert all(weight.grad is None for weight in strategy.student_head.parameters())
    strategy.zero_grad()
    assert step(strategy, student, teacher).keys() == {"soft", "similarity", "transformed"}
    assert all(weight.grad is None for weight in strategy.teacher_head.parameters())
    assert all(weight.grad.abs().sum() > 0 for weight in strategy.student_head.parameters())


def test_the_terms_are_those_of_the_card(setup, outputs, batch):
    strategy = SelfSupervision(setup(teacher=SQUARE))
    student, teacher = outputs(strategy.setup.student, 12), outputs(strategy.setup.teacher, 12)
    one = batch(12)
    one.labels[:] = torch.tensor([0, 1, 2]).repeat(4)
    terms = strategy(student, teacher, one)
    # Row v * 3 + i is variant v of sample i; the losses want the three of a sample side by side.
    order = [v * 3 + i for i in range(3) for v in range(1, 4)]
    own, theirs = strategy.student_head(student.embedding), strategy.teacher_head(teacher.embedding)
    similar = self_supervised_similarity_loss(own[order], own[:3], theirs[:3], theirs[order])
    turned = transformed_view_loss(student.logits[order], teacher.logits[order], one.labels[order])
    soft = soft_target_loss(student.logits[:3], teacher.logits[:3], 4.0)
    expected = {"soft": 0.9 * soft, "similarity": 10 * similar, "transformed": 2.7 * turned}
    torch.testing.assert_close(terms, expected)
    assert strategy.ce_weight == 0.1


def test_mixed_labels_give_the_one_with_the_largest_share(setup, outputs, batch):
    strategy = SelfSupervision(setup(teacher=SQUARE), keep_transformed=0.0)
    student, teacher = outputs(strategy.setup.student, 4), outputs(strategy.setup.teacher, 4)
    # Row v is variant v of one sample, whose own class is 0; the teacher answers 1 for each, as its larger part is.
    teacher.logits[:] = torch.tensor([0.0, 2.0, -1.0])
    mixed = replace(batch(4), targets=torch.tensor([[0.4, 0.6, 0.0]] * 4))
    turned = naive_divergence(student.logits[1:], teacher.logits[1:], [0, 1, 2], 4.0)
    torch.testing.assert_close(strategy(student, teacher, mixed)["transformed"], 2.7 * turned)


def test_oblong_images_and_other_classes_are_refused(setup):
    with pytest.raises(PairError, match="square"):
        SelfSupervision(setup())
    with pytest.raises(PairError, match=r"sskd .* student has 3 classes and the teacher 4"):
        SelfSupervision(setup(teacher=SQUARE, classes=(3, 4)))
