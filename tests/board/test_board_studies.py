"""Studies as text and as charts: worked out by hand, in a fixed order, and safe whatever the names."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from board_studies import RECIPE, SPACE, done, make_study
from waiting import output_of

from kdzoo.drawing import chart_digest, drawer, origin_of
from kdzoo.errors import UsageError
from kdzoo.refs import DataRef, ModelRef, StrategyRef
from kdzoo.space import Range
from kdzoo.study import Study
from kdzoo.tuning.charts import study_charts, write_plots
from kdzoo.tuning.report import studies_text

PRUNED = {"state": "pruned", "curve": (30.0, 31.0), "seconds": 0.7, "reason": "median pruner, after epoch 2 of 3"}
FAILED = {"state": "failed", "seconds": 0.4, "reason": "RuntimeError: shapes differ"}
HOSTILE = 'ev\x1b[31mil\n\u202e</svg><script>\\" + (1 / 0) + \\"'


def usual() -> Study:
    """Default 85.00, best 90.25 in trial 3, one of each kind."""
    return make_study(done(60.0, 85.0), done(70.0, 88.0), PRUNED, done(91.0, 90.25), FAILED, {}, pruner="median")


def facts(text: str) -> dict[str, str]:
    """The labelled lines of the first study."""
    lines = text.split("\n\n", maxsplit=1)[0].splitlines()[1:]
    return {line[2:14].strip(): line[14:] for line in lines}


def test_a_study_is_told_in_full() -> None:
    text = studies_text([usual()], width=200)
    study = usual()
    assert text.startswith("digits 8x8: resnet20 -> resnet8, soft\n")
    told = facts(text)
    importance = told.pop("importance")
    assert told == {
        "study": f"{study.id}, on the tune split (359 samples), one seed",
        "recipe": "quick (8 epochs, sgd, lr 0.05, batch 64, fp32)",
        "searched": "soft.alpha 0:1, soft.temperature 1:16:log",
        "trials": "6 of 10: 3 done, 1 pruned, 1 failed, 1 not ended; "
        "3 epochs a trial, median pruner, 1 trial sampled at a time",
        "best": "soft.alpha=0.3 soft.temperature=16: top-1 90.25 % (trial 3), +5.25 points against the default",
        "default": "soft.alpha=0.5 soft.temperature=4: top-1 85.00 % (trial 0)",
        "cost": "7.1 seconds",
    }
    assert importance.endswith(" (from 3 trials, rough)")
    assert "one seed; it was used for selection" in text
    assert "do not report it" in text


def test_every_trial_has_a_line() -> None:
    table = studies_text([usual()], width=200).split("\n\n")[1]
    assert [line.split(None, 6) for line in table.splitlines()] == [
        ["#", "state", "alpha", "temperature", "top-1", "%", "seconds  reason"],
        ["0", "done", "0.5", "4", "85.00", "2.0"],
        ["1", "done", "0.9", "8", "88.00", "2.0"],
        ["2", "pruned", "0.6", "2", "-", "0.7", "median pruner, after epoch 2 of 3"],
        ["3", "done", "0.3", "16", "90.25", "2.0"],
        ["4", "failed", "0.8", "3", "-", "0.4", "RuntimeError: shapes differ"],
        ["5", "asked", "0.2", "12", "-", "-"],
    ]


@pytest.mark.parametrize(
    ("study", "label", "expected"),
    [
        (make_study(), "best", "none: no trial is done"),
        (
            make_study(),
            "trials",
            "0 of 10: none asked for yet; 3 epochs a trial, no pruner, 1 trial sampled at a time",
        ),
        (make_study(), "default", "soft.alpha=0.5 soft.temperature=4: not tried yet"),
        (make_study(), "importance", "none: it takes two done trials, and there is none"),
        (make_study(done(80.0)), "best", "soft.alpha=0.5 soft.temperature=4: top-1 80.00 % (trial 0), the default"),
        (make_study(FAILED), "default", "soft.alpha=0.5 soft.temperature=4: no top-1, failed (trial 0)"),
        (make_study(FAILED, done(80.0)), "best", "soft.alpha=0.9 soft.temperature=8: top-1 80.00 % (trial 1)"),
        (
            make_study(done(80.0), temperature=20.0),
            "default",
            "soft.alpha=0.5 soft.temperature=20: top-1 80.00 % (trial 0); "
            "soft.temperature lies outside of what is searched",
        ),
        (
            make_study(done(80.0), done(81.0), batch=4, trial_recipe=RECIPE.model_copy(update={"epochs": 1})),
            "trials",
            "2 of 10: 2 done; 1 epoch a trial, no pruner, 4 trials sampled at a time",
        ),
    ],
)
def test_what_is_not_there_is_said(study: Study, label: str, expected: str) -> None:
    assert facts(studies_text([study], width=200))[label] == expected


def test_the_recipe_is_searched_under_its_full_name() -> None:
    space = {"recipe.lr": Range(low=0.01, high=1.0, log=True), "soft.alpha": SPACE["soft.alpha"]}
    study = make_study(done(80.0), {"values": {"recipe.lr": 0.1234567, "soft.alpha": 0.25}, **done(82.0)}, space=space)
    text = studies_text([study])
    assert "soft.alpha=0.25 recipe.lr=0.1235: top-1 82.00 % (trial 1)" in text
    assert "state  recipe.lr  alpha  top-1 %" in text


def several() -> list[Study]:
    data = DataRef(
        name="cifar10", fingerprint="c1", num_classes=10, channels=3, img_size=(32, 32), fit=9, tune=9, test=9
    )
    at = StrategyRef(name="at", distribution="kdzoo", revision="1", params={"beta": 1.0})
    return [
        usual(),
        make_study(done(50.0), data=data),
        make_study(done(50.0), student=ModelRef(name="resnet14")),
        make_study(done(50.0), strategy=at, space={"at.beta": Range(low=0.1, high=10.0, log=True)}),
        make_study(done(50.0), trials=4),
    ]


def test_the_order_is_that_of_the_titles_whatever_that_of_the_studies() -> None:
    text = studies_text(several())
    titles = [line for line in text.splitlines() if " -> " in line]
    assert titles == [
        "cifar10 32x32: resnet20 -> resnet8, soft",
        "digits 8x8: resnet20 -> resnet14, soft",
        "digits 8x8: resnet20 -> resnet8, at",
        "digits 8x8: resnet20 -> resnet8, soft",
        "digits 8x8: resnet20 -> resnet8, soft",
    ]
    assert studies_text(several()[::-1]) == text
    assert studies_text(iter(several())) == text


def test_no_studies_is_said() -> None:
    assert studies_text([]) == "no studies yet\n"


def hostile() -> Study:
    name = f"{HOSTILE}.x"
    return make_study(
        done(50.0),
        {"values": {name: 3}, "state": "failed", "reason": HOSTILE},
        {"values": {name: 5}, **done(60.0)},
        strategy=StrategyRef(name=HOSTILE, distribution=HOSTILE, revision="1", params={"x": 4}),
        student=ModelRef(name=HOSTILE),
        recipe=RECIPE.model_copy(update={"name": HOSTILE}),
        space={name: Range(low=1.0, high=6.0, whole=True)},
    )


def test_names_cannot_act_on_a_terminal() -> None:
    text = studies_text([hostile()], width=150)
    assert all(line.isprintable() for line in text.splitlines())
    assert "ev\\x1b[31mil\\n\\u202e" in text


@pytest.mark.parametrize("width", [0, 60, 80, 120])
def test_lines_are_folded_to_the_width(width: int) -> None:
    long = make_study(done(80.0), {**FAILED, "reason": "the reason is long " * 20})
    lines = studies_text([usual(), long], width=width).splitlines()
    assert max(map(len, lines)) <= max(width, 75)
    assert sum(line.count("reason is") for line in lines) > 10


def test_no_torch_is_loaded() -> None:
    code = "import sys, kdzoo.tuning.charts; print({'torch', 'timm', 'vl_convert'} & set(sys.modules))"
    assert output_of(sys.executable, "-c", code) == "set()\n"


def values_of(layer: dict[str, Any], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in names) for row in layer["data"]["values"]]


def test_the_history_shows_each_trial_and_the_best_so_far() -> None:
    chart = study_charts(usual(), "title")["history"]
    line, points = chart["layer"]
    assert values_of(line, "trial", "best") == [(0, 85.0), (1, 88.0), (2, 88.0), (3, 90.25), (4, 90.25)]
    low = 31.0 - 0.08 * (90.25 - 31.0)
    assert values_of(points, "trial", "state", "score") == [
        (0, "default", 85.0),
        (1, "done", 88.0),
        (2, "pruned", 31.0),
        (3, "done", 90.25),
        (4, "failed", pytest.approx(low)),
    ]
    assert points["encoding"]["color"]["scale"]["domain"] == ["done", "default", "pruned", "failed"]
    assert chart["title"]["text"] == "title"


def test_a_slice_has_a_panel_for_each_parameter_on_its_scale() -> None:
    chart = study_charts(usual(), "title")["slice"]
    alpha, temperature = chart["concat"]
    assert values_of(alpha, "trial", "value", "score") == [(0, 0.5, 85.0), (1, 0.9, 88.0), (3, 0.3, 90.25)]
    assert values_of(temperature, "value") == [(4.0,), (8.0,), (16.0,)]
    assert "type" not in alpha["encoding"]["x"]["scale"]
    assert temperature["encoding"]["x"]["scale"] == {"domain": [1.0, 16.0], "zero": False, "nice": False, "type": "log"}
    assert chart["title"]["subtitle"][-1] == "pruned and failed trials are left out"


def test_a_default_outside_of_its_range_widens_the_axis_or_is_named() -> None:
    wide = study_charts(make_study(done(80.0), done(81.0), temperature=20.0), "title")["slice"]
    assert wide["concat"][1]["encoding"]["x"]["scale"]["domain"] == [1.0, 20.0]
    off = study_charts(make_study(done(80.0), done(81.0), temperature=0.0), "title")["slice"]
    assert values_of(off["concat"][1], "trial") == [(1,)]
    assert off["title"]["subtitle"][-1] == "trial 0, soft.temperature=0, is off the axis"


def test_importance_is_drawn_where_there_is_one() -> None:
    chart = study_charts(usual(), "title")["importance"]
    rows = values_of(chart, "parameter", "share")
    assert sum(share for _, share in rows) == pytest.approx(1)
    assert [share for _, share in rows] == sorted((share for _, share in rows), reverse=True)
    assert "rough" in chart["title"]["subtitle"][-1]


@pytest.mark.parametrize(
    ("study", "kinds"),
    [
        (make_study(), []),
        (make_study({}), []),
        (make_study(FAILED), []),
        (make_study(PRUNED), ["history"]),
        (make_study(done(50.0)), ["history", "slice"]),
        (usual(), ["history", "slice", "importance"]),
    ],
)
def test_empty_charts_are_left_out(study: Study, kinds: list[str]) -> None:
    assert list(study_charts(study, "title")) == kinds


def test_plots_are_written_under_safe_names_and_can_be_checked(tmp_path: Path) -> None:
    study = hostile()
    written = write_plots([study], tmp_path / "new" / "plots")
    ends = [f"-{study.id}-{name}.{kind}" for name in ("history", "slice", "importance") for kind in ("svg", "png")]
    assert [path.name.endswith(end) for path, end in zip(written, ends, strict=True)] == [True] * len(ends)
    assert all(re.fullmatch(r"[a-z0-9._-]+", path.name) for path in written)
    (named, *_) = write_plots([usual()], tmp_path / "usual")
    plan = usual().plan
    assert named.name == f"{plan.data.name}-{plan.teacher.model}-{plan.student}-soft-{usual().id}-history.svg"
    assert sorted(path for path in (tmp_path / "new" / "plots").iterdir()) == sorted(written)
    for path in written:
        content = path.read_bytes()
        assert origin_of(content) is not None
        if path.suffix == ".svg":
            assert b"<script" not in content
            assert b"ev\\x1b[31mil" in content
        else:
            assert content.startswith(b"\x89PNG")


def test_a_plot_is_made_of_the_chart(tmp_path: Path) -> None:
    charts = study_charts(usual(), "digits 8x8: resnet20 -> resnet8, soft")
    (path,) = (each for each in write_plots([usual()], tmp_path, ("svg",)) if each.stem.endswith("history"))
    assert origin_of(path.read_bytes()) == (chart_digest(charts["history"]), drawer())
    assert json.loads(json.dumps(charts)) == charts


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"plots cannot be written to .*file: .*; give another folder"):
        write_plots([usual()], tmp_path / "file")
