"""Every image is looked at once, before anything trains: damage, kinds, sizes, duplicates."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdzoo import ArrayData, Dataset, FileData, Splits, UsageError
from kdzoo.cli.data import check_images, checked_text, class_text, progress
from kdzoo.cli.data import data as command
from kdzoo.data import survey as module
from kdzoo.data.duplicates import Duplicates, Shared, find_duplicates, key_of
from kdzoo.data.load import LoadedData, open_data
from kdzoo.data.survey import has_files, kept_survey, refuse_damage, survey

Write = Callable[..., None]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("own")))


@pytest.fixture
def pets(write_folder: Write, tmp_path: Path) -> Path:
    """16 images of noise to train, 6 to test."""
    root = tmp_path / "pets"
    write_folder(root, {"train": 8, "test": 3})
    return root


def opened(root: Path) -> LoadedData:
    return open_data(f"folder:{root}", pytest.fail, img_size=(8, 8))


def copy(source: Path, target: Path) -> None:
    target.write_bytes(source.read_bytes())


def spoil(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image of each way to be damaged, three of them in train and two in test."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2_000)
    (root / "train/cat/0.png").write_bytes(b"")
    (root / "train/cat/1.png").write_bytes(b"words\n")
    (root / "train/dog/2.png").write_bytes((root / "train/dog/2.png").read_bytes()[:3000])
    Image.new("L", (90, 90)).save(root / "test/cat/0.png")
    Image.fromarray(np.full((4, 4), 9.5, np.float32)).save(root / "test/dog/0.png", "TIFF")


@pytest.mark.parametrize("workers", [0, 2])
def test_all_damaged_images_are_in_one_list(pets: Path, monkeypatch: pytest.MonkeyPatch, workers: int) -> None:
    monkeypatch.setattr(module, "WORTH_WORKERS", 0)
    monkeypatch.setattr(module, "WORKERS", workers)
    spoil(pets, monkeypatch)
    data = opened(pets)
    found = survey(data)
    assert (found.images, found.damaged) == (22, 5)
    reasons = {line.partition(" (")[0].removeprefix(f"{pets}/"): line.partition(" (")[2] for line in found.lines}
    assert reasons["train/cat/0.png"] == "the file is empty)"
    assert reasons["train/cat/1.png"] == "it is not an image, or damaged from the start)"
    assert "truncated" in reasons["train/dog/2.png"]
    assert "more than 4,000 pixels" in reasons["test/cat/0.png"]
    assert "floating-point numbers from 9.5 to 9.5" in reasons["test/dog/0.png"]
    with pytest.raises(UsageError) as caught:
        refuse_damage(data)
    text = str(caught.value)
    assert text.startswith("5 of the 22 images of folder:pets cannot be read; fix or remove them:\n  ")
    assert len(text.splitlines()) == 6


def test_a_long_list_ends_after_20(write_folder: Write, tmp_path: Path) -> None:
    write_folder(tmp_path / "many", {"train": 12, "test": 2})
    for path in (tmp_path / "many/train").rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(UsageError, match=r"24 of the 28 images[^\0]* and 4 more$") as caught:
        refuse_damage(opened(tmp_path / "many"))
    assert len(str(caught.value).splitlines()) == 22


def test_the_second_look_decodes_nothing(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = opened(pets)
    assert kept_survey(data) is None
    first = survey(data)
    monkeypatch.setattr(module, "_look", pytest.fail)
    assert survey(opened(pets)) == kept_survey(data) == first
    assert checked_text(data) == "folder:pets: all 22 images can be read"


def test_changed_images_and_other_rules_are_looked_at_again(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    survey(opened(pets))
    with monkeypatch.context() as patched:
        patched.setattr(module, "RULES", module.RULES + 1)
        assert kept_survey(opened(pets)) is None
    (pets / "train/cat/0.png").write_bytes(b"cut")
    assert kept_survey(opened(pets)) is None


def test_damaged_images_are_looked_at_again(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = opened(pets)
    with monkeypatch.context() as patched:
        patched.setattr("kdzoo.data.folder.read_rgb", lambda path, name: 1 / 0)  # as a disk that is not mounted now
        assert survey(data).damaged == 22
    assert checked_text(data) == "folder:pets: 22 images of 22 could not be read; kdzoo data lists them"
    assert survey(data).damaged == 0


@pytest.mark.parametrize("content", [b"", b"{}", b'{"images": -', b"\xff\xfe"])
def test_a_spoilt_or_forbidden_memory_only_costs_time(
    pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    data = opened(pets)
    first = survey(data)
    module._place(data).write_bytes(content)
    assert survey(data) == first == kept_survey(data)
    monkeypatch.setenv("XDG_CACHE_HOME", str(pets / "train/cat/0.png"))
    assert survey(data) == first
    assert kept_survey(data) is None


def test_kinds_sizes_and_orientation(pets: Path) -> None:
    Image.fromarray(np.array([[0, 4095]], np.uint16)).save(pets / "train/cat/0.png")
    Image.new("RGBA", (300, 200), (9, 9, 9, 9)).save(pets / "train/dog/0.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (40, 48)).save(pets / "test/cat/0.png", exif=exif)
    found = survey(opened(pets))
    assert found.kinds == {"RGB": 19, "16-bit grey": 1, "alpha of one value": 1, "grey": 1}
    assert (found.brightest, found.turned) == (4095, 1)
    assert (found.smallest, found.largest) == ((1, 2), (200, 300))


def test_duplicates_are_counted_across_splits_and_classes(pets: Path) -> None:
    copy(pets / "train/cat/0.png", pets / "train/cat/1.png")
    copy(pets / "train/cat/0.png", pets / "test/cat/0.png")
    copy(pets / "train/cat/0.png", pets / "test/dog/0.png")
    # Other bytes, the same pixels.
    with Image.open(pets / "train/dog/5.png") as image:
        image.save(pets / "test/dog/1.png", compress_level=0)
    (pets / "val").mkdir()
    for name in ("cat", "dog"):
        (pets / "val" / name).mkdir()
        Image.new("RGB", (5, 7 if name == "cat" else 8)).save(pets / f"val/{name}/0.png")
    assert survey(opened(pets)).duplicates == Duplicates(
        shared=(Shared(split="test", other="fit", images=3, other_class=1),),
        again={"fit": 1, "test": 1},
        conflicting=4,
    )


def test_duplicates_by_hand() -> None:
    keys = {"fit": [1, 2, 2, 3], "tune": [4, 2], "test": [4, 5, 5, 1]}
    labels = {"fit": [0, 1, 1, 0], "tune": [0, 0], "test": [0, 1, 0, 1]}
    found = find_duplicates(
        {split: np.array(each, np.uint64) for split, each in keys.items()},
        {split: np.array(each, np.int64) for split, each in labels.items()},
    )
    assert found.shared == (
        Shared(split="tune", other="fit", images=1, other_class=1),
        Shared(split="test", other="fit", images=1, other_class=1),
        Shared(split="test", other="tune", images=1, other_class=0),
    )
    assert found.again == {"fit": 1, "test": 1}
    # 1 as 0 and 1; 2 as 1 and 0; 5 as 1 and 0.
    assert found.conflicting == 2 + 3 + 2
    nothing = {split: np.zeros(0, np.int64) for split in keys}
    assert find_duplicates({split: np.zeros(0, np.uint64) for split in keys}, nothing) == Duplicates()


def test_the_key_knows_the_shape() -> None:
    assert key_of(bytes(12), 3, 4) != key_of(bytes(12), 4, 3)
    assert 0 <= key_of(b"", 0) < 2**64


class Twice(Dataset):
    """Arrays in which test repeats two training images, one of them with another class."""

    name = "twice"
    img_size = (8, 8)

    def load(self, data_dir: Path | None, download: bool) -> Splits:
        images = np.random.default_rng(0).integers(0, 256, (40, 1, 8, 8), dtype=np.uint8)
        labels = np.arange(40, dtype=np.int64) % 2
        again = ArrayData(images[[0, 1, 30]], np.array([0, 0, 0]))
        return Splits(ArrayData(images[:30], labels[:30]), again, ("a", "b"))


def test_duplicates_in_memory_are_found_and_cost_no_memory_file() -> None:
    data = open_data("twice", lambda name: Twice())
    assert not has_files(data)
    shared = survey(data).duplicates.shared
    assert sum(each.images for each in shared) == 2
    assert sum(each.other_class for each in shared) == 1
    assert survey(data).kinds == {}
    assert kept_survey(data) is None


def test_digits_have_no_duplicates(builtin: Callable[[str], Dataset]) -> None:
    assert survey(open_data("digits", builtin)).duplicates == Duplicates()


class Moody:
    """A plugin's samples of odd modes, some of which fail."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int, /) -> tuple[Image.Image, int]:
        if index == 3:
            raise KeyError("the fourth\nis missing")
        if index == 4:
            raise UsageError("4.raw is cut")
        return Image.fromarray(np.full((6, 6), 257 * index, np.uint16)), index % 2


