"""The base of the gallery: strategies as they stand in public code, each whole, and each with one mistake.

``caught_by`` names the check that is meant for the mistake, and is empty where the kit cannot see it; ``warns`` says
that the check warns; ``also`` names checks that may fail with it.
"""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from kdzoo import Paper, Strategy, param


def softened(logits: Tensor, temperature: float) -> Tensor:
    """Logarithms of the softened probabilities, B x classes."""
    return F.log_softmax(logits.float() / temperature, dim=1)


class Mistaken(Strategy):
    """What all of the gallery have."""

    paper = Paper(title="A Paper", authors="Ada Author", year=2020, venue="Nowhere", id="2001.00001")
    beta: float = param(1.0, "weight of the term", ge=0.0, search=(0.1, 10.0), log=True)

    caught_by: ClassVar[str] = ""
    warns: ClassVar[bool] = False
    also: ClassVar[frozenset[str]] = frozenset()
