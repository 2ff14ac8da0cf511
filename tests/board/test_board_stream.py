from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from kdzoo.cli.board import board
from kdzoo.record import Record
from kdzoo.store import Store


@pytest.fixture
def run() -> Callable[..., Any]:
    app = typer.Typer()
    app.command()(board)
    return lambda *arguments: CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture
def store(tmp_path: Path, sweep: list[Record]) -> Store:
    store = Store.create(tmp_path / "runs")
    for record in sweep:
        store.plan(record.cell)
        store.write_record(record)
    return store


@pytest.mark.parametrize("options", [(), ("--power", "1")])
def test_what_cannot_be_read_is_told_and_the_rest_is_printed(
    options: tuple[str, ...], run: Callable[..., Any], store: Store, sweep: list[Record]
) -> None:
    whole = run("--out", store.path, *options)
    (store.cells / "0123456789abcdef").mkdir()
    (store.cells / "0123456789abcdef" / "record.json").write_text('{"record_schema": 1, "id": ')
    (store.studies / "feed.json").write_text("[]")
    result = run("--out", store.path, *options)
    assert (whole.exit_code, result.exit_code) == (0, 1)
    assert result.stdout == whole.stdout
    warnings = result.stderr.splitlines()
    assert [line.startswith("warning: left out: ") for line in warnings] == [True, True]
    assert "feed.json: not a kdzoo study" in warnings[0]
    assert "0123456789abcdef" in warnings[1]