class Plugin(Dataset):
    name = "moody"
    img_size = (8, 8)

    def load(self, data_dir: Path | None, download: bool) -> Splits:
        train, test = (FileData(Moody(n), np.arange(n, dtype=np.int64) % 2, f"{n}") for n in (8, 2))
        return Splits(train, test, ("even", "odd"))


def test_a_plugins_samples_are_converted_and_its_errors_listed() -> None:
    data = open_data("moody", lambda name: Plugin())
    with pytest.raises(UsageError, match=r"2 of the 10 images of moody cannot be read") as caught:
        refuse_damage(data)
    one, other = sorted(line.strip() for line in str(caught.value).splitlines()[1:])
    assert (one, other.startswith("sample "), other.count("KeyError")) == ("4.raw is cut", True, 1)
    images = next(data.eval_batches("test", 2, "cpu")).inputs
    assert (images[:, 0, 0, 0] * 255).round().tolist() == [0, 1]


def test_libraries_say_nothing_past_python(pets: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = pets / "train/cat/0.png"
    with Image.open(path) as image:
        image.save(path, "TIFF", compression="tiff_lzw")
    content = bytearray(path.read_bytes())
    content[400:800] = bytes(400)
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"cat/0.png"):
        refuse_damage(opened(pets))
    assert capfd.readouterr() == ("", "")


