from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner
from waiting import output_of

from kdzoo.board.render import board_text
from kdzoo.cli.board import board
from kdzoo.errors import UsageError
from kdzoo.record import Record
from kdzoo.store import Store


@pytest.fixture
def run() -> Callable[..., Any]:
    app = typer.Typer()
    app.command()(board)
    return lambda *arguments: CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=True)


@pytest.fixture
def store(tmp_path: Path, sweep: list[Record]) -> Store:
    store = Store.create(tmp_path / "runs")
    for record in sweep:
        store.plan(record.cell)
        store.write_record(record)
    return store


def test_prints_the_board_of_a_store(run: Callable[..., Any], store: Store, sweep: list[Record]) -> None:
    result = run("--out", store.path)
    assert result.exit_code == 0
    assert result.stdout == board_text(sweep)


def test_explain_prints_the_full_notes(run: Callable[..., Any], store: Store, sweep: list[Record]) -> None:
    result = run("--out", store.path, "--explain")
    assert result.exit_code == 0
    assert result.stdout == board_text(sweep, explain=True) != board_text(sweep)


def test_the_width_is_what_columns_says(
    run: Callable[..., Any], store: Store, sweep: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run("--out", store.path).stdout == board_text(sweep, width=80) != board_text(sweep)


def test_a_published_folder_is_told_from_runs(run: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "published" / "records").mkdir(parents=True)
    error = run("--out", tmp_path / "published").exception
    assert isinstance(error, UsageError)
    assert str(error).startswith(f"{tmp_path / 'published'} is a published folder: its boards are in ")


def test_shows_planned_cells_as_missing(run: Callable[..., Any], store: Store, cell: Callable[..., Any]) -> None:
    store.plan(cell("at", 0))
    result = run("--out", store.path, "--format", "json", "--by", "dataset", "--sort", "-rank")
    rows = json.loads(result.stdout)["groups"][0]["rows"]
    assert [(row["strategy"], row["missing"]) for row in rows] == [("ce", 0), ("fitnets", 0), ("soft", 0), ("at", 1)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "tex"], "unknown board format 'tex'; did you mean latex"),
        (["--by", "stundet"], "did you mean student"),
        (["--sort", "retentoin"], "did you mean retention"),
    ],
)
def test_a_wrong_choice_is_a_usage_error(
    arguments: list[str], message: str, run: Callable[..., Any], store: Store
) -> None:
    result = run("--out", store.path, *arguments)
    assert isinstance(result.exception, UsageError)
    assert message in str(result.exception)
    assert result.stdout == ""


def test_a_folder_without_runs_is_a_usage_error(run: Callable[..., Any], tmp_path: Path) -> None:
    result = run("--out", tmp_path)
    assert isinstance(result.exception, UsageError)
    assert "kdzoo bench" in str(result.exception)


def test_boards_are_made_without_torch(store: Store) -> None:
    code = (
        "import sys, pathlib, kdzoo.board.table\n"
        "from kdzoo.cli.board import board\n"
        f"board(pathlib.Path({str(store.path)!r}))\n"
        "assert 'torch' not in sys.modules and 'timm' not in sys.modules\n"
    )
    assert "digits 8x8: resnet20 -> resnet8" in output_of(sys.executable, "-c", code)


def test_the_command_is_declared_without_pandas() -> None:
    code = "import sys, kdzoo.cli.board\nassert not {'torch', 'pandas', 'scipy'} & set(sys.modules)"
    output_of(sys.executable, "-c", code)


ODD = "caf\u00e9 \u2192 \x1b[31m red \x00 \u202e back \u2028 \U0001f600"


@pytest.mark.parametrize("format", ["", "md", "csv", "json", "latex"])
@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_odd_characters_change_no_exit_code(format: str, encoding: str, store: Store, sweep: list[Record]) -> None:
    """A reason is other people's text, and a terminal has any encoding; a command that fails raises here."""
    odd = sweep[-1].cell.model_copy(update={"seed": 77})
    failed = Record(status="failed", id=odd.id, cell=odd, reason=ODD, **_frame(sweep[-1]))
    store.plan(odd)
    store.write_record(failed)
    arguments = ["board", "--out", str(store.path), *(["--format", format] if format else [])]
    code = f"import sys; sys.argv[1:] = {arguments!r}; from kdzoo.cli import main; main()"
    told = output_of(sys.executable, "-c", code, env=os.environ | {"PYTHONIOENCODING": encoding})
    assert "\x1b" not in told
    assert "\x00" not in told
    assert "\u202e" not in told


def _frame(record: Record) -> dict[str, Any]:
    """What a failure shares with any record."""
    return {name: getattr(record, name) for name in ("family", "environment", "command", "started", "ended")}
