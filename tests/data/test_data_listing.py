"""What of a folder is read, what is left out and said, and what is refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from kdzoo import FileData, Splits, UsageError
from kdzoo.data.folder import FolderDataset
from kdzoo.data.load import open_data

ENDINGS = (
    *("png", "apng", "jpg", "JPEG", "jpe", "jfif", "webp", "avif", "bmp", "dib", "gif"),
    *("tif", "TIFF", "pbm", "pgm", "ppm", "pnm", "tga", "jp2", "j2k"),
)


def load(root: Path) -> Splits:
    return FolderDataset(str(root)).load(None, False)


def counts(splits: Splits) -> tuple[int, int, int]:
    return len(splits.train), 0 if splits.tune is None else len(splits.tune), len(splits.test)


@pytest.fixture
def pets(write_folder: Callable[..., None], tmp_path: Path) -> Path:
    write_folder(tmp_path / "pets", {"train": 3, "test": 2})
    return tmp_path / "pets"


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_ending_of_an_image_is_read(pets: Path, ending: str) -> None:
    path = pets / f"train/cat/9.{ending}"
    grey = Image.new("1" if ending == "pbm" else "L", (16, 16), 255)
    grey.convert("RGB" if ending in ("avif", "webp", "jp2", "j2k") else grey.mode).save(path)
    splits = load(pets)
    assert counts(splits) == (7, 0, 4)
    assert splits.notes == ()
    assert isinstance(splits.train, FileData)
    image, label = splits.train.samples[3]
    assert (image.size, label) == ((16, 16), 0)
    assert min(image.convert("RGB").getpixel((8, 8))) > 250


def test_a_gif_is_its_first_frame(pets: Path) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    frames[0].save(pets / "train/cat/9.gif", save_all=True, append_images=frames[1:])
    image, _ = load(pets).train.samples[3]
    assert image.convert("RGB").getpixel((0, 0)) == (255, 0, 0)


def test_endings_that_a_plugin_gives_timm_are_read(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (pets / "train/cat/9.scan").write_bytes(b"x")
    monkeypatch.setattr("timm.data.readers.img_extensions._IMG_EXTENSIONS_SET", {".scan"})
    assert counts(load(pets)) == (7, 0, 4)


def test_files_that_are_not_read_are_counted_by_ending(pets: Path) -> None:
    for name in ("train/cat/a.HEIC", "train/dog/b.heic", "train/dog/list.txt", "train/cat/noending", "test/cat/x.svg"):
        (pets / name).write_bytes(b"x")
    (pets / "train/readme.txt").write_bytes(b"x")
    splits = load(pets)
    assert counts(splits) == (6, 0, 4)
    assert splits.notes == (
        "train has files that are not read: .heic (2), without an ending (1), .txt (1)",
        "test has files that are not read: .svg (1)",
    )


def test_hidden_files_and_what_systems_leave_behind_do_not_count(pets: Path) -> None:
    before = load(pets)
    for folder in (".ipynb_checkpoints", "__MACOSX", ".git", "@eaDir"):
        for place in (pets, pets / "train", pets / "train/cat", pets / "test"):
            (place / folder).mkdir()
            Image.new("L", (8, 8)).save(place / folder / "0.png")
    for name in ("Thumbs.db", "desktop.ini", ".DS_Store", "._0.png", ".hidden.png"):
        (pets / "train/cat" / name).write_bytes(b"x")
    after = load(pets)
    assert (after.classes, after.fingerprint, after.notes) == (("cat", "dog"), before.fingerprint, ())


@pytest.mark.parametrize("target", [".", "..", "../..", "../../..", "../cat"])
def test_a_link_to_a_folder_above_is_not_followed(pets: Path, target: str) -> None:
    (pets / "train/cat/again").symlink_to(target)
    splits = load(pets)
    assert counts(splits) == (6, 0, 4)
    assert splits.notes == ("train has links to folders above them, which are not followed: 'cat/again'",)


def test_classes_that_link_to_each_other_end(pets: Path) -> None:
    (pets / "train/cat/d").symlink_to("../dog")
    (pets / "train/dog/c").symlink_to("../cat")
    splits = load(pets)
    assert counts(splits) == (12, 0, 4)
    assert any("'cat/d/c', 'dog/c/d'" in note for note in splits.notes)


def test_links_to_files_and_folders_are_followed(pets: Path, tmp_path: Path) -> None:
    before = load(pets).fingerprint
    (pets / "train").rename(tmp_path / "elsewhere")
    (pets / "train").mkdir()
    (pets / "train/dog").symlink_to(tmp_path / "elsewhere/dog")
    (pets / "train/cat").mkdir()
    for file in (tmp_path / "elsewhere/cat").iterdir():
        (pets / "train/cat" / file.name).symlink_to(file)
    splits = load(pets)
    assert (splits.fingerprint, splits.notes) == (before, ())


def test_broken_links_are_named_all_at_once(pets: Path) -> None:
    (pets / "train/cat/8.png").symlink_to("absent")
    (pets / "train/dog/more").symlink_to("/absent/too")
    (pets / "train/bird").symlink_to("bird")
    (pets / "train/cat/.hidden").symlink_to("absent")
    with pytest.raises(UsageError, match=r"broken links, .*: 'bird', 'cat/8.png', 'dog/more'$"):
        load(pets)
    (pets / "Test").symlink_to("absent")
    for file in (pets / "train").rglob("*.png"):
        file.unlink()
    (pets / "test").rename(pets / "elsewhere")
    with pytest.raises(UsageError, match="it has 'elsewhere', 'train', and broken links: 'Test'"):
        load(pets)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_not_opened(pets: Path) -> None:
    os.mkfifo(pets / "train/cat/9.png")
    assert counts(load(pets)) == (6, 0, 4)


@pytest.mark.parametrize("inside", ["", "images", "unknown"])
def test_a_test_folder_without_labels_gives_way_to_val(
    write_folder: Callable[..., None], tmp_path: Path, inside: str
) -> None:
    write_folder(tmp_path, {"train": 12, "val": 2})
    (tmp_path / "test" / inside).mkdir(parents=True)
    for number in range(5):
        Image.new("L", (8, 8), number).save(tmp_path / "test" / inside / f"{number}.png")
    ref = open_data(f"folder:{tmp_path}", pytest.fail, img_size=(8, 8)).ref
    assert (ref.fit, ref.tune, ref.test) == (22, 2, 4)
    assert load(tmp_path).notes == ("test has no class folders and is not read; val is the test split",)
    (tmp_path / "val").rename(tmp_path / "kept")
    with pytest.raises(UsageError, match="test has no class folders, so it can measure nothing: add them, or a"):
        load(tmp_path)


def test_images_beside_class_folders_are_said(pets: Path) -> None:
    for name in ("train/0.png", "train/1.png", "test/0.png"):
        Image.new("L", (8, 8)).save(pets / name)
    assert load(pets).notes == (
        "train has images in no class folder, which are not read: 2",
        "test has images in no class folder, which are not read: 1",
    )


def test_classes_without_images(pets: Path) -> None:
    for file in (pets / "test/dog").iterdir():
        file.unlink()
    assert load(pets).notes == ("test has no images of 'dog'",)
    (pets / "train/bird").mkdir()
    with pytest.raises(UsageError, match="train has no images of 'bird': put some there, or remove the empty folders"):
        load(pets)


def test_classes_of_test_that_train_lacks_are_named_all(pets: Path) -> None:
    for name in ("Cat", "dodo", "empty"):
        (pets / "test" / name).mkdir()
        if name != "empty":
            Image.new("L", (8, 8)).save(pets / "test" / name / "0.png")
    with pytest.raises(UsageError, match=r"classes 'Cat', 'dodo' that are not in the train folder, .* 'cat', 'dog'$"):
        load(pets)


@pytest.mark.parametrize("names", [("Train", "Test"), ("TRAIN", "VAL"), ("Training", "Validation")])
def test_names_of_splits_in_another_case(pets: Path, names: tuple[str, str]) -> None:
    for old, new in zip(("train", "test"), names, strict=True):
        (pets / old).rename(pets / new)
    assert counts(load(pets)) == (6, 0, 4)


def test_two_folders_for_one_split(pets: Path, write_folder: Callable[..., None]) -> None:
    write_folder(pets, {"validation": 1, "valid": 2})
    splits = load(pets)
    assert counts(splits) == (6, 4, 4)
    assert splits.notes == ("valid is read, and 'validation' beside it is not",)
    (pets / "Train").mkdir()
    with pytest.raises(
        UsageError,
        match=r"has Train and train, which differ only in upper and lower case: rename "
        "or remove",
    ):
        load(pets)
