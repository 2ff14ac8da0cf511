"""The flags that make a bench faster, and what is told where an epoch was not measured."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from kdzoo.bench.search import Pruning
from kdzoo.leaderboard.check.groups import differences
from kdzoo.record_parts import Epoch
from kdzoo.study import Study, Trial, parse_study
from kdzoo.tuning.optuna_study import frozen_trials

KEPT = Path(__file__).parents[1] / "core" / "studies"


def test_eval_every_leaves_epochs_out_of_curves_studies_and_boards(
    tmp_path: Path, kdzoo: Any, small: tuple[Any, ...], starts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kdzoo.cli.progress._QUIET_SECONDS", -1.0)  # each epoch is told
    out = tmp_path / "runs"
    bench = (*small, "--strategies", "plain", "--epochs", 3, "--out", out)
    tuning = ("--tune", 2, "--tune-epochs", 2, "--search", "plain.weight=0.01:0.1")
    first = kdzoo(*bench, *tuning, "--eval-every", 2)
    assert first.code == 0, first.err
    records = [json.loads(path.read_text()) for path in out.glob("cells/*/record.json")]
    curves = {(record["cell"]["kind"], *(line["tune"] is None for line in record["curve"])) for record in records}
    assert curves == {("teacher", True, False, False), ("trial", True, False), ("student", True, False, False)}
    text = " ".join(first.err.split())
    assert "epoch 1/3, main: ce " in text
    assert re.search(r"epoch 1/3, main: [^%]*, tune [^%]*%", text.partition("epoch 2/3")[0]) is None
    assert re.search(r"epoch 2/3, main: [^%]*, tune [^%]*%", text)
    (study,) = (parse_study(path.read_bytes(), path.name) for path in out.glob("studies/*.json"))
    assert [trial.curve[0] for trial in study.trials] == [None, None]
    assert all(trial.score == trial.last_score for trial in study.trials)
    assert kdzoo("board", "--out", out, "--format", "csv").code == 0
    begun = starts(out)
    again = kdzoo(*bench, *tuning)  # another k names the same cells, which are done
    assert again.code == 0, again.err
    assert starts(out) == begun


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_a_pruner_needs_every_epoch(pruner: str, kdzoo: Any, small: tuple[Any, ...]) -> None:
    refused = kdzoo(*small, "--tune", 2, "--pruner", pruner, "--eval-every", 2, "--dry-run")
    assert refused.code == 2
    assert f"the {pruner} pruner needs a value after each" in " ".join(refused.err.split())
    assert kdzoo(*small, "--strategies", "plain", "--eval-every", 2, "--dry-run").code == 0


@pytest.mark.parametrize("value", ["0", "-1", "x"])
def test_eval_every_is_a_number_from_1(value: str, kdzoo: Any, small: tuple[Any, ...]) -> None:
    refused = kdzoo(*small, "--eval-every", value, "--dry-run")
    assert refused.code == 2
    assert "--eval-every" in refused.err


def with_gaps(study: Study, curve: tuple[float | None, ...]) -> Study:
    first, *rest = study.trials
    values = first.model_dump() | {"curve": curve}
    return study.model_copy(update={"trials": (Trial(**values), *rest)})


def kept() -> Study:
    return parse_study((KEPT / "schema_3.json").read_bytes(), "study")


def test_optuna_is_given_the_epochs_that_were_measured() -> None:
    first = frozen_trials(with_gaps(kept(), (None, 30.0, None, 60.0)))[0]
    assert first.intermediate_values == {1: 30.0, 3: 60.0}
    assert first.value == 60.0


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_no_pruner_decides_after_an_epoch_that_was_not_measured(pruner: str) -> None:
    """As where a bench without a pruner began a trial that one with a pruner goes on with."""
    study = kept()
    plan = study.plan.model_copy(update={"pruner": pruner})
    open_study = study.model_copy(update={"plan": plan})
    lines = [Epoch(epoch=0, phase="main", terms={}, lr=0.1, tune=None)]
    assert Pruning(open_study, 1)(lines) == ""


def test_trials_end_with_a_measure() -> None:
    with pytest.raises(ValueError, match="needs a score on tune after its last epoch"):
        with_gaps(kept(), (30.0, None))


def test_the_same_training_measured_otherwise_is_no_contradiction() -> None:
    one = {"curve": [{"epoch": 0, "tune": None, "lr": 0.1}, {"epoch": 1, "tune": {"top1": 40.0}, "lr": 0.1}]}
    other = {
        "curve": [{"epoch": 0, "tune": {"top1": 20.0}, "lr": 0.1}, {"epoch": 1, "tune": {"top1": 40.0}, "lr": 0.1}]
    }
    assert differences(one, other) == []
    assert differences({"curve": [None, 40.0]}, {"curve": [20.0, 40.0]}, "trials[0]") == []
    other["curve"][1]["tune"] = {"top1": 41.0}
    assert differences(one, other) == ["curve[1].tune.top1 40.0 and 41.0"]
    assert differences({"lr": None}, {"lr": 0.1}) == ["lr nothing and 0.1"]
