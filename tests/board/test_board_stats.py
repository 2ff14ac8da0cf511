from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats as reference

from kdzoo.board.stats import estimate, gap_recovered, holm, paired_difference

CE = [90.0, 91.0, 89.0, 90.4, 88.9]
SOFT = [93.0, 93.6, 92.4, 92.0, 93.1]


def test_estimate_equals_scipy() -> None:
    found = estimate(SOFT)
    expected = reference.ttest_1samp(SOFT, 0)
    interval = expected.confidence_interval(0.95)
    assert (found.n, found.note) == (5, "")
    assert found.mean == pytest.approx(np.mean(SOFT), abs=1e-12)
    assert found.sd == pytest.approx(np.std(SOFT, ddof=1), abs=1e-12)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), abs=1e-9)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-9)


@pytest.mark.parametrize("n", [3, 4, 5])
def test_paired_difference_equals_scipy(n: int) -> None:
    found = paired_difference(SOFT[:n], CE[:n])
    expected = reference.ttest_rel(SOFT[:n], CE[:n])
    interval = expected.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), abs=1e-9)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-9)
    assert found.excludes_zero == (expected.pvalue < 0.05)


def test_paired_difference_by_hand() -> None:
    # Differences 3.0, 2.6, 3.4; with two degrees of freedom p = 1 - t / sqrt(t^2 + 2), and t_0.975 = 4.302653.
    found = paired_difference([93.0, 93.6, 92.4], [90.0, 91.0, 89.0])
    t = 3.0 / (0.4 / math.sqrt(3))
    assert found.mean == pytest.approx(3.0)
    assert found.sd == pytest.approx(0.4)
    assert found.low == pytest.approx(3.0 - 4.302653 * 0.4 / math.sqrt(3), abs=1e-6)
    assert found.high == pytest.approx(3.0 + 4.302653 * 0.4 / math.sqrt(3), abs=1e-6)
    assert found.p == pytest.approx(1 - t / math.sqrt(t**2 + 2), rel=1e-9)


def test_pairs_must_be_as_many() -> None:
    with pytest.raises(ValueError, match="shorter"):
        paired_difference([1.0, 2.0, 3.0], [1.0, 2.0])


@pytest.mark.parametrize(
    ("values", "mean", "sd", "note"),
    [([], None, None, "no seed"), ([92.0], 92.0, None, "n<3"), ([92.0, 94.0], 93.0, math.sqrt(2), "n<3")],
)
def test_few_seeds_have_no_interval_and_say_so(
    values: list[float], mean: float | None, sd: float | None, note: str
) -> None:
    found = estimate(values)
    assert (found.mean, found.note) == (mean, note)
    assert found.sd == (None if sd is None else pytest.approx(sd))
    assert (found.low, found.high, found.p, found.excludes_zero) == (None, None, None, False)


def test_equal_differences_have_no_interval() -> None:
    # 0.1 apart on each seed, which floats spell differently each time.
    found = paired_difference([90.1, 91.1, 89.1], [90.0, 91.0, 89.0])
    assert found.mean == pytest.approx(0.1)
    assert (found.sd, found.low, found.p, found.note, found.excludes_zero) == (0.0, None, None, "no spread", False)


def test_holm_by_hand() -> None:
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1 = 0.02, 0.03, 0.06, 0.04; the last is raised to the one before.
    assert holm([0.01, 0.04, None, 0.03, 0.005]) == pytest.approx([0.03, 0.06, None, 0.06, 0.02])


def test_holm_stays_a_probability_and_takes_an_empty_family() -> None:
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([None]) == [None]
    assert holm([]) == []


@pytest.mark.parametrize("n", [3, 4, 5])
def test_gap_interval_is_over_every_resample(n: int) -> None:
    values, baseline, teacher = SOFT[:n], CE[:n], 96.0
    shares = []
    for picks in itertools.product(range(n), repeat=n):
        mean = sum(values[pick] for pick in picks) / n
        base = sum(baseline[pick] for pick in picks) / n
        shares.append((mean - base) / (teacher - base))
    low, high = np.quantile(shares, [0.025, 0.975], method="inverted_cdf")
    found = gap_recovered(values, baseline, teacher)
    assert found.mean == pytest.approx((np.mean(values) - np.mean(baseline)) / (teacher - np.mean(baseline)))
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-12)


def test_gap_interval_of_many_seeds_agrees_with_scipy() -> None:
    draw = np.random.RandomState(7)
    baseline = 90 + draw.standard_normal(12)
    values = baseline + 2 + draw.standard_normal(12)

    def share(values: np.ndarray, baseline: np.ndarray, axis: int) -> np.ndarray:
        return (values.mean(axis) - baseline.mean(axis)) / (97 - baseline.mean(axis))

    expected = reference.bootstrap(
        (values, baseline), share, paired=True, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    found = gap_recovered(list(values), list(baseline), 97.0)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.01)
    assert found == gap_recovered(list(values), list(baseline), 97.0)


@pytest.mark.parametrize(
    ("values", "baseline", "teacher", "share", "note"),
    [
        ([93.0, 93.6, 92.4], [90.0, 91.0, 89.0], 90.0, None, "teacher not above baseline"),
        ([93.0, 93.6, 92.4], [90.0, 91.0, 89.0], 90.5, 6.0, "teacher not clearly above baseline"),
        ([93.0, 93.6], [90.0, 91.0], 94.5, 0.7, "n<3"),
        ([91.0, 92.0, 90.0], [90.0, 91.0, 89.0], 92.0, 0.5, "no spread"),
        ([], [], 92.0, None, "no shared seed"),
    ],
)
def test_gap_without_interval_says_why(
    values: list[float], baseline: list[float], teacher: float, share: float | None, note: str
) -> None:
    found = gap_recovered(values, baseline, teacher)
    assert found.mean == (None if share is None else pytest.approx(share))
    assert (found.low, found.high, found.note) == (None, None, note)
