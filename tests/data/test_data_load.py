"""Loaded data: identity, splits, statistics and batches."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from epochs import epoch, recipe
from waiting import output_of

from kdzoo import ArrayData, Dataset, Splits, UsageError
from kdzoo.data import loaders
from kdzoo.data.augment import augment
from kdzoo.data.load import open_data

Toys = Callable[..., Dataset]


def test_reference_names_the_data(toy: Toys) -> None:
    data = open_data("toy", lambda name: toy())
    assert data.ref.model_dump(exclude={"fingerprint"}) == {
        "name": "toy",
        "num_classes": 3,
        "channels": 1,
        "img_size": (8, 8),
        "fit": 81,
        "tune": 9,
        "test": 30,
    }
    assert data.classes == ("a", "b", "c")
    again = open_data("toy", lambda name: toy(), img_size=(12, 10))
    assert again.ref.fingerprint == data.ref.fingerprint
    assert again.ref.img_size == (12, 10)
    assert open_data("toy", lambda name: toy(test=33)).ref.fingerprint != data.ref.fingerprint


def test_evaluation_gives_each_split_whole_and_in_order(toy: Toys) -> None:
    data = open_data("toy", lambda name: toy())
    raw = toy().load(None, False)
    assert isinstance(raw.test, ArrayData)
    batches = list(data.eval_batches("test", 7, "cpu"))
    assert [len(batch.labels) for batch in batches] == [7, 7, 7, 7, 2]
    inputs = torch.cat([batch.inputs for batch in batches])
    assert inputs.dtype == torch.float32
    assert torch.equal((inputs * 255).round(), torch.from_numpy(raw.test.images).float())
    assert torch.cat([batch.labels for batch in batches]).tolist() == raw.test.labels.tolist()
    assert torch.cat([batch.index for batch in batches]).tolist() == list(range(30))
    parts = [batch.inputs for split in ("fit", "tune") for batch in data.eval_batches(split, 50, "cpu")]
    both = {image.numpy().tobytes() for image in torch.cat(parts)}
    assert isinstance(raw.train, ArrayData)
    assert both == {(image.astype(np.float32) / 255).tobytes() for image in raw.train.images}


def test_an_epoch_shows_each_sample_at_most_once(toy: Toys) -> None:
    data = open_data("toy", lambda name: toy())
    batches = epoch(data, recipe(16))
    assert len(batches) == data.steps_per_epoch(recipe(16)) == 5
    index = torch.cat([batch.index for batch in batches])
    assert len(set(index.tolist())) == 80
    assert index.tolist() != sorted(index.tolist())
    labels = data.labels("fit")
    assert all(torch.equal(batch.labels, labels[batch.index]) for batch in batches)
    assert all(torch.equal(batch.targets, batch.labels) for batch in batches)


def test_a_batch_larger_than_fit_is_fit(toy: Toys) -> None:
    data = open_data("toy", lambda name: toy())
    batches = epoch(data, recipe(500))
    assert len(batches) == data.steps_per_epoch(recipe(500)) == 1
    assert sorted(batches[0].index.tolist()) == list(range(81))


def test_an_epoch_depends_on_its_view_and_seed_alone(toy: Toys) -> None:
    data = open_data("toy", lambda name: toy())
    used = recipe(16, crop=2, flip=True)
    first = epoch(data, used, view=4)
    torch.manual_seed(99)
    again = epoch(open_data("toy", lambda name: toy()), used, view=4)
    assert all(
        torch.equal(a.inputs, b.inputs) and torch.equal(a.index, b.index) for a, b in zip(first, again, strict=True)
    )
    other_seed, other_view = epoch(data, used, view=4, seed=5), epoch(data, used, view=5)
    assert other_seed[0].index.tolist() != first[0].index.tolist()
    assert other_view[0].index.tolist() != first[0].index.tolist()
    assert {batch.view for batch in other_view} == {5}


def test_a_batch_is_the_views_of_its_samples(toy: Toys) -> None:
    data = open_data("toy", lambda name: toy(channels=3))
    used = recipe(16, crop=2, flip=True, erase=0.5)
    plain = torch.cat([batch.inputs for batch in data.eval_batches("fit", 100, "cpu")])
    images = (plain * 255).round().to(torch.uint8)
    for batch in epoch(data, used, view=7):
        expected = augment(images[batch.index], batch.index, 7, used.augment, torch.tensor(data.mean))
        assert torch.equal(batch.inputs, expected)
        assert torch.equal(data.images("fit", batch.index, used.augment, view=7), expected)


def test_views_of_an_order_do_not_depend_on_the_batch_size(toy: Toys, monkeypatch: pytest.MonkeyPatch) -> None:
    data = open_data("toy", lambda name: toy())

    def shown(batch_size: int) -> dict[int, bytes]:
        batches = epoch(data, recipe(batch_size, crop=2, flip=True, rotate=10.0))
        pairs = ((i, x) for batch in batches for i, x in zip(batch.index.tolist(), batch.inputs, strict=True))
        return {i: x.numpy().tobytes() for i, x in pairs}

    one, nine, all_at_once = shown(1), shown(9), shown(81)
    assert one == nine == all_at_once
    monkeypatch.setattr(loaders, "CHUNK_PIXELS", 1)
    assert shown(9) == nine


def test_two_views_double_the_batch(toy: Toys) -> None:
    data = open_data("toy", lambda name: toy())
    used = recipe(16, crop=2, flip=True)
    for batch in epoch(data, used, view=3, views=2):
        assert len(batch.inputs) == len(batch.labels) == len(batch.targets) == len(batch.index) == 32
        assert torch.equal(batch.index[:16], batch.index[16:])
        assert torch.equal(batch.inputs[:16], data.images("fit", batch.index[:16], used.augment, view=6))
        assert torch.equal(batch.inputs[16:], data.images("fit", batch.index[:16], used.augment, view=7))
        assert batch.view == 3


def test_kept_views_are_those_of_training(toy: Toys) -> None:
    data = open_data("toy", lambda name: toy())
    used = recipe(16, crop=2, flip=True)
    kept = torch.cat([batch.inputs for batch in data.eval_batches("fit", 32, "cpu", augment=used.augment, view=2)])
    assert all(torch.equal(batch.inputs, kept[batch.index]) for batch in epoch(data, used, view=2))


def test_mean_and_std_are_those_of_fit(toy: Toys) -> None:
    data = open_data("toy", lambda name: toy(channels=3), img_size=(9, 11))
    fit = torch.cat([batch.inputs for batch in data.eval_batches("fit", 100, "cpu")]).double()
    assert data.mean == pytest.approx(fit.mean((0, 2, 3)).tolist(), abs=1e-6)
    assert data.std == pytest.approx(fit.std((0, 2, 3), correction=0).tolist(), abs=1e-6)


def test_a_channel_without_variance_has_a_usable_std() -> None:
    class Black(Dataset):
        name, img_size = "black", (2, 2)

        def load(self, data_dir: Path | None, download: bool) -> Splits:
            part = ArrayData(np.zeros((20, 1, 2, 2), dtype=np.uint8), np.arange(20) % 2)
            return Splits(part, part, ("a", "b"))

    data = open_data("black", lambda name: Black())
    assert (data.mean, data.std) == ((0.0,), (1 / 255,))


def test_subset_is_stratified_the_same_for_everyone_and_part_of_the_name(toy: Toys) -> None:
    first, second = (open_data("toy[:30]", lambda name: toy()) for _ in range(2))
    assert (first.ref.name, first.ref.fit, first.ref.tune, first.ref.test) == ("toy[:30]", 27, 3, 30)
    assert first.ref == second.ref
    assert first.ref.fingerprint != open_data("toy", lambda name: toy()).ref.fingerprint
    assert torch.bincount(first.labels("fit")).tolist() == [9, 9, 9]
    assert torch.bincount(first.labels("tune")).tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    "name", ["toy[:0]", "toy[5]", "toy[:]", "toy[:-5]", "toy[:5", "toy]", "[:5]", "toy[:5][:3]", "toy[1:5]", "toy[:x]"]
)
def test_malformed_subsets_are_refused(toy: Toys, name: str) -> None:
    with pytest.raises(UsageError, match=r"write a subset of train as name\[:count\]"):
        open_data(name, lambda name: toy())


def test_impossible_subsets_are_refused(toy: Toys) -> None:
    with pytest.raises(UsageError, match="cannot take 91 of 90 images: take at least 6 and at most 90"):
        open_data("toy[:91]", lambda name: toy())
    with pytest.raises(UsageError, match="cannot take 5 of 90 images"):
        open_data("toy[:5]", lambda name: toy())


def test_a_data_folder_must_be_a_folder(toy: Toys, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="absent does not exist, or is not a folder"):
        open_data("toy", lambda name: toy(), data_dir=tmp_path / "absent")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="file does not exist, or is not a folder"):
        open_data("toy", lambda name: toy(), data_dir=tmp_path / "file", download=True)


def test_system_errors_become_sentences() -> None:
    class Locked(Dataset):
        name, img_size = "locked", (8, 8)

        def load(self, data_dir: Path | None, download: bool) -> Splits:
            raise PermissionError(13, "Permission denied", "secret.bin")

    with pytest.raises(UsageError, match=r"locked cannot be read: .*Permission denied: 'secret.bin'"):
        open_data("locked", lambda name: Locked())


def test_digits_are_upsampled_once_to_16_pixels(builtin: Callable[[str], Dataset]) -> None:
    data = open_data("digits", builtin)
    assert (data.ref.img_size, data.ref.fit, data.ref.tune, data.ref.test) == ((16, 16), 1294, 144, 359)
    native = builtin("digits").load(None, False).test
    assert isinstance(native, ArrayData)
    shown = next(data.eval_batches("test", 400, "cpu")).inputs
    # Each axis is interpolated between pixel centres; beyond the outermost ones the border repeats.
    places = (np.arange(16) + 0.5) / 2 - 0.5
    weights = np.stack([np.interp(places, np.arange(8), one) for one in np.eye(8)], axis=1)
    expected = weights @ native.images[:, 0] @ weights.T
    assert np.abs(shown[:, 0].numpy() * 255 - expected).max() < 0.501


def test_mnist_reaches_32_pixels_by_a_margin_and_other_sizes_by_interpolation(
    builtin: Callable[[str], Dataset], write_mnist: Callable[..., tuple[np.ndarray, ...]], tmp_path: Path
) -> None:
    _, _, test, _ = write_mnist(tmp_path)
    padded, native, large = (
        next(open_data("mnist", builtin, data_dir=tmp_path, img_size=size).eval_batches("test", 20, "cpu")).inputs
        for size in (None, (28, 28), (56, 48))
    )
    expected = torch.from_numpy(np.pad(test, ((0, 0), (2, 2), (2, 2))))[:, None]
    assert torch.equal((padded * 255).round().to(torch.uint8), expected)
    assert torch.equal((native * 255).round().to(torch.uint8), torch.from_numpy(test)[:, None])
    assert large.shape == (20, 1, 56, 48)
    assert abs(large.mean() - native.mean()) < 0.01


def test_large_arrays_are_resized_on_the_way_with_the_same_result(toy: Toys, monkeypatch: pytest.MonkeyPatch) -> None:
    used = recipe(16, crop=2, flip=True)
    ahead = open_data("toy", lambda name: toy(), img_size=(16, 16))
    monkeypatch.setattr(loaders, "RESIDENT_BYTES", 0)
    on_the_way = open_data("toy", lambda name: toy(), img_size=(16, 16))
    assert (ahead.mean, ahead.std) == (on_the_way.mean, on_the_way.std)
    pairs = zip(epoch(ahead, used), epoch(on_the_way, used), strict=True)
    assert all(torch.equal(a.inputs, b.inputs) for a, b in pairs)


def test_a_recipe_is_checked_before_training(toy: Toys, write_folder: Callable[..., None], tmp_path: Path) -> None:
    write_folder(tmp_path, {"train": 4, "test": 3})
    files = open_data(f"folder:{tmp_path}", pytest.fail, img_size=(8, 8))
    with pytest.raises(UsageError, match="timm knows no policy 'magic'"):
        files.check_recipe(recipe(2, auto="magic"))
    arrays = open_data("toy", lambda name: toy())
    with pytest.raises(UsageError, match=r"augment.auto=rand-m9 works on datasets read from files"):
        arrays.check_recipe(recipe(2, auto="rand-m9"))
    for data, spec in ((files, {"auto": "rand-m9", "resized_crop": 0.2}), (arrays, {"crop": 2, "erase": 0.1})):
        data.check_recipe(recipe(2, **spec))


def test_importing_the_contract_does_not_import_torch() -> None:
    code = "import sys, kdzoo, kdzoo.data.splits, kdzoo.data.builtin as b; b.kdzoo_datasets(), kdzoo.Dataset"
    code += "; print('torch' in sys.modules)"
    assert output_of(sys.executable, "-c", code) == "False\n"


def test_sets_whose_files_share_their_names_are_told_apart_by_folder(
    builtin: Callable[[str], Dataset], write_mnist: Callable[..., tuple[np.ndarray, ...]], tmp_path: Path
) -> None:
    write_mnist(tmp_path)
    (tmp_path / "fashion_mnist").mkdir()
    write_mnist(tmp_path / "fashion_mnist", train=80)
    sizes = {name: len(builtin(name).load(tmp_path, False).train) for name in ("mnist", "fashion_mnist")}
    assert sizes == {"mnist": 60, "fashion_mnist": 80}


def test_a_plugins_dataset_that_fails_is_one_sentence() -> None:
    class Broken(Dataset):
        name = "broken"
        help = "raises"
        img_size = (8, 8)

        def load(self, data_dir: Path | None, download: bool) -> Splits:
            raise KeyError("images")

    with pytest.raises(UsageError, match=r"broken cannot be loaded: KeyError: 'images'"):
        open_data("broken", lambda name: Broken())


def test_a_margin_is_part_of_the_identity(
    builtin: Callable[[str], Dataset], write_mnist: Callable[..., tuple[np.ndarray, ...]], tmp_path: Path
) -> None:
    write_mnist(tmp_path)
    plain = builtin("mnist").load(tmp_path, False).fingerprint
    padded, scaled = (open_data("mnist", builtin, data_dir=tmp_path, img_size=size).ref for size in (None, (28, 28)))
    assert scaled.fingerprint == plain
    assert padded.fingerprint != plain
