from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kdzoo import KdzooError
from kdzoo.cell import Cell
from kdzoo.measures import TOP5, hits, image_scores
from kdzoo.record import SCHEMA, Record, parse_record
from kdzoo.record_parts import Found
from kdzoo.refs import Balance

TEST = image_scores(n=359, correct1=300, correct5=350, nll=0.5, ece=2.0)


def test_a_record_survives_its_json(make_record: Callable[..., Record]) -> None:
    record = make_record()
    text = record.to_json()
    assert text.endswith("}\n")
    assert text.count("\n") == 1
    assert parse_record(text, "r") == record
    assert parse_record(text.encode(), "r").to_json() == text


def test_accuracies_are_exact_counts() -> None:
    measures = image_scores(n=3, correct1=1, correct5=3, nll=0.1, ece=0.0)
    assert measures["top1"] == pytest.approx(100 / 3)
    assert measures["top5"] == 100
    assert (hits(measures), hits(measures, TOP5)) == (1, 3)


@pytest.mark.parametrize("counts", [(4, 4), (2, 1), (-1, 3), (1, 4)])
def test_counts_must_fit(counts: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="counts must satisfy"):
        image_scores(n=3, correct1=counts[0], correct5=counts[1], nll=0.1, ece=0.0)


@pytest.mark.parametrize("missing", ["tune", "test", "student", "cost", "teacher", "agreement"])
def test_a_done_record_is_complete(missing: str, make_record: Callable[..., Record]) -> None:
    with pytest.raises(ValueError, match=f"a done record needs {missing}"):
        make_record(**{missing: None})


def test_a_teachers_record_needs_no_teacher(cell: Cell, make_record: Callable[..., Record]) -> None:
    alone = cell.model_copy(update={"teacher": None, "kind": "teacher"})
    assert make_record(alone, teacher=None, agreement=None).status == "done"


def test_a_failed_record_needs_a_reason(make_record: Callable[..., Record]) -> None:
    with pytest.raises(ValueError, match="a failed record needs a reason"):
        make_record(status="failed")
    assert make_record(status="failed", reason="out of memory", test=None).reason == "out of memory"


def test_a_record_belongs_to_its_cell(make_record: Callable[..., Record]) -> None:
    with pytest.raises(ValueError, match="is not the hash of the cell"):
        make_record(id="0" * 16)


def test_the_outcome_leaves_out_what_may_differ(make_record: Callable[..., Record]) -> None:
    record = make_record()
    later = record.model_copy(update={"started": "x", "ended": "y", "command": "z", "traceback": "t"})
    assert later != record
    assert later.outcome() == record.outcome()
    worse = make_record(agreement=1.0)
    assert worse.outcome() != record.outcome()


def trial_of(cell: Cell, **changes: Any) -> Cell:
    return cell.model_copy(update={"kind": "trial", **changes})


def test_a_trial_is_not_measured_on_test(cell: Cell, make_record: Callable[..., Record]) -> None:
    trial = trial_of(cell)
    assert make_record(trial, test=None, agreement=None).status == "done"
    with pytest.raises(ValueError, match="a trial is not measured on test"):
        make_record(trial, test=TEST, agreement=None)


@pytest.mark.parametrize("missing", ["tune", "student", "cost", "teacher"])
def test_a_done_trial_is_complete(missing: str, cell: Cell, make_record: Callable[..., Record]) -> None:
    with pytest.raises(ValueError, match=f"a done record needs {missing}"):
        make_record(trial_of(cell), **{"test": None, "agreement": None, missing: None})


def test_only_a_trial_is_pruned_and_says_why(cell: Cell, make_record: Callable[..., Record]) -> None:
    pruned = {"status": "pruned", "test": None, "agreement": None}
    with pytest.raises(ValueError, match="only a trial or a rung is pruned"):
        make_record(**pruned, reason="slow")
    with pytest.raises(ValueError, match="a pruned record needs a reason"):
        make_record(trial_of(cell), **pruned)
    assert make_record(trial_of(cell), **pruned, reason="slow").status == "pruned"


def changed(record: Record, **changes: Any) -> str:
    return json.dumps(json.loads(record.to_json()) | changes)


