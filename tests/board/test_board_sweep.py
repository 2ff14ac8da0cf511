"""A committed store, the exact boards that must be printed of it, and every statistic in them computed anew.

``python tests/board/sweep/make.py boards`` prints the boards again, after a change that is meant.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import shutil
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import typer
from scipy import stats
from typer.testing import CliRunner

from kdzoo.cli.board import board
from kdzoo.measures import TOP5, hits
from kdzoo.record import Record, parse_record
from kdzoo.store import Store

FOLDER = Path(__file__).parent / "sweep"

Key = tuple[str, str, str, str]
"""Dataset, teacher, strategy, parameters: what names a row of the sweep."""


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("sweep_make", FOLDER / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make = _load()
EXPECTED = FOLDER / "expected"


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    return json.loads((EXPECTED / "board.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def rows(whole: dict[str, Any]) -> dict[Key, dict[str, Any]]:
    """The printed rows."""
    found = [row for group in whole["groups"] for row in group["rows"]]
    by_key = {(row["dataset"], row["teacher"], row["strategy"], text(row["params"])): row for row in found}
    assert len(by_key) == len(found) == 18
    return by_key


@pytest.fixture(scope="module")
def results() -> dict[Key, dict[int, Record]]:
    """The done records of each row by seed, read straight from their files."""
    found: dict[Key, dict[int, Record]] = defaultdict(dict)
    for path in (FOLDER / "store" / "cells").glob("*/record.json"):
        record = parse_record(path.read_bytes(), path.name)
        assert record.cell.teacher is not None
        strategy = record.cell.strategy
        if record.status == "done":
            key = (record.cell.data.name, str(record.cell.teacher.model), strategy.name, text(strategy.params))
            found[key][record.cell.seed] = record
    return found


def text(params: dict[str, Any]) -> str:
    return json.dumps(params, sort_keys=True)


def top1(records: dict[int, Record]) -> dict[int, float]:
    found = {}
    for seed, record in sorted(records.items()):
        assert record.test is not None
        found[seed] = 100 * hits(record.test) / record.test["n"]
    return found


def paired(results: dict[Key, dict[int, Record]], key: Key, other: Key) -> tuple[list[float], list[float]]:
    own, theirs = top1(results[key]), top1(results[other])
    seeds = sorted(own.keys() & theirs.keys())
    return [own[seed] for seed in seeds], [theirs[seed] for seed in seeds]


def baseline(key: Key, strategy: str) -> Key:
    return key[0], key[1], strategy, text(make.PARAMS[strategy])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, since a board keeps what it read beside the cells."""
    return Path(shutil.copytree(FOLDER / "store", tmp_path_factory.mktemp("sweep") / "store"))


@pytest.mark.parametrize("name", make.BOARDS)
def test_the_boards_are_printed_to_the_letter(name: str, store: Path) -> None:
    app = typer.Typer()
    app.command()(board)
    options = [
        part
        for key, value in make.BOARDS[name].items()
        for part in ([f"--{key}"] if value is True else [f"--{key}", str(value)])
    ]
    result = CliRunner().invoke(app, ["--out", str(store), *options])
    assert result.exit_code == 0
    assert result.stdout == (EXPECTED / name).read_text(encoding="utf-8")


def test_the_store_is_what_the_script_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def results(store: Store) -> list[Any]:
        return [(one.id, one.status, one.test, one.tune, one.teacher, one.cost) for one in store.records()]

    monkeypatch.setattr(make, "STORE", tmp_path)
    make.write_store()
    made, kept = (Store.open(path) for path in (tmp_path, FOLDER / "store"))
    assert results(made) == results(kept)
    assert [one.trials for one in made.readable_studies()[0]] == [one.trials for one in kept.readable_studies()[0]]
    assert list(made.planned()) == list(kept.planned())


