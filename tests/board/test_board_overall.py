from __future__ import annotations

import itertools
import json
import math
import sys
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
from scipy import stats as reference

from kdzoo.board import table
from kdzoo.board.display import tables
from kdzoo.board.overall import Overall, overall
from kdzoo.board.render import FORMATS, board_text
from kdzoo.board.standings import Standing
from kdzoo.board.stats import Friedman, critical_difference, friedman, inseparable, rank_within_blocks
from kdzoo.board.table import Board, make_board
from kdzoo.cell import Cell
from kdzoo.record import Record
from kdzoo.refs import Scalar
from kdzoo.space import Range
from kdzoo.study import Study, StudyPlan, Trial

Factory = Callable[..., Any]

# Demsar 2006, table 6: AUC of C4.5, C4.5+m, C4.5+cf and C4.5+m+cf on 14 data sets.
DEMSAR = np.array(
    [
        [0.763, 0.768, 0.771, 0.798],
        [0.599, 0.591, 0.590, 0.569],
        [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657],
        [0.882, 0.888, 0.886, 0.898],
        [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685],
        [0.583, 0.583, 0.563, 0.625],
        [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000],
        [0.940, 0.962, 0.965, 0.962],
        [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.9751, 0.975],
        [0.957, 0.978, 0.946, 0.970],
    ]
)


def test_ranks_by_hand() -> None:
    scores = np.array([[90.0, 92.0, 91.0], [90.0, 90.0, 95.0], [90.0, 90.0 + 1e-12, 90.0]])
    assert rank_within_blocks(scores).tolist() == [[3, 1, 2], [2.5, 2.5, 1], [2, 2, 2]]


def test_ranks_equal_scipy() -> None:
    scores = np.random.RandomState(0).randint(0, 6, size=(40, 7)).astype(np.float64)
    assert np.array_equal(rank_within_blocks(scores), reference.rankdata(-scores, axis=1))


def test_the_published_example() -> None:
    # The paper's mean ranks, critical difference and, without the correction for ties, statistics.
    means = rank_within_blocks(DEMSAR).mean(axis=0)
    assert means == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=5e-4)
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=5e-3)
    uncorrected = 12 * 14 / (4 * 5) * (sum(means**2) - 4 * 5**2 / 4)
    assert uncorrected == pytest.approx(9.28, abs=5e-3)
    found = friedman(DEMSAR)
    ties = sum(count**3 - count for row in DEMSAR for count in np.unique(row, return_counts=True)[1])
    assert found.chi2 == pytest.approx(uncorrected / (1 - ties / (14 * 4 * (4**2 - 1))))
    assert (found.freedom, found.f_freedom) == (3, 39)


@pytest.mark.parametrize(("blocks", "strategies"), [(2, 3), (5, 4), (20, 8)])
def test_friedman_equals_scipy(blocks: int, strategies: int) -> None:
    scores = np.random.RandomState(blocks).randint(0, 9, size=(blocks, strategies)).astype(np.float64)
    found = friedman(scores)
    expected = reference.friedmanchisquare(*scores.T)
    assert found.chi2 == pytest.approx(expected.statistic)
    assert found.p == pytest.approx(expected.pvalue)
    f = (blocks - 1) * expected.statistic / (blocks * (strategies - 1) - expected.statistic)
    assert found.f == pytest.approx(f)
    assert found.f_p == pytest.approx(reference.f.sf(f, strategies - 1, (strategies - 1) * (blocks - 1)))


@pytest.mark.parametrize(
    ("scores", "note"),
    [
        ([[1.0, 2.0], [1.0, 2.0]], "at least 3 ranked strategies"),
        ([[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]], "all strategies tie"),
        ([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], "F is infinite"),
    ],
)
def test_a_test_that_cannot_be_says_why(scores: list[list[float]], note: str) -> None:
    found = friedman(np.array(scores))
    assert note in found.note
    assert (found.f, found.f_p) == (None, None)
    assert (found.chi2 is None) == (note != "F is infinite")


# Demsar 2006, table 5a: the quantiles divided by the square root of 2.
@pytest.mark.parametrize(
    ("strategies", "q"), [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (6, 2.850), (8, 3.031), (10, 3.164)]
)
def test_the_critical_difference_has_the_published_quantiles(strategies: int, q: float) -> None:
    expected = q * math.sqrt(strategies * (strategies + 1) / (6 * 12))
    assert critical_difference(strategies, 12) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("strategies", [2, 3, 7, 30])
