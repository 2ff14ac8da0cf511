"""``--log-with``: every cell is logged, whatever the tracker does, and no result depends on it."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = """
    import json
    from pathlib import Path

    from accelerate.tracking import GeneralTracker
    from kdzoo import hookimpl

    class Notebook(GeneralTracker):
        name = "notebook"
        requires_logging_directory = True

        def __init__(self, run_name, logging_dir):
            super().__init__()
            self.path = Path(logging_dir) / "notes.jsonl"
            self.run_name = run_name

        @property
        def tracker(self):
            return self.path

        def start(self):
            self.write(["start", self.run_name])

        def store_init_configuration(self, values):
            self.write(["config", values])

        def log(self, values, step=None, **kwargs):
            self.write([step, values])

        def finish(self):
            self.write(["finish"])

        def write(self, line):
            with self.path.open("a") as file:
                file.write(json.dumps(line) + "\\n")

    class Sulky(Notebook):
        name = "sulky"

        def start(self):
            with open("sulked.txt", "a") as file:
                file.write("x")
            raise ConnectionError("nobody there")

    class Deaf(Notebook):
        name = "deaf"

        def log(self, values, step=None, **kwargs):
            raise OSError("cannot hear")

    @hookimpl
    def kdzoo_trackers():
        return [Notebook, Sulky, Deaf]
