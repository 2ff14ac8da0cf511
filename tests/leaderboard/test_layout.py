from __future__ import annotations

import hashlib
import json
import os
import random
import re
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from folders import DATA, blank_drawings, make_cell, make_folder, make_record, make_study, make_teacher

from kdzoo.jsontext import unsealed
from kdzoo.leaderboard.layout import dataset_slug, pair_slug, path_of_record, path_of_study, read_leaderboard, slug
from kdzoo.leaderboard.untrusted import MOST_JSON_BYTES, walk
from kdzoo.needed import teacher_cell
from kdzoo.record import SCHEMA
from kdzoo.refs import ModelRef

RECORD = make_record(make_cell("soft", 1))
PLACE = path_of_record(RECORD)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("digits", "digits"),
        ("fashion_mnist[:5000]", "fashion_mnist-5000"),
        ("vit_tiny_patch16_224.augreg_in21k:depth=6", "vit_tiny_patch16_224.augreg_in21k-depth-6"),
        ("hf-hub:timm/ResNet18", "hf-hub-timm-resnet18"),
        ("../../etc/passwd", "etc-passwd"),
        ("..", "x-unnamed"),
        (".", "x-unnamed"),
        ("", "x-unnamed"),
        ("数据", "x-unnamed"),
        (".hidden.", "hidden"),
        ("a--b", "a-b"),
        ("CON", "x-con"),
        ("com1.json", "x-com1.json"),
        ("records", "x-records"),
        ("index.md", "x-index.md"),
        ("C:\\Users\\ada", "c-users-ada"),
        ("a\x00b\nc\u202ed", "a-b-c-d"),
    ],
)
def test_a_slug_is_safe_and_tells_its_name(name: str, expected: str) -> None:
    assert slug(name) == expected


def test_no_name_gives_an_unsafe_slug() -> None:
    draw = random.Random(0)
    alphabet = 'aZ09._-/\\:*?"<>| \0\n~$%=é数\u202e'
    for _ in range(2000):
        made = slug("".join(draw.choices(alphabet, k=draw.randrange(90))))
        assert re.fullmatch(r"[a-z0-9_]([a-z0-9._-]*[a-z0-9_])?", made), made
        assert len(made) <= 62
        assert "--" not in made
        assert slug(made) == made


def test_where_things_stand() -> None:
    teacher = make_teacher("resnet10t")
    training = teacher_cell(teacher, DATA)
    assert training is not None
    cell = make_cell("soft", student="test_vit:patch_size=4")
    assert pair_slug(teacher, cell.student) == "resnet10t--test_vit-patch_size-4"
    assert path_of_record(make_record(cell)) == PurePosixPath(
        f"records/digits/resnet10t--test_vit-patch_size-4/{cell.id}.json"
    )
    assert path_of_record(make_record(training)) == PurePosixPath(f"records/digits/teachers/{training.id}.json")
    study = make_study("soft", [50.0])
    assert path_of_study(study) == PurePosixPath(f"records/digits/resnet10t--test_resnet/studies/{study.id}.json")


def test_names_that_share_a_slug_share_a_folder_and_no_file() -> None:
    one, other = (make_cell("soft", data=DATA.model_copy(update={"name": name})) for name in ("my data", "my/data"))
    assert dataset_slug(one.data) == dataset_slug(other.data) == "my-data"
    assert path_of_record(make_record(one)) != path_of_record(make_record(other))


def test_a_pair_is_never_taken_for_the_teachers() -> None:
    for name in ("teachers", "studies", "", "-", "--"):
        assert pair_slug(make_teacher("a"), ModelRef(name=name or "x")).count("--") == 1
        assert pair_slug(None, ModelRef(name=name or "x")) != "teachers"


# Reading


def put(folder: Path, content: str | bytes, place: PurePosixPath = PLACE) -> Path:
    path = folder / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def told(folder: Path) -> list[str]:
    """The faults of a folder, each of which must be one clean line."""
    lines = [str(fault) for fault in read_leaderboard(folder).faults]
    for line in lines:
        assert re.fullmatch(r"[^:]+: [^\n]+", line)
        assert line.isprintable()
        assert len(line) < 900
        assert str(folder) not in line
    return lines


def test_a_folder_that_is_not_there_is_empty(tmp_path: Path) -> None:
    found = read_leaderboard(tmp_path / "none")
    assert (found.records, found.studies, found.faults) == ((), (), ())


def test_what_was_written_is_read(tmp_path: Path) -> None:
    study = make_study("soft", [50.0, 60.0])
    put(tmp_path, RECORD.to_json())
    put(tmp_path, study.to_json(), path_of_study(study))
    found = read_leaderboard(tmp_path)
    assert (found.records, found.studies, found.faults) == ((RECORD,), (study,), ())


