"""`kdzoo bench` on image files: what is damaged is told before anything trains, and 16-bit grey is learnt from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

FLAGS = (
    *("--teacher", "test_resnet", "--student", "test_resnet", "--strategies", "ce", "--seeds", "1", "--img-size", "8"),
    *("--epochs", "2", "--teacher-epochs", "2", "--device", "cpu", "--set", "recipe.batch_size=8"),
)


@pytest.fixture
def shades(tmp_path: Path) -> Path:
    """Dark and bright 16-bit images; cut off at 255 all of them would be white."""
    drawn = np.random.default_rng(0)
    for split, count in (("train", 40), ("test", 16)):
        for name, level in (("bright", 50_000), ("dark", 2_000)):
            (tmp_path / "shades" / split / name).mkdir(parents=True)
            for number in range(count):
                values = (level + drawn.integers(0, 12_000, (8, 8))).astype(np.uint16)
                Image.fromarray(values).save(tmp_path / "shades" / split / name / f"{number}.png")
    return tmp_path / "shades"


def test_damage_is_told_before_anything_trains_and_once(
    kdzoo: Callable[..., Any],
    records: Callable[[Path], dict[str, Any]],
    shades: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command = ("bench", "--dataset", f"folder:{shades}", "--out", tmp_path / "runs", *FLAGS)
    whole = (shades / "test/dark/3.png").read_bytes()
    (shades / "test/dark/3.png").write_bytes(whole[:-40])
    (shades / "train/bright/7.png").write_bytes(b"")
    assert "folder:shades: its images are not checked yet; a bench decodes" in kdzoo(*command, "--dry-run").out
    refused = kdzoo(*command)
    assert refused.code == 2
    assert "2 of the 112 images of folder:shades cannot be read; fix or remove them:\n" in refused.err
    assert not list((tmp_path / "runs").rglob("record.json"))
    dry = kdzoo(*command, "--dry-run")
    assert "folder:shades: 2 images of 112 could not be read; kdzoo data lists them" in dry.out

    assert kdzoo(*command, "--plan").code == 0
    cell = next((tmp_path / "runs/cells").iterdir()).name
    alone = kdzoo("run-cell", cell, "--out", tmp_path / "runs", "--dataset", f"folder:{shades}", "--device", "cpu")
    assert (alone.code, alone.err) == (2, refused.err)
    assert not list((tmp_path / "runs").rglob("record.json"))

    (shades / "test/dark/3.png").write_bytes(whole)
    (shades / "train/bright/7.png").unlink()
    assert kdzoo(*command).code == 0
    tested = [each["test"] for each in records(tmp_path / "runs").values()]
    assert [(each["top1"], each["n"]) for each in tested] == [(100, 32), (100, 32)]
    monkeypatch.setattr("kdzoo.data.survey._look", pytest.fail)
    assert "folder:shades: all 111 images can be read" in kdzoo(*command, "--dry-run").out
    assert kdzoo(*command, "--seeds", "2").code == 0
