"""Students are measured again from their weights; whatever is not as the record says is told in one line."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hard_strategies import TeachersHead
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from small_lab import DISTRIBUTION, VERSION, Quadrants, Run, make_registry, run

from kdzoo import Splits
from kdzoo.bench.remeasure import remeasure
from kdzoo.measures import hits
from kdzoo.plugins import Plugin, load_plugins
from kdzoo.record import Record
from kdzoo.refs import ModelRef
from kdzoo.registry import Registry
from kdzoo.store import Store

STUDENT, DEPLOYED = "student.safetensors", "deployed.safetensors"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, teacher_file: str) -> Run:
    out = tmp_path_factory.mktemp("remeasure")
    return run(out, ["soft", TeachersHead], teacher_weights=teacher_file, epochs=3, seeds=2, recipe={"lr": 0.02})


@pytest.fixture
def store(bench: Run, tmp_path: Path) -> Store:
    """A copy of the bench's store, to be spoilt."""
    return Store.open(Path(shutil.copytree(bench.lab.store.path, tmp_path / "runs")))


@pytest.fixture
def check(bench: Run, store: Store) -> Callable[..., list[str]]:
    def run_check(records: list[Record] | None = None, registry: Registry | None = None) -> list[str]:
        return remeasure(
            bench.records if records is None else records,
            store,
            registry or make_registry(TeachersHead),
            data_dir=None,
            device="cpu",
        )

    return run_check