def test_the_critical_difference_equals_scipy(strategies: int) -> None:
    q = reference.studentized_range.ppf(0.95, strategies, np.inf)
    expected = q / math.sqrt(2) * math.sqrt(strategies * (strategies + 1) / (6 * 9))
    assert critical_difference(strategies, 9) == pytest.approx(expected, rel=1e-8)


def test_sets_of_the_undistinguished_equal_every_subset() -> None:
    draw = np.random.RandomState(1)
    for size in (2, 3, 5, 6):
        for _ in range(30):
            means = [float(mean) for mean in draw.randint(4, 4 * size + 1, size=size) / 4]
            difference = float(draw.randint(1, 9)) / 4
            close = [
                set(subset)
                for length in range(2, size + 1)
                for subset in itertools.combinations(range(size), length)
                if all(abs(means[a] - means[b]) < difference for a, b in itertools.combinations(subset, 2))
            ]
            largest = [subset for subset in close if not any(subset < other for other in close)]
            found = inseparable(means, difference)
            assert sorted(map(sorted, largest)) == sorted(map(sorted, found))
            assert [means[place] for place in sum(found, ())] == [
                means[place] for one in found for place in sorted(one, key=lambda place: means[place])
            ]


RESULTS = {
    "resnet8": {"ce": [900, 910, 890], "soft": [930, 936, 924], "at": [905, 915, 895]},
    "resnet14": {"ce": [940, 941, 942], "soft": [950, 951, 952], "at": [950, 951, 952]},
    "vit": {"ce": [700, 710, 720], "soft": [690, 712, 716], "at": [730, 740, 750]},
}


@pytest.fixture
def three_pairs(rows: Factory) -> list[Record]:
    return [one for student, results in RESULTS.items() for one in rows(results, student=student)]


def only(records: Iterable[Record], *args: Any) -> Overall:
    found = overall(make_board(records, *args))
    assert len(found) == 1
    return found[0]


def named(found: Overall) -> dict[str, Standing]:
    return {standing.text: standing for standing in found.standings}


