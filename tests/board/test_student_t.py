"""Student's t distribution, against scipy's and against closed forms."""

from __future__ import annotations

import math

import pytest
from scipy.special import stdtr, stdtrit

from kdzoo.board.intervals import reach, two_sided_p


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 9, 29, 100, 1000])
@pytest.mark.parametrize("t", [1e-3, 0.5, 1.0, 2.0, 5.0, 50.0])
def test_p_is_that_of_scipy(freedom, t):
    assert two_sided_p(freedom, t) == pytest.approx(2 * stdtr(freedom, -t), rel=1e-11)
    assert two_sided_p(freedom, -t) == two_sided_p(freedom, t)


@pytest.mark.parametrize("t", [1e-8, 1e-3, 1.0, 3.0, 1e6])
def test_one_and_two_degrees_of_freedom_have_closed_forms(t):
    assert two_sided_p(1, t) == pytest.approx(2 / math.pi * math.atan2(1, t), rel=1e-11)
    root = math.sqrt(2 + t * t)
    assert two_sided_p(2, t) == pytest.approx(2 / (root * (root + t)), rel=1e-11)


def test_no_difference_has_p_one():
    assert two_sided_p(4, 0.0) == 1


@pytest.mark.parametrize("freedom", [1, 2, 4, 30, 1000])
@pytest.mark.parametrize("level", [0.5, 0.95, 0.99])
def test_reach_is_the_quantile_of_scipy(freedom, level):
    assert reach(freedom, level) == pytest.approx(stdtrit(freedom, (1 + level) / 2), rel=1e-11)
