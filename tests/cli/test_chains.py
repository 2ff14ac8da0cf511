"""Networks between teacher and student: ``takd`` and ``ban``, and a strategy of a plugin."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kdzoo.needed import assistant_cells
from kdzoo.record import Record, parse_record
from kdzoo.record_parts import Size
from kdzoo.store import Store

DIGITS = (
    *("--dataset", "digits[:120]", "--student", "test_resnet", "--teacher", "test_resnet"),
    *("--epochs", 2, "--teacher-epochs", 10, "--seeds", 1, "--device", "cpu", "--set", "recipe.batch_size=16"),
)
CHAINS = (
    *("--strategies", "soft,ban,takd", "--set", "ban.generations=3"),
    *("--set", "takd.assistants=test_resnet,test_efficientnet", "--set", "takd.alpha=0.5"),
)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, kdzoo: Callable[..., Any]) -> tuple[Path, Any]:
    """A store after a bench of chains, and what it printed."""
    out = tmp_path_factory.mktemp("chains") / "runs"
    result = kdzoo("bench", *DIGITS, *CHAINS, "--out", out)
    assert result.code == 0, result.err
    return out, result


def records(out: Path) -> dict[str, Record]:
    found = [parse_record(path.read_bytes(), str(path)) for path in Store.open(out).cells.glob("*/record.json")]
    return {record.id: record for record in found}


def row(out: Path, strategy: str) -> Record:
    done = [one for one in records(out).values() if one.cell.kind == "student" and one.cell.strategy.name == strategy]
    (found,) = done
    assert found.status == "done", found.reason
    return found


def started(out: Path) -> list[str]:
    lines = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    return [line["cell"] for line in lines if line["event"] == "start"]


def test_each_assistant_is_a_cell_with_a_record_and_comes_before_the_next(ran: tuple[Path, Any]) -> None:
    out, _ = ran
    there, order = records(out), started(out)
    assert len(there) == len(order) == 1 + 2 + 2 + 4  # teacher, generations, assistants, rows
    for strategy in ("ban", "takd"):
        record = row(out, strategy)
        between = assistant_cells(record.cell)
        assert [there[cell.id].status for cell in between] == ["done", "done"]
        assert [there[cell.id].cell.kind for cell in between] == ["assistant", "assistant"]
        places = [order.index(cell.id) for cell in (*between, record.cell)]
        assert places == sorted(places)
        assert [one.cell for one in record.assistants] == [cell.id for cell in between]
        for one in record.assistants:
            own = there[one.cell]
            assert own.test
            assert one.test["top1"] == own.test["top1"]
            assert one.size == own.student
            assert one.weights == own.weights["student.safetensors"]
        assert record.record_schema == 7
    assert row(out, "soft").record_schema == 6


def test_what_the_assistants_took_counts_in_the_time_of_the_row(ran: tuple[Path, Any]) -> None:
    out, _ = ran
    there = records(out)
    for strategy in ("ban", "takd"):
        record = row(out, strategy)
        assert record.cost
        assert record.cost["assistants"] == pytest.approx(sum(one.seconds for one in record.assistants))
        assert record.cost["train"] > record.cost["assistants"]
        first, second = (there[one.cell] for one in record.assistants)
        assert first.cost
        assert second.cost
        assert "assistants" not in first.cost
        assert second.cost["assistants"] == pytest.approx(first.cost["train"])
        assert record.assistants[1].seconds == pytest.approx(second.cost["train"] - first.cost["train"])


def test_the_row_stands_with_the_pair_and_its_agreement_is_with_the_teacher(ran: tuple[Path, Any]) -> None:
    out, result = ran
    soft, ban, takd = (row(out, name) for name in ("soft", "ban", "takd"))
    assert soft.teacher == ban.teacher == takd.teacher
    keys = [record.cell.row_key(1) for record in (soft, ban, takd)]
    assert len({key.pair for key in keys}) == 1
    assert len({key.setting for key in keys}) == 3
    assert "Over 2 pairs" not in result.out
    assert ban.test
    assert "agreement" in ban.test


def test_generations_start_from_weights_of_their_own(ran: tuple[Path, Any]) -> None:
    out, _ = ran
    record = row(out, "ban")
    cells = [*assistant_cells(record.cell), record.cell]
    for purpose in ("init", "order", "epoch 0"):
        assert len({cell.seed_for(purpose) for cell in cells}) == 3
    # The row itself is paired with the other rows of its seed.
    assert record.cell.seed_for("init") == row(out, "soft").cell.seed_for("init")
    assert [hop.strategy.params["generations"] for hop in record.cell.hops] == [1, 2]


def test_more_generations_reuse_the_fewer(ran: tuple[Path, Any], kdzoo: Callable[..., Any], tmp_path: Path) -> None:
    out = Path(shutil.copytree(ran[0], tmp_path / "runs"))
    before = set(started(out))
    result = kdzoo("bench", *DIGITS, "--strategies", "ban", "--out", out)  # two generations
    assert result.code == 0, result.err
    assert len(set(started(out)) - before) == 1
    again = kdzoo("bench", *DIGITS, *CHAINS, "--out", out)
    assert again.code == 0
    assert len(started(out)) == len(before) + 1


def test_assistants_of_a_teacher_with_damaged_weights_are_made_again(
    ran: tuple[Path, Any], kdzoo: Callable[..., Any], tmp_path: Path
) -> None:
    out = Path(shutil.copytree(ran[0], tmp_path / "runs"))
    record = row(out, "ban")
    last = assistant_cells(record.cell)[-1]
    (out / "cells" / last.id / "student.safetensors").unlink()
    (out / "cells" / record.id / "record.json").unlink()
    result = kdzoo("bench", *DIGITS, *CHAINS, "--out", out)
    assert result.code == 0, result.err
    assert (
        f"the assistant test_resnet: {out}/cells/{last.id}/student.safetensors is gone; it is retrained" in result.err
    )
    assert row(out, "ban").outcome() == record.outcome()


def test_a_dry_run_shows_the_way(kdzoo: Callable[..., Any]) -> None:
    result = kdzoo("bench", *DIGITS, *CHAINS, "--dry-run")
    assert result.code == 0, result.err
    assert "assistant of ban test_resnet -> test_resnet on digits[:120] seed 0" in result.out
    assert "takd test_resnet -> test_resnet -> test_efficientnet -> test_resnet on digits[:120] seed 0" in result.out
    assert "9 cells: 9 new" in result.out


def test_what_cannot_be_is_refused(kdzoo: Callable[..., Any]) -> None:
    unnamed = kdzoo("bench", *DIGITS, "--strategies", "takd", "--dry-run")
    assert "takd cannot serve test_resnet -> test_resnet on digits[:120]: it needs an assistant" in unnamed.err
    unknown = kdzoo("bench", *DIGITS, "--strategies", "takd", "--set", "takd.assistants=no_such", "--dry-run")
    assert unknown.code == 2
    assert "no_such" in unknown.err
    joined = kdzoo("bench", *DIGITS, "--strategies", "ban+at", "--dry-run")
    assert joined.code == 2
    assert "ban+at: ban trains networks beside the student, and is run alone" in joined.err
    searched = kdzoo(
        "bench", *DIGITS, "--strategies", "ban", "--tune", 2, "--search", "ban.generations=1:3", "--dry-run"
    )
    assert searched.code == 2
    assert "it decides which networks are trained between teacher and student" in searched.err


def test_all_trials_of_a_study_share_the_assistants(kdzoo: Callable[..., Any], tmp_path: Path) -> None:
    out = tmp_path / "runs"
    takd = ("--strategies", "takd", "--set", "takd.assistants=test_resnet", "--tune", 2, "--tune-epochs", 1)
    result = kdzoo("tune", *DIGITS, *takd, "--out", out)
    assert result.code == 0, result.err
    made = records(out).values()
    trials = [one for one in made if one.cell.kind == "trial" and one.cell.strategy.name == "takd"]
    assistants = [one for one in made if one.cell.kind == "assistant"]
    assert [len(trials), len(assistants)] == [2, 1]
    assert {tuple(one.cell for one in trial.assistants) for trial in trials} == {(assistants[0].id,)}


@pytest.mark.exhaustive
def test_a_chain_is_published_checked_and_trained_again(
    ran: tuple[Path, Any], kdzoo: Callable[..., Any], tmp_path: Path
) -> None:
    out, _ = ran
    boards, record = tmp_path / "boards", row(out, "ban")
    assert kdzoo("publish", out, "--to", boards).code == 0
    checked = kdzoo("check", boards, "--remeasure", out)
    assert checked.code == 0, checked.out + checked.err
    (path,) = [one for one in boards.glob("records/*/*--*/*.json") if one.stem == record.id]
    again = kdzoo("run-cell", path, "--out", tmp_path / "again", "--device", "cpu")
    assert again.code == 0, again.err
    assert "The result equals the given record." in again.out
    table = (boards / "digits-120" / "board.csv").read_text()
    assert ",assistants_seconds," in table.splitlines()[0]
    published = parse_record(path.read_bytes(), str(path))
    first, *others = published.assistants
    other = first.model_copy(update={"size": Size(parameters=1, macs=1)})
    path.write_text(published.model_copy(update={"assistants": (other, *others)}).to_json())
    odd = kdzoo("check", boards)
    assert odd.code == 1
    assert f"differs from its assistant {first.cell}: size.macs" in odd.out + odd.err
    path.write_text(published.to_json())
    last = assistant_cells(record.cell)[-1]
    (boards / "records" / "digits-120" / "teachers" / f"{last.id}.json").unlink()
    missing = kdzoo("check", boards)
    assert missing.code == 1
    assert f"lacks the training of its assistant test_resnet, {last.id}" in missing.out + missing.err


@pytest.mark.exhaustive
def test_workers_run_a_chain_in_order(kdzoo: Callable[..., Any], ran: tuple[Path, Any], tmp_path: Path) -> None:
    out, _ = ran
    result = kdzoo("bench", *DIGITS, *CHAINS, "--workers", 2, "--out", tmp_path / "runs")
    assert result.code == 0, result.err
    assert set(records(tmp_path / "runs")) == set(records(out))