def test_every_figure_by_hand(three_pairs: list[Record]) -> None:
    # Places: resnet8 soft 1, at 2, ce 3; resnet14 soft and at 1.5, ce 3; vit at 1, ce 2, soft 3.
    found = only(three_pairs)
    assert [(one.text, one.mean_rank) for one in found.standings] == [
        ("at", pytest.approx(1.5)),
        ("soft", pytest.approx((1 + 1.5 + 3) / 3)),
        ("ce", pytest.approx((3 + 3 + 2) / 3)),
    ]
    soft = named(found)["soft"]
    assert soft.score == pytest.approx((93.0 + 95.1 + 70.6) / 3)
    expected = reference.ttest_1samp([3.0, 1.0, -0.4], 0)
    assert (soft.diff_ce.n, soft.diff_ce.mean) == (3, pytest.approx(1.2))
    assert soft.diff_ce.p == pytest.approx(expected.pvalue)
    assert (soft.diff_ce.low, soft.diff_ce.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert named(found)["ce"].diff_ce.note == "baseline"
    assert soft.seeds == (3, 3, 3)
    assert [block.text for block in found.blocks] == [
        "digits 8x8: resnet20 -> resnet14",
        "digits 8x8: resnet20 -> resnet8",
        "digits 8x8: resnet20 -> vit",
    ]
    # Three pairs are too few for a test.
    assert found.friedman == Friedman(3, 3, note="it needs at least 5 pairs")
    assert (found.critical_difference, found.alike) == (None, ())


def test_the_tests_over_five_pairs(rows: Factory) -> None:
    students = ("resnet8", "resnet14", "vit", "resnet20", "resnet26")
    results = [RESULTS[student] for student in students[:3]] + [RESULTS["vit"], RESULTS["resnet8"]]
    found = only([one for place, student in enumerate(students) for one in rows(results[place], student=student)])
    means = [[np.mean(result[name]) for result in results] for name in ("ce", "soft", "at")]
    test = reference.friedmanchisquare(*means)
    assert (found.friedman.chi2, found.friedman.p) == pytest.approx((test.statistic, test.pvalue))
    assert found.critical_difference == critical_difference(3, 5)
    # Places: soft 1, 1.5, 3, 3, 1 and at 2, 1.5, 1, 1, 2 and ce 3, 3, 2, 2, 3; the critical difference is 1.48.
    assert [(one.text, one.mean_rank) for one in found.standings] == [("at", 1.5), ("soft", 1.9), ("ce", 2.6)]
    assert found.alike == (("at", "soft", "ce"),)


def test_the_summary_does_not_depend_on_the_tables(three_pairs: list[Record]) -> None:
    expected = only(three_pairs)
    for by in ("dataset", "teacher", "student", "strategy"):
        assert overall(make_board(reversed(three_pairs), by=by)) == [expected]


@pytest.mark.parametrize("kind", ["failed", "missing", "no row"])
def test_a_missing_cell_blanks_the_mean(kind: str, three_pairs: list[Record], cell: Factory, failure: Factory) -> None:
    gone = {"no row": [0, 1, 2]}.get(kind, [1])
    lost = [cell("at", seed, student="vit") for seed in gone]
    records = [record for record in three_pairs if record.cell not in lost]
    records += [failure(lost[0])] if kind == "failed" else []
    found = only(records, lost if kind == "missing" else [])
    at = named(found)["at"]
    assert (at.mean_rank, at.score, at.diff_ce.mean, at.diff_ce.note) == (None, None, None, "incomplete")
    reason = "no row" if kind == "no row" else f"1 {kind} of 3 seeds"
    assert at.lacking == ("", "", reason)
    # The others are ranked among themselves: ce 2, 2, 1.
    assert named(found)["ce"].mean_rank == pytest.approx(5 / 3)
    assert found.standings[-1] is at
    assert found.friedman.strategies == 2
    assert found.critical_difference is None
    text = board_text(records, lost if kind == "missing" else [])
    assert f"left out  at: {reason} on pair 3 (digits 8x8: resnet20 -> vit)" in text
    assert "3 pairs are too few for conclusions from ranks: no test below 5 pairs" in text


def test_a_baseline_that_lacks_a_seed_blanks_the_differences_to_it(
    three_pairs: list[Record], cell: Factory, failure: Factory
) -> None:
    lost = cell("ce", 2, student="vit")
    found = only([record for record in three_pairs if record.cell != lost] + [failure(lost)])
    soft = named(found)["soft"]
    assert soft.score is not None
    assert soft.mean_rank is not None
    assert (soft.diff_ce.mean, soft.diff_ce.note) == (None, "incomplete")


def test_two_pairs_have_means_and_no_interval(rows: Factory) -> None:
    records = [one for student in ("resnet8", "vit") for one in rows(RESULTS[student], student=student)]
    soft = named(only(records))["soft"]
    assert (soft.diff_ce.n, soft.diff_ce.mean, soft.diff_ce.note) == (2, pytest.approx(1.3), "n<3")
    assert "n<3 over pairs: no interval" in board_text(records, explain=True)


def test_one_pair_or_one_strategy_is_no_summary(rows: Factory) -> None:
    assert overall(make_board(rows(RESULTS["vit"]))) == []
    alone = rows({"ce": [900]}) + rows({"ce": [900]}, student="vit")
    assert overall(make_board(alone)) == []
    assert overall(make_board([])) == []
    assert "Over " not in board_text(rows(RESULTS["vit"]))
    assert json.loads(board_text(alone, format="json"))["overall"] == []


def test_a_student_without_a_teacher_is_no_pair(rows: Factory) -> None:
    records = rows(RESULTS["resnet8"]) + rows({"ce": [900, 910, 890]}, student="vit", teacher=None)
    assert overall(make_board(records)) == []


def test_parameters_tell_apart_only_what_they_must(rows: Factory) -> None:
    hot, cold = {"alpha": 0.9, "temperature": 8.0}, {"alpha": 0.9, "temperature": 1.0}
    first = rows({"ce": [900, 910], "soft": [920, 930]}, student="vit")
    other = rows({"ce": [900, 910]}) + rows({"soft": [920, 930]}, params=hot)
    assert set(named(only(first + other))) == {"ce", "soft"}
    found = named(only(first + other + rows({"soft": [921, 931]}, params=cold)))
    assert set(found) == {
        *("ce", "soft alpha=0.9 temperature=4"),
        *("soft alpha=0.9 temperature=8", "soft alpha=0.9 temperature=1"),
    }
    assert found["soft alpha=0.9 temperature=8"].lacking == ("", "no row")


def test_evaluations_are_never_mixed(rows: Factory) -> None:
    def pairs(evaluation: int) -> list[Record]:
        made = rows(RESULTS["vit"], student="vit") + rows(RESULTS["resnet8"])
        return [record.model_copy(update={"evaluation": evaluation}) for record in made]

    found = overall(make_board(pairs(0) + pairs(1)))
    assert [(one.evaluation, len(one.blocks)) for one in found] == [(0, 2), (1, 2)]
    assert overall(make_board(rows(RESULTS["vit"]) + pairs(0)[9:])) == []


def test_pairs_of_one_name_are_told_apart(rows: Factory, cell: Factory) -> None:
    longer = cell("ce").recipe.model_copy(update={"name": "long", "epochs": 99})
    found = only(rows(RESULTS["vit"]) + rows(RESULTS["vit"], recipe=longer))
    assert [block.text for block in found.blocks] == [
        "digits 8x8: resnet20 -> resnet8 (long)",
        "digits 8x8: resnet20 -> resnet8 (quick)",
    ]
    assert [block.recipe for block in found.blocks] == ["long", "quick"]


def study_of(first: Cell, best: dict[str, Scalar] | None = None) -> Study:
    """Two trials over soft's temperature, of which the second is the best, or where none is given the first."""
    assert first.teacher is not None
    plan = StudyPlan(
        data=first.data,
        teacher=first.teacher,
        student=first.student,
        strategy=first.strategy,
        recipe=first.recipe,
        trial_recipe=first.recipe,
        space={"soft.temperature": Range(low=1, high=16)},
        trials=2,
    )
    tried = [plan.defaults(), best or {"soft.temperature": 9.0}]
    trials = tuple(
        Trial(cell=plan.trial(values).id, values=values, state="done", curve=(top1,))
        for values, top1 in zip(tried, [80.0, 90.0 if best else 70.0], strict=True)
    )
    return Study(id=plan.id, plan=plan, trials=trials)


def apart(records: Iterable[Record], studies: Iterable[Study]) -> tuple[Overall, Overall]:
    """The summaries of default and of tuned rows."""
    default, tuned = overall(make_board(records, studies=studies))
    assert (default.kind, tuned.kind) == ("default", "tuned")
    return default, tuned


def test_default_and_tuned_rows_are_ranked_apart(rows: Factory, record: Factory, cell: Factory) -> None:
    """On resnet8 another temperature wins, on vit the default: together it would be two strategies that tie there."""
    studies = [
        study_of(cell("soft", student="resnet8"), {"soft.temperature": 2.0}),
        study_of(cell("soft", student="vit")),
    ]
    results = {"ce": [900, 904], "soft": [910, 912], "at": [920, 922]}
    records = [one for student in ("resnet8", "vit") for one in rows(results, student=student)]
    records += [record(one, 930 + one.seed) for one in studies[0].finals([0, 1])]
    default, tuned = apart(records, studies)
    assert [(one.text, one.mean_rank) for one in default.standings] == [("at", 1.0), ("soft default", 2.0), ("ce", 3.0)]
    # What no study concerns stands in both. Soft is first on resnet8 and second on vit.
    assert [(one.text, one.mean_rank) for one in tuned.standings] == [("at", 1.5), ("soft tuned", 1.5), ("ce", 3.0)]
    assert named(tuned)["soft tuned"].scores == (pytest.approx(93.05), pytest.approx(91.1))
    assert (default.unmoved, tuned.unmoved) == ((), (("soft", (2,)),))
    text = board_text(records, studies=studies, explain=True)
    for words in (
        "Over 2 pairs, default rows (protocol 1, evaluation 1)",
        "Over 2 pairs, tuned rows (protocol 1, evaluation 1)",
        "the default won its search, so its row counts as tuned: soft (pair 2)",
        "default rows and tuned rows are ranked separately",
    ):
        assert words in text
    without = only(records[:-2])
    assert (without.kind, without.unmoved) == ("", ())
    assert "ranked separately" not in board_text(records[:-2], explain=True)


def test_tuned_rows_are_one_strategy_whatever_their_values(rows: Factory, record: Factory, cell: Factory) -> None:
    studies, records = [], []
    for student, temperature in (("resnet8", 2.0), ("vit", 12.0)):
        studies.append(study_of(cell("soft", student=student), {"soft.temperature": temperature}))
        records += rows({"ce": [900, 904], "soft": [910, 912]}, student=student)
        records += [record(one, 930 + one.seed) for one in studies[-1].finals([0, 1])]
    _, tuned = apart(records, studies)
    assert [(one.text, one.variant, one.mean_rank) for one in tuned.standings] == [
        ("soft tuned", "tuned", 1.0),
        ("ce", "", 2.0),
    ]
    assert named(tuned)["soft tuned"].score == pytest.approx(93.05)


def test_a_row_of_no_study_is_a_default_and_its_pair_has_no_tuned_rows(rows: Factory, cell: Factory) -> None:
    results = {"ce": [900, 904], "soft": [910, 912]}
    records = rows(results) + rows(results, student="vit") + rows(results, student="resnet14")
    records += rows({"soft": [950, 952]}, student="vit", params={"alpha": 0.1, "temperature": 1.0})
    default, tuned = apart(records, [study_of(cell("soft", student=student)) for student in ("resnet8", "vit")])
    assert named(default)["soft default"].complete
    assert [block.student for block in default.blocks] == ["resnet14", "resnet8", "vit"]
    assert named(default)["soft"].lacking == ("no row", "no row", "")
    # Values that were set by hand are none that tuning found.
    assert set(named(tuned)) == {"ce", "soft tuned"}
    assert [block.student for block in tuned.blocks] == ["resnet8", "vit"]
    assert named(tuned)["soft tuned"].scores == (pytest.approx(91.1), pytest.approx(91.1))


@pytest.mark.parametrize("format", ["table", "md", "latex"])
def test_every_printed_form_has_the_section(format: str, three_pairs: list[Record]) -> None:
    text = board_text(three_pairs, format=format)
    assert "Over 3 pairs (protocol 1, evaluation 1)" in text
    assert "3 pairs are too few for conclusions" in text
    assert "Friedman" not in text
    assert "Nemenyi" not in text


@pytest.mark.parametrize("format", ["table", "md", "latex"])
def test_tests_are_printed_from_five_pairs_on(format: str, rows: Factory) -> None:
    students = ("resnet8", "resnet14", "vit", "resnet20", "resnet26")
    pairs = [rows(RESULTS["vit" if student == "vit" else "resnet8"], student=student) for student in students]
    four = board_text([one for records in pairs[:4] for one in records], format=format)
    assert "4 pairs are too few" in four
    assert "chi-square" not in four
    text = " ".join(board_text([one for records in pairs for one in records], format=format).split())
    assert "Friedman test over 5 pairs and 3 ranked strategies: chi-square " in text
    # q(0.05, 3) = 3.3145 / sqrt(2) times sqrt(3 * 4 / (6 * 5)).
    assert "Nemenyi's critical difference at 0.05: 1.48 ranks; no significant difference among: " in text
    assert "too few" not in text


def test_json_holds_every_figure(three_pairs: list[Record]) -> None:
    expected = only(three_pairs)
    (found,) = json.loads(board_text(three_pairs, format="json"))["overall"]
    assert [one["mean_rank"] for one in found["standings"]] == [one.mean_rank for one in expected.standings]
    assert [one["diff_ce"]["p"] for one in found["standings"]] == [one.diff_ce.p for one in expected.standings]
    assert (found["critical_difference"], found["alike"]) == (None, [])
    friedman = found["friedman"]
    assert (friedman["chi2"], friedman["f"], friedman["blocks"]) == (None, None, 3)
    assert friedman["note"] == "it needs at least 5 pairs"
    assert [one["student"] for one in found["pairs"]] == ["resnet14", "resnet8", "vit"]


def test_scipys_tests_are_imported_only_where_there_are_pairs_enough(
    rows: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    students = ("resnet8", "resnet14", "vit", "resnet20", "resnet26")
    pairs = [rows(RESULTS["vit" if student == "vit" else "resnet8"], student=student) for student in students]
    monkeypatch.setitem(sys.modules, "scipy.stats", None)  # which takes as long to import as a small board takes
    assert "4 pairs are too few" in board_text([one for records in pairs[:4] for one in records])
    with pytest.raises(ImportError, match="scipy"):
        board_text([one for records in pairs for one in records])


def test_what_a_board_says_over_its_pairs_is_worked_out_once(
    three_pairs: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    boards = []

    def counted(board: Board) -> list[Overall]:
        boards.append(board)
        return overall(board)

    monkeypatch.setattr(table, "overall", counted)
    board = make_board(three_pairs)
    for name, form in FORMATS.items():
        assert form(board, tables(board, "rank"), 100) == board_text(three_pairs, format=name, width=100)
    assert sum(one is board for one in boards) == 1