def test_the_sweep_holds_what_it_is_for(rows: dict[Key, dict[str, Any]]) -> None:
    assert sorted(row["variant"] for row in rows.values()) == [*[""] * 15, "default", "default, tuned", "tuned"]
    assert sum(row["failed"] for row in rows.values()) == sum(row["missing"] for row in rows.values()) == 1
    assert {row["diff_ce_note"] for row in rows.values()} == {"", "baseline", "n<3", "no spread"}


def test_means_and_their_intervals(rows: dict[Key, dict[str, Any]], results: dict[Key, dict[int, Record]]) -> None:
    for key, row in rows.items():
        values = list(top1(results[key]).values())
        n = len(values)
        assert row["done"] == n
        assert (row["top1"], row["top1_sd"]) == pytest.approx((np.mean(values), np.std(values, ddof=1)))
        if n < 3:
            assert (row["top1_low"], row["top1_high"], row["top1_note"]) == (None, None, "n<3")
        else:
            interval = stats.t.interval(0.95, n - 1, np.mean(values), stats.sem(values))
            assert (row["top1_low"], row["top1_high"]) == pytest.approx(interval)


@pytest.mark.parametrize("name", ["ce", "soft"])
def test_paired_differences(name: str, rows: dict[Key, dict[str, Any]], results: dict[Key, dict[int, Record]]) -> None:
    tested = 0
    for key, row in rows.items():
        found = {end: row[f"diff_{name}{end}"] for end in ("", "_low", "_high", "_p", "_n", "_note")}
        if key == baseline(key, name):
            assert found == {"": None, "_low": None, "_high": None, "_p": None, "_n": 0, "_note": "baseline"}
            continue
        own, other = paired(results, key, baseline(key, name))
        differences = np.subtract(own, other)
        assert found["_n"] == len(own)
        assert found[""] == pytest.approx(differences.mean())
        if len(own) < 3 or np.ptp(differences) < 1e-9:
            assert (found["_low"], found["_high"], found["_p"]) == (None, None, None)
            assert found["_note"] == ("n<3" if len(own) < 3 else "no spread")
            continue
        test = stats.ttest_rel(own, other)
        assert (found["_low"], found["_high"]) == pytest.approx(tuple(test.confidence_interval(0.95)))
        assert found["_p"] == pytest.approx(test.pvalue)
        tested += 1
        if name == "ce":
            assert row["bold"] == (test.pvalue < 0.05)
    assert tested >= 7


@pytest.mark.parametrize("name", ["ce", "soft"])
def test_holm_is_over_the_rows_of_a_pair(name: str, whole: dict[str, Any]) -> None:
    for group in whole["groups"]:
        family = [row[f"diff_{name}_p"] for row in group["rows"] if row[f"diff_{name}_p"] is not None]
        for row in group["rows"]:
            p, adjusted = row[f"diff_{name}_p"], row[f"diff_{name}_p_holm"]
            if p is None:
                assert adjusted is None
            else:
                steps = [other * sum(third >= other for third in family) for other in family if other <= p]
                assert adjusted == pytest.approx(min(1.0, max(steps)))


def ratio(x: np.ndarray, y: np.ndarray) -> tuple[Any, Any]:
    """mean(x) / mean(y) along the last axis, and its standard error by linearisation."""
    share = x.mean(axis=-1) / y.mean(axis=-1)
    residuals = (x - share[..., None] * y) / y.mean(axis=-1)[..., None]
    return share, np.sqrt((residuals**2).sum(axis=-1) / (x.shape[-1] - 1) / x.shape[-1])


def gap_interval(own: list[float], other: list[float], teacher: float) -> tuple[float, float]:
    """The bootstrap-t interval over every resample of five seeds, no standard error below a quarter of the sample's."""
    x, y = np.subtract(own, other), teacher - np.array(other)
    picks = np.array(list(itertools.product(range(5), repeat=5)))
    share, error = ratio(x, y)
    shares, errors = ratio(x[picks], y[picks])
    with np.errstate(divide="ignore"):
        away = (shares - share) / np.where(errors < 1e-9, 0, np.maximum(errors, 0.25 * error))
    low, high = np.quantile(away, [0.025, 0.975], method="inverted_cdf")
    return share - high * error, share - low * error


