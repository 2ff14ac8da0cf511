"""What is shown while a bench runs: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from kdzoo.board.render import board_text
from kdzoo.cell import Cell
from kdzoo.cli import progress
from kdzoo.cli.dryrun import show_next
from kdzoo.cli.progress import LiveReport, Pace, PlainReport, make_report
from kdzoo.config import load_bench
from kdzoo.matrix import resolve_recipes
from kdzoo.measures import image_scores
from kdzoo.recipe import Recipe
from kdzoo.record import Record
from kdzoo.record_parts import Environment, Epoch, Size, TeacherMeasures
from kdzoo.refs import DataRef, ModelRef, StrategyRef, TeacherRef

RECIPE = Recipe(name="r", epochs=4, batch_size=8)
MEASURES = image_scores(n=200, correct1=150, correct5=200, nll=0.5, ece=1.0)
SIZE = Size(parameters=10, macs=20)


def cell(seed: int) -> Cell:
    return Cell(
        kind="student",
        data=DataRef(name="toy", fingerprint="f", num_classes=2, channels=1, img_size=(8, 8), fit=72, tune=8, test=200),
        student=ModelRef(name="small"),
        teacher=TeacherRef(model=ModelRef(name="big"), weights="pretrained"),
        strategy=StrategyRef(name="soft", distribution="kdzoo", revision="1"),
        recipe=RECIPE,
        seed=seed,
    )


def record(of: Cell, reason: str = "", ended: str = "9") -> Record:
    """One that ends after every bench began, unless ``ended`` says otherwise."""
    done: dict[str, Any] = {
        "tune": MEASURES, "test": MEASURES | {"agreement": 90.0}, "student": SIZE,
        "teacher": TeacherMeasures(size=SIZE, tune=MEASURES, test=MEASURES),
        "cost": {"train": 1.0, "teacher": 0.5, "evaluate": 0.1, "peak_memory": 1},
    }  # fmt: skip
    if of.kind == "trial":
        done |= {"test": None}
    frame: dict[str, Any] = {
        "id": of.id, "cell": of, "environment": Environment(versions={}, device="cpu", threads=1),
        "started": "1", "ended": ended, "command": "c",
    }  # fmt: skip
    return Record(status="failed", reason=reason, **frame) if reason else Record(status="done", **frame, **done)


def tried(alpha: float, **changes: Any) -> Cell:
    strategy = StrategyRef(name="soft", distribution="kdzoo", revision="1", params={"alpha": alpha})
    return cell(0).model_copy(update={"strategy": strategy, **changes})


def test_a_winner_is_told_from_the_default_and_a_failed_trial_names_its_values() -> None:
    console = Console(file=io.StringIO(), width=200)
    default, winner = tried(0.9), tried(0.5)
    trial = tried(0.25, kind="trial", seed=1_000_000)
    report = PlainReport([default], console, [trial, winner])
    for one in (record(default), record(trial, "no memory"), record(winner)):
        report.cell(one.cell).step(0, 1, 2)
        report.done(one)
    lines = console.file.getvalue().splitlines()
    assert [line.partition(": ")[0] for line in lines] == [
        "[1/3] soft big -> small on toy seed 0",
        "[2/3] trial of soft big -> small on toy",
        "[3/3] soft big -> small on toy seed 0, tuned alpha=0.5",
    ]
    assert lines[1].endswith(": alpha=0.25: FAILED: no memory")


def epoch(number: int) -> Epoch:
    return Epoch(epoch=number, phase="main", terms={"ce": 1.23456, "kl": 0.5}, lr=0.1, tune={"top1": 62.5})


class Clock:
    """A time that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def make(kind: type[PlainReport], cells: list[Cell]) -> tuple[PlainReport, io.StringIO]:
    buffer = io.StringIO()
    return kind(cells, Console(file=buffer, force_terminal=kind is LiveReport, width=100)), buffer


def run(report: PlainReport, of: Cell, clock: Clock, seconds: float, epochs: int = 4) -> None:
    watch = report.cell(of)
    for number in range(epochs):
        watch.step(number, 5, 9)
        clock.now += seconds
        watch.epoch(epoch(number), 4)


def test_a_cell_that_ends_is_one_plain_line(clock: Clock) -> None:
    cells = [cell(0), cell(1), cell(2)]
    report, buffer = make(PlainReport, cells)
    run(report, cells[0], clock, 2.0)
    report.done(record(cells[0]))
    run(report, cells[1], clock, 2.0)
    report.done(record(cells[1], "the term 'ce' became nan"))
    run(report, cells[2], clock, 2.0)
    report.done(record(cells[2]))
    assert buffer.getvalue().splitlines() == [
        "[1/3] soft big -> small on toy seed 0: 75.00% on test, 8 s, about 16 s left",
        "[2/3] soft big -> small on toy seed 1: FAILED: the term 'ce' became nan",
        "[3/3] soft big -> small on toy seed 2: 75.00% on test, 8 s",
    ]


def test_a_cell_that_was_found_done_is_counted_and_not_told(clock: Clock) -> None:
    report, buffer = make(PlainReport, [cell(0)])
    report.cell(cell(0))
    report.done(record(cell(0), ended="1"))
    assert buffer.getvalue() == ""
    assert (report.found, report.ended) == (1, 1)


