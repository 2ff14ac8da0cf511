"""The porting guide: its code runs and its two ports train."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from docs_pages import execute, run_kdzoo, shown_commands, write_files

from kdzoo.store import Store

PAGE = "docs/porting.md"
SMALL = shlex.split(
    "--dataset 'digits[:120]' --teacher test_efficientnet --student test_resnet --seeds 1 --epochs 2 "
    "--teacher-epochs 8 --device cpu --set recipe.batch_size=16 --set recipe.lr=0.02"
)


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder with the page's files."""
    monkeypatch.chdir(tmp_path)
    write_files(PAGE, tmp_path)
    return tmp_path


def test_code_of_the_page_runs() -> None:
    page = execute(PAGE)
    assert page["Decoupled"].resolve({})["warmup"] == pytest.approx(20 / 240)
    assert page["SimilarityPreserving"].resolve({}) == {"gamma": 3000.0}


@pytest.mark.exhaustive
def test_both_ports_train(workshop: Path) -> None:
    card, bench = shown_commands(PAGE)
    assert "arXiv:2203.08679" in run_kdzoo(card)
    run_kdzoo(bench, *SMALL)
    records = {record.cell.strategy.name: record for record in Store.open(workshop / "runs").records()}
    assert all(record.status == "done" for record in records.values())
    for name, term in (("decoupled", "decoupled"), ("similar", "similarity")):
        assert [set(line.terms) for line in records[name].curve] == [{"ce", term}] * 2
        assert records[name].curve[1].terms[term] > 0
