"""Sets that are read from files: views, workers, damage."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from epochs import epoch, recipe

from kdzoo import Dataset, UsageError
from kdzoo.data import decoding
from kdzoo.data.load import open_data
from kdzoo.recipe import Augment, Recipe

Toys = Callable[..., Dataset]

FILE_SPECS = [
    Augment(),
    Augment(crop=2, flip=True, erase=0.5),
    Augment(resized_crop=0.3, flip=True),
    Augment(auto="rand-m9-mstd0.5", rotate=5.0),
    Augment(resized_crop=0.3, auto="augmix-m3"),
]


@pytest.mark.parametrize("spec", FILE_SPECS, ids=str)
def test_batches_from_files_do_not_depend_on_workers_batch_size_or_random_state(
    write_folder: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: Augment
) -> None:
    write_folder(tmp_path, {"train": 8, "test": 2})
    data = open_data(f"folder:{tmp_path}", pytest.fail, img_size=(24, 24))

    def shown(batch_size: int, view: int = 1) -> dict[int, bytes]:
        used = Recipe(name="r", epochs=1, batch_size=batch_size, augment=spec)
        batches = epoch(data, used, view=view)
        pairs = ((i, x) for batch in batches for i, x in zip(batch.index.tolist(), batch.inputs, strict=True))
        return {i: x.numpy().tobytes() for i, x in pairs}

    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    alone = shown(1)
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == states
    random.seed(2), np.random.seed(2), torch.manual_seed(2)
    assert shown(7) == alone
    assert (shown(7, view=2) == alone) == (spec == Augment())
    monkeypatch.setattr(decoding, "WORTH_WORKERS", 0)
    monkeypatch.setattr(decoding, "WORKERS", 2)
    assert shown(7) == alone


def test_workers_hand_over_their_batches_where_tmpdir_is_a_long_path(
    write_folder: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They do it by sockets below it, whose paths have a bound; without a batch the bench waited for ever."""
    write_folder(tmp_path, {"train": 4, "test": 3})
    data = open_data(f"folder:{tmp_path}", pytest.fail, img_size=(8, 8))
    alone = torch.cat([batch.inputs for batch in data.eval_batches("test", 2, "cpu")])
    long = tmp_path / ("temporary-" * 10)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    monkeypatch.setattr(decoding, "WORTH_WORKERS", 0)
    monkeypatch.setattr(decoding, "WORKERS", 2)
    assert torch.equal(torch.cat([batch.inputs for batch in data.eval_batches("test", 2, "cpu")]), alone)


def test_files_are_measured_with_timms_transform_and_imagenets_statistics(
    write_folder: Callable[..., None], tmp_path: Path
) -> None:
    from PIL import Image
    from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, create_transform

    write_folder(tmp_path / "pets", {"train": 4, "test": 3})
    data = open_data(f"folder:{tmp_path}/pets", pytest.fail)
    assert (data.ref.name, data.ref.img_size, data.ref.channels) == ("folder:pets", (224, 224), 3)
    assert (data.mean, data.std) == (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
    transform = create_transform(224, is_training=False, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    files = sorted((tmp_path / "pets/test").rglob("*.png"))
    expected = torch.stack([transform(Image.open(file)) for file in files])
    shown = torch.cat([batch.inputs for batch in data.eval_batches("test", 4, "cpu")])
    assert torch.allclose(shown, expected, atol=1e-6)


def test_a_validation_folder_beside_test_is_tune(write_folder: Callable[..., None], tmp_path: Path) -> None:
    write_folder(tmp_path, {"train": 3, "val": 2, "test": 1})
    ref = open_data(f"folder:{tmp_path}[:4]", pytest.fail).ref
    assert (ref.fit, ref.tune, ref.test) == (4, 4, 2)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_image_is_one_sentence_with_its_name(
    write_folder: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    write_folder(tmp_path, {"train": 4, "test": 3})
    damaged = tmp_path / "test/dog/1.png"
    damaged.write_bytes(damaged.read_bytes()[:200])
    monkeypatch.setattr(decoding, "WORTH_WORKERS", 0)
    monkeypatch.setattr(decoding, "WORKERS", workers)
    data = open_data(f"folder:{tmp_path}", pytest.fail, img_size=(8, 8))
    with pytest.raises(UsageError) as caught:
        list(data.eval_batches("test", 2, "cpu"))
    assert str(damaged) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_policy_is_refused(write_folder: Callable[..., None], tmp_path: Path) -> None:
    write_folder(tmp_path, {"train": 4, "test": 3})
    data = open_data(f"folder:{tmp_path}", pytest.fail, img_size=(8, 8))
    with pytest.raises(UsageError, match="timm knows no policy 'magic'"):
        epoch(data, recipe(2, auto="magic"))
