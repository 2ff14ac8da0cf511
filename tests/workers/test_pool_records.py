"""Worker processes give the records of one process."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest
from toy_bench import Result, kdzoo, outcomes, trials

from kdzoo.engine.bank.inventory import list_entries
from kdzoo.store import Store


@pytest.fixture(scope="module")
def pooled(tmp_path_factory: pytest.TempPathFactory, tuned: tuple[Any, ...]) -> tuple[Path, Result]:
    """The same bench with two workers."""
    out, before = tmp_path_factory.mktemp("pooled") / "runs", spawned()
    result = kdzoo(*tuned, "--out", out, "--workers", 2)
    assert spawned() <= before, "a worker is left"
    return out, result


def spawned() -> set[int]:
    """Numbers of the processes that were spawned from this one and are alive; other tests may have some."""
    children = psutil.Process().children(recursive=True)
    return {child.pid for child in children if "spawn_main" in " ".join(child.cmdline())}


def test_two_workers_give_the_records_and_weights_of_one_process(
    alone: tuple[Path, Result], pooled: tuple[Path, Result]
) -> None:
    assert (alone[1].code, pooled[1].code) == (0, 0), pooled[1].err
    assert outcomes(pooled[0]) == outcomes(alone[0])
    kinds = Counter(record.cell.kind for record in Store.open(pooled[0]).records())
    assert kinds["teacher"] == 1
    assert kinds["trial"] == 8
    assert kinds["student"] >= 6
    assert {record.environment.threads for record in Store.open(pooled[0]).records()} == {1}


def test_the_studies_are_the_same_and_have_all_their_trials(
    alone: tuple[Path, Result], pooled: tuple[Path, Result]
) -> None:
    one, other = (Store.open(out).readable_studies()[0] for out, _ in (alone, pooled))
    assert len(one) == 2
    assert [len(study.trials) for study in other] == [4, 4]
    assert [trials(study) for study in other] == [trials(study) for study in one]


def test_every_cell_runs_once_and_some_run_side_by_side(pooled: tuple[Path, Result]) -> None:
    lines = [json.loads(line) for line in (pooled[0] / "events.jsonl").read_text().splitlines()]
    counts = Counter((line["event"] == "start", line["cell"]) for line in lines)
    assert set(counts.values()) == {1}
    assert len({line["pid"] for line in lines}) == 2
    running: set[str] = set()
    most = 0
    for line in lines:
        running = running | {line["cell"]} if line["event"] == "start" else running - {line["cell"]}
        most = max(most, len(running))
    assert most == 2


def test_workers_share_the_files_of_the_bank(alone: tuple[Path, Result], pooled: tuple[Path, Result]) -> None:
    """One process keeps the same in memory."""
    read = {}
    for name, (out, _) in {"alone": alone, "pooled": pooled}.items():
        taught = [
            record for record in Store.open(out).records() if record.teacher and record.cell.strategy.name != "ce"
        ]
        read[name] = {record.environment.bank for record in taught}
    assert read == {"alone": {"ram: logits float32"}, "pooled": {"disk: logits float32"}}
    (entry,) = list_entries(Store.open(pooled[0]))
    assert (entry.signal, entry.views, entry.begun) == ("logits", 3, 0)
    assert not list(alone[0].glob("bank/*/view-*"))


def test_the_teacher_trials_and_some_students_are_told_when_they_end(pooled: tuple[Path, Result]) -> None:
    told = [line for line in pooled[1].err.splitlines() if line.startswith("[")]
    ended = [record.cell.kind for record in Store.open(pooled[0]).records()]
    assert sum(" on tune," in line for line in told) == ended.count("trial")
    assert 0 < sum(" seed " in line for line in told) <= ended.count("student")
    assert told[0].startswith("[1/")
    assert "teacher test_resnet" in told[0]


def test_the_same_command_finds_all_of_it_and_starts_no_process(
    tuned: tuple[Any, ...], pooled: tuple[Path, Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr("kdzoo.bench.executors.pool._Worker", refuse)
    again = kdzoo(*tuned, "--out", pooled[0], "--workers", 2)
    assert again.code == 0, again.err
    assert again.out == pooled[1].out
    assert "were already done" in again.err


@pytest.mark.exhaustive
def test_one_process_goes_on_with_what_workers_began(small: tuple[Any, ...], tmp_path: Path) -> None:
    """The number of workers is no part of a cell's name."""
    arguments = (*small, "--strategies", "nudge", "--out", tmp_path / "runs")
    assert kdzoo(*arguments, "--seeds", 1, "--workers", 2).code == 0
    more = kdzoo(*arguments, "--seeds", 2)
    assert more.code == 0
    assert "3 of 5 cells were already done" in more.err