def changed(**changes: Any) -> str:
    value = json.loads(RECORD.to_json()) | changes
    return json.dumps(value, sort_keys=True, separators=(",", ":")) + "\n"


TEXT = RECORD.to_json()


def resealed(*change: str) -> str:
    """The record with one piece of text for another, and a seal that fits what it then says."""
    body, _ = unsealed(TEXT.replace(*change).strip().encode())
    return f'{body.decode()[:-1]},"sha256":"{hashlib.sha256(body).hexdigest()}"}}\n'


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not valid JSON"),
        (TEXT[: len(TEXT) // 2], "not valid JSON"),
        (b"\xff\xfe" + TEXT.encode(), "not valid JSON"),
        (TEXT.encode("utf-16"), "."),
        (b"\xef\xbb\xbf" + TEXT.encode(), "."),
        (TEXT.replace('"soft"', '"so\udcfft"').encode("utf-8", "surrogateescape"), "not valid JSON"),
        (TEXT.replace('"soft"', '"so\\ud800"'), "."),
        ("[" * 200_000, "not valid JSON"),
        (TEXT.replace('"command":"kdzoo bench"', '"command":' + "[" * 500 + "]" * 500), "."),
        ("{}", "not a kdzoo record"),
        ("[]", "not a kdzoo record"),
        ("null", "not a kdzoo record"),
        (TEXT.replace('"nll":0.5', '"nll":NaN'), "finite number"),
        (TEXT.replace('"nll":0.5', '"nll":Infinity'), "finite number"),
        (TEXT.replace('"nll":0.5', '"nll":1e999'), "finite number"),
        (resealed('"nll":0.5', '"nll":1e300'), "too large"),
        (resealed('"macs":1000', '"macs":' + "9" * 30), "too large"),
        (TEXT.replace('"macs":1000', '"macs":' + "9" * 5000), "not valid JSON"),
        (resealed('"agreement":95.0', '"agreement":95.0,"agreement":95.0'), "every key once"),
        (resealed('"agreement":95.0', '"agreement": 95.0'), "not as kdzoo writes it"),
        (TEXT.rstrip("\n"), "not as kdzoo writes it"),
        (TEXT + TEXT, "not valid JSON"),
        (TEXT + " " * MOST_JSON_BYTES, "larger than 1,048,576 bytes"),
        (changed(record_schema=SCHEMA + 1), "newer kdzoo"),
        (changed(record_schema=-1.5), "not a kdzoo record"),
        (changed(id="../../../../etc/passwd"), "not the hash of the cell"),
        (changed(id="x" * 100_000), "record: the id 'x+\\.\\.\\.$"),
        (changed(**{"\x1b[31m\n" + "k" * 10_000: 1}), "."),
        (changed(status="done", test=None), "a done record needs test"),
        (TEXT.replace('"seed":1', '"seed":2'), "not the hash of the cell"),
        (TEXT.replace('"top1":90.0', '"top1":100.1'), "top-1 cannot be 100.1"),
    ],
)
def test_a_bad_file_is_one_line(content: str | bytes, reason: str, tmp_path: Path) -> None:
    put(tmp_path, content)
    lines = told(tmp_path)
    assert len(lines) == 1
    assert re.match(rf"{re.escape(str(PLACE))}: .*{reason}", lines[0])
    assert read_leaderboard(tmp_path).records == ()


def test_no_mutation_of_a_record_raises_or_passes_for_another(tmp_path: Path) -> None:
    draw = random.Random(0)
    good = TEXT.encode()
    for _ in range(400):
        bad = bytearray(good)
        for _ in range(draw.randrange(1, 4)):
            place = draw.randrange(len(bad))
            match draw.randrange(4):
                case 0:
                    bad[place] = draw.randrange(256)
                case 1:
                    del bad[place : place + draw.randrange(1, 40)]
                case 2:
                    bad[place:place] = bad[place : place + draw.randrange(1, 40)]
                case _:
                    bad[place:place] = draw.choice([b"NaN", b'"', b"{", b"]", b"\\u0000", b"-", b"1e99", b"\x80"])
        put(tmp_path, bytes(bad))
        faults, found = told(tmp_path), read_leaderboard(tmp_path).records
        assert len(faults) + len(found) == 1
        assert all(record.to_json().encode() == bytes(bad) for record in found)