"""


@pytest.fixture
def logged(plugin_file: Callable[..., Path], small: tuple[Any, ...]) -> tuple[Any, ...]:
    return ("bench", *small, "--plugin", plugin_file(NOTEBOOK, "notebook.py"), "--strategies", "soft")


def notes(cell: str, out: str = "runs", tracker: str = "notebook") -> list[Any]:
    path = Path(out, "cells", cell, "logs", tracker, "notes.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_cell_has_a_run_with_its_curve_and_its_measures(
    kdzoo: Callable[..., Any], logged: tuple[Any, ...], records: Callable[..., Any]
) -> None:
    result = kdzoo(*logged, "--log-with", "notebook")
    assert result.code == 0, result.err
    found = records()
    soft = found["soft"]
    start, config, first, second, final, finish = notes(soft["id"])
    assert start[1].startswith("soft-test_resnet-to-test_vit")
    assert config[1]["strategy.params.temperature"] == 4.0
    assert config[1]["cell"] == soft["id"]
    for step, (epoch, line) in enumerate(zip((first, second), soft["curve"], strict=True)):
        assert epoch == [
            step,
            {
                "loss/ce": line["terms"]["ce"],
                "loss/soft": line["terms"]["soft"],
                "lr": line["lr"],
                "tune/top1": line["tune"]["top1"],
            },
        ]
    step, measured = final
    assert step == 1
    assert measured["test/top1"] == pytest.approx(soft["test"]["top1"])
    assert measured["test/agreement"] == soft["test"]["agreement"]
    assert measured["cost/train"] == soft["cost"]["train"]
    assert finish == ["finish"]
    assert {line[0] for line in notes(found["teacher"]["id"])} >= {"start", 0, 1, 2, "finish"}


@pytest.mark.exhaustive
def test_logging_is_no_part_of_a_cell_and_a_new_training_begins_a_new_log(
    kdzoo: Callable[..., Any], logged: tuple[Any, ...], records: Callable[..., Any]
) -> None:
    assert kdzoo(*logged).code == 0
    before = records()["soft"]
    assert kdzoo(*logged, "--log-with", "notebook").code == 0
    assert records()["soft"] == before  # found done, and so not logged
    assert not list(Path("runs").glob("cells/*/logs"))
    for _ in range(2):
        assert kdzoo(*logged, "--log-with", "notebook", "--rerun", "always").code == 0
        assert len(notes(before["id"])) == 6
    assert records()["soft"]["test"] == before["test"]


def test_a_resumed_cell_goes_on_with_its_log(
    kdzoo: Callable[..., Any], logged: tuple[Any, ...], records: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from kdzoo.bench.trackers import Tracking

    whole = Tracking.epoch_ended

    def stop(self: Tracking, cell: Any, epoch: Any) -> None:
        whole(self, cell, epoch)
        if cell.strategy.name == "soft" and epoch.epoch == 0:
            signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background may ignore it
    with monkeypatch.context() as patch:
        patch.setattr(Tracking, "epoch_ended", stop)
        assert kdzoo(*logged, "--log-with", "notebook").code == 130
    signal.signal(signal.SIGINT, before)
    assert kdzoo(*logged, "--log-with", "notebook").code == 0
    assert [line[0] for line in notes(records()["soft"]["id"])] == ["start", "config", 0, "start", 1, 1, "finish"]


def test_a_tracker_that_fails_costs_no_cell_and_is_told_once(
    kdzoo: Callable[..., Any], logged: tuple[Any, ...], records: Callable[..., Any]
) -> None:
    result = kdzoo(*logged, "--log-with", "sulky,notebook,deaf")
    assert result.code == 0, result.err
    found = records()
    assert {each["status"] for each in found.values()} == {"done"}
    assert len(notes(found["soft"]["id"])) == 6
    warnings = [line for line in result.err.splitlines() if line.startswith("warning: ")]
    assert sorted(warnings) == [
        "warning: --log-with deaf: epoch_ended failed, which changes no result: OSError: cannot hear",
        "warning: --log-with deaf: record_written failed, which changes no result: OSError: cannot hear",
        "warning: --log-with sulky: epoch_ended failed, which changes no result: ConnectionError: nobody there",
    ]
    assert Path("sulked.txt").read_text() == "xx"  # a service that is not there is not tried for ever
    assert notes(found["soft"]["id"], tracker="deaf")[-1] == ["finish"]


@pytest.mark.exhaustive
def test_trackers_work_in_workers(
    kdzoo: Callable[..., Any], logged: tuple[Any, ...], records: Callable[..., Any]
) -> None:
    result = kdzoo(*logged, "--log-with", "notebook", "--workers", 2, "--epochs", 1)
    assert result.code == 0, result.err
    assert [line[0] for line in notes(records()["soft"]["id"])] == ["start", "config", 0, 0, "finish"]


def test_a_bench_file_may_ask_for_it(
    kdzoo: Callable[..., Any], logged: tuple[Any, ...], records: Callable[..., Any], tmp_path: Path
) -> None:
    bench = tmp_path / "bench.yaml"
    bench.write_text("log_with: [notebook]\n")
    assert kdzoo(*logged, "--config", bench, "--epochs", 1).code == 0
    assert notes(records()["soft"]["id"])


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("tensorbord", "error: --log-with: unknown tracker 'tensorbord'; did you mean tensorboard?\n"),
        ("all", "error: --log-with: unknown tracker 'all'; known: deaf, mlflow, notebook, sulky, tensorboard, wandb\n"),
    ],
)
def test_an_unknown_tracker_is_told_before_anything_is_written(
    name: str, told: str, kdzoo: Callable[..., Any], logged: tuple[Any, ...]
) -> None:
    result = kdzoo(*logged, "--log-with", name)
    assert (result.code, result.err) == (2, told)
    assert not Path("runs").exists()


def test_a_missing_library_is_told_in_a_sentence(
    kdzoo: Callable[..., Any], logged: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    from kdzoo.bench import trackers

    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    result = kdzoo(*logged, "--log-with", "wandb")
    assert result.code == 2
    assert result.err == "error: --log-with wandb needs a package that is not installed: pip install wandb\n"
    assert not Path("runs").exists()


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_trackers_of_one_run_are_not_for_cells_in_lockstep(
    name: str, kdzoo: Callable[..., Any], logged: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    from kdzoo.bench import trackers

    monkeypatch.setattr(trackers, "find_spec", lambda name: name)
    result = kdzoo(*logged, "--log-with", name, "--lockstep", 2)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"error: --log-with {name} and --lockstep exclude each other")
    assert not Path("runs").exists()


@pytest.mark.skipif(find_spec("mlflow") is None, reason="mlflow is not installed")
def test_mlflow_has_the_curve_of_each_cell_and_goes_on_with_a_run(
    kdzoo: Callable[..., Any], logged: tuple[Any, ...], records: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    result = kdzoo(*logged, "--log-with", "mlflow")
    assert (result.code, "failed" in result.err) == (0, False), result.err
    mlflow.set_tracking_uri(f"sqlite:///{Path('runs').absolute() / 'mlflow.db'}")
    client = mlflow.tracking.MlflowClient()
    experiments = [each.experiment_id for each in client.search_experiments() if each.name == "kdzoo"]
    runs = {run.data.params["cell"]: run for run in client.search_runs(experiments)}
    assert runs.keys() == {record["id"] for record in records().values()}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    soft = records()["soft"]
    shown = client.get_metric_history(runs[soft["id"]].info.run_id, "loss/soft")
    assert sorted((each.step, each.value) for each in shown) == [
        (line["epoch"], pytest.approx(line["terms"]["soft"])) for line in soft["curve"]
    ]
    assert runs[soft["id"]].data.metrics["test/top1"] == pytest.approx(top1(soft))


@pytest.mark.skipif(find_spec("wandb") is None, reason="wandb is not installed")
def test_wandb_keeps_a_run_of_each_cell_without_a_network(
    kdzoo: Callable[..., Any], logged: tuple[Any, ...], records: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    result = kdzoo(*logged, "--log-with", "wandb")
    assert (result.code, "failed" in result.err) == (0, False), result.err
    for record in records().values():
        folder = Path("runs", "cells", record["id"], "logs", "wandb")
        (kept,) = folder.glob("wandb/offline-run-*")
        assert kept.name.endswith((folder / "run").read_text())
        assert list(kept.glob("run-*.wandb"))


def top1(record: dict[str, Any]) -> float:
    return float(record["test"]["top1"])


def test_an_epoch_that_was_not_measured_has_no_value_on_tune(
    kdzoo: Callable[..., Any], logged: tuple[Any, ...], records: Callable[..., Any]
) -> None:
    result = kdzoo(*logged, "--log-with", "notebook", "--eval-every", 2)
    assert result.code == 0, result.err
    _, _, first, second, _, _ = notes(records()["soft"]["id"])
    assert set(first[1]) == {"loss/ce", "loss/soft", "lr"}
    assert second[1]["tune/top1"] == records()["soft"]["curve"][1]["tune"]["top1"]


@pytest.mark.skipif(find_spec("tensorboard") is None, reason="tensorboard is not installed")
def test_tensorboard_shows_the_curve(
    kdzoo: Callable[..., Any], logged: tuple[Any, ...], records: Callable[..., Any]
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = kdzoo(*logged, "--log-with", "tensorboard")
    assert result.code == 0, result.err
    soft = records()["soft"]
    (run,) = Path("runs", "cells", soft["id"], "logs", "tensorboard").iterdir()
    events = EventAccumulator(str(run))
    events.Reload()
    assert {"loss/ce", "loss/soft", "lr", "tune/top1", "test/top1"} <= set(events.Tags()["scalars"])
    shown = [(event.step, event.value) for event in events.Scalars("loss/soft")]
    assert shown == [(line["epoch"], pytest.approx(line["terms"]["soft"], rel=1e-6)) for line in soft["curve"]]
