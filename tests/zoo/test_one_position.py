"""Attention transfer on maps of a single position, where it has nothing to compare."""

from __future__ import annotations

import pytest

from kdzoo import PairError, Setup, Signature, StageShape
from kdzoo_zoo.attention.at import AttentionTransfer


def setup(*sizes: tuple[tuple[int, int], tuple[int, int]]) -> Setup:
    student, teacher = (
        Signature(tuple(StageShape(8, *size[role]) for size in sizes), embedding=8, num_classes=3) for role in (0, 1)
    )
    return Setup(student, teacher, tuple((i, i) for i in range(len(sizes))), num_classes=3, num_samples=9)


def test_a_pair_without_a_stage_of_two_positions_is_refused() -> None:
    with pytest.raises(PairError, match="every paired stage has a single one"):
        AttentionTransfer(setup(((1, 1), (4, 4)), ((2, 1), (1, 3))))


def test_one_such_stage_is_enough() -> None:
    AttentionTransfer(setup(((1, 1), (4, 4)), ((2, 1), (3, 1))))
