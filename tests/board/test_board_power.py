from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from scipy import stats as reference
from scipy.integrate import quad
from typer.testing import CliRunner

from kdzoo.board.power import effect_shown, needed, power, sd_interval, sd_of_interval, seeds_for
from kdzoo.board.render import power_text
from kdzoo.board.stats import estimate
from kdzoo.cli.board import board
from kdzoo.errors import UsageError
from kdzoo.record import Record
from kdzoo.store import Store

Factory = Callable[..., Any]


def cells_of(text: str, strategy: str) -> list[str]:
    """The cells of a strategy's line in a printed table."""
    line = next(line for line in text.splitlines() if line.startswith(strategy))
    return re.split(r"\s{2,}", line)


# The one-sample (so the paired) t test, two-sided at 0.05 with power 0.8, as in Cohen 1988 and G*Power 3.
@pytest.mark.parametrize(("effect", "seeds"), [(0.2, 199), (0.5, 34), (0.8, 15), (1.0, 10), (1.2, 8), (2.0, 5)])
def test_seeds_of_the_textbooks(effect: float, seeds: int) -> None:
    assert seeds_for(effect) == seeds


@pytest.mark.parametrize("effect", [0.0, 0.1, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("n", [3, 5, 12, 200])
def test_power_is_an_integral_over_the_spread(effect: float, n: int) -> None:
    # t = (Z + shift) / S with (n-1) S^2 chi-square: the chance of |t| > critical for each S, weighed by its density.
    critical, shift = reference.t.ppf(0.975, n - 1), effect * math.sqrt(n)
    spread = reference.chi(n - 1, scale=1 / math.sqrt(n - 1))

    def rejected(s: float) -> float:
        beyond = reference.norm.sf(critical * s - shift) + reference.norm.cdf(-critical * s - shift)
        return float(beyond * spread.pdf(s))

    area, _ = quad(rejected, spread.ppf(1e-12), spread.isf(1e-12), limit=200)
    assert power(effect, n) == pytest.approx(area, abs=1e-8)
    assert power(-effect, n) == power(effect, n)


@pytest.mark.parametrize(("effect", "n"), [(1.0, 3), (1.5, 5), (0.6, 10)])
def test_power_is_how_often_simulated_tests_reject(effect: float, n: int) -> None:
    draws = np.random.RandomState(3).standard_normal((20_000, n)) + effect
    rejected = (reference.ttest_1samp(draws, 0, axis=1).pvalue < 0.05).mean()
    assert power(effect, n) == pytest.approx(rejected, abs=0.01)


@pytest.mark.parametrize("effect", [0.03, 0.11, 0.37, 0.99, 1.7, 3.2])
def test_one_seed_fewer_would_not_do(effect: float) -> None:
    seeds = seeds_for(effect)
    assert seeds is not None
    assert power(effect, seeds) >= 0.8 > power(effect, seeds - 1)


def test_the_ends_of_the_scale() -> None:
    assert seeds_for(1e9) == seeds_for(50.0) == 3
    assert power(1e9, 3) == 1.0
    assert power(0.0, 3) == pytest.approx(0.05)
    assert seeds_for(1e-4) is None
    seeds = seeds_for(0.0029)
    assert seeds is not None
    assert 900_000 < seeds < 1_000_000


@pytest.mark.parametrize("n", [3, 4, 10, 34, 500])
def test_the_difference_that_seeds_show_is_where_power_reaches_its_aim(n: int) -> None:
    assert power(effect_shown(n), n) == pytest.approx(0.8, abs=1e-9)


def test_the_interval_of_a_spread_by_hand() -> None:
    # n = 3: the quantiles of chi-square with two degrees of freedom are -2 ln(1 - q).
    low, high = sd_interval(0.4, 3)
    assert low == pytest.approx(0.4 * math.sqrt(2 / (-2 * math.log(0.025))))
    assert high == pytest.approx(0.4 * math.sqrt(2 / (-2 * math.log(0.975))))


def test_the_interval_of_a_spread_covers_the_true_one() -> None:
    spreads = np.random.RandomState(5).standard_normal((4_000, 4)).std(axis=1, ddof=1)
    covered = np.mean([low <= 1 <= high for low, high in (sd_interval(float(one), 4) for one in spreads)])
    assert covered == pytest.approx(0.95, abs=0.012)


def test_the_spread_is_read_back_from_an_interval() -> None:
    values = [0.31, -0.2, 1.7, 0.9, 0.02]
    found = estimate(values)
    assert found.low is not None
    assert found.high is not None
    assert sd_of_interval(found.low, found.high, 5) == pytest.approx(np.std(values, ddof=1), rel=1e-12)


def test_the_range_of_seeds_is_that_of_the_spread() -> None:
    found = needed(0.5, 0.5, 4)
    low, high = sd_interval(0.5, 4)
    assert (found.seeds, found.seeds_low, found.seeds_high) == (10, seeds_for(0.5 / low), seeds_for(0.5 / high))
    assert found.seeds_low is not None
    assert found.seeds_high is not None
    assert found.seeds_low < 10 < 100 < found.seeds_high
    assert found.shown == pytest.approx(0.5 * effect_shown(4))


def test_the_printed_table(sweep: list[Record]) -> None:
    # soft: differences 3.0, 2.6, 3.4 to ce, sd 0.4; one point is 2.5 of them.
    text = power_text(sweep, points=1.0)
    low, high = (seeds_for(1.0 / end) for end in sd_interval(0.4, 3))
    shown = f"{0.4 * effect_shown(3):.2f}"
    assert text.startswith("digits 8x8: resnet20 -> resnet8\n")
    assert cells_of(text, "soft")[1:] == ["3", "+3.00", "0.40", str(seeds_for(2.5)), f"{low} to {high}", shown]
    assert cells_of(text, "fitnets")[1:] == ["2", "+0.20", "-", "-", "n<3", "-"]
    assert not any(line.startswith("ce") for line in text.splitlines())
    assert "two-sided paired t test at 0.05" in text
    assert "chi-square" in text
    assert "n<3 or no spread" in text
    assert max(map(len, text.splitlines())) <= 120


def test_a_tiny_difference_needs_more_seeds_than_are_counted(sweep: list[Record]) -> None:
    assert cells_of(power_text(sweep, points=1e-5), "soft")[4:6] == [
        "over 1,000,000",
        "over 1,000,000 to over 1,000,000",
    ]


def test_equal_differences_say_nothing_of_the_spread(rows: Factory) -> None:
    text = power_text(rows({"ce": [900, 910, 890], "soft": [930, 940, 920]}), points=0.5)
    assert cells_of(text, "soft")[3:] == ["-", "-", "no spread", "-"]


def test_every_pair_has_its_table(rows: Factory) -> None:
    results = {"ce": [900, 910, 890], "soft": [930, 936, 924]}
    records = rows(results) + rows(results, student="resnet14")
    text = power_text(records, points=0.5)
    assert [line for line in text.splitlines() if line.startswith("digits")] == [
        "digits 8x8: resnet20 -> resnet14",
        "digits 8x8: resnet20 -> resnet8",
    ]
    joined = power_text(records, points=0.5, by="dataset")
    assert re.search(r"^soft .* resnet14 .*\nsoft .* resnet8 ", joined, re.MULTILINE)


def test_without_differences_there_is_no_table(rows: Factory) -> None:
    assert power_text(rows({"ce": [900, 910, 890]}), points=0.5) == "no differences to ce yet\n"
    assert power_text([], points=0.5) == "no differences to ce yet\n"


@pytest.mark.parametrize("points", [0.0, -1.0, math.nan, math.inf])
def test_a_difference_that_is_none_is_a_usage_error(points: float, sweep: list[Record]) -> None:
    with pytest.raises(UsageError, match=r"give points above 0, such as --power 0\.5"):
        power_text(sweep, points=points)


def test_the_command_line_prints_it(tmp_path: Path, sweep: list[Record]) -> None:
    store = Store.create(tmp_path / "runs")
    for record in sweep:
        store.plan(record.cell)
        store.write_record(record)
    app = typer.Typer()
    app.command()(board)

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(app, ["--out", str(store.path), *arguments])

    assert run("--power", "1").stdout == power_text(sweep, points=1.0)
    assert isinstance(run("--power", "nan").exception, UsageError)
    refused = run("--power", "1", "--format", "csv")
    assert isinstance(refused.exception, UsageError)
    assert "leave out --format" in str(refused.exception)
    assert refused.stdout == ""
