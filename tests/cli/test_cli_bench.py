"""`kdzoo bench` from the command to the board, on a dataset that is learnt in a second."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kdzoo.cli.dryrun import show_next
from kdzoo.config import load_bench
from kdzoo.record_parts import NAMED


@pytest.fixture
def copied(mixed: tuple[Path, Any], tmp_path: Path) -> Path:
    """The store of the mixed bench, to be changed."""
    return Path(shutil.copytree(mixed[0], tmp_path / "runs"))


MIXED = ("--strategies", "plain,picky,clumsy,wild")


def test_a_strategy_that_cannot_serve_is_named_before_anything_trains(mixed: tuple[Path, Any]) -> None:
    first, clumsy, *rest = mixed[1].err.splitlines()
    warning = "warning: picky cannot serve test_resnet -> test_vit:"
    assert first.startswith(warning)
    assert first.endswith("on shades: picky wants a teacher with a thousand stages")
    assert clumsy.startswith("warning: clumsy breaks on test_resnet -> test_vit:")
    assert re.search(r"on shades: RuntimeError: clumsy dropped the batch \(toys\.py:\d+\)$", clumsy)
    assert rest[0].startswith("[1/5] teacher test_resnet on shades: ")
    assert rest[-1] == first


def test_the_others_run_and_each_failure_has_its_reason(
    mixed: tuple[Path, Any], records: Callable[[Path], dict[str, Any]]
) -> None:
    out, result = mixed
    found = records(out)
    assert result.code == 1
    assert {name: each["status"] for name, each in found.items()} == {
        "teacher": "done", "ce": "done", "plain": "done", "clumsy": "failed", "wild": "failed",
    }  # fmt: skip
    assert re.fullmatch(r"RuntimeError: clumsy dropped the batch \(toys\.py:\d+\)", found["clumsy"]["reason"])
    assert 'raise RuntimeError("clumsy dropped the batch")' in found["clumsy"]["traceback"]
    assert "the term 'wild' was NaN or infinite from step 1 of 9" in found["wild"]["reason"]
    for name in ("clumsy", "wild"):
        assert f"file:{name}, seed 0: {found[name]['reason']}" in " ".join(result.out.split())
        assert f"FAILED: {found[name]['reason']}" in result.err
    assert not list(out.glob("cells/*/checkpoint-*"))


def test_progress_is_plain_lines_where_there_is_no_terminal(mixed: tuple[Path, Any]) -> None:
    lines = mixed[1].err.splitlines()
    told = [line for line in lines if line.startswith("[")]
    assert [line.split("]")[0] for line in told] == [f"[{number}/5" for number in range(1, 6)]
    assert "\x1b" not in mixed[1].err + mixed[1].out
    assert "100.00% on test" in told[0]


def test_a_record_says_who_brought_the_strategy(
    mixed: tuple[Path, Any], toys: Path, records: Callable[[Path], dict[str, Any]]
) -> None:
    found = records(mixed[0])
    revision = found["plain"]["cell"]["strategy"]["revision"]
    assert found["plain"]["cell"]["strategy"] == {
        "name": "plain", "distribution": "file", "revision": revision, "params": {"weight": 0.01},
    }  # fmt: skip
    assert found["plain"]["environment"]["versions"]["file"] == revision
    versions = found["ce"]["environment"]["versions"]
    assert {"kdzoo", "torch", "timm", "python"} <= set(versions)
    assert found["ce"]["cell"]["strategy"]["distribution"] == "kdzoo"
    assert found["plain"]["command"].startswith(f"kdzoo bench --plugin {toys} --dataset shades ")


def test_a_command_in_a_record_can_be_pasted(
    kdzoo: Callable[..., Any], small: tuple[Any, ...], records: Callable[[Path], dict[str, Any]]
) -> None:
    assert kdzoo(*small, "--strategies", "ce", "--dataset", "shades[:64]", "--epochs", 1, "--out", "my runs").code == 0
    assert records(Path("my runs"))["ce"]["command"].endswith("--dataset 'shades[:64]' --epochs 1 --out 'my runs'")


def test_the_second_time_every_cell_is_found_done(
    kdzoo: Callable[..., Any], small: tuple[Any, ...], tmp_path: Path, starts: Callable[[Path], list[str]]
) -> None:
    first = kdzoo(*small, "--strategies", "plain", "--out", "runs")
    assert first.code == 0
    events = (tmp_path / "runs" / "events.jsonl").read_bytes()
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/cells/*/*")}
    second = kdzoo(*small, "--strategies", "plain", "--out", "runs")
    assert (second.code, second.out) == (0, first.out)
    assert second.err == "3 of 3 cells were already done\n"
    assert (tmp_path / "runs" / "events.jsonl").read_bytes() == events
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/cells/*/*")} == kept
    assert len(starts(tmp_path / "runs")) == 3


def test_the_board_command_prints_the_same_bytes(kdzoo: Callable[..., Any], mixed: tuple[Path, Any]) -> None:
    board = kdzoo("board", "--out", mixed[0])
    assert (board.code, board.out, board.err) == (0, mixed[1].out, "")


@pytest.mark.parametrize(
    ("rerun", "again"),
    [("never", []), ("failed", ["clumsy", "wild"]), ("always", ["teacher", "ce", "plain", "clumsy", "wild"])],
)
def test_rerun_says_which_finished_cells_run_again(
    rerun: str,
    again: list[str],
    copied: Path,
    kdzoo: Callable[..., Any],
    small: tuple[Any, ...],
    records: Callable[[Path], dict[str, Any]],
    starts: Callable[[Path], list[str]],
) -> None:
    before = records(copied)
    result = kdzoo(*small, *MIXED, "--out", copied, "--rerun", rerun)
    assert result.code == 1
    assert starts(copied)[5:] == [before[name]["id"] for name in again]
    after = records(copied)
    assert {name for name in after if after[name] != before[name]} == set(again)
    for name in ("teacher", "ce", "plain"):
        assert {key: after[name][key] for key in ("curve", "test", "tune")} == {
            key: before[name][key] for key in ("curve", "test", "tune")
        }


def test_failed_cells_run_again_unless_told_otherwise(
    copied: Path, kdzoo: Callable[..., Any], small: tuple[Any, ...], starts: Callable[[Path], list[str]]
) -> None:
    kdzoo(*small, *MIXED, "--out", copied)
    assert len(starts(copied)) == 5 + 2


def test_a_newer_record_is_told_before_anything_trains_and_left(
    copied: Path,
    kdzoo: Callable[..., Any],
    small: tuple[Any, ...],
    records: Callable[[Path], dict[str, Any]],
    starts: Callable[[Path], list[str]],
) -> None:
    path = copied / "cells" / records(copied)["plain"]["id"] / "record.json"
    newer = path.read_bytes().replace(b'"record_schema":%d' % NAMED, b'"record_schema":99')
    path.write_bytes(newer)
    for options in (["--rerun", "always"], ["--dry-run"]):
        result = kdzoo(*small, *MIXED, "--out", copied, *options)
        assert result.code == 2
        assert f"error: {path}: written by a newer kdzoo" in result.err
    board = kdzoo("board", "--out", copied)
    assert board.code == 1
    assert f"warning: left out: {path}: written by a newer kdzoo" in board.err
    assert "file:wild" in board.out
    assert path.read_bytes() == newer
    assert len(starts(copied)) == 5


def test_a_damaged_record_is_told_and_its_cell_alone_is_trained_again(
    copied: Path,
    kdzoo: Callable[..., Any],
    small: tuple[Any, ...],
    records: Callable[[Path], dict[str, Any]],
    starts: Callable[[Path], list[str]],
) -> None:
    cell = records(copied)["plain"]["id"]
    path = copied / "cells" / cell / "record.json"
    damage = path.read_bytes()[:100]
    path.write_bytes(damage)
    options = (*small, *MIXED, "--out", copied, "--rerun", "never")
    assert f"{cell}  damaged" in kdzoo(*options, "--dry-run").out
    board = kdzoo("board", "--out", copied)
    assert board.code == 1
    assert f"warning: left out: {path}: not valid JSON" in board.err
    assert "file:wild" in board.out
    assert path.read_bytes() == damage
    again = kdzoo(*options)
    assert again.code == 1  # as before: a strategy of this bench cannot serve its pair
    assert f"{path}: not valid JSON" in again.err
    assert starts(copied)[5:] == [cell]
    assert path.with_name("record.json.damaged-1").read_bytes() == damage
    assert kdzoo("board", "--out", copied).code == 0


def test_flags_and_file_make_one_bench(
    kdzoo: Callable[..., Any], toys: Path, tmp_path: Path, records: Callable[[Path], dict[str, Any]]
) -> None:
    (tmp_path / "b.yaml").write_text(
        "strategies: [plain]\ndataset: shades\npairs: [[resnet50, resnet18]]\nseeds: 1\nepochs: 9\nrecipe: r.yaml\n"
        "teacher_epochs: 3\nset: {plain.weight: 0.5, recipe.lr: 0.01}\nout: kept\ndevice: cpu\n"
    )
    (tmp_path / "r.yaml").write_text("name: mine\nepochs: 7\nbatch_size: 8\nweight_decay: 5e-4\n")
    student = "test_vit:patch_size=4:depth=1:embed_dim=16:num_heads=1"
    flags = ("--teacher", "test_resnet", "--student", student, "--epochs", 2, "--set", "plain.weight=2e-2")
    result = kdzoo("bench", "--config", "b.yaml", "--plugin", toys, *flags)
    assert result.code == 0, result.err
    plain = records(tmp_path / "kept")["plain"]["cell"]
    assert plain["student"] == {
        "name": "test_vit", "args": {"depth": 1, "embed_dim": 16, "num_heads": 1, "patch_size": 4},
    }  # fmt: skip
    assert plain["teacher"]["model"]["name"] == "test_resnet"
    assert (plain["teacher"]["recipe"]["epochs"], plain["recipe"]["epochs"]) == (3, 2)
    assert (plain["recipe"]["lr"], plain["recipe"]["weight_decay"], plain["recipe"]["batch_size"]) == (0.01, 5e-4, 8)
    assert plain["strategy"]["params"] == {"weight": 0.02}
    assert plain["recipe"]["name"] == "mine+epochs=2+lr=0.01"


def test_comma_lists_make_a_matrix(kdzoo: Callable[..., Any], small: tuple[Any, ...]) -> None:
    lists = ("--teacher", "test_resnet,resnet10t", "--student", "test_vit:patch_size=4,test_resnet")
    result = kdzoo(
        *small, *lists, "--dataset", "shades, shades[:60]", "--strategies", "plain,soft", "--seeds", 2, "--dry-run"
    )
    assert result.code == 0
    # 2 datasets x (2 teachers to train + 2 x 2 pairs x 3 strategies x 2 seeds)
    assert result.out.endswith(f"\n{2 * (2 + 4 * 3 * 2)} cells: 52 new\n")


def test_a_pair_that_no_strategy_serves_trains_nothing(
    kdzoo: Callable[..., Any], small: tuple[Any, ...], tmp_path: Path
) -> None:
    result = kdzoo(*small, "--strategies", "picky")
    assert result.code == 2
    assert result.err.splitlines()[-1] == "error: no strategy of this bench can serve its pairs"
    assert list(tmp_path.iterdir()) == []


def test_a_teacher_that_knows_nothing_is_no_teacher(
    kdzoo: Callable[..., Any], small: tuple[Any, ...], records: Callable[[Path], dict[str, Any]]
) -> None:
    result = kdzoo(*small, "--strategies", "plain", "--set", "recipe.lr=1e-12")
    assert result.code == 1
    found = records(Path("runs"))
    assert found["teacher"]["status"] == "done"
    for name in ("ce", "plain"):
        assert found[name]["status"] == "failed"
        reason = found[name]["reason"]
        assert "no better than chance (50.0%, its own guesses in random order); train it longer" in reason
        assert "(--trust-teacher)" in reason


def test_a_teacher_that_somebody_vouches_for_teaches(
    kdzoo: Callable[..., Any], small: tuple[Any, ...], toys: Path, records: Callable[[Path], dict[str, Any]]
) -> None:
    asked = (*small, "--strategies", "plain", "--set", "recipe.lr=1e-12")
    result = kdzoo(*asked, "--trust-teacher", "--out", "one")
    assert result.code == 0
    assert "it is used anyway, because of --trust-teacher" in result.err + result.out
    assert "not above chance, accepted by --trust-teacher" in " ".join(result.out.split())
    found = records(Path("one"))
    assert [found[name]["teacher"]["vouched"] for name in ("ce", "plain")] == [True, True]
    # The flag is no part of the plan: each cell is vouched for where it is run.
    assert kdzoo(*asked, "--plan", "--out", "two").code == 0
    cell = found["plain"]["id"]
    missing = kdzoo("run-cell", cell, "--out", "two", "--plugin", "none.py")
    assert (missing.code, missing.err) == (2, "error: --plugin none.py cannot be read: no such file or directory\n")
    refused = kdzoo("run-cell", cell, "--out", "two", "--plugin", toys)
    assert refused.code == 1
    assert "or use it anyway (--trust-teacher)" in refused.out
    assert kdzoo("run-cell", cell, "--out", "two", "--plugin", toys, "--trust-teacher").code == 0
    assert records(Path("two"))["plain"]["teacher"] == found["plain"]["teacher"]


def test_the_board_can_be_had_as_json(kdzoo: Callable[..., Any], mixed: tuple[Path, Any]) -> None:
    board = kdzoo("board", "--out", mixed[0], "--format", "json")
    rows = json.loads(board.out)["groups"][0]["rows"]
    assert {row["strategy"]: (row["seeds"], row["failed"]) for row in rows} == {
        "ce": (1, 0), "file:plain": (1, 0), "file:clumsy": (1, 1), "file:wild": (1, 1),
    }  # fmt: skip


def test_a_plan_is_written_or_only_shown(kdzoo: Callable[..., Any], small: tuple[Any, ...], tmp_path: Path) -> None:
    out = tmp_path / "runs"
    both = kdzoo(*small, "--plan", "--dry-run", "--out", out)
    assert both.code == 2
    assert "give one of them" in both.err
    assert not out.exists()
    plan = kdzoo(*small, "--plan", "--out", out)
    assert plan.code == 0
    assert plan.out.splitlines()[-1] == f"Cells are written to {out}: `kdzoo run-cell ID --out {out}` trains them."
    assert list((out / "cells").glob("*/cell.json"))


def test_a_bench_ends_with_what_could_be_done_next(
    kdzoo: Callable[..., Any], small: tuple[Any, ...], mixed: tuple[Path, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    result = kdzoo(*small, "--strategies", "ce", "--epochs", 1)
    assert [line[:9] for line in result.err.splitlines()[-3:]] == ["next  the", "      the", "      you"]
    assert "next" not in result.out  # the board alone can be piped
    assert "next  " not in mixed[1].err  # what went wrong comes last there
    show_next(load_bench("quick", {}))
    proposed = capsys.readouterr().err
    assert re.findall(r"--(?:seeds \d+|tune \d+|dataset folder:PATH)", proposed) == [
        "--seeds 10", "--tune 15", "--dataset folder:PATH",
    ]  # fmt: skip
    show_next(load_bench("quick", {"seeds": 10, "tune": 3}))
    assert re.findall(r"--(?:seeds \d+|tune \d+|dataset folder:PATH)", capsys.readouterr().err) == [
        "--dataset folder:PATH"
    ]
