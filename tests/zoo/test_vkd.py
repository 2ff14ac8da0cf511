from __future__ import annotations

import pytest
import torch
from naive_compare import assert_finite, assert_precisions, assert_same

from kdzoo import PairError
from kdzoo_zoo.feature.vkd import OrthogonalProjection, OrthogonalProjections
from kdzoo_zoo.functional import orthogonal_projection_loss, soft_target_loss


def naive(student, teacher):
    batch, width = student.shape
    total = torch.zeros((), dtype=torch.float64)
    for s, t in zip(student, teacher, strict=True):
        mean = sum(t) / width
        variance = sum((v - mean) ** 2 for v in t) / width
        for a, v in zip(s, t, strict=True):
            d = a - (v - mean) / (variance + 1e-5) ** 0.5
            total = total + (d**2 / 2 if abs(d) < 1 else abs(d) - 0.5)
    return total / (batch * width)


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_equals_the_naive_loop(batch_size, scale):
    assert_same(orthogonal_projection_loss, naive, scale * torch.randn(batch_size, 5), torch.randn(batch_size, 5))


def test_equals_the_value_computed_by_hand():
    # The teacher's embedding is 1, -1 after normalisation; smooth L1 of 0.5 and of 3.
    loss = orthogonal_projection_loss(torch.tensor([[1.5, 2.0]]), torch.tensor([[900.0, 100.0]]))
    assert loss.item() == pytest.approx((0.125 + 2.5) / 2)


def test_precision_and_finiteness():
    pair = torch.randn(6, 4), torch.randn(6, 4)
    assert_precisions(orthogonal_projection_loss, *pair)
    for teacher in (torch.zeros(6, 4), torch.full((6, 4), 3.0), 1e4 * pair[1]):
        assert_finite(orthogonal_projection_loss, pair[0], teacher)


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="embeddings of student and teacher"):
        orthogonal_projection_loss(torch.zeros(2, 3), torch.zeros(2, 1))


@pytest.mark.parametrize(("own", "theirs"), [(3, 5), (5, 3), (4, 4)])
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-5), (torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_the_projection_is_orthogonal_before_and_after_a_step(own, theirs, dtype, atol):
    projection = OrthogonalProjection(own, theirs).to(dtype)
    optimizer = torch.optim.SGD(projection.parameters(), lr=0.3)
    for _ in range(2):
        weight = projection(torch.eye(own, dtype=dtype)).T
        assert weight.dtype == torch.promote_types(dtype, torch.float32)
        product = weight.T @ weight if theirs >= own else weight @ weight.T
        torch.testing.assert_close(product, torch.eye(min(own, theirs), dtype=weight.dtype), rtol=0, atol=atol)
        optimizer.zero_grad()
        projection(torch.randn(4, own, dtype=dtype)).square().sum(dim=0)[0].backward()
        optimizer.step()


@pytest.mark.parametrize(("own", "theirs"), [(3, 5), (5, 3), (4, 4)])
def test_weight_decay_leaves_the_projection_as_it_is(own, theirs):
    """Of torch's own parametrization it makes a matrix of zeros: see findings/torch-orthogonal-weight-decay.sh."""
    projection = OrthogonalProjection(own, theirs)
    before = projection.weight().detach().clone()
    optimizer = torch.optim.AdamW(projection.parameters(), lr=0.01, weight_decay=0.5)
    for _ in range(3):
        for parameter in projection.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
    torch.testing.assert_close(projection.weight(), before)


def test_autocast_does_not_round_the_projection():
    projection, x = OrthogonalProjection(3, 5), torch.randn(4, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = projection(x)
    torch.testing.assert_close(found, projection(x), rtol=0, atol=0)


def test_the_projection_goes_through_a_checkpoint():
    first, second, x = OrthogonalProjection(3, 5), OrthogonalProjection(3, 5), torch.randn(4, 3)
    second.load_state_dict(first.state_dict())
    torch.testing.assert_close(second(x), first(x), rtol=0, atol=0)


def test_the_terms_and_their_weights(setup, outputs, step, batch):
    strategy = OrthogonalProjections(setup(), beta=3.0, soft=0.5)
    student, teacher = outputs(strategy.setup.student, 4, trained=True), outputs(strategy.setup.teacher, 4)
    terms = step(strategy, student, teacher)
    expected = orthogonal_projection_loss(strategy.project(student.embedding), teacher.embedding)
    torch.testing.assert_close(terms["projected"], 3 * expected)
    torch.testing.assert_close(terms["soft"], 0.5 * soft_target_loss(student.logits, teacher.logits, 1.0))
    assert all(weight.grad.abs().sum() > 0 for weight in strategy.parameters())
    kept = strategy.reduce(teacher)
    assert strategy(student, kept, batch(4)) == strategy(student, teacher, batch(4))


def test_other_classes_are_refused_unless_there_are_no_soft_targets(setup):
    with pytest.raises(PairError, match=r"3 classes and the teacher 4: set vkd\.soft=0, or"):
        OrthogonalProjections(setup(classes=(3, 4)))
    OrthogonalProjections(setup(classes=(3, 4)), soft=0.0)