def test_a_long_look_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, said = [0.0], []
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    tell = progress("pets", said.append)
    for done in range(0, 3_000, 100):
        clock[0] = done / 100
        tell(done, 3_000)
    assert said == [f"checking the images of pets: {done} of 3,000" for done in ("600", "2,700")]


def test_a_bench_warns_of_test_images_that_it_trains_on(pets: Path) -> None:
    copy(pets / "train/cat/0.png", pets / "test/dog/0.png")
    said: list[str] = []
    check_images([opened(pets), open_data("twice", lambda name: Twice())], said.append)
    (line,) = said
    assert line.startswith("warning: folder:pets: 1 image of test also in ")
    assert line.endswith(" (1 with another class)")


def test_class_sizes_in_words(pets: Path) -> None:
    assert class_text(opened(pets), "test") == "6 images, 3 of each class"
    (pets / "test/dog/0.png").unlink()
    assert class_text(opened(pets), "test") == "5 images, 2 (class dog) to 3 (class cat)"


def test_the_command_tells_what_the_images_are(pets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(np.array([[0, 4095]], np.uint16)).save(pets / "train/cat/0.png")
    copy(pets / "train/dog/0.png", pets / "test/cat/0.png")
    command(f"folder:{pets}", img_size="16", out=tmp_path / "x.png")
    lines = capsys.readouterr().out.splitlines()
    assert "  sizes        1 x 2 to 40 x 48" in lines
    assert "  kinds        21 RGB, 1 16-bit grey" in lines
    dark = "the brightest value is 4,095 of 65,535; dark: stretch them to all 16 bits"
    assert f"  read as      16-bit grey: the upper 8 bits are read ({dark})" in lines
    place = next(place for place, line in enumerate(lines) if line.startswith("  duplicates "))
    assert lines[place].startswith("  duplicates   1 image of test also in ")
    assert lines[place].endswith(" (1 with another class)")
    assert lines[place + 1] == "               2 images with equal pixels and more than one class"


def test_the_command_exits_1_where_images_are_damaged(
    pets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import typer

    spoil(pets, monkeypatch)
    with pytest.raises(typer.Exit) as ended:
        command(f"folder:{pets}", img_size="16", out=tmp_path / "x.png")
    assert ended.value.exit_code == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("5 of the 22 images of folder:pets cannot be read; fix or remove them:\n")
    assert "fingerprint" in printed.out
    assert not (tmp_path / "x.png").exists()
