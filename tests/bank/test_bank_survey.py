"""A survey of the teacher reads the bank where its views are not augmented."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from bank_lab import EXACT, banked, terms
from small_lab import FIT

from kdzoo.engine.bank.signal_sources import OnTheFly


@pytest.mark.parametrize(("crop", "surveys"), [(0, 0), (1, 2)])
def test_a_survey_is_the_same_with_and_without_a_bank(
    crop: int, surveys: int, tmp_path: Path, teacher_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two seeds; with augmentation the teacher runs for each survey, and otherwise the bank has it all."""
    config: dict[str, Any] = {"epochs": 2, "teacher_weights": teacher_file, "seeds": 2, "without_baseline": True}
    config["recipe"] = {"augment.crop": crop}
    loop = banked(tmp_path / "loop", ["kdpp"], None, **config)
    taught, original = [], OnTheFly._teach

    def teach(self: OnTheFly, batch: Any) -> Any:
        taught.append(len(batch.index))
        return original(self, batch)

    monkeypatch.setattr(OnTheFly, "_teach", teach)
    bank = banked(tmp_path / "bank", ["kdpp"], EXACT["ram"], **config)
    assert sum(taught) == surveys * FIT
    for one, other in zip(loop.bench.students("kdpp"), bank.bench.students("kdpp"), strict=True):
        for expected, found in zip(terms(one), terms(other), strict=True):
            assert found == pytest.approx(expected, rel=1e-5)
