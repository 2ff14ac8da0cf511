"""Measures against naive loops."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from kdzoo import Batch
from kdzoo.engine.evaluate import Evaluation, agreement, evaluate
from kdzoo.errors import NonFiniteLossError
from kdzoo.measures import TOP5, hits


def _batches(labels: Tensor, size: int) -> Iterator[Batch]:
    """Batches whose inputs are the places of the samples."""
    for index in torch.split(torch.arange(len(labels)), size):
        yield Batch(inputs=index, labels=labels[index], targets=labels[index], index=index)


def _evaluate(logits: Tensor, labels: Tensor, size: int = 7) -> Evaluation:
    return evaluate(lambda index: logits[index], _batches(labels, size))


def _naive(logits: Tensor, labels: Tensor) -> tuple[int, int, float, float]:
    """Correct at 1 and 5, mean NLL, ECE in percent, sample by sample in Python."""
    correct1 = correct5 = 0
    nll = 0.0
    bins: list[list[tuple[bool, float]]] = [[] for _ in range(15)]
    for row, label in zip(logits.double().tolist(), labels.tolist(), strict=True):
        order = sorted(range(len(row)), key=lambda c: (-row[c], c))
        correct1 += order[0] == label
        correct5 += label in order[:5]
        top = max(row)
        total = sum(math.exp(value - top) for value in row)
        nll -= row[label] - top - math.log(total)
        confidence = 1 / total
        for k in range(15):
            if k / 15 < confidence <= (k + 1) / 15:
                bins[k].append((order[0] == label, confidence))
    ece = sum(abs(sum(right for right, _ in each) - sum(sure for _, sure in each)) for each in bins)
    return correct1, correct5, nll / len(labels), 100 * ece / len(labels)


@pytest.mark.parametrize("classes", [2, 5, 12])
@pytest.mark.parametrize("scale", [0.1, 4.0, 300.0])
def test_measures_equal_a_naive_loop(classes: int, scale: float) -> None:
    torch.manual_seed(classes)
    logits, labels = scale * torch.randn(101, classes), torch.randint(classes, (101,))
    found = _evaluate(logits, labels).scores
    correct1, correct5, nll, ece = _naive(logits, labels)
    assert (found["n"], hits(found), hits(found, TOP5)) == (101, correct1, correct5)
    assert found["nll"] == pytest.approx(nll, rel=1e-12)
    assert found["ece"] == pytest.approx(ece, rel=1e-9)


def test_ties_go_to_the_lower_class_as_argmax_has_it() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randint(0, 3, (200, 9)).float(), torch.randint(9, (200,))
    found = _evaluate(logits, labels)
    correct1, correct5, _, _ = _naive(logits, labels)
    assert (hits(found.scores), hits(found.scores, TOP5)) == (correct1, correct5)
    assert hits(found.scores) == int((logits.argmax(1) == labels).sum())
    assert found.guesses.tolist() == logits.argmax(1).tolist()


def test_a_network_that_says_the_same_for_all_classes_knows_nothing() -> None:
    found = _evaluate(torch.zeros(100, 10), torch.arange(100) % 10).scores
    assert (hits(found), hits(found, TOP5)) == (10, 50)
    assert found["nll"] == pytest.approx(math.log(10))
    assert found["ece"] == pytest.approx(0, abs=1e-9)


def test_a_perfect_and_sure_network_has_no_loss() -> None:
    labels = torch.arange(30) % 3
    found = _evaluate(1000 * torch.nn.functional.one_hot(labels, 3).float(), labels).scores
    assert (hits(found), found["nll"], found["ece"]) == (30, 0.0, 0.0)


@pytest.mark.parametrize("size", [1, 10, 53, 1000])
def test_the_batch_size_does_not_matter_and_nothing_is_dropped(size: int) -> None:
    torch.manual_seed(1)
    logits, labels = torch.randn(53, 6), torch.randint(6, (53,))
    found, whole = _evaluate(logits, labels, size), _evaluate(logits, labels, 53)
    counts = ("n", "top1", "top5")
    assert [found.scores[each] for each in counts] == [whole.scores[each] for each in counts]
    assert found.scores["nll"] == pytest.approx(whole.scores["nll"], rel=1e-14)
    assert found.scores["ece"] == pytest.approx(whole.scores["ece"], rel=1e-12)
    assert np.array_equal(found.guesses, whole.guesses)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [(0, 0), (40, 3)])
def test_a_logit_that_is_not_finite_is_an_error(value: float, place: tuple[int, int]) -> None:
    logits = torch.randn(41, 4)
    logits[place] = value
    with pytest.raises(NonFiniteLossError, match="not finite"):
        _evaluate(logits, torch.zeros(41, dtype=torch.int64))


def test_half_precision_logits_are_summed_in_float64() -> None:
    logits = torch.full((5000, 2), 0.5, dtype=torch.bfloat16)
    found = _evaluate(logits, torch.zeros(5000, dtype=torch.int64), size=64).scores
    assert found["nll"] == pytest.approx(math.log(2), rel=1e-12)


def test_an_empty_split_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        evaluate(lambda inputs: inputs, [])


def test_no_gradients_are_kept() -> None:
    weight = torch.ones(3, 2, requires_grad=True)
    seen = []

    def predict(index: Tensor) -> Tensor:
        seen.append(torch.ones(len(index), 3) @ weight)
        return seen[-1]

    evaluate(predict, _batches(torch.zeros(4, dtype=torch.int64), 2))
    assert not any(logits.requires_grad for logits in seen)


def test_agreement_is_the_share_of_equal_guesses() -> None:
    assert agreement(np.array([0, 1, 2, 2]), np.array([0, 1, 1, 0])) == 50.0