def test_a_long_cell_speaks_now_and_then(clock: Clock) -> None:
    report, buffer = make(PlainReport, [cell(0)])
    run(report, cell(0), clock, 12.0)
    assert buffer.getvalue().splitlines() == [
        "  soft big -> small on toy seed 0: epoch 2/4, main: ce 1.235, kl 0.5, tune 62.50%",
        "  soft big -> small on toy seed 0: epoch 4/4, main: ce 1.235, kl 0.5, tune 62.50%",
    ]


def test_another_benchs_cell_is_not_shown_until_its_turn_comes_again(clock: Clock) -> None:
    report, _ = make(LiveReport, [cell(0), cell(1)])
    assert isinstance(report, LiveReport)
    report.cell(cell(0))
    report.passed(cell(0))
    run(report, cell(1), clock, 1.0, epochs=2)
    assert "seed 1" in shown(report)
    assert "seed 0" not in shown(report)
    assert report.pace.left() == 6.0  # one at a time: two epochs, and four


def test_another_benchs_cell_is_waited_for_aloud() -> None:
    report, buffer = make(PlainReport, [cell(0)])
    report.waiting(cell(0))
    assert buffer.getvalue() == "waiting for another bench that runs soft big -> small on toy seed 0\n"


def test_names_with_brackets_are_printed_as_they_are(clock: Clock) -> None:
    odd = cell(0).model_copy(update={"data": cell(0).data.model_copy(update={"name": "toy[:50]"})})
    report, buffer = make(PlainReport, [odd])
    run(report, odd, clock, 1.0)
    report.done(record(odd))
    assert "on toy[:50] seed 0" in buffer.getvalue()


def test_the_live_view_shows_cells_epoch_terms_accuracy_and_time_left(clock: Clock) -> None:
    cells = [cell(0), cell(1)]
    report, _ = make(LiveReport, cells)
    assert isinstance(report, LiveReport)
    assert "0 done, 2 left" in shown(report)
    run(report, cells[0], clock, 3.0)
    report.done(record(cells[0]))
    run(report, cells[1], clock, 3.0, epochs=2)
    report.running[cells[1].id].step(2, 3, 9)
    view = shown(report)
    for piece in (
        "1 done, 1 left",
        "about 6 s left",
        "3/4",
        "soft big -> small on toy seed 1",
        "ce 1.235, kl 0.5",
        "tune 62.50%",
    ):
        assert piece in view
    report.done(record(cells[1]))
    assert "2 done, 0 left" in shown(report)


def shown(report: LiveReport) -> str:
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with console.capture() as capture:
        console.print(report.view())
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capture.get())


