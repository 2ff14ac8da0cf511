"""Contrastive representation distillation against plain loops, and its memories."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from kdzoo import Batch
from kdzoo.testing.checks.cost import peak_bytes
from kdzoo_zoo.contrast import sampled
from kdzoo_zoo.contrast.crd import ContrastiveRepresentation
from kdzoo_zoo.contrast.negatives import draw_negatives
from kdzoo_zoo.functional import contrastive_memory_loss, contrastive_normalizer, update_contrastive_memory

T = 0.5


def drawn(batch=3, samples=40, negatives=6, width=5, dtype=torch.float64):
    embeddings = [F.normalize(torch.randn(batch, width, dtype=torch.float64), dim=1).to(dtype) for _ in range(2)]
    memories = [torch.randn(samples, width, dtype=torch.float64).to(dtype) for _ in range(2)]
    index = torch.randint(samples, (batch, negatives + 1))
    return [x.requires_grad_() for x in embeddings], memories, index


def normalizer_by_loops(embedding, memory, index, temperature):
    scores = [
        torch.exp((memory[n] * embedding[b]).sum() / temperature) for b in range(len(index)) for n in index[b].tolist()
    ]
    return len(memory) * sum(scores) / len(scores)


def loss_by_loops(student, teacher, student_memory, teacher_memory, index, temperature, student_z, teacher_z):
    noise, total = (index.shape[1] - 1) / len(student_memory), 0.0
    for embedding, memory, z in ((student, teacher_memory, student_z), (teacher, student_memory, teacher_z)):
        for b in range(len(index)):
            for k, n in enumerate(index[b].tolist()):
                p = torch.exp((memory[n] * embedding[b]).sum() / temperature) / z
                total = total - torch.log((noise if k else p) / (p + noise + 1e-7)) / len(index)
    return total


@pytest.mark.parametrize("dense", [0, 1000])
@pytest.mark.parametrize("chunk", [1, 70])
@pytest.mark.parametrize("batch", [1, 3])
def test_value_and_gradients_are_those_of_the_loops(dense, chunk, batch, monkeypatch):
    monkeypatch.setattr(sampled, "DENSE", dense)
    monkeypatch.setattr(sampled, "CHUNK_ELEMENTS", {"cpu": chunk})
    embeddings, memories, index = drawn(batch)
    arguments = (*embeddings, *memories, index, T, 30.0, torch.tensor(50.0))
    values = [form(*arguments) for form in (contrastive_memory_loss, loss_by_loops)]
    torch.testing.assert_close(*values, rtol=1e-10, atol=0)
    torch.testing.assert_close(*(torch.autograd.grad(value, embeddings) for value in values), rtol=1e-9, atol=1e-11)
    forms = contrastive_normalizer, normalizer_by_loops
    values = [form(embeddings[0], memories[1], index, T) for form in forms]
    torch.testing.assert_close(*values, rtol=1e-10, atol=0)
    torch.testing.assert_close(*(torch.autograd.grad(value, embeddings[0]) for value in values), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("dense", [0, 1000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_single_and_half_precision_are_computed_in_float32(dense, dtype, monkeypatch):
    monkeypatch.setattr(sampled, "DENSE", dense)
    embeddings, memories, index = drawn(dtype=dtype)
    arguments = (*memories, index, T, 30.0, 50.0)
    value = contrastive_memory_loss(*embeddings, *arguments)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(contrastive_memory_loss(*embeddings, *arguments), value)
    assert value.dtype == torch.float32
    wide = [x.double() for x in (*embeddings, *memories)]
    torch.testing.assert_close(value.double(), loss_by_loops(*wide, *arguments[2:]), rtol=1e-5, atol=0)


def test_defaults_and_a_value_computed_by_hand():
    # Scores 1 and -1 of one negative: with T = 1 and Z = e, P = 1 and e^-2, and m = 1/2.
    one = torch.tensor([[1.0]], dtype=torch.float64)
    memory = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    index = torch.tensor([[0, 1]])
    found = contrastive_memory_loss(one, one, memory, memory, index, 1.0, math.e, math.e)
    side = math.log(1.5) + math.log((math.exp(-2) + 0.5) / 0.5)
    assert found.item() == pytest.approx(2 * side, rel=1e-6)
    expected = 2 * (math.exp(1 / 0.07) + math.exp(-1 / 0.07)) / 2
    assert contrastive_normalizer(one, memory, index).item() == pytest.approx(expected)


@pytest.mark.parametrize("scale", [50, 1e4])
@pytest.mark.parametrize("sign", [-1, 1])
def test_extreme_scores_stay_finite(scale, sign):
    student = torch.tensor([[scale, 0.0]], requires_grad=True)
    memory = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]]) * sign
    index = torch.tensor([[0, 1, 2, 1]])
    value = contrastive_memory_loss(student, student, memory, memory, index, 0.07, 100.0, 100.0)
    value.backward()
    assert value.isfinite()
    assert student.grad.isfinite().all()


def test_shapes_that_do_not_fit_and_second_derivatives_are_refused():
    (student, teacher), memories, index = drawn()
    with pytest.raises(ValueError, match="embeddings of student and teacher"):
        contrastive_memory_loss(student[:2], teacher, *memories, index, T, 1.0, 1.0)
    with pytest.raises(ValueError, match="memories of student and teacher"):
        contrastive_memory_loss(student, teacher, memories[0][:5], memories[1], index, T, 1.0, 1.0)
    with pytest.raises(ValueError, match="needs a negative"):
        contrastive_memory_loss(student, teacher, *memories, index[:, :1], T, 1.0, 1.0)
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(
            contrastive_memory_loss(student, teacher, *memories, index, T, 1.0, 1.0), student, create_graph=True
        )


def test_the_update_moves_the_rows_of_the_batch_alone():
    memory, embedding, index = torch.randn(6, 3), F.normalize(torch.randn(2, 3), dim=1), torch.tensor([4, 1])
    before = memory.clone()
    found = update_contrastive_memory(memory, embedding.requires_grad_(), index, momentum=0.25)
    assert torch.equal(memory, before)
    assert not found.requires_grad
    for row, new in zip(index.tolist(), embedding.detach(), strict=True):
        moved = 0.25 * memory[row] + 0.75 * new
        torch.testing.assert_close(found[row], moved / moved.norm())
    others = [0, 2, 3, 5]
    assert torch.equal(found[others], before[others])


def test_negatives_are_uniform_over_the_samples_of_other_classes():
    labels = torch.arange(50, dtype=torch.int32) % 3
    index = torch.tensor([0, 4])
    found = draw_negatives(labels, index, 60_000)
    assert found.shape == (2, 60_000)
    for row, sample in zip(found, index.tolist(), strict=True):
        counts = torch.bincount(row, minlength=50)
        others = labels != labels[sample]
        assert (counts[~others] == 0).all()
        expected = 60_000 / int(others.sum())
        assert (counts[others] - expected).abs().max() < 5 * math.sqrt(expected)


def test_unknown_labels_count_as_other_classes_and_a_set_of_one_class_ends():
    labels = torch.tensor([0, 0, -1])
    assert (draw_negatives(labels, torch.tensor([0]), 100) == 2).all()
    assert draw_negatives(torch.zeros(3, dtype=torch.int32), torch.tensor([1]), 10).max() < 3


def batch_of(index, classes=4):
    labels = torch.tensor(index) % classes
    return Batch(inputs=None, labels=labels, targets=labels, index=torch.tensor(index))


def test_a_step_uses_the_memories_from_before_it_and_then_updates_their_rows(setup, outputs):
    crd = ContrastiveRepresentation(setup(), negatives=30)
    student, teacher = outputs(crd.setup.student, 3, trained=True), outputs(crd.setup.teacher, 3)
    batch = batch_of([5, 9, 70])
    before = {name: value.clone() for name, value in crd.state_dict().items()}
    torch.manual_seed(3)
    terms = crd(student, teacher, batch)
    torch.manual_seed(3)
    index = torch.cat([batch.index[:, None], draw_negatives(crd.labels, batch.index, 30)], dim=1)
    ours, theirs = (
        F.normalize(layer(network.embedding), dim=1)
        for layer, network in ((crd.student_layer, student), (crd.teacher_layer, teacher))
    )
    memories = before["student_memory"], before["teacher_memory"]
    constants = [
        contrastive_normalizer(embedding, memory, index)
        for embedding, memory in ((ours, memories[1]), (theirs, memories[0]))
    ]
    assert torch.equal(crd.normalizers, torch.stack(constants))
    loss = contrastive_memory_loss(ours, theirs, *memories, index, 0.07, *constants)
    torch.testing.assert_close(terms["contrast"], 0.8 * loss)
    for name, memory, embedding in (("student_memory", memories[0], ours), ("teacher_memory", memories[1], theirs)):
        torch.testing.assert_close(getattr(crd, name), update_contrastive_memory(memory, embedding, batch.index))
    assert crd.labels[batch.index].tolist() == batch.labels.tolist()
    assert (crd.labels >= 0).sum() == 3
    terms["contrast"].backward()  # the update did not spoil what the gradient needs
    assert student.embedding.grad.abs().sum() > 0
    assert all(parameter.grad.abs().sum() > 0 for parameter in crd.parameters())


def test_the_constants_are_those_of_the_first_batch_and_go_through_a_checkpoint(setup, outputs):
    crd = ContrastiveRepresentation(setup(), negatives=30)
    student, teacher = outputs(crd.setup.student, 3), outputs(crd.setup.teacher, 3)
    crd(student, teacher, batch_of([5, 9, 70]))
    constants = crd.normalizers.clone()
    other = ContrastiveRepresentation(setup(), negatives=30)
    other.load_state_dict(crd.state_dict())
    found = []
    for one in (crd, other):
        torch.manual_seed(1)
        found.append(one(student, teacher, batch_of([1, 2, 3]))["contrast"])
        assert torch.equal(one.normalizers, constants)
    assert found[0] == found[1]
    assert torch.equal(crd.student_memory, other.student_memory)


def test_memories_start_as_in_the_authors_code(setup):
    crd = ContrastiveRepresentation(setup())
    bound = 1 / math.sqrt(128 / 3)
    assert crd.student_memory.shape == crd.teacher_memory.shape == (100, 128)
    assert 0.99 * bound < crd.student_memory.max() <= bound
    assert -bound <= crd.teacher_memory.min() < -0.99 * bound
    assert not any("memory" in name for name, _ in crd.named_parameters())


@pytest.mark.parametrize("samples", [20_000, 80_000])
def test_a_step_takes_no_memory_by_the_size_of_the_set(samples, monkeypatch):
    monkeypatch.setattr(sampled, "CHUNK_ELEMENTS", {"cpu": 2**16})
    embeddings, memories, _ = drawn(8, samples, 1, 32, torch.float32)
    labels, own = torch.arange(samples, dtype=torch.int32) % 10, torch.arange(8)

    def step():
        index = torch.cat([own[:, None], draw_negatives(labels, own, 2000)], dim=1)
        contrastive_memory_loss(*embeddings, *memories, index, 0.07, 1e3, 1e3).backward()

    step()  # gradients are there
    # The rows that are drawn would take 2 MiB for each of the two memories.
    assert peak_bytes(step) < 1.5 * 2**20