def test_a_record_in_a_wrong_place_is_told_with_the_right_one(tmp_path: Path) -> None:
    put(tmp_path, TEXT, PLACE.with_name("0123456789abcdef.json"))
    assert told(tmp_path) == [
        f"records/digits/resnet10t--test_resnet/0123456789abcdef.json: is misplaced: it belongs at {PLACE}"
    ]
    put(tmp_path, TEXT)
    put(tmp_path, TEXT, PurePosixPath("records/other/a--b", PLACE.name))
    assert [line.partition(": ")[2] for line in told(tmp_path)] == [
        f"is misplaced: it belongs at {PLACE}, and is there too"
    ] * 2
    assert read_leaderboard(tmp_path).records == (RECORD,)


@pytest.mark.parametrize(
    "path",
    [
        "notes.txt",
        ".git",
        "records/readme.md",
        "records/digits/x.json",
        "records/digits/a--b/x.txt",
        "records/digits/a--b/studies/x.md",
        "digits/page.html",
        "digits/plots/x.js",
        "records/board.md",
        "bo\x1b[31mard\n.md",
    ],
)
def test_a_file_of_no_use_is_a_fault(path: str, tmp_path: Path) -> None:
    put(tmp_path, "x", PurePosixPath(path))
    lines = told(tmp_path)
    assert len(lines) == 1
    assert lines[0].endswith(": is neither a record nor made from records; move it away")


@pytest.mark.parametrize("path", ["digits/deep/er", "records/digits/a--b/x.json/y", "records/digits/teachers/studies"])
def test_a_folder_where_none_belongs_is_not_entered(path: str, tmp_path: Path) -> None:
    (tmp_path / path).mkdir(parents=True)
    (tmp_path / path / "x.json").write_text("x")
    lines = told(tmp_path)
    assert len(lines) == 1
    assert lines[0].endswith(": is a folder where none belongs")


def test_links_and_pipes_are_not_followed(tmp_path: Path) -> None:
    outside = put(tmp_path / "outside", TEXT)
    folder = tmp_path / "board"
    (folder / PLACE).parent.mkdir(parents=True)
    (folder / PLACE).symlink_to(outside)
    (folder / "digits").symlink_to(tmp_path / "outside", target_is_directory=True)
    (folder / "records" / "loop").symlink_to(folder / "records", target_is_directory=True)
    os.mkfifo(folder / PLACE.parent / "pipe.json")
    assert told(folder) == [
        "digits: is a symbolic link, which is not followed",
        f"{PLACE}: is a symbolic link, which is not followed",
        f"{PLACE.parent}/pipe.json: is no plain file",
        "records/loop: is a symbolic link, which is not followed",
    ]


def test_a_folder_of_too_many_files_is_cut_off(tmp_path: Path) -> None:
    for number in range(6):
        put(tmp_path, "x", PurePosixPath(f"{number}"))
    faults: list[Any] = []
    assert len(walk(tmp_path, lambda _: True, faults, most=4)) == 4
    assert [fault.reason for fault in faults] == ["the folder holds more than 4 files, and the rest is not read"]


def test_what_a_killed_process_left_is_nobodys_record(tmp_path: Path) -> None:
    left = put(tmp_path, "half", PLACE.with_name(f".{PLACE.name}.123.0a1b2c3d"))
    found = read_leaderboard(tmp_path)
    assert [tmp_path / path for path in found.others] == [left]
    assert (found.records, found.faults) == ((), ())


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_what_may_not_be_read_is_told(tmp_path: Path) -> None:
    put(tmp_path, TEXT).chmod(0)
    assert told(tmp_path) == [f"{PLACE}: cannot be read (permission denied)"]


@pytest.mark.parametrize("name", ["../../etc", "<script>alert(1)</script>", "=1+1", "a\x1b[31mb", "x" * 5000, "\u202e"])
def test_a_hostile_name_is_only_a_name(name: str, tmp_path: Path) -> None:
    hostile = make_record(make_cell("soft", data=DATA.model_copy(update={"name": name})))
    path = put(tmp_path, hostile.to_json(), path_of_record(hostile)).resolve()
    assert path.is_relative_to(tmp_path.resolve())
    assert read_leaderboard(tmp_path).records == (hostile,)


def test_a_curve_is_no_longer_than_its_training(tmp_path: Path) -> None:
    record, study = make_record(make_cell("soft")), make_study("soft", [50.0, 60.0])
    line = record.curve[0]
    long = record.model_copy(update={"curve": tuple(line.model_copy(update={"epoch": n}) for n in range(3))})
    trial = study.trials[1].model_copy(update={"curve": (9.0,) * 400})
    with blank_drawings():
        made = make_folder(tmp_path / "board", [long], [study.model_copy(update={"trials": (study.trials[0], trial)})])
    found = read_leaderboard(made)
    assert (found.records, found.studies) == ((), ())
    assert [one.reason for one in found.faults] == [
        "has a curve of 3 lines, and its recipe 2 epochs",
        "trial 1 has a curve of 400 lines, and a trial 1 epochs",
    ]