def test_recovered_gaps(rows: dict[Key, dict[str, Any]], results: dict[Key, dict[int, Record]]) -> None:
    intervals = 0
    for key, row in rows.items():
        own, other = paired(results, key, baseline(key, "ce"))
        teacher = (
            100 * make.TEACHERS[key[0], key[1].partition(":")[0]] / next(iter(results[key].values())).cell.data.test
        )
        assert row["gap_recovered"] == pytest.approx((np.mean(own) - np.mean(other)) / (teacher - np.mean(other)))
        assert row["gap_recovered_n"] == len(own)
        assert row["retention"] == pytest.approx(np.mean(list(top1(results[key]).values())) / teacher)
        interval = (row["gap_recovered_low"], row["gap_recovered_high"])
        if len(own) < 5 or own == other:
            assert interval == (None, None)
            assert row["gap_recovered_note"] == ("baseline" if own == other else "n<5")
        else:
            assert interval == pytest.approx(gap_interval(own, other, teacher))
            intervals += 1
    assert intervals == 2


def test_the_other_means(rows: dict[Key, dict[str, Any]], results: dict[Key, dict[int, Record]]) -> None:
    measured: dict[str, Callable[[Any], float]] = {
        "ece": lambda record: record.test["ece"],
        "nll": lambda record: record.test["nll"],
        "top5": lambda record: 100 * hits(record.test, TOP5) / record.test["n"],
        "tune_top1": lambda record: 100 * hits(record.tune) / record.tune["n"],
        "agreement": lambda record: record.test["agreement"],
        "train_seconds": lambda record: record.cost["train"],
    }
    for key, row in rows.items():
        for name, value in measured.items():
            assert row[name] == pytest.approx(np.mean([value(record) for record in results[key].values()]))
        reference = results[baseline(key, "ce")]
        seeds = results[key].keys() & reference.keys()
        own, other = ([one[seed].cost["train"] for seed in seeds] for one in (results[key], reference))  # type: ignore[union-attr]
        steady = max(max(each) / min(each) for each in (own, other)) <= 1.5
        ratios = [one / two for one, two in zip(own, other, strict=True)]
        assert row["time_vs_ce"] == (pytest.approx(np.median(ratios)) if steady else None)
        assert (row["time_vs_ce_note"] == "unsteady") is not steady
        assert row["time_vs_ce_n"] == len(seeds)
        assert row["compression"] == pytest.approx(row["teacher_parameters"] / row["student_parameters"])


def test_tuning(rows: dict[Key, dict[str, Any]]) -> None:
    soft, at = make.studies()
    for study, name in ((soft, "tuned"), (at, "default, tuned")):
        (row,) = (row for row in rows.values() if row["variant"] == name)
        best = max(study.trials, key=lambda trial: trial.curve[-1])
        assert {
            f"{row['strategy']}.{key}": value for key, value in row["params"].items()
        }.items() >= best.values.items()
        assert (row["trials"], row["tune_epochs"], row["study"]) == (3, 1, study.id)
        assert row["tuning_seconds"] == pytest.approx(sum(trial.seconds for trial in study.trials))


