"""The factories of made_records as fixtures."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from made_records import DATA, RECIPE, make_cell, make_failure, make_record, make_rows, make_sweep, make_teacher

from kdzoo.cell import Cell
from kdzoo.recipe import Recipe
from kdzoo.record import Record
from kdzoo.refs import DataRef, TeacherRef


@pytest.fixture
def cell() -> Callable[..., Cell]:
    return make_cell


@pytest.fixture
def record() -> Callable[..., Record]:
    return make_record


@pytest.fixture
def failure() -> Callable[..., Record]:
    return make_failure


@pytest.fixture
def rows() -> Callable[..., list[Record]]:
    return make_rows


@pytest.fixture
def teacher() -> Callable[..., TeacherRef]:
    return make_teacher


@pytest.fixture
def digits() -> DataRef:
    return DATA


@pytest.fixture
def recipe() -> Recipe:
    return RECIPE


@pytest.fixture
def sweep() -> list[Record]:
    return make_sweep()
