"""Tuning from the command line: the study, the board with both rows, and what is wrong told in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from kdzoo.store import Store

TOY = '''
from kdzoo import Strategy, param


class Nudge(Strategy):
    """The mean squared difference of the logits."""

    name = "nudge"
    weight: float = param(0.01, "of the term", ge=0, search=(0.001, 1.0), log=True)

    def forward(self, student, teacher, batch):
        return {"mse": self.weight * (student.logits - teacher.logits).square().mean()}
'''


@pytest.fixture(scope="module")
def nudge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("nudge") / "nudge.py"
    path.write_text(TOY)
    return path


@pytest.fixture(scope="module")
def tuned(
    tmp_path_factory: pytest.TempPathFactory, kdzoo: Callable[..., Any], small: tuple[Any, ...], nudge: Path
) -> tuple[Path, tuple[Any, ...], Any]:
    """A folder of runs, the arguments, and what the bench said."""
    out = tmp_path_factory.mktemp("tuned") / "runs"
    arguments = (*small, "--plugin", nudge, "--strategies", "nudge", "--tune", 3, "--tune-epochs", 1, "--out", out)
    return out, arguments, kdzoo(*arguments)


def test_the_board_has_the_default_and_the_tuned_row(tuned: tuple[Path, Any, Any]) -> None:
    out, _, result = tuned
    assert result.code == 0, result.err
    assert "nudge (default)" in result.out or "nudge default" in result.out
    assert "tuned" in result.out
    assert "3 trials" in result.out
    assert result.err.count("trial of nudge") == 3
    assert "% on tune" in result.err
    studies, problems = Store.open(out).readable_studies()
    assert problems == []
    (study,) = studies
    assert study.finished
    assert study.best is not None
    assert f"weight={study.best.values['nudge.weight']:.4g}" in result.out


def test_the_same_command_finds_all_of_it(kdzoo: Callable[..., Any], tuned: tuple[Path, Any, Any]) -> None:
    _, arguments, first = tuned
    again = kdzoo(*arguments)
    assert again.out == first.out
    assert "trial of" not in again.err
    assert "were already done" in again.err


def test_nothing_is_compiled_where_all_is_done(
    kdzoo: Callable[..., Any], tuned: tuple[Path, Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch, "compile", refuse)
    _, arguments, first = tuned
    again = kdzoo(*arguments, "--compile")
    assert (again.code, again.out) == (first.code, first.out)
    more = kdzoo(*arguments, "--compile", "--seeds", 2)
    assert more.code == 2
    assert "--compile: torch.compile does not work here (no compiler)" in more.err


def test_tune_alone_runs_no_final_cell(
    kdzoo: Callable[..., Any], small: tuple[Any, ...], nudge: Path, tuned: tuple[Path, Any, Any]
) -> None:
    options = (*small[1:], "--plugin", nudge, "--strategies", "nudge", "--trials", 3, "--tune-epochs", 1)
    result = kdzoo("tune", *options, "--out", "alone")
    assert result.code == 0, result.err
    kinds = [cell.kind for cell in Store.open(Path("alone")).planned()]
    assert sorted(kinds) == ["teacher", "trial", "trial", "trial"]
    assert "nudge.weight" in result.out
    assert "top-1" in result.out
    (mine,), _ = Store.open(Path("alone")).readable_studies()
    (other,), _ = Store.open(tuned[0]).readable_studies()
    assert [trial.values for trial in mine.trials] == [trial.values for trial in other.trials]
    assert "finished before" not in result.err
    again = kdzoo("tune", *options, "--out", "alone")
    assert again.out == result.out
    assert "These studies were already finished, so nothing was run." in again.err
    shown = kdzoo("tune", "--show", "--out", "alone")
    assert shown.out == result.out
    drawn = kdzoo("tune", "--out", "alone", "--plot", "plots")
    assert drawn.code == 0, drawn.err
    assert drawn.out == shown.out
    assert [cell.kind for cell in Store.open(Path("alone")).planned()] == kinds
    names = {path.suffix for path in Path("plots").iterdir()}
    assert names == {".svg", ".png"}
    assert drawn.err.count("wrote plots/") == len(list(Path("plots").iterdir()))


def test_studies_are_shown_by_name_and_nothing_of_a_run_is_taken(
    kdzoo: Callable[..., Any], tuned: tuple[Path, Any, Any]
) -> None:
    out = tuned[0]
    every = kdzoo("tune", "--show", "--out", out)
    assert kdzoo("tune", "--show", "--out", out, "--strategies", "nudge").out == every.out
    other = kdzoo("tune", "--show", "--out", out, "--strategies", "soft")
    assert (other.code, other.out) == (2, "")
    assert "unknown strategy of a study here 'soft'" in other.err
    assert "nudge" in other.err
    for flags, told in (
        (["--show", "--trials", 4], "--trials says how to run a bench, but --show runs nothing"),
        (["--plot", "plots", "--dry-run"], "--dry-run says how to run a bench, but --plot runs nothing"),
        (["--show", "--epochs", 3, "--seeds", 2], "--seeds, --epochs say how to run"),
    ):
        refused = kdzoo("tune", "--out", out, *flags)
        assert refused.code == 2
        assert told in refused.err
        assert refused.err.count("\n") == 1
    assert not Path("plots").exists()


def test_a_dry_run_counts_trials_and_winners(kdzoo: Callable[..., Any], small: tuple[Any, ...], nudge: Path) -> None:
    options = (*small[1:], "--plugin", nudge, "--strategies", "nudge", "--trials", 3, "--tune-epochs", 1, "--dry-run")
    # A teacher, ce and nudge with their seeds; three trials; a winner with as many seeds.
    shown = kdzoo("bench", *options, "--seeds", 2)
    assert shown.out.endswith(
        "5 cells: 5 new; tuning adds 3 trials and at most 2 cells for winners: 10 in total, finished cells included\n"
    )
    alone = kdzoo("tune", *options, "--seeds", 2)
    assert alone.out.endswith("1 cell: 1 new; tuning adds 3 trials: 4 in total, finished cells included\n")


def test_ends_of_a_range_that_a_pair_cannot_have_are_refused(kdzoo: Callable[..., Any], small: tuple[Any, ...]) -> None:
    options = (*small[1:], "--strategies", "fitnets", "--trials", 2, "--tune-epochs", 1, "--out", "lost")
    for flags in ([], ["--dry-run"]):
        for text, told in (
            ("fitnets.stage=1:99", "search fitnets.stage=1:99: 99 cannot be tried on "),
            ("fitnets.hint_epochs=0:1", "search fitnets.hint_epochs=0:1: 1 cannot be tried on "),
        ):
            refused = kdzoo("bench", *options, "--search", text, *flags)
            assert refused.code == 2
            assert refused.err.startswith(f"error: {told}")
            assert refused.err.count("\n") == 1
    assert not Path("lost").exists()


def test_a_dry_run_shows_the_studies(kdzoo: Callable[..., Any], tuned: tuple[Path, Any, Any]) -> None:
    out, arguments, _ = tuned
    before = sorted(path.name for path in out.rglob("*"))
    result = kdzoo(*arguments, "--dry-run")
    assert result.code == 0
    assert "3/3" in result.out
    assert "nudge.weight=0.001:1:log" in result.out
    assert sorted(path.name for path in out.rglob("*")) == before
    fresh = kdzoo(*arguments[:-1], "nowhere", "--dry-run")
    assert "0/3" in fresh.out
    assert not Path("nowhere").exists()


def test_a_damaged_study_is_left_out_when_read_and_made_again_when_run(
    kdzoo: Callable[..., Any], small: tuple[Any, ...], nudge: Path
) -> None:
    asked = ("--plugin", nudge, "--strategies", "nudge", "--trials", 1, "--tune-epochs", 1, "--out", "own")
    first = kdzoo("tune", *small[1:], *asked)
    assert first.code == 0
    (path,) = Path("own/studies").glob("*.json")
    whole = path.read_text()
    path.write_text(whole[:100])
    shown = kdzoo("tune", "--show", "--out", "own")
    assert (shown.code, shown.out) == (1, "no studies yet\n")
    assert shown.err.startswith(f"warning: left out: own/studies/{path.name}: not valid JSON")
    assert kdzoo("board", "--out", "own").code == 1
    again = kdzoo("tune", *small[1:], *asked)
    assert (again.code, again.out) == (0, first.out)
    assert f"{path.name}.damaged-1, and the study is rebuilt from the records of its trials" in again.err
    assert path.read_text() == whole


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        (("--tune", 0), "--tune must be at least 1, not 0"),
        (("--tune-epochs", 2), "tune_epochs belongs to tuning: give the number of trials too (tune)"),
        (("--tune", 2, "--pruner", "mean"), "--pruner must be 'none', 'median' or 'hyperband', not 'mean'"),
        (("--tune", 2, "--search", "nudge.weight"), "write strategy.param=low:high[:log] or recipe.key=low:high[:log]"),
        (("--tune", 2, "--search", "nudge.weight=2:1"), "--search nudge.weight must be low:high or low:high:log"),
        (("--tune", 2, "--search", "nudge.weight=-1:1"), "every value must be a number at least 0"),
        (("--tune", 2, "--search", "nudge.wait=1:2"), "unknown parameter of nudge 'wait'"),
        (("--tune", 2, "--search", "soft.alpha=0:1"), "unknown strategy of the bench 'soft'"),
        (("--tune", 2, "--tune-recipe", "epochs"), "--tune-recipe"),
    ],
)
def test_wrong_use_is_one_line(
    extra: tuple[Any, ...], told: str, kdzoo: Callable[..., Any], small: tuple[Any, ...], nudge: Path
) -> None:
    result = kdzoo(*small, "--plugin", nudge, "--strategies", "nudge", *extra, "--out", "wrong")
    assert result.code == 2
    assert told in result.err
    assert result.err.count("\n") == 1
    assert not Path("wrong").exists()


def test_nothing_to_search_is_told(kdzoo: Callable[..., Any], small: tuple[Any, ...]) -> None:
    result = kdzoo("tune", *small[1:], "--strategies", "plain", "--out", "none")
    assert result.code == 2
    assert "nothing" in result.err or "declares anything to search" in result.err
    shown = kdzoo("tune", "--show", "--out", "none")
    assert shown.code == 2
    assert "there is no run directory none" in shown.err
