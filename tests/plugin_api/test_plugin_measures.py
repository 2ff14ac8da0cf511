"""A measure is declared once: a plugin's dataset declares one, computes it, and every output has it."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_plugin_trackers import NOTEBOOK

from kdzoo.board.columns import frame_columns
from kdzoo.cell import canonical_json
from kdzoo.jsontext import sealed
from kdzoo.measures import COST
from kdzoo.record import parse_record
from kdzoo.study import parse_study

PLUGIN = """
    import numpy as np
    import torch
    from kdzoo import ArrayData, Dataset, Measure, Splits, hookimpl

    MATTHEWS = Measure(
        name="mcc", label="Matthews", digits=4, low=-1, high=1, main=True, tolerance=1e-9,
        help="mean Matthews correlation on test", shown=("frame", "table", "page"),
    )
    MISSED = Measure(
        name="missed", label="missed", best="lowest", low=0, digits=3, help="mean share of missed samples on test",
        note="share of the samples that are missed",
    )

    class Shades(Dataset):
        name = "shades"
        img_size = (8, 8)
        measures = (MATTHEWS, MISSED)

        def load(self, data_dir, download):
            labels = np.arange(120, dtype=np.int64) % 2
            noise = np.random.default_rng(0).integers(0, 90, (120, 1, 8, 8))
            images = (noise + 140 * labels[:, None, None, None]).astype(np.uint8)
            return Splits(ArrayData(images[:80], labels[:80]), ArrayData(images[80:], labels[80:]), ("dark", "bright"))

        def score(self, logits, labels):
            assert logits.dtype == torch.float64 and labels.dtype == torch.int64
            guesses = logits.argmax(1)
            pair = torch.stack([guesses, labels]).double()
            spread = pair.std(dim=1).prod()
            cov = ((pair[0] - pair[0].mean()) * (pair[1] - pair[1].mean())).sum() / (len(labels) - 1)
            return {"mcc": float(cov / spread) if spread else 0.0, "missed": float((guesses != labels).double().mean())}

    @hookimpl
    def kdzoo_datasets():
        return [Shades()]
