from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image


def states(out: str) -> dict[str, str]:
    """The state of each cell by its first word or two."""
    table = out.split("cell ")[1].splitlines()[2:]
    rows = [line.split() for line in table[: table.index("")]]
    return {row[2]: row[1] for row in rows}


def test_shows_pairs_and_cells_and_writes_nothing(
    kdzoo: Callable[..., Any], small: tuple[Any, ...], tmp_path: Path
) -> None:
    result = kdzoo(*small, "--strategies", "plain,picky", "--dry-run")
    assert result.code == 0
    assert list(tmp_path.iterdir()) == []
    assert states(result.out) == {"teacher": "new", "ce": "new", "plain": "new"}
    assert result.out.endswith("\n3 cells: 3 new\n")
    assert "on shades (1 x 8 x 8)" in result.out
    assert re.search(r"1 +stage 5: 96 x 1 x 1 +stage 1: 16 x 2 x 2", result.out)
    assert "quick+batch_size=8+epochs=2" in result.out
    assert "116.95x" in result.out
    assert result.err.startswith("warning: picky cannot serve test_resnet -> ")


def test_shows_how_far_each_cell_is(
    kdzoo: Callable[..., Any], small: tuple[Any, ...], mixed: tuple[Path, Any], tmp_path: Path
) -> None:
    runs = Path(shutil.copytree(mixed[0], tmp_path / "runs"))
    arguments = (*small, "--strategies", "plain,clumsy,wild,soft", "--out", runs, "--dry-run")
    before = {path: path.read_bytes() for path in runs.rglob("*") if path.is_file()}
    first = kdzoo(*arguments)
    assert first.code == 0
    assert states(first.out) == {
        "teacher": "done", "ce": "done", "plain": "done", "clumsy": "failed", "wild": "failed", "soft": "new",
    }  # fmt: skip
    assert first.out.endswith("\n6 cells: 3 done, 2 failed, 1 new\n")
    assert {path: path.read_bytes() for path in runs.rglob("*") if path.is_file()} == before

    cell = next(line.split()[0] for line in first.out.splitlines() if " soft " in line)
    (runs / "cells" / cell).mkdir()
    (runs / "cells" / cell / "checkpoint-00001.pt").touch()
    assert states(kdzoo(*arguments).out)["soft"] == "started"


def test_shows_the_same_ids_as_the_bench_makes(
    kdzoo: Callable[..., Any], small: tuple[Any, ...], mixed: tuple[Path, Any]
) -> None:
    result = kdzoo(*small, "--strategies", "plain,clumsy,wild", "--dry-run")
    made = {path.parent.name for path in mixed[0].glob("cells/*/record.json")}
    shown = {line.split()[0] for line in result.out.splitlines() if " new " in line}
    assert shown == made


def test_says_what_a_fingerprint_trusts_and_what_of_the_data_is_odd(
    kdzoo: Callable[..., Any], small: tuple[Any, ...], tmp_path: Path
) -> None:
    result = kdzoo(*small, "--strategies", "plain", "--dry-run")
    assert re.search(r"\nshades has the fingerprint [0-9a-f]{16} \(of every pixel and label\)\n", result.out)
    for number in range(8):
        for split in ("train", "test"):
            folder = tmp_path / "pets" / split / ("cat", "dog")[number % 2]
            folder.mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 8), number).save(folder / f"{number}.png")
    (tmp_path / "pets/test/cat/list.txt").touch()
    result = kdzoo(*small, "--strategies", "plain", "--dry-run", "--dataset", f"folder:{tmp_path}/pets")
    trusted = "of the files' contents; a file with its old size, times and inode is not read again"
    assert re.search(rf"\nfolder:pets has the fingerprint [0-9a-f]{{16}} \({trusted}\)\n", result.out)
    assert "note: folder:pets: test has files that are not read: .txt (1)\n" in result.err
