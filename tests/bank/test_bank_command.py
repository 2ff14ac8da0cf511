"""``kdzoo bank``, and the flags of a bench, on the command line."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from kdzoo.cli import app
from kdzoo.config import load_bench, parse_bytes

BENCH = shlex.split(
    "bench --strategies soft,rkd --teacher test_resnet --student test_efficientnet --dataset 'digits[:120]' "
    "--img-size 16 --teacher-epochs 8 --epochs 2 --seeds 2 --device cpu --set recipe.batch_size=16 "
    "--set recipe.lr=0.02 --bank disk"
)


def call(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(each) for each in arguments])


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A store after a bench with a bank on disk, and what the bench printed."""
    out = tmp_path_factory.mktemp("filled") / "runs"
    return out, call(*BENCH, "--out", out)


def test_a_bench_says_in_one_line_what_it_keeps(filled: tuple[Path, Any]) -> None:
    out, told = filled
    assert told.exit_code == 0, told.output
    (line,) = [line for line in told.stderr.splitlines() if line.startswith("bank:")]
    assert re.fullmatch(
        r"bank: disk, 2 views x 108 samples of test_resnet on digits\[:120\], logits \+ embedding, [\d.]+ KiB, saves "
        r"about [\d.]+ s of [\d.]+ s of teacher time \(4 cells\)",
        line,
    )
    records = [json.loads(path.read_bytes()) for path in out.glob("cells/*/record.json")]
    read = {each["cell"]["strategy"]["name"]: each["environment"]["bank"] for each in records}
    assert read == {"ce": "", "soft": "disk: logits float32", "rkd": "disk: embedding float16"}


def test_ls_lists_signals_views_and_bytes(filled: tuple[Path, Any]) -> None:
    told = call("bank", "ls", "--out", filled[0])
    assert told.exit_code == 0, told.output
    head, rule, first, second, _, total = told.stdout.splitlines()
    assert head.split() == ["key", "teacher", "dataset", "signal", "shape", "type", "views", "size"]
    assert set(rule) == {"-", " "}
    key = r"[0-9a-f]{16} +"
    assert re.fullmatch(key + r"test_resnet +digits\[:120\] +embedding +\d+ +float16 +2 +[\d.]+ KiB", first)
    assert re.fullmatch(key + r"test_resnet +digits\[:120\] +logits +10 +float32 +2 +[\d.]+ KiB", second)
    assert total.endswith(f"in {filled[0] / 'bank'}")


def test_verify_finds_what_is_not_whole(filled: tuple[Path, Any], tmp_path: Path) -> None:
    import shutil

    out = tmp_path / "runs"
    shutil.copytree(filled[0], out)
    told = call("bank", "verify", "--out", out)
    assert (told.exit_code, told.stdout) == (0, "4 views: all intact\n")
    first, second, *_ = sorted(out.glob("bank/*/view-*.bin"))
    first.write_bytes(first.read_bytes()[:-1])
    second.with_suffix(".json").write_text("{}")
    facts = first.parent / "entry.json"
    facts.write_text("junk")
    told = call("bank", "verify", "--out", out)
    assert told.exit_code == 1
    assert told.stdout.splitlines() == [
        f"{facts}: it is damaged, and so `kdzoo bank ls` cannot say what this is",
        f"{first}: 1 of 1 blocks are cut or damaged",
        f"{second.with_suffix('.json')}: the index is damaged",
        "4 views: 3 files are damaged",
    ]


def entries(runs: Path) -> list[str]:
    return sorted(path.name for path in (runs / "bank").iterdir() if path.is_dir())


def test_rm_removes_by_key_and_all(filled: tuple[Path, Any], tmp_path: Path) -> None:
    import shutil

    out = tmp_path / "runs"
    shutil.copytree(filled[0], out)
    keys = entries(out)
    told = call("bank", "rm", keys[0][:8], "--out", out)
    assert told.exit_code == 0
    assert re.fullmatch(r"removed [\d.]+ KiB\n", told.stdout)
    assert entries(out) == keys[1:]
    assert list((out / "bank").glob("kept-*.json"))
    assert call("bank", "rm", "--all", "--out", out).exit_code == 0
    assert not list((out / "bank").iterdir())
    assert call("bank", "ls", "--out", out).stdout == "the bank is empty\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give the keys to remove (`kdzoo bank ls` lists them), or --all"),
        (["0", "--all"], "give the keys to remove"),
        ([""], "an empty key matches everything"),
        (["nonsense"], "unknown key of the bank 'nonsense'"),
    ],
)
def test_rm_removes_nothing_that_was_not_named(arguments: list[str], message: str, filled: tuple[Path, Any]) -> None:
    told = call("bank", "rm", *arguments, "--out", filled[0])
    assert told.exit_code != 0
    assert message in str(told.exception)
    assert len(entries(filled[0])) == 2


def test_a_folder_that_is_no_store_is_refused(tmp_path: Path) -> None:
    assert "is not a store of runs" in str(call("bank", "ls", "--out", tmp_path).exception)


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("bank", "tape", "--bank must be 'auto', 'off', 'ram' or 'disk', not 'tape'"),
        ("bank_budget", "much", "--bank-budget must be a size such as 4GiB or 500MB, not 'much'"),
        ("bank_budget", "0", "--bank-budget must be a size such as 4GiB or 500MB, not '0'"),
        ("bank_dtype", "int8", "--bank-dtype must be 'float16', 'bfloat16' or 'float32', not 'int8'"),
        ("views", -1, "--views must be at least 0, not -1"),
    ],
)
def test_wrong_flags_are_told(flag: str, value: Any, message: str) -> None:
    with pytest.raises(Exception, match=re.escape(message)):
        load_bench("quick", {flag: value})


@pytest.mark.parametrize(("text", "count"), [("4GiB", 2**32), ("500MB", 500_000_000), ("1.5 KiB", 1536), (7, 7)])
def test_sizes_are_read(text: Any, count: int) -> None:
    assert parse_bytes(text) == count


def test_a_bench_file_may_turn_the_bank_off(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text("strategies: soft\ndataset: digits\nteacher: a\nstudent: b\nbank: off\n")
    assert load_bench(str(tmp_path / "b.yaml"), {}).bank == "off"