def rewrite(path: Path, change: Callable[[str, torch.Tensor], torch.Tensor]) -> None:
    """Change the tensors of a file and keep its header."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    save_file({name: change(name, tensor) for name, tensor in load_file(path).items()}, path, metadata=metadata)


def test_what_a_bench_wrote_is_confirmed(bench: Run, check: Callable[..., list[str]]) -> None:
    assert [record.status for record in bench.records] == ["done"] * 6
    assert len({record.test["top1"] for record in bench.records}) > 1
    assert check() == []


def test_weights_with_other_values_are_told(bench: Run, store: Store, check: Callable[..., list[str]]) -> None:
    record = bench.students("soft")[0]
    rewrite(store.folder(record.id) / STUDENT, lambda name, tensor: -tensor if name.startswith("fc.") else tensor)
    (fault,) = check()
    assert fault.startswith(f"{record.id}: top-1 on test is ")
    assert fault.endswith(f"%, and the record says {record.test['top1']:.2f} %")


def test_a_record_with_a_better_number_is_told(bench: Run, check: Callable[..., list[str]]) -> None:
    record = bench.students("teachers-head")[1]
    better = record.test | {"top1": 100 * (hits(record.test) + 1) / record.test["n"], "top5": 100.0}
    (fault,) = check([record.model_copy(update={"test": better})])
    assert fault == (
        f"{record.id}: top-1 on test is {record.test['top1']:.2f} %,"
        f" and the record says {record.test['top1'] + 2.5:.2f} %"
    )


def test_agreement_within_the_tolerance_is_enough(bench: Run, check: Callable[..., list[str]]) -> None:
    record = bench.students("ce")[0]
    many = record.test | {"top5": 100.0, "nll": 9.9, "ece": 50.0}
    assert check([record.model_copy(update={"test": many})]) == []


def test_swapped_weights_of_two_students_are_told(bench: Run, store: Store, check: Callable[..., list[str]]) -> None:
    one, other = bench.students("soft")
    first, second = store.folder(one.id) / STUDENT, store.folder(other.id) / STUDENT
    first.rename(first.with_name("aside"))
    second.rename(first)
    first.with_name("aside").rename(second)
    faults = {fault[:16]: fault[18:] for fault in check()}
    assert faults == {
        one.id: f"the weights {first} were written for the cell {other.id}, so they are another student's",
        other.id: f"the weights {second} were written for the cell {one.id}, so they are another student's",
    }


@pytest.mark.parametrize("name", [STUDENT, DEPLOYED])
def test_missing_weights_are_told(name: str, bench: Run, store: Store, check: Callable[..., list[str]]) -> None:
    record = bench.students("teachers-head")[0]
    path = store.folder(record.id) / name
    path.unlink()
    assert check() == [f"{record.id}: the weights {path} are not there"]


@pytest.mark.parametrize("name", [STUDENT, DEPLOYED])
@pytest.mark.parametrize("kept", [0, 4, 100, 0.5, 0.999])
def test_a_truncated_file_is_told(
    name: str, kept: float, bench: Run, store: Store, check: Callable[..., list[str]]
) -> None:
    record = bench.students("teachers-head")[0]
    path = store.folder(record.id) / name
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    assert check([record]) == [f"{record.id}: the weights {path} are damaged, or not a file of weights"]


def test_a_pickle_is_told_and_not_run(
    bench: Run, store: Store, check: Callable[..., list[str]], tmp_path: Path
) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "ran",)

    record = bench.students("soft")[0]
    path = store.folder(record.id) / STUDENT
    path.write_bytes(pickle.dumps(Evil()))
    assert check() == [f"{record.id}: the weights {path} are damaged, or not a file of weights"]
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("metadata", [None, {"kdzoo": "no json"}, {"kdzoo": "[" * 100_000}, {"kdzoo": '{"cell": 1}'}])
def test_weights_of_nobody_are_told(
    metadata: dict[str, str] | None, bench: Run, store: Store, check: Callable[..., list[str]]
) -> None:
    record = bench.students("soft")[0]
    path = store.folder(record.id) / STUDENT
    save_file(load_file(path), path, metadata=metadata)
    (fault,) = check([record])
    assert fault.endswith("do not say which cell they were written for, so kdzoo did not write them")


def test_hostile_names_of_tensors_stay_on_one_line(bench: Run, store: Store, check: Callable[..., list[str]]) -> None:
    record = bench.students("soft")[0]
    path = store.folder(record.id) / STUDENT
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    save_file(load_file(path) | {"\x1b[31mred\n\u202e": torch.zeros(1)}, path, metadata=metadata)
    (fault,) = check([record])
    assert "also hold '\\x1b[31mred\\n\\u202e'" in fault
    assert fault.isprintable()


def test_weights_that_are_not_finite_are_told(bench: Run, store: Store, check: Callable[..., list[str]]) -> None:
    record = bench.students("ce")[0]
    path = store.folder(record.id) / STUDENT
    rewrite(path, lambda _, tensor: tensor * 1e36 if tensor.ndim else tensor)
    assert check([record]) == [f"{record.id}: the network's logits are not finite, so it cannot be measured"]
    rewrite(path, lambda _, tensor: tensor * np.nan if tensor.ndim else tensor)
    (fault,) = check([record])
    assert fault.startswith(f"{record.id}: the weights {path} hold NaN or infinity at ")


class Other(Quadrants):
    """Other samples under the same name."""

    def load(self, data_dir: Path | None, download: bool) -> Splits:
        splits = super().load(data_dir, download)
        splits.test.images[0, 0, 0, 0] ^= 1
        return splits


def with_dataset(dataset: Quadrants) -> Registry:
    own = Plugin("tests", DISTRIBUTION, VERSION, strategies=[TeachersHead], datasets=[dataset])
    return Registry([*load_plugins(), own])


def test_another_dataset_of_the_same_name_is_told(bench: Run, check: Callable[..., list[str]]) -> None:
    faults = check(registry=with_dataset(Other()))
    students = [record for record in bench.records if record.cell.kind == "student"]
    fingerprint = students[0].cell.data.fingerprint
    assert [fault[:16] for fault in faults] == sorted(record.id for record in students)
    for fault in faults:
        assert fault[16:].startswith(": the dataset quadrants differs here: its fingerprint is ")
        assert fault.endswith(f", not {fingerprint}")


def test_a_missing_dataset_is_told(bench: Run, check: Callable[..., list[str]]) -> None:
    record = bench.students("soft")[0]
    (fault,) = check([record], Registry(load_plugins()))
    assert fault.startswith(f"{record.id}: unknown dataset 'quadrants'")


def test_a_strategy_that_is_not_installed_or_fails_is_told(bench: Run, check: Callable[..., list[str]]) -> None:
    class Broken(TeachersHead):
        def predict(self, student: Any) -> Any:
            raise KeyError("gone")

    record = bench.students("teachers-head")[0]
    (unknown,) = check([record], make_registry())
    assert unknown.startswith(f"{record.id}: unknown strategy")
    assert check([record], make_registry(Broken)) == [f"{record.id}: cannot be measured: KeyError: 'gone'"]


def test_a_record_that_lies_about_its_size_is_told(bench: Run, check: Callable[..., list[str]]) -> None:
    record = bench.students("teachers-head")[0]
    small = record.model_copy(update={"student": record.student.model_copy(update={"parameters": 1000})})
    assert check([small]) == [
        f"{record.id}: the student has {record.student.parameters:,} parameters, and the record says 1,000"
    ]


def test_an_older_evaluation_is_not_compared(
    bench: Run, check: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    record = bench.students("soft")[0]
    monkeypatch.setattr("kdzoo.bench.remeasure.EVALUATION", 2)
    (fault,) = check([record])
    assert fault == f"{record.id}: made by protocol 1 and evaluation 1, and this kdzoo measures by 1 and 2"


def test_failures_trials_and_teachers_are_passed_over(
    bench: Run, store: Store, check: Callable[..., list[str]]
) -> None:
    record = bench.students("soft")[0]
    (store.folder(record.id) / STUDENT).unlink()
    assert len(check([record])) == 1
    assert check([record.model_copy(update={"status": "failed", "reason": "NaN"})]) == []
    for kind in ("teacher", "trial"):
        assert check([record.model_copy(update={"cell": record.cell.model_copy(update={"kind": kind})})]) == []


def test_a_wrong_number_of_test_samples_is_told(bench: Run, check: Callable[..., list[str]]) -> None:
    record = bench.students("soft")[0]
    double = record.test | {"n": 80, "top5": 100.0}
    assert check([record.model_copy(update={"test": double})]) == [
        f"{record.id}: there are 40 test samples, and the record says 80"
    ]


@pytest.mark.parametrize("name", ["hf-hub:evil/net", "hf_hub:evil/net", "HF-HUB:evil/net", "local-dir:/etc/passwd"])
@pytest.mark.parametrize("whose", ["student", "teacher"])
def test_a_record_names_no_hub_and_no_folder(
    whose: str, name: str, bench: Run, store: Store, check: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its student nor the teacher whose shapes its strategy needs."""
    record = bench.students("teachers-head")[0]
    named = ModelRef(name=name)
    teacher = record.cell.teacher
    assert teacher is not None
    cell = record.cell.model_copy(
        update={"student": named} if whose == "student" else {"teacher": teacher.model_copy(update={"model": named})}
    )

    def no_network(*_: object) -> None:
        raise AssertionError("it asked for the network")

    monkeypatch.setattr("socket.socket.connect", no_network)
    assert check([record.model_copy(update={"cell": cell})]) == [
        f"{record.id}: the model {name} is made of files from a hub or a folder, which a check does not read"
    ]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("folder:/etc", "is a path, which a check does not follow; a record names a folder by its name"),
        ("folder:..\\x", "is a path, which a check does not follow; a record names a folder by its name"),
        ("hfds/evil/data", "comes from a hub; set HF_HUB_OFFLINE=1 to measure with its local cache"),
    ],
)
def test_a_record_names_no_path_and_no_hub_for_its_data(
    name: str, told: str, bench: Run, check: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    record = bench.students("soft")[0]
    data = record.cell.data.model_copy(update={"name": name})
    cell = record.cell.model_copy(update={"data": data})
    assert check([record.model_copy(update={"cell": cell})]) == [f"{record.id}: the dataset {name} {told}"]


def test_a_folders_brackets_are_no_path(bench: Run, check: Callable[..., list[str]]) -> None:
    record = bench.students("soft")[0]
    data = record.cell.data.model_copy(update={"name": r"folder:a\[b\]"})
    (fault,) = check([record.model_copy(update={"cell": record.cell.model_copy(update={"data": data})})])
    assert fault.startswith(f"{record.id}: folder:a[b] is not a folder")


def test_who_asks_is_told_which_students_were_measured(bench: Run, store: Store) -> None:
    seen: list[str] = []
    one, other = bench.students("soft")
    (store.folder(one.id) / STUDENT).unlink()
    wrong = other.model_copy(update={"test": other.test and other.test | {"top1": 0.0}})
    faults = remeasure(
        [one, wrong], store, make_registry(TeachersHead), data_dir=None, device="cpu", measured=seen.append
    )
    assert (len(faults), seen) == (2, [other.id])


def test_the_order_of_the_records_does_not_matter(bench: Run, store: Store, check: Callable[..., list[str]]) -> None:
    for record in bench.records:
        (store.folder(record.id) / STUDENT).unlink()
    faults = check()
    assert [fault[:16] for fault in faults] == sorted(record.id for record in bench.records)
    assert check(bench.records[::-1]) == faults