def test_a_terminal_gets_the_live_view(
    kdzoo: Callable[..., Any], small: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    buffer = io.StringIO()
    monkeypatch.setattr(progress, "Console", lambda stderr: Console(file=buffer, force_terminal=True, width=120))
    result = kdzoo(*small, "--strategies", "ce", "--epochs", 1)
    assert result.code == 0
    text = buffer.getvalue()
    assert "\x1b[?25l" in text  # the cursor is hidden
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # and comes back
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    assert "done, " in plain
    assert "[2/2] ce test_resnet -> " in plain
    assert "\x1b" not in result.out


def test_elsewhere_there_are_plain_lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with make_report([cell(0)]) as report:
        assert type(report) is PlainReport
        report.cell(cell(0))
        report.done(record(cell(0), ended="1"))
    assert capsys.readouterr() == ("", "1 of 1 cells were already done\n")


def trial(power: float) -> Cell:
    return cell(0).model_copy(
        update={
            "kind": "trial",
            "seed": 1_000_000,
            "strategy": cell(0).strategy.model_copy(update={"params": {"power": power, "mode": "mean"}}),
        }
    )


def test_a_trial_says_what_it_tried_and_how_it_ended(clock: Clock) -> None:
    report, buffer = make(PlainReport, [])
    done = trial(1.23456)
    run(report, done, clock, 2.0)
    report.done(record(done))
    pruned = trial(2.0)
    run(report, pruned, clock, 2.0, epochs=2)
    report.done(record(pruned, "median pruner, after epoch 2 of 4").model_copy(update={"status": "pruned"}))
    assert buffer.getvalue().splitlines() == [
        "[1/0] trial of soft big -> small on toy: mode=mean power=1.235: 75.00% on tune, 8 s",
        "[2/0] trial of soft big -> small on toy: mode=mean power=2: pruned (median pruner, after epoch 2 of 4), 4 s",
    ]


def test_the_pace_counts_cells_that_are_not_known_yet(clock: Clock) -> None:
    pace = Pace([cell(0)], [trial(1.0), trial(1.0), cell(1)])
    pace.begin(cell(0))
    clock.now += 3.0
    pace.epoch(cell(0))
    pace.end(cell(0))
    assert pace.left() == 36.0  # three of four epochs
    pace.begin(trial(7.0))
    clock.now += 3.0
    pace.epoch(trial(7.0))
    assert pace.left() == 33.0
    pace.end(trial(7.0))
    pace.end(trial(8.0))
    assert pace.left() == 12.0
    pace.end(trial(9.0))  # one more than was foreseen
    assert pace.left() in (0.0, 12.0)


def test_the_pace_knows_each_kind_of_network(clock: Clock) -> None:
    teacher = cell(0).model_copy(update={"kind": "teacher", "teacher": None, "student": ModelRef(name="big")})
    students = [cell(0), cell(1)]
    pace = Pace([teacher, *students])
    assert pace.left() is None
    pace.begin(teacher)
    for _ in range(4):
        clock.now += 10.0
        pace.epoch(teacher)
    pace.end(teacher)
    assert pace.left() == 80.0  # nothing is known of students yet
    pace.begin(students[0])
    clock.now += 1.0
    pace.epoch(students[0])
    assert pace.left() == 7.0
    pace.end(students[0])
    assert pace.left() == 4.0
    pace.end(students[1])
    assert pace.left() == 0.0


def test_cells_side_by_side_share_the_time_that_is_left(clock: Clock) -> None:
    cells = [cell(seed) for seed in range(4)]
    pace = Pace(cells)
    pace.begin(cells[0])
    pace.begin(cells[1])
    clock.now += 3.0
    pace.epoch(cells[0])
    clock.now += 1.0
    pace.epoch(cells[1])
    assert pace.left() == (3 + 3 + 4 + 4) * 3.5 / 2
    for each in cells[:3]:
        pace.end(each)
    assert pace.left() == 4 * 3.5  # one cell is left, whatever ran beside it


def test_the_live_view_shows_every_cell_that_runs_and_counts_the_rest(clock: Clock) -> None:
    cells = [cell(seed) for seed in range(10)]
    report, buffer = make(LiveReport, cells)
    assert isinstance(report, LiveReport)
    for each in cells[:3]:
        run(report, each, clock, 1.0, epochs=each.seed + 1)
    view = shown(report)
    assert [f"seed {seed}" in view for seed in range(4)] == [True, True, True, False]
    assert all(f"{number}/4" in view for number in (2, 3, 4))
    for each in cells[3:]:
        report.cell(each)
    assert "and 3 more" in shown(report)
    report.lost(cells[1], "its worker process was killed by SIGKILL")
    assert "seed 1: its worker process was killed by SIGKILL; retrying\n" in buffer.getvalue()
    report.done(record(cells[1]))
    assert "seed 1" not in shown(report)


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (89.4, "89 s"), (120, "2 min"), (5300, "88 min"), (7200, "2.0 h")]
)
def test_durations_are_short(seconds: float, words: str) -> None:
    assert progress._duration(seconds) == words


@pytest.mark.parametrize("kind", [PlainReport, LiveReport])
def test_many_short_cells_have_a_few_lines(kind: type[PlainReport], clock: Clock) -> None:
    cells = [cell(seed) for seed in range(80)]
    report, buffer = make(kind, cells)
    for number, each in enumerate(cells):
        run(report, each, clock, 0.5)
        report.done(record(each, "no memory" if number == 12 else ""))
    numbers = [int(number) for number in re.findall(r"^\[(\d+)/80\]", buffer.getvalue(), re.MULTILINE)]
    assert numbers == [10, 13, *range(20, 81, 10)]  # whatever failed, and the last


def test_many_long_cells_have_a_line_each_and_so_has_the_teacher(clock: Clock) -> None:
    teacher = cell(0).model_copy(update={"kind": "teacher", "teacher": None})
    cells = [teacher, *(cell(seed) for seed in range(30))]
    report, buffer = make(LiveReport, cells)
    for each in cells[:4]:
        run(report, each, clock, 15.0)
        report.done(record(each))
    assert re.findall(r"^\[(\d+)/31\]", buffer.getvalue(), re.MULTILINE) == ["1", "2", "3", "4"]


def test_the_first_bench_and_its_board_fit_one_screen(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    """Every line that `kdzoo bench` prints on a machine that needs three minutes, the teacher's epochs and the bank's
    line among them."""
    settings = load_bench("quick", {})
    recipes = resolve_recipes(settings)
    teacher = cell(0).model_copy(update={"kind": "teacher", "teacher": None, "recipe": recipes.teacher})
    students = [
        cell(seed).model_copy(
            update={"recipe": recipes.student, "strategy": StrategyRef(name=name, distribution="kdzoo", revision="1")}
        )
        for seed in range(settings.seeds)
        for name in settings.strategies
    ]
    report, buffer = make(PlainReport, [teacher, *students])
    run(report, teacher, clock, 3.0, epochs=recipes.teacher.epochs)
    report.done(record(teacher))
    report.say("bank: ram")
    for each in students:
        run(report, each, clock, 1.0, epochs=recipes.student.epochs)
        report.done(record(each))
    board = board_text([record(each) for each in students])
    show_next(settings)
    lines = [*buffer.getvalue().splitlines(), *board.splitlines(), *capsys.readouterr().err.splitlines()]
    assert 20 < len(lines) <= 40, "\n".join(lines)
    assert max(map(len, lines)) <= 120