"""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, kdzoo: Callable[..., Any]) -> tuple[Path, str, list[Any]]:
    """The runs of a bench, what it printed, and its records in the order of their ids."""
    folder = tmp_path_factory.mktemp("measures")
    for name, code in (("shades.py", PLUGIN), ("notebook.py", NOTEBOOK)):
        (folder / name).write_text(textwrap.dedent(code))
    plugins = [part for name in ("shades.py", "notebook.py") for part in ("--plugin", folder / name)]
    pair = ("--teacher", "test_vit:patch_size=4", "--student", "test_resnet", "--teacher-weights", "train")
    short = ("--epochs", 4, "--seeds", 1, "--set", "recipe.batch_size=8", "--tune", 2, "--tune-epochs", 1)
    told = ("--trust-teacher", "--log-with", "notebook")
    result = kdzoo(
        "bench", *plugins, "--dataset", "shades", "--strategies", "soft", *pair, *short, *told, "--out", folder / "runs"
    )
    assert result.code == 0, result.err
    records = [
        parse_record(path.read_bytes(), path.name) for path in sorted((folder / "runs" / "cells").glob("*/record.json"))
    ]
    return folder / "runs", result.out, records


def student_of(records: list[Any], strategy: str = "ce") -> Any:
    return next(one for one in records if one.cell.kind == "student" and one.cell.strategy.name == strategy)


def test_the_record_has_it_with_its_declaration(bench: tuple[Path, str, list[Any]]) -> None:
    record = student_of(bench[2])
    assert record.main.name == "mcc"
    assert -1 <= record.test["mcc"] <= 1
    assert record.test["missed"] == pytest.approx(1 - record.test["top1"] / 100)
    assert record.curve[-1].tune == {"mcc": record.tune["mcc"]}
    assert [measure.name for measure in record.measures] == ["mcc", "missed"]
    assert parse_record(record.to_json(), "r") == record


def test_it_selects_in_tuning(bench: tuple[Path, str, list[Any]]) -> None:
    (path,) = (bench[0] / "studies").glob("*.json")
    study = parse_study(path.read_bytes(), path.name)
    assert study.main.name == "mcc"
    assert study.best is not None
    assert study.best.score == max(trial.score for trial in study.trials if trial.score is not None)


def test_every_board_has_it(bench: tuple[Path, str, list[Any]], kdzoo: Callable[..., Any]) -> None:
    runs, printed, records = bench
    shown = f"{student_of(records).test['mcc']:.4f}"
    assert "Matthews" in printed
    assert shown in printed
    assert "top-1" in printed  # a further measure here

    def board(form: str) -> str:
        return str(kdzoo("board", "--out", runs, "--format", form, "--sort", "-missed").out)

    for form in ("md", "latex"):
        text = board(form)
        assert "Matthews" in text
        assert "missed" in text
        assert "missed: share of the samples that are missed" in text
    rows = list(csv.DictReader(io.StringIO(board("csv"))))
    ce = next(row for row in rows if row["strategy"] == "ce")
    assert float(ce["mcc"]) == student_of(records).test["mcc"]
    assert float(ce["tune_mcc"]) == student_of(records).tune["mcc"]
    assert float(ce["teacher_mcc"]) == student_of(records).teacher.test["mcc"]
    assert float(ce["missed"]) == student_of(records).test["missed"]
    whole = json.loads(board("json"))
    assert whole["columns"]["mcc"] == "mean Matthews correlation on test"
    assert whole["columns"]["tune_mcc"] == "mean Matthews on tune"
    assert {row["mcc"] for row in whole["groups"][0]["rows"]} == {float(row["mcc"]) for row in rows}


def test_the_rows_are_ranked_by_it(bench: tuple[Path, str, list[Any]], kdzoo: Callable[..., Any]) -> None:
    rows = list(csv.DictReader(io.StringIO(kdzoo("board", "--out", bench[0], "--format", "csv").out)))
    scores = [float(row["mcc"]) for row in rows]
    assert scores == sorted(scores, reverse=True)


def test_the_tracker_has_it(bench: tuple[Path, str, list[Any]]) -> None:
    record = student_of(bench[2])
    path = bench[0] / "cells" / record.id / "logs" / "notebook" / "notes.jsonl"
    notes = [json.loads(line) for line in path.read_text().splitlines()]
    assert notes[2][1]["tune/mcc"] == record.tune["mcc"]
    final = notes[-2][1]
    assert final["test/mcc"] == record.test["mcc"]
    assert final["test/missed"] == record.test["missed"]


def test_pages_and_merge_have_it(
    bench: tuple[Path, str, list[Any]], kdzoo: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kdzoo.leaderboard.generate.svg", lambda chart: b"<svg/>")
    monkeypatch.setattr("kdzoo.leaderboard.generate.png", lambda chart: b"")
    made = kdzoo("publish", bench[0], "--to", tmp_path / "ada")
    assert made.code in (0, 1), made.err
    page = (tmp_path / "ada" / "shades" / "board.html").read_text()
    assert "Matthews" in page
    assert 'data-column="missed"' in page
    assert "Matthews" in (tmp_path / "ada" / "shades" / "board.md").read_text()
    assert "highest mean Matthews" in (tmp_path / "ada" / "index.md").read_text()
    # Within its tolerance another machine's value is the same, beyond it is another one.
    record = student_of(bench[2])
    for off, word in ((1e-10, "0 replaced"), (1e-3, "1.0000, evaluation 1 and 0.9990, evaluation 1")):
        other = Path(shutil.copytree(tmp_path / "ada" / "records", tmp_path / f"ben{off}" / "records")).parent
        (path,) = other.rglob(f"{record.id}.json")
        values = json.loads(path.read_text())
        del values["sha256"]
        values["test"]["mcc"] -= off
        path.write_text(sealed(json.loads(canonical_json(values))))
        merged = kdzoo("merge", tmp_path / "ada", other, "--to", tmp_path / f"both{off}")
        assert word in merged.out + merged.err


def test_the_docs_table_is_made_from_it(bench: tuple[Path, str, list[Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "docs"))
    sys.modules.pop("reference", None)
    import reference

    record = student_of(bench[2])
    text = reference.columns_table(frame_columns([record.main], [*record.measures, *COST]))
    assert "mean Matthews correlation on test" in text
    assert "`teacher_mcc`" in text
    assert "`top1`" not in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('return {"mcc"', 'return {"mac"'), "declares the measures mcc, missed, and its score gives mac, missed"),
        (('name="missed"', 'name="top1"'), "the measure top1 is declared already"),
        (('best="lowest"', "main=True"), "only one measure can be the main one"),
        (("def score(self", "def scored(self"), "shades declares measures, and has no method score to give them"),
        (("spread = pair", "spread = pairs"), "shades: its measures cannot be computed: NameError: name 'pairs'"),
        (('"missed": float(', '"missed": -float('), "shades: its score is not as it is declared: missed cannot be -"),
    ],
)
def test_a_wrong_measure_is_one_sentence_before_anything_trains(
    change: tuple[str, str], message: str, kdzoo: Callable[..., Any], plugin_file: Callable[..., Path]
) -> None:
    plugin = plugin_file(PLUGIN.replace(*change), "wrong.py")
    pair = ("--teacher", "test_vit:patch_size=4", "--student", "test_resnet", "--teacher-weights", "train")
    result = kdzoo(
        "bench", "--plugin", plugin, "--dataset", "shades", *pair, "--strategies", "soft", "--epochs", 1, "--seeds", 1
    )
    assert result.code == 2
    assert message in result.err
    assert "epoch" not in result.err
