"""A teacher that was vouched for is published, and marked."""

from __future__ import annotations

import pytest
from made_records import make_rows, measures

from kdzoo.leaderboard.check.groups import group_faults
from kdzoo.leaderboard.check.records import record_faults, remarks
from kdzoo.leaderboard.union import Union
from kdzoo.record import Record


def vouching(record: Record) -> Record:
    assert record.teacher is not None
    teacher = record.teacher.model_copy(update={"vouched": True, "test": measures(100), "tune": measures(30, 359)})
    return record.model_copy(update={"teacher": teacher})


@pytest.fixture
def rows() -> list[Record]:
    made = make_rows({"ce": [900, 910], "soft": [90, 80]})
    return [vouching(one) for one in made]


def reasons(faults: list) -> list[str]:
    return [fault.reason for fault in faults]


def test_a_check_remarks_it_and_finds_no_fault_in_it(rows: list[Record]) -> None:
    alone = [reason for reason in reasons(record_faults(rows)) if "chance" in reason]
    assert alone == []
    assert remarks(rows) == [
        "records of teachers that are not above chance, accepted by --trust-teacher, marked on the board: 4"
    ]
    unvouched = [
        one.model_copy(update={"teacher": one.teacher.model_copy(update={"vouched": False})})
        for one in rows
        if one.teacher
    ]
    assert [reason for reason in reasons(record_faults(unvouched)) if "has a teacher no better" in reason]


def test_whether_somebody_vouched_is_no_measure_of_the_teacher(rows: list[Record]) -> None:
    assert rows[0].teacher
    other = rows[0].model_copy(update={"teacher": rows[0].teacher.model_copy(update={"vouched": False})})
    assert not [reason for reason in reasons(group_faults([other, *rows[1:]])) if "another teacher" in reason]


def test_a_union_keeps_it(rows: list[Record]) -> None:
    union = Union()
    union.add(rows, [])
    union.add(rows, [])
    assert union.conflicts == []
    assert all(record.teacher and record.teacher.vouched for record in union.records.values())
