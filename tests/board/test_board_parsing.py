"""What is kept of a record, line by line, is what the whole record says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kdzoo.board import parsing
from kdzoo.board.parsing import RecordParser, parse_lines, results_of
from kdzoo.board.rows import SeedResult, seed_result
from kdzoo.cell import Cell
from kdzoo.errors import KdzooError
from kdzoo.record import SCHEMA, Record, parse_record
from kdzoo.record_parts import Epoch
from kdzoo.refs import ModelRef, StrategyRef, TeacherRef
from kdzoo.store import Store

HERE = Path(__file__).parent
OLD = sorted((HERE.parent / "core" / "records").glob("*.json"))


def students() -> list[Record]:
    """Done and failed."""
    return Store.open(HERE / "sweep" / "store").records()


def a_done() -> Record:
    return next(one for one in students() if one.status == "done" and one.cell.kind == "student")


def record_of(cell: Cell, base: Record) -> Record:
    """The record with another cell, as complete as that one's must be."""
    changes: dict[str, Any] = {"cell": cell, "id": cell.id}
    if cell.kind == "trial":
        changes |= {"test": None, "agreement": None}
    if cell.teacher is None:
        changes |= {"teacher": None, "agreement": None}
    return Record.model_validate(base.model_copy(update=changes).model_dump())


def everything() -> list[Record]:
    """Records of every kind: students, tuned ones too, teachers and trials; done, failed and pruned."""
    base = a_done()
    made = students() + [record_of(cell, base) for cell in variants(base.cell)]
    trial = next(one for one in made if one.cell.kind == "trial")
    made.append(trial.model_copy(update={"status": "pruned", "reason": "bad", "test": None}))
    return made


def line(parser: RecordParser, text: str, cell_id: str = "") -> bytes:
    return parser.line(cell_id or json.loads(text)["id"], text.encode(), "here", "stamp")


def through_lines(*texts: str) -> list[SeedResult]:
    parser = RecordParser()
    lines = [line(parser, text) for text in texts]
    texts_of_digests = parser.new_texts()
    assert parser.new_texts() == {}
    return results_of(parse_lines(lines), texts_of_digests)