def test_a_newer_record_is_refused(make_record: Callable[..., Record]) -> None:
    with pytest.raises(KdzooError, match=r"^r\.json: written by a newer kdzoo.*upgrade") as caught:
        parse_record(changed(make_record(), record_schema=SCHEMA + 1, colour="red"), "r.json")
    assert str(SCHEMA + 1) in str(caught.value)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[: len(text) // 2], r"not valid JSON \("),
        (lambda _: "", r"not valid JSON \("),
        (lambda _: "[" * 100_000, r"not valid JSON \("),
        (lambda _: "[]", "not a kdzoo record"),
        (lambda _: '{"accuracy": 3}', "not a kdzoo record"),
        (lambda _: '{"record_schema": "1"}', "not a kdzoo record"),
        (lambda text: text.replace('"n":359', '"n":"359"'), r"tune.n.*: input should be a valid"),
        (lambda text: text.replace('"n":359', '"n":361', 1), "is no number of 361 samples"),
        (lambda text: text.replace('"ece":2.0', '"ece":101.0', 1), "ECE cannot be 101"),
        (lambda text: text.replace('"nll":0.5', '"nil":0.5', 1), "nil is not a declared measure"),
        (lambda text: text.replace('"seed":2', '"seed":3'), "is not the hash of the cell"),
        (lambda text: text.replace('"command"', '"comment"'), "comm"),
    ],
)
def test_a_damaged_record_is_told_and_how_to_mend_it(
    damage: Callable[[str], str], message: str, make_record: Callable[..., Record]
) -> None:
    with pytest.raises(
        KdzooError,
        match=rf"^r\.json: .*{message}.*; run the same bench again, which sets the file aside and "
        f"makes a new file$",
    ):
        parse_record(damage(make_record().to_json()), "r.json")


KEPT = sorted((Path(__file__).parent / "records").glob("schema_*.json"))


def test_every_schema_has_a_kept_record() -> None:
    assert [path.stem for path in KEPT] == [f"schema_{number}" for number in range(1, SCHEMA + 1)]


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_a_record_of_an_older_version_still_loads(path: Path) -> None:
    # Never edit these files: somebody's records look like this. Its id is the hash of its cell, or it would not load.
    record = parse_record(path.read_bytes(), path.name)
    assert record.status == "done"
    assert record.test is not None
    assert hits(record.test) <= record.test["n"]


def test_a_kept_trial_still_loads() -> None:
    record = parse_record((Path(__file__).parent / "records" / "trial_schema_2.json").read_bytes(), "trial")
    assert (record.cell.kind, record.status, record.test) == ("trial", "pruned", None)
    assert record.cell.tuned_from is not None


def test_a_kept_rung_still_loads() -> None:
    record = parse_record((Path(__file__).parent / "records" / "rung_schema_9.json").read_bytes(), "rung")
    assert (record.cell.kind, record.status, record.test) == ("rung", "done", None)
    assert (record.cell.until, record.cell.recipe.epochs) == (2, 2)


def test_what_a_race_chose_says_what_the_race_had_seen(cell: Cell, make_record: Callable[..., Record]) -> None:
    plain, seen = make_record(), Found(strategies=38, trials=120)
    marked = plain.of_race(seen)
    assert (plain.record_schema, marked.record_schema) == (6, 9)
    assert parse_record(marked.to_json(), "r.json") == marked
    assert marked.outcome() == plain.outcome() | {"record_schema": 6}
    assert "found" not in plain.to_json()
    with pytest.raises(ValueError, match="a race chooses students"):
        make_record(trial_of(cell), test=None, agreement=None, found=seen)


@pytest.mark.parametrize("name", ["record_schema", "evaluation"])
@pytest.mark.parametrize("version", [0, -7])
def test_versions_begin_with_1(name: str, version: int, make_record: Callable[..., Record]) -> None:
    with pytest.raises(KdzooError, match=rf"^r\.json: {name}: input should be greater than or equal to 1"):
        parse_record(changed(make_record(), **{name: version}), "r.json")


def test_balanced_cells_need_their_weights_and_others_have_none(cell: Cell, make_record: Callable[..., Record]) -> None:
    balanced = cell.model_copy(update={"balance": Balance(ratio=1.0, rule=1)})
    record = make_record(balanced, balance={"soft": 0.5})
    assert record.record_schema == 8
    assert parse_record(record.to_json(), "r.json") == record
    assert record.outcome()["balance"] == {"soft": 0.5}
    with pytest.raises(ValueError, match="a done record needs the weights of balanced terms"):
        make_record(balanced)
    with pytest.raises(ValueError, match="a done record needs the weights of balanced terms"):
        make_record(balance={"soft": 0.5})
    with pytest.raises(ValueError, match=r"balance\.soft\n.*greater than 0"):
        make_record(balanced, balance={"soft": 0.0})
    plain = make_record()
    assert plain.record_schema < 8
    assert '"balance"' not in plain.to_json()
