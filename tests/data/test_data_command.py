"""``kdzoo data``: what it prints and the picture it writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdzoo import Dataset, UsageError
from kdzoo.cli.data import data as command
from kdzoo.cli.data import image_grid
from kdzoo.data.load import open_data
from kdzoo.recipe import Augment


def test_data_prints_the_facts_and_writes_a_grid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    command("digits[:500]", img_size="16x24")
    printed = capsys.readouterr().out
    for fact in (
        "digits[:500]",
        "450 images",
        "50 images",
        "359 images",
        "10: 0, 1, 2",
        "1 x 16 x 24",
        "digits_500.png",
    ):
        assert fact in printed
    with Image.open(tmp_path / "digits_500.png") as picture:
        assert picture.format == "PNG"


def test_the_grid_shows_samples_and_their_views(toy: Callable[..., Dataset]) -> None:
    data = open_data("toy", lambda name: toy(channels=3, size=(64, 64)), img_size=(64, 64))
    plain, augmented = (np.asarray(image_grid(data, spec, columns=2)) for spec in (Augment(), Augment(flip=True)))
    assert plain.shape == (3 * 68, 110 + 4 * 68 + 12, 3)
    first = data.images("fit", (data.labels("fit") == 1).nonzero().flatten()[:2])
    shown = (first[1] * 255).round().permute(1, 2, 0).numpy().astype(np.uint8)
    left, right = np.s_[68:132, 178:242], np.s_[68:132, 326:390]
    assert np.array_equal(plain[left], shown)
    assert np.array_equal(plain[right], shown)
    assert np.array_equal(augmented[:, :246], plain[:, :246])
    assert not np.array_equal(augmented, plain)


def test_wrong_sizes_and_places_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="must be a size in pixels"):
        command("digits", img_size="32x", out=tmp_path / "x.png")
    with pytest.raises(UsageError, match="the image grid cannot be written to"):
        command("digits", out=tmp_path)
    with pytest.raises(UsageError, match="the image grid cannot be written to"):
        command("digits", out=tmp_path / "absent/x.png")
    with pytest.raises(UsageError, match="unknown dataset 'digit'; did you mean digits"):
        command("digit", out=tmp_path / "x.png")
    assert list(tmp_path.iterdir()) == []


def test_what_is_odd_about_a_folder_is_printed(
    write_folder: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folder(tmp_path / "pets", {"train": 12, "test": 2})
    (tmp_path / "pets/train/cat/a.heic").touch()
    command(f"folder:{tmp_path}/pets", img_size="16", out=tmp_path / "x.png")
    printed = capsys.readouterr().out
    assert "(of the files' contents; a file with its old size, times and inode is not read again)" in printed
    assert "note         train has files that are not read: .heic (1)" in printed
