"""A pass over the training samples before a training."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from hard_strategies import Centred
from small_lab import FIT, run, stop_at
from torch import Tensor

from kdzoo import Batch, Outputs, Strategy
from kdzoo.combining import combine

SEEN: list[tuple[Tensor, Tensor]] = []
"""The indices and the images' sums of each batch of a survey, over all trainings of a test."""


class Watched(Centred):
    """It notes what it was shown."""

    def survey(self, batches: Iterable[tuple[Outputs, Batch]]) -> None:
        rows = []
        for teacher, batch in batches:
            assert batch.phase == "survey"
            assert not teacher.logits.requires_grad
            SEEN.append((batch.index, batch.inputs.flatten(1).sum(dim=1)))
            rows.append(teacher.logits)
        assert torch.equal(torch.cat([teacher.logits for teacher, _ in batches]), torch.cat(rows))
        super().survey(batches)


@pytest.fixture(autouse=True)
def _unseen() -> None:
    SEEN.clear()


def outcome(bench: Any) -> Any:
    record = bench.only("centred")
    return [line.terms for line in record.curve], record.test


def test_every_sample_once_in_order_and_not_augmented(tmp_path: Path, teacher_file: str) -> None:
    flips = {"augment.flip": True, "augment.crop": 2}
    for folder, recipe in (("plain", {}), ("flipped", flips)):
        run(tmp_path / folder, [Watched], epochs=1, teacher_weights=teacher_file, recipe=recipe)
    index, images = (torch.cat(parts) for parts in zip(*SEEN, strict=True))
    assert torch.equal(index, torch.arange(FIT).repeat(2))
    assert torch.equal(images[:FIT], images[FIT:])


def test_a_training_that_was_stopped_ends_the_same_and_surveys_once(tmp_path: Path, teacher_file: str) -> None:
    whole = run(tmp_path / "whole", [Watched], epochs=3, teacher_weights=teacher_file, without_baseline=True)
    assert len(SEEN) > 0
    once = len(SEEN)
    cost = whole.only("centred").cost
    assert 0 < cost["teacher"] < cost["train"]
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", [Watched], stop_at(1, 1), epochs=3, teacher_weights=teacher_file, without_baseline=True)
    cut = run(tmp_path / "cut", [Watched], epochs=3, teacher_weights=teacher_file, without_baseline=True)
    assert outcome(cut) == outcome(whole)
    assert len(SEEN) == 2 * once


def test_a_part_of_a_combination_surveys(tmp_path: Path, teacher_file: str) -> None:
    combined = combine([Watched], ["1"])
    assert combined.survey is not Strategy.survey
    bench = run(tmp_path, [Watched, "soft+centred"], epochs=1, teacher_weights=teacher_file)
    record = bench.only("soft+centred")
    assert record.status == "done", record.traceback
    half = len(SEEN) // 2
    assert all(map(torch.equal, *([index for index, _ in part] for part in (SEEN[:half], SEEN[half:]))))
    assert record.curve[0].terms.keys() == {"ce", "soft.soft", "centred.logits"}
