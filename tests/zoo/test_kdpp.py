from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from kdzoo import Batch, Outputs, PairError
from kdzoo_zoo.feature.kdpp import NormDirection
from kdzoo_zoo.feature.statistics import class_means
from kdzoo_zoo.functional import norm_direction_loss, soft_target_loss


def naive(student, teacher, means, target):
    total = 0.0
    for s, t, y in zip(student, teacher, target.tolist(), strict=True):
        centre = means[y]
        length = max(sum(v * v for v in s) ** 0.5, sum(v * v for v in t) ** 0.5)
        total = total + 1 - sum(a * b for a, b in zip(s, centre / centre.norm(), strict=True)) / length
    return total / len(student)


@pytest.mark.parametrize("size", [1, 4])
def test_value_and_gradient_equal_the_naive_loop(size):
    student, teacher, means = (torch.randn(n, 5, dtype=torch.float64) for n in (size, size, 3))
    target = torch.arange(size) % 3
    found = []
    for loss in (norm_direction_loss, naive):
        leaves = [each.clone().requires_grad_() for each in (student, teacher, means)]
        value = loss(*leaves, target)
        found.append((value, *torch.autograd.grad(value, leaves, allow_unused=True, materialize_grads=True)))
    torch.testing.assert_close(*found)


def test_by_hand():
    means, target = torch.tensor([[0.0, 2.0], [5.0, 0.0]]), torch.tensor([0, 1])
    student, teacher = torch.tensor([[3.0, 4.0], [-8.0, 0.0]]), torch.tensor([[0.0, 10.0], [1.0, 1.0]])
    # 1 - 4 / 10, and 1 + 1 for the opposite direction
    assert norm_direction_loss(student, teacher, means, target).item() == pytest.approx((0.6 + 2) / 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_narrow_embeddings_are_compared_in_float32(dtype):
    student, teacher = (torch.randn(4, 6).to(dtype) for _ in range(2))
    means, target = torch.randn(3, 6), torch.tensor([0, 1, 2, 0])
    loss = norm_direction_loss(student, teacher, means, target)
    assert loss.dtype == torch.float32
    wide = norm_direction_loss(student.double(), teacher.double(), means.double(), target)
    assert loss.item() == pytest.approx(wide.item(), rel=1e-5)


def test_embeddings_and_means_of_zeros_are_finite():
    student = torch.zeros(2, 4, requires_grad=True)
    loss = norm_direction_loss(student, torch.zeros(2, 4), torch.zeros(3, 4), torch.tensor([0, 1]))
    loss.backward()
    assert loss == 1
    assert student.grad.isfinite().all()


def test_shapes_that_do_not_fit_are_refused():
    student, means, target = torch.zeros(2, 4), torch.zeros(3, 4), torch.tensor([0, 1])
    with pytest.raises(ValueError, match="embeddings"):
        norm_direction_loss(student, torch.zeros(2, 1), means, target)
    for wrong in ((means[:, :1], target), (means, target[:1])):
        with pytest.raises(ValueError, match="do not fit"):
            norm_direction_loss(student, student, *wrong)


def survey(labels, sizes, width=5):
    """Embeddings in batches of these sizes; the same for equal labels."""
    draw = torch.Generator().manual_seed(3)
    embeddings = torch.randn(len(labels), width, generator=draw)
    batches = []
    for rows in torch.arange(len(labels)).split(sizes):
        batch = Batch(inputs=None, labels=labels[rows], targets=labels[rows], index=rows)
        batches.append((Outputs({"embedding": embeddings[rows]}), batch))
    return embeddings, batches


LABELS = torch.tensor([0, 2, 1, 0, 2, 2, 1, 0])


@pytest.mark.parametrize("sizes", [[8], [1] * 8, [5, 3]])
def test_class_means_whatever_the_batches(sizes):
    embeddings, batches = survey(LABELS, sizes)
    means = class_means(batches, 4)
    for label in range(3):
        own = embeddings[label == LABELS]
        torch.testing.assert_close(means[label], own.double().mean(dim=0))
    assert (means[3] == 0).all()


def test_class_means_on_a_device_without_float64(monkeypatch):
    """Such as MPS; here the type alone is lowered."""
    embeddings, batches = survey(LABELS, [5, 3])
    monkeypatch.setattr("kdzoo_zoo.feature.statistics.precision", lambda device: torch.float32)
    means = class_means(batches, 3)
    assert means.dtype == torch.float32
    for label in range(3):
        torch.testing.assert_close(means[label], embeddings[label == LABELS].mean(dim=0))


def test_the_terms_are_those_of_the_card(setup, outputs, batch):
    strategy = NormDirection(setup()).eval()
    _, seen = survey(torch.tensor([0, 1, 2, 0, 1, 2]), [4, 2], width=7)
    strategy.survey(seen)
    student, teacher = outputs(strategy.setup.student, 4), outputs(strategy.setup.teacher, 4)
    one = replace(batch(4), epoch=9, epochs=240)
    terms = strategy(student, teacher, one)
    torch.testing.assert_close(terms["soft"], 3.5 * 0.5 * soft_target_loss(student.logits, teacher.logits, 4.0))
    own = strategy.adapter(student.embedding)
    means = class_means(seen, 3).float()
    torch.testing.assert_close(terms["direction"], 2 * norm_direction_loss(own, teacher.embedding, means, one.labels))


def test_mixed_labels_give_the_one_with_the_largest_share(setup, outputs, batch):
    strategy = NormDirection(setup()).eval()
    _, seen = survey(torch.tensor([0, 1, 2, 0, 1, 2]), [6], width=7)
    strategy.survey(seen)
    student, teacher = outputs(strategy.setup.student, 3), outputs(strategy.setup.teacher, 3)
    targets = torch.tensor([[0.4, 0.6, 0.0], [0.7, 0.3, 0.0], [0.2, 0.0, 0.8]])
    terms = strategy(student, teacher, replace(batch(3), targets=targets))
    centres = strategy.means / strategy.means.norm(dim=1, keepdim=True)
    rows = zip(strategy.adapter(student.embedding), teacher.embedding, [1, 0, 2], strict=True)
    parts = [1 - s @ centres[y] / max(s.norm(), t.norm()) for s, t, y in rows]
    torch.testing.assert_close(terms["direction"], 2 * sum(parts) / 3)


def test_equal_widths_need_no_adapter_and_other_classes_are_refused(setup):
    pair = setup()
    assert isinstance(NormDirection(replace(pair, student=pair.teacher)).adapter, nn.Identity)
    with pytest.raises(PairError, match=r"kdpp .* student has 3 classes and the teacher 4"):
        NormDirection(setup(classes=(3, 4)))
