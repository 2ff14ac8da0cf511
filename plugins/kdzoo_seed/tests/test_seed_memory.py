from __future__ import annotations

import pytest
import torch

from kdzoo_seed.memory import TeacherQueue


def naive(length, batches):
    """The samples in each row, by one write after another; -1 where there was none."""
    rows, place = [-1] * length, 0
    for batch in batches:
        for sample in batch[-length:]:
            rows[place] = sample
            place = (place + 1) % length
    return rows, place


@pytest.mark.parametrize(
    "batches",
    [
        [[1]],
        [[1, 2, 3], [4, 5, 6]],  # around the end
        [[1, 2, 3, 4, 5], [6]],  # exactly full
        [[1, 2, 3, 4, 5, 6, 7], [8]],  # a batch longer than the queue
        [[1, 2], [3, 4], [5, 6], [7]],  # a partial last batch
    ],
)
def test_the_oldest_go_first(batches):
    queue = TeacherQueue(5, 2)
    start = queue.embeddings.clone()
    for batch in batches:
        queue.push(torch.tensor([[3.0 * sample, 4.0 * sample] for sample in batch]), torch.tensor(batch))
    samples, place = naive(5, batches)
    assert queue.samples.tolist() == samples
    assert queue.next.item() == place
    for row, sample in enumerate(samples):
        expected = start[row] if sample == -1 else torch.tensor([0.6, 0.8])
        torch.testing.assert_close(queue.embeddings[row], expected)


def test_each_row_keeps_its_sample_and_direction():
    queue = TeacherQueue(4, 3)
    embeddings = torch.randn(6, 3)
    queue.push(embeddings[:3], torch.tensor([10, 11, 12]))
    queue.push(embeddings[3:], torch.tensor([13, 14, 15]))
    for row, sample in enumerate(queue.samples.tolist()):
        expected = embeddings[sample - 10] / embeddings[sample - 10].norm()
        torch.testing.assert_close(queue.embeddings[row], expected)


def test_it_starts_with_unit_vectors_of_nobody():
    queue = TeacherQueue(50, 8)
    assert len(queue) == 50
    assert (queue.samples == -1).all()
    torch.testing.assert_close(queue.embeddings.norm(dim=1), torch.ones(50))


def test_all_of_it_is_in_the_state_and_nothing_is_trained():
    first, second = TeacherQueue(5, 2), TeacherQueue(5, 2)
    first.push(torch.randn(3, 2), torch.arange(3))
    second.load_state_dict(first.state_dict())
    for queue in (first, second):
        queue.push(torch.ones(4, 2), torch.arange(4))
    assert first.state_dict().keys() == {"embeddings", "samples", "next"}
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])
    assert not list(first.parameters())


def test_a_half_precision_batch_with_gradients_is_kept_in_full_without_them():
    queue = TeacherQueue(5, 2)
    queue.push(torch.randn(3, 2, dtype=torch.bfloat16, requires_grad=True), torch.arange(3))
    assert queue.embeddings.dtype == torch.float32
    assert not queue.embeddings.requires_grad
