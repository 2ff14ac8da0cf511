"""Images that a strategy makes of each image of a batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_lab import BATCH, run
from torch import Tensor

from kdzoo import Batch, Outputs, Strategy, Terms, UsageError
from kdzoo.combining import combine

SEEN: list[Batch] = []


class Turned(Strategy):
    """Soft targets on images and on turned ones."""

    name = "turned"
    variants = 2
    views = 2

    def augment(self, images: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        return torch.cat([images, images.flip(2)])

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        SEEN.append(batch)
        assert len(student.logits) == len(teacher.logits) == len(batch.labels)
        return {"logits": (student.logits.float() - teacher.logits.float()).square().mean()}


class Short(Turned):
    name = "short"

    def augment(self, images: Tensor) -> Tensor:
        return images


class Same(Strategy):
    """Every image twice: the losses are those of the images alone, where nothing is normalised over the batch."""

    name = "same"
    variants = 2

    def augment(self, images: Tensor) -> Tensor:
        return torch.cat([images, 0.5 * images])

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        return {"logits": (student.logits - teacher.logits).float().square().chunk(2)[0].mean()}


class Once(Strategy):
    """Soft targets."""

    name = "once"

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        return {"logits": (student.logits - teacher.logits).float().square().mean()}


@pytest.fixture(autouse=True)
def _unseen() -> None:
    SEEN.clear()


def test_everything_of_a_batch_has_as_many_rows(tmp_path: Path, teacher_file: str) -> None:
    bench = run(tmp_path, [Turned], epochs=1, teacher_weights=teacher_file, without_baseline=True)
    assert bench.only("turned").status == "done", bench.only("turned").traceback
    for batch in SEEN:
        rows = 2 * min(BATCH, len(batch.labels) // 4)
        assert len(batch.inputs) == len(batch.labels) == len(batch.targets) == len(batch.index) == 2 * rows
        assert torch.equal(batch.inputs[rows:], batch.inputs[:rows].flip(2))
        for name in ("labels", "targets", "index"):
            assert torch.equal(*getattr(batch, name).chunk(2))


def test_labels_count_for_the_images_as_they_came(tmp_path: Path, teacher_file: str) -> None:
    config: dict[str, Any] = {"epochs": 2, "teacher_weights": teacher_file, "without_baseline": True}
    bench = run(tmp_path, [Same, Once], student="test_vit:img_size=16:patch_size=8", **config)
    for one, other in zip(bench.only("same").curve, bench.only("once").curve, strict=True):
        assert one.terms == pytest.approx(other.terms, rel=1e-4)


def test_another_number_of_rows_fails_the_cell(tmp_path: Path, teacher_file: str) -> None:
    bench = run(tmp_path, [Short], epochs=1, teacher_weights=teacher_file, without_baseline=True)
    assert "augment of short must give 2 rows for each image" in bench.only("short").reason


def test_no_part_of_a_combination_makes_variants() -> None:
    with pytest.raises(UsageError, match="same makes variants"):
        combine([Once, Same], ["1", "1"])
