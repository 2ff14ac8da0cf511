"""The memory: the last teacher embeddings, oldest out first."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TeacherQueue(nn.Module):
    """A ring of unit vectors, with the sample that each belongs to.

    All of it is buffers: a checkpoint of the strategy holds it, and a resumed run goes on with the same queue. It
    starts, as in the authors' code, with random directions, which belong to no sample (-1).

    Args:
        length: K, how many are kept.
        width: D of an embedding.

    Example::

        >>> queue = TeacherQueue(length=3, width=2)
        >>> queue.push(torch.tensor([[3.0, 4.0], [1.0, 0.0]]), torch.tensor([7, 5]))
        >>> queue.samples.tolist(), queue.next.item()
        ([7, 5, -1], 2)

    Attributes:
        embeddings: K x D.
        samples: K, int64, places among the training samples.
        next: scalar, int64, the row that is written next.
    """

    embeddings: Tensor
    samples: Tensor
    next: Tensor

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.register_buffer("embeddings", F.normalize(torch.randn(length, width), dim=1))
        self.register_buffer("samples", torch.full((length,), -1))
        self.register_buffer("next", torch.tensor(0))

    def __len__(self) -> int:
        return len(self.samples)

    @torch.no_grad()
    def push(self, embeddings: Tensor, samples: Tensor) -> None:
        """Write a batch over the oldest entries; of a batch longer than the queue, its last samples.

        Args:
            embeddings: B x D, teacher embeddings of any length; their directions are kept.
            samples: B, int64, whose they are.
        """
        embeddings, samples = embeddings[-len(self) :], samples[-len(self) :]
        rows = (self.next + torch.arange(len(samples), device=samples.device)) % len(self)
        self.embeddings[rows] = F.normalize(embeddings.to(self.embeddings.dtype), dim=1)
        self.samples[rows] = samples
        self.next.add_(len(samples)).remainder_(len(self))
