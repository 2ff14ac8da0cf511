from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats as reference

from kdzoo.board import stats
from kdzoo.board.stats import estimate, gap_recovered, gaps_recovered, holm, paired_difference

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


def linearised(values: np.ndarray, baseline: np.ndarray, teacher: float) -> tuple[float, float]:
    """The recovered share and its standard error, as the standard deviation of (x - g y) / mean(y) gives it."""
    x, y = values - baseline, teacher - baseline
    share = x.mean() / y.mean()
    return share, float(np.std((x - share * y) / y.mean(), ddof=0)) * math.sqrt(len(x) / (len(x) - 1) / len(x))


def test_gap_interval_is_the_bootstrap_t_over_every_resample() -> None:
    values, baseline, teacher, n = np.array(SOFT), np.array(CE), 96.0, 5
    share, error = linearised(values, baseline, teacher)
    away = []
    for picks in itertools.product(range(n), repeat=n):
        one, its_error = linearised(values[list(picks)], baseline[list(picks)], teacher)
        floored = max(its_error, error / 4)
        away.append((one - share) / floored if its_error > 1e-9 else math.copysign(math.inf, one - share))
    low, high = np.quantile(away, [0.025, 0.975], method="inverted_cdf")
    found = gap_recovered(SOFT, CE, teacher)
    assert (found.n, found.note) == (5, "")
    assert found.mean == pytest.approx(share)
    assert (found.low, found.high) == pytest.approx((share - high * error, share - low * error), abs=1e-9)


def test_three_close_seeds_make_no_interval_absurd() -> None:
    """8% of the resamples hold only the three, whose standard error is a thousandth of the sample's."""
    baseline = [95.0, 95.1, 94.9, 95.2, 94.8]
    gained = [-0.3, -0.3001, -0.2999, 0.6, 0.4]
    found = gap_recovered([one + more for one, more in zip(baseline, gained, strict=True)], baseline, 99.0)
    share, error = linearised(np.add(baseline, gained), np.array(baseline), 99.0)
    assert found.low is not None
    assert found.high is not None
    assert found.mean == pytest.approx(share)
    assert found.low < share - 2 * error
    assert share + 2 * error < found.high < share + 8 * error


def test_gap_interval_of_many_seeds_is_close_to_the_normal_one() -> None:
    draw = np.random.RandomState(7)
    baseline = 90 + draw.standard_normal(60)
    values = baseline + 2 + draw.standard_normal(60)
    share, error = linearised(values, baseline, 97.0)
    found = gap_recovered(list(values), list(baseline), 97.0)
    assert (found.low, found.high) == pytest.approx((share - 1.96 * error, share + 1.96 * error), abs=0.2 * error)
    assert found == gap_recovered(list(values), list(baseline), 97.0)


def test_gap_intervals_of_five_seeds_hold_the_share_as_often_as_they_say() -> None:
    """A binomial 95% has a standard deviation of 0.011 over 400 draws; the percentile bootstrap reaches 0.84. Without a
    floor of the standard errors, one width in forty is above 0.89."""
    draw = np.random.RandomState(3)
    held, widths = 0, []
    for _ in range(400):
        baseline = 90 + 0.4 * draw.standard_normal(5)
        found = gap_recovered(list(baseline + 1 + 0.4 * draw.standard_normal(5)), list(baseline), 95.0)
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 1 / 5 <= found.high
        widths.append(found.high - found.low)
    assert 0.92 <= held / 400 <= 0.98
    assert np.quantile(widths, 0.975) < 0.6


@pytest.mark.parametrize(
    ("values", "baseline", "teacher", "share", "note"),
    [
        ([93.0, 93.6, 92.4], [90.0, 91.0, 89.0], 90.0, None, "teacher not above baseline"),
        (SOFT, CE, 90.5, (92.82 - 89.86) / (90.5 - 89.86), "teacher not clearly above baseline"),
        ([93.0, 93.6], [90.0, 91.0], 94.5, 0.7, "n<5"),
        (SOFT[:4], CE[:4], 96.0, (92.75 - 90.1) / (96 - 90.1), "n<5"),
        ([each + 1 for each in CE], CE, 91.86, 0.5, "no spread"),
        ([91.0, 90.0, 90.0, 90.0, 90.0], [90.0] * 5, 92.0, 0.1, "no spread"),
        # Four equal seeds of which sums of squares, that cancel, would leave a spread of 1e-8.
        ([70.0] * 4 + [70.5], [60.0] * 5, 88.26, 10.1 / 28.26, "no spread"),
        ([], [], 92.0, None, "no shared seed"),
    ],
)
def test_gap_without_interval_says_why(
    values: list[float], baseline: list[float], teacher: float, share: float | None, note: str
) -> None:
    found = gap_recovered(values, baseline, teacher)
    assert found.mean == (None if share is None else pytest.approx(share))
    assert (found.low, found.high, found.note) == (None, None, note)


def test_gaps_of_many_rows_are_those_of_each_to_the_last_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.RandomState(5)
    pairs: list[tuple[list[float], list[float]]] = [
        (list(90 + draw.standard_normal(n)), list(89 + draw.standard_normal(n))) for n in (5, 0, 7, 5, 3, 5, 6, 9, 7)
    ]
    pairs += [(SOFT, [97.5, 90.0, 90.0, 90.0, 90.0]), ([each + 1 for each in CE], CE)]
    together = gaps_recovered(pairs, 97.0)
    monkeypatch.setattr(stats, "_ROWS", 2)
    assert gaps_recovered(pairs, 97.0) == together
    assert together == [gap_recovered(*pair, 97.0) for pair in pairs]
    assert {one.note for one in together} == {
        "", "no shared seed", "n<5", "no spread", "teacher not clearly above baseline",
    }  # fmt: skip
    assert gaps_recovered([], 97.0) == []
