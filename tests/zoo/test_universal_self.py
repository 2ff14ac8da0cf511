from __future__ import annotations

import math

import pytest
import torch
from logit_losses import agrees, draw, keeps_precision, softmax, stays_finite

from kdzoo import PairError
from kdzoo_zoo.functional import universal_self_loss
from kdzoo_zoo.response.uskd import UniversalSelfKD


def inputs(samples, classes):
    given = draw(samples, classes)
    return {
        "student_logits": given["student_logits"],
        "weak_logits": given["teacher_logits"],
        "target": given["target"],
    }


def naive(student_logits, weak_logits, target, alpha=1.0, beta=0.1, mu=0.005, log_rank=False):
    rows = [
        (softmax(own), softmax(weak), y)
        for own, weak, y in zip(student_logits, weak_logits, target.tolist(), strict=True)
    ]
    mean = sum(s[y].detach() ** 2 for s, _, y in rows) / len(rows)
    total, classes = 0.0, range(student_logits.shape[1])
    for s, w, y in rows:
        total = total - alpha * (s[y].detach() ** 2 + 1 - mean) * s[y].log()
        own = [x.log() if log_rank else x for x in s]
        rank = [w[c] / (1 - w[y] + 1e-6) + own[c] / (1 - s[y] + 1e-6) for c in classes]
        order = sorted(classes, key=lambda c, rank=rank: -rank[c].item())
        places = {c: 1 / (1 + order.index(c)) for c in classes if c != y}
        for c, share in places.items():
            total = total - beta * share / sum(places.values()) * (s[c] / (1 - s[y])).log()
        for c in classes:
            total = total - mu * (0.9 * (c == y) + 0.1 / len(classes)) * w[c].log()
    return total / len(rows)


@pytest.mark.parametrize("shape", [(1, 2), (5, 4), (3, 7)])
@pytest.mark.parametrize("values", [{}, {"alpha": 0.0, "beta": 1.0, "mu": 0.1}, {"log_rank": True, "beta": 2.0}])
def test_equals_the_naive_loop(shape, values):
    agrees(universal_self_loss, naive, inputs(*shape) | values)


def test_equals_the_value_computed_by_hand():
    # The label is the second of the order, so the others have the places 1 and 3, with 3/4 and 1/4; the student gives
    # them 2/3 and 1/3 of what is not the label's.
    student, weak = torch.tensor([[2.0, 2.0, 1.0]]).log(), torch.tensor([[3.0, 1.0, 1.0]]).log()
    label = torch.tensor([1])
    ranked = -0.75 * math.log(2 / 3) - 0.25 * math.log(1 / 3)
    assert universal_self_loss(student, weak, label, 0.0, 1.0, 0.0).item() == pytest.approx(ranked, rel=1e-5)
    named = -math.log(2 / 5)
    assert universal_self_loss(student, weak, label, 1.0, 0.0, 0.0).item() == pytest.approx(named, rel=1e-5)
    smoothed = -0.9 * math.log(1 / 5) - 0.1 / 3 * (math.log(3 / 5) + 2 * math.log(1 / 5))
    assert universal_self_loss(student, weak, label, 0.0, 0.0, 1.0).item() == pytest.approx(smoothed, rel=1e-5)


def test_log_probabilities_can_change_the_order():
    # Of classes 1 and 2 the weak classifier prefers the latter, by 0.6 of what is not the label's. The student prefers
    # the former, by 0.2 in probability, and by 10 log 1.5 in logarithms.
    student, weak = torch.tensor([[0.9, 0.06, 0.04]]).log(), torch.tensor([[0.2, 0.16, 0.64]]).log()
    label = torch.tensor([0])
    by_probability, by_logarithm = (
        universal_self_loss(student, weak, label, 0.0, 1.0, 0.0, log_rank=log_rank) for log_rank in (False, True)
    )
    assert by_probability > by_logarithm


def test_precision_and_extremes():
    keeps_precision(universal_self_loss, inputs(6, 5))
    for label in (0, 3):
        stays_finite(lambda s, w, label=label: universal_self_loss(s, w, torch.tensor([label])))


def test_what_cannot_be_ordered_is_refused(setup):
    label = torch.zeros(4, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"logits .* \(4, 3\) and \(1, 3\)"):
        universal_self_loss(torch.zeros(4, 3), torch.zeros(1, 3), label)
    with pytest.raises(ValueError, match="at least two classes"):
        universal_self_loss(torch.zeros(4, 1), torch.zeros(4, 1), label)
    with pytest.raises(PairError, match="uskd reads the student's last stage but one"):
        UniversalSelfKD(setup(student=((4, 8, 8),)))


def test_the_weak_classifier_reads_the_last_stage_but_one(setup, outputs, batch):
    strategy = UniversalSelfKD(setup(), alpha=0.2, beta=0.3, mu=0.4)
    student = outputs(strategy.setup.student, 4, trained=True)
    term = strategy(student, outputs(strategy.setup.teacher, 0), batch(4))["self"]
    weak = strategy.weak(student.stages[1].mean(dim=(2, 3)))
    torch.testing.assert_close(term, universal_self_loss(student.logits, weak, batch(4).labels, 0.2, 0.3, 0.4))
    term.backward()
    assert [stage.grad is not None for stage in student.stages] == [False, True, False]
    assert strategy.weak.weight.grad.abs().sum() > 0
    assert strategy.ce_weight == 1.0