def test_ranks_over_the_pairs(whole: dict[str, Any], results: dict[Key, dict[int, Record]]) -> None:
    found, tuned = whole["overall"]
    assert (found["rows"], tuned["rows"]) == ("default", "tuned")
    pairs = [(pair["dataset"], pair["teacher"]) for pair in found["pairs"]]
    scores = {
        name: [np.mean(list(top1(results[baseline((*pair, "", ""), name)]).values())) for pair in pairs]
        for name in ("soft", "at", "ce")
    }
    standings = {one["text"]: one for one in found["standings"]}
    assert list(standings) == ["soft default", "at default", "ce", "fitnets"]
    places = stats.rankdata(-np.array(list(scores.values())), axis=0)
    means = dict(zip(scores, places.mean(axis=1), strict=True))
    for text_, name in (("soft default", "soft"), ("at default", "at"), ("ce", "ce")):
        assert standings[text_]["mean_rank"] == pytest.approx(means[name])
        assert standings[text_]["top1"] == pytest.approx(np.mean(scores[name]))
    for text_, name in (("soft default", "soft"), ("at default", "at")):
        test = stats.ttest_rel(scores[name], scores["ce"])
        difference = standings[text_]["diff_ce"]
        assert difference["n"] == 5
        assert difference["p"] == pytest.approx(test.pvalue)
        assert (difference["low"], difference["high"]) == pytest.approx(tuple(test.confidence_interval(0.95)))
    assert (standings["fitnets"]["mean_rank"], standings["fitnets"]["top1"]) == (None, None)
    # Each study is of another pair, so no tuned row but that of ce, which none concerns, is there on both.
    assert [pair["teacher"] for pair in tuned["pairs"]] == ["resnet18", "resnet18"]
    lacking = {one["text"]: one["lacking"] for one in tuned["standings"]}
    assert lacking == {
        "ce": ["", ""],
        "at tuned": ["no row", ""],
        "fitnets": ["1 failed of 3 seeds", "no row"],
        "soft tuned": ["", "no row"],
    }
    assert {one["mean_rank"] for one in tuned["standings"]} == {tuned["friedman"]["chi2"]} == {None}
    chi2, p = stats.friedmanchisquare(*scores.values())
    f = 4 * chi2 / (5 * 2 - chi2)
    assert found["friedman"]["chi2"] == pytest.approx(chi2)
    assert found["friedman"]["p"] == pytest.approx(p)
    assert found["friedman"]["f"] == pytest.approx(f)
    assert found["friedman"]["f_p"] == pytest.approx(stats.f.sf(f, 2, 8))
    critical = stats.studentized_range.ppf(0.95, 3, np.inf) / np.sqrt(2) * np.sqrt(3 * 4 / (6 * 5))
    assert found["critical_difference"] == pytest.approx(critical)
    assert means["at"] - means["soft"] < critical
    assert means["ce"] - means["at"] < critical <= means["ce"] - means["soft"]
    assert found["alike"] == [["soft default", "at default"], ["at default", "ce"]]


def test_seeds_for_half_a_point(rows: dict[Key, dict[str, Any]], results: dict[Key, dict[int, Record]]) -> None:
    printed = (EXPECTED / "power.txt").read_text(encoding="utf-8")

    def seeds(sd: float) -> int:
        fewer = int(7 * (sd / 0.5) ** 2)  # (1.96 + 0.84)^2 = 7.8 times as many do not do even if the sd is known
        return next(n for n in range(max(3, fewer), 1000) if power(0.5 / sd, n) >= 0.8)

    def power(effect: float, n: int) -> float:
        critical, law = stats.t.ppf(0.975, n - 1), stats.nct(n - 1, effect * np.sqrt(n))
        return float(law.sf(critical) + np.nan_to_num(law.cdf(-critical)))  # scipy's NaN is a tail of nearly nothing

    counted = 0
    for key, row in rows.items():
        if row["diff_ce_low"] is None:
            continue
        n, sd = row["diff_ce_n"], np.std(np.subtract(*paired(results, key, baseline(key, "ce"))), ddof=1)
        low, high = sd * np.sqrt((n - 1) / stats.chi2.ppf([0.975, 0.025], n - 1))
        assert f"  {row['diff_ce']:+.2f}         {sd:.2f}  {seeds(sd):13}  {seeds(low)} to {seeds(high)} " in printed
        counted += 1
    assert counted == 10