def variants(cell: Cell) -> list[Cell]:
    odd = ModelRef(name="r\u00e9seau", args={"a": 1, "b": 1.0, "c": True, "d": None})
    quoted = StrategyRef(name='a"b', distribution="c", revision="1", params={"x": 1e-5})
    named_as_fields = ModelRef(name="a", args={"a": 1, "study": "s", "teacher": '},"command":', "tuned_from": None})
    before_the_seed = StrategyRef(name="s", distribution='"seed":1', revision="1", params={"seed": 3, "student": 1.0})
    other = cell.recipe.model_copy(update={"lr": 0.3, "name": "other"})
    teacher = cell.teacher
    assert teacher is not None
    return [
        cell,
        cell.model_copy(update={"seed": 7}),
        cell.model_copy(update={"init": "pretrained"}),
        cell.model_copy(update={"recipe": other, "tuned_from": cell.recipe}),
        cell.model_copy(update={"kind": "teacher", "teacher": None}),
        cell.model_copy(update={"kind": "trial", "study": "feed"}),
        cell.model_copy(update={"student": odd}),
        cell.model_copy(update={"strategy": quoted}),
        cell.model_copy(update={"student": named_as_fields}),
        cell.model_copy(update={"strategy": before_the_seed}),
        cell.model_copy(update={"teacher": TeacherRef(model=teacher.model, weights="pretrained", digest="ab")}),
        cell.model_copy(update={"teacher": teacher.model_copy(update={"recipe": other})}),
        cell.model_copy(update={"protocol": 2}),
    ]


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The records that are parsed as a whole."""
    found: list[str] = []

    def noted(text: bytes, where: str, **more: Any) -> Record:
        record = parse_record(text, where, **more)
        found.append(record.id)
        return record

    monkeypatch.setattr(parsing, "parse_record", noted)
    return found


@pytest.mark.parametrize("schema", [SCHEMA - 1, SCHEMA])  # without a seal, and with one
def test_what_boards_use_is_that_of_the_whole_records(schema: int, whole: list[str]) -> None:
    made = [one.model_copy(update={"record_schema": schema}) for one in everything()]
    assert {one.cell.kind for one in made} == {"student", "teacher", "trial"}
    assert {one.status for one in made} == {"done", "failed", "pruned"}
    assert any(one.cell.tuned_from for one in made)
    assert len({one.cell.row_key(1) for one in made}) > 20
    found = through_lines(*(one.to_json() for one in made + made))  # the second time every value is known
    assert found == [result for one in made + made if (result := seed_result(one)) is not None]
    assert 50 < len(found) < len(made + made)
    if schema == SCHEMA:  # but for where a value has a field's name in it, so that the text is cut elsewhere
        odd = {one.id for one in made if one.cell.strategy.name == "s" or one.cell.student.name == "a"}
        assert set(whole) <= odd


def test_equal_rows_have_one_key() -> None:
    texts = [one.to_json() for one in students() if one.cell.data.name == "digits"]
    keys = [one.key for one in through_lines(*texts)]
    assert len({id(key) for key in keys}) == len(set(keys)) < len(keys)
    assert len({id(key.context) for key in keys}) == len({key.context for key in keys})


@pytest.mark.parametrize("path", OLD, ids=[path.stem for path in OLD])
def test_records_of_older_versions_are_kept(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    result = seed_result(parse_record(text, "here"))
    assert through_lines(text) == ([] if result is None else [result])


@pytest.mark.parametrize("name", ["kl", "a]", '],"id":"0"', 'quo"te]', "\\]"])
def test_names_of_terms_cannot_confuse(name: str) -> None:
    epoch = Epoch(epoch=0, phase="main", terms={name: 1.0}, lr=0.1, tune={"top1": 50.0})
    record = a_done().model_copy(update={"curve": (epoch,), "command": 'say \'"curve":[{}],"id":"0"\''})
    for text in (record.to_json(), json.dumps(json.loads(record.to_json()), indent=1)):
        assert through_lines(text) == [seed_result(record)]


def _changed(**changes: Any) -> Callable[[str], str]:
    return lambda text: json.dumps({**json.loads(text), **changes})


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-20],
        lambda text: "[]",
        lambda text: text.replace('"seed":0', '"seed":1'),
        lambda text: text.replace('"seed":0', '"seed":-1'),
        lambda text: text.replace('"seed":0', '"seed":true'),
        lambda text: text.replace('"correct1":', '"correct1":9999999', 1),
        _changed(record_schema=99),
        _changed(record_schema="4"),
        _changed(id="0" * 16),
        _changed(test=None),
        _changed(cell=None),
        _changed(agreement=101.0),
        _changed(status="pruned", reason="bad"),
        _changed(status="failed"),
    ],
)
def test_what_is_wrong_is_told_as_of_a_whole_record(damage: Callable[[str], str]) -> None:
    record = next(one for one in students() if one.cell.seed == 0 and one.status == "done" and one.cell.teacher)
    text = damage(record.to_json())
    with pytest.raises(KdzooError) as whole:
        parse_record(text, "here")
    parser = RecordParser()
    line(parser, record.to_json())  # now it knows the values
    with pytest.raises(KdzooError) as told:
        line(parser, text, record.id)
    assert str(told.value) == str(whole.value)


@pytest.mark.parametrize(
    "change", [('"lr":0.1', '"lr":"fast"'), ('"command":"', '"order":"'), ('top1":50.0', 'top1":null')]
)
def test_what_boards_do_not_use_is_vouched_for_by_the_seal_or_looked_at(change: tuple[str, str]) -> None:
    epoch = Epoch(epoch=0, phase="main", terms={"ce": 1.0}, lr=0.1, tune={"top1": 50.0})
    for schema in (4, SCHEMA):  # without a seal, and with one
        text = a_done().model_copy(update={"curve": (epoch,), "record_schema": schema}).to_json()
        damaged = text.replace(*change)
        for broken in (damaged, damaged[: damaged.index('"curve"') + 20] + damaged[damaged.index('"curve"') + 30 :]):
            with pytest.raises(KdzooError) as whole:
                parse_record(broken, "here")
            with pytest.raises(KdzooError) as told:
                line(RecordParser(), broken, a_done().id)
            assert str(told.value) == str(whole.value)
    parser = RecordParser()
    line(parser, text)
    assert through_lines(text) == [seed_result(parse_record(text, "here"))]


def test_a_record_of_another_cell_is_told() -> None:
    record = a_done()
    for text in (record.to_json(), record.to_json().replace('"lr":', ' "lr" : ')):
        with pytest.raises(KdzooError, match=f"here: the record of cell {record.id}, which belongs into the folder"):
            line(RecordParser(), text, "0" * 16)
