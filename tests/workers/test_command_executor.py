"""``--executor command``: each cell is a ``kdzoo run-cell`` in a command, here of a shell in the place of a cluster."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import Any

import pytest
from toy_bench import Result, kdzoo, outcomes

from kdzoo.bench.executors.command import filled, run_commands
from kdzoo.config import load_bench
from kdzoo.errors import UsageError
from kdzoo.store import Store

SHELL = "sh -c {command}"


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def asked(small: tuple[Any, ...]) -> tuple[Any, ...]:
    return (*small, "--strategies", "nudge", "--seeds", 1)


@pytest.fixture(scope="module")
def commanded(tmp_path_factory: pytest.TempPathFactory, asked: tuple[Any, ...]) -> tuple[Path, Result]:
    """A bench whose folder of runs has a name that a shell would take apart."""
    out = tmp_path_factory.mktemp("commanded") / "it's $HOME; runs"
    return out, kdzoo(*asked, "--executor", "command", SHELL, "--out", out)


def started(out: Path) -> list[str]:
    lines = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    return [line["cell"] for line in lines if line["event"] == "start"]


@pytest.mark.exhaustive
def test_its_records_are_those_of_one_process(
    commanded: tuple[Path, Result], asked: tuple[Any, ...], tmp_path: Path
) -> None:
    out, result = commanded
    assert result.code == 0, result.err
    assert kdzoo(*asked, "--out", tmp_path / "alone").code == 0
    assert outcomes(out) == outcomes(tmp_path / "alone")


@pytest.mark.exhaustive
def test_the_teacher_is_trained_before_the_students_and_each_cell_once(commanded: tuple[Path, Result]) -> None:
    out, _ = commanded
    kinds = [json.loads((out / "cells" / each / "cell.json").read_text())["kind"] for each in started(out)]
    assert kinds == ["teacher", "student", "student"]


@pytest.mark.exhaustive
def test_what_is_done_is_not_commanded_again(commanded: tuple[Path, Result], asked: tuple[Any, ...]) -> None:
    out, first = commanded
    before = started(out)
    again = kdzoo(*asked, "--executor", "command", "no-such-program {command}", "--out", out)
    assert (again.code, again.out) == (0, first.out)
    assert started(out) == before


@pytest.mark.exhaustive
def test_a_bench_that_was_cut_short_resumes_with_jobs_that_only_submit(
    commanded: tuple[Path, Result], asked: tuple[Any, ...], tmp_path: Path
) -> None:
    out, _ = commanded
    (victim,) = [
        path
        for path in out.glob("cells/*/record.json")
        if json.loads(path.read_text())["cell"]["strategy"]["name"] == "nudge"
    ]
    whole = outcomes(out)
    victim.unlink()
    bench = tmp_path / "bench.yaml"
    bench.write_text("executor: command\ncommand: >-\n  sh -c 'nohup {command} >\"$0\" 2>&1 &' log-{cell}\n")
    again = kdzoo(*asked, "--config", bench, "--out", out)
    assert again.code == 0, again.err
    assert "all jobs are submitted, waiting for their records" in again.err
    assert outcomes(out) == whole
    assert (tmp_path / f"log-{victim.parent.name}").exists()


@pytest.mark.exhaustive
def test_studies_run_in_rounds(small: tuple[Any, ...], tmp_path: Path) -> None:
    bench = tmp_path / "bench.yaml"
    bench.write_text(f"executor: command\ncommand: {SHELL}\n")
    trials = ("--trials", 2, "--tune-batch", 1, "--tune-epochs", 1, "--strategies", "nudge")
    result = kdzoo("tune", *small[1:], *trials, "--config", bench, "--out", tmp_path / "runs")
    assert result.code == 0, result.err
    (study,) = Store.open(tmp_path / "runs").readable_studies()[0]
    assert [trial.state for trial in study.trials] == ["done", "done"]
    assert started(tmp_path / "runs")[1:] == [trial.cell for trial in study.trials]


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (
            "sh -c 'echo one >&2; echo Invalid account >&2; exit 3' {command}",
            "ended with exit code 3 (Invalid account), and left no record; run the same command again to resume",
        ),
        ("sh -c 'kill -9 $$' {command}", "was ended by signal 9, and left no record"),
        ("no-such-program {command}", "--executor command: no-such-program cannot be started: no such file or dir"),
    ],
)
def test_what_goes_wrong_with_a_command_is_one_sentence(
    asked: tuple[Any, ...], tmp_path: Path, template: str, said: str
) -> None:
    result = kdzoo(*asked, "--executor", "command", template, "--out", tmp_path / "runs")
    assert result.code == 2
    error = result.err.splitlines()[-1]
    assert error.startswith("error: ")
    assert said in error


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"executor": "command"}, "needs a command with {command} in it, such as 'sbatch --wait --wrap {command}'"),
        ({"executor": "command", "command": "sbatch --wrap"}, "needs a command with {command} in it"),
        ({"executor": "command", "command": "sh -c '{command}"}, "is no line of a shell: no closing quotation"),
        ({"command": SHELL}, "command belongs to the executor command"),
        ({"executor": "command", "command": SHELL, "workers": "auto"}, "workers auto measures this machine"),
        ({"executor": "command", "command": SHELL, "tune": 4, "pruner": "median"}, "leave out the pruner"),
    ],
)
def test_what_cannot_be_is_refused(flags: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match="command") as error:
        load_bench("quick", flags)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_command_is_one_word_for_a_shell() -> None:
    command = shlex.join(["kdzoo", "run-cell", "3f2a", "--out", "it's $HOME"])
    assert filled("sbatch --wait -J k-{cell} --wrap={command}", command, "3f2a") == [
        *("sbatch", "--wait", "-J", "k-3f2a"),
        f"--wrap={command}",
    ]
    *_, line = filled("ssh node 'nice {command}'", command, "3f2a")
    assert shlex.split(line) == ["nice", "kdzoo", "run-cell", "3f2a", "--out", "it's $HOME"]


def test_no_more_commands_than_the_limit_run_at_a_time(tmp_path: Path) -> None:
    """Each command counts those that are there with it."""
    here = tmp_path / "here"
    here.mkdir()
    script = 'touch "$0/$1"; ls "$0" | wc -l >> "$0.counts"; sleep 0.1; rm "$0/$1"; touch "$0.$1"'
    jobs = {str(number): ["sh", "-c", script, str(here), str(number)] for number in range(6)}
    faults = run_commands(jobs, 2, lambda name: Path(f"{here}.{name}").exists(), lambda name: False, lambda line: None)
    assert faults == {}
    counts = [int(line) for line in Path(f"{here}.counts").read_text().split()]
    assert (len(counts), max(counts) <= 2) == (6, True)


def test_jobs_that_wait_end_with_the_bench() -> None:
    ended: list[int] = []

    def stop(name: str) -> bool:
        ended.append(int(Path(name).read_text()))
        raise KeyboardInterrupt

    folder = Path.cwd()
    jobs = {
        str(folder / "quick"): ["sh", "-c", 'echo $$ > "$0"', str(folder / "quick")],
        str(folder / "slow"): ["sh", "-c", 'echo $$ > "$0"; exec sleep 3600', str(folder / "slow")],
    }
    with pytest.raises(KeyboardInterrupt):
        run_commands(jobs, 2, stop, lambda name: False, lambda line: None)
    if (folder / "slow").exists() and (text := (folder / "slow").read_text()):
        with pytest.raises(ProcessLookupError):
            os.kill(int(text), 0)
