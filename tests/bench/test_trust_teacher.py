"""A teacher that is not above chance teaches where somebody vouches for it, and its records say so."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from small_lab import Quiet, Run, prepare

from kdzoo import ArrayData, Dataset, KdzooError, Splits
from kdzoo.bench.executors.local import run_cells
from kdzoo.bench.remeasure import remeasure
from kdzoo.bench.teacher_checks import Advice, admit
from kdzoo.data.load import open_data
from kdzoo.measures import image_scores
from kdzoo.record import Record
from kdzoo.record_parts import Size, TeacherMeasures
from kdzoo.refs import ModelRef, TeacherRef


@pytest.fixture
def ignorant(tmp_path: Path, teacher_file: str) -> str:
    """A teacher that names one class, whatever it sees."""
    weights = load_file(teacher_file)
    weights["classifier.bias"] = 1000 * torch.eye(4)[2]
    path = tmp_path / "ignorant.safetensors"
    save_file(weights, path)
    return str(path)


class Fruit(Dataset):
    """Two classes, of which one is rare."""

    name = "fruit"
    img_size = (8, 8)

    def load(self, data_dir: Path | None, download: bool) -> Splits:
        def part(*counts: int) -> ArrayData:
            labels = np.repeat(np.arange(2), counts)
            return ArrayData(np.zeros((len(labels), 1, 8, 8), np.uint8), labels)

        return Splits(part(120, 20), part(57, 3), ("apple", "pear"))


def admitted(hits: int, weights: str = "trained") -> TeacherMeasures:
    """What is admitted of a teacher that gets so many of 57 + 3 right and calls the others apples."""
    data = open_data("fruit", lambda _: Fruit())
    measures = image_scores(n=60, correct1=hits, correct5=60, nll=0.1, ece=1.0)
    taken = TeacherMeasures(size=Size(parameters=1, macs=1), tune=measures, test=measures)
    guesses = data.labels("test").numpy().copy()
    guesses[hits:] = 0
    ref = TeacherRef(model=ModelRef.parse("test_resnet"), weights=weights)
    return admit(ref, data, taken, guesses, Advice(), trusted=False, say=pytest.fail)


def test_a_perfect_teacher_of_few_and_unequal_samples_teaches() -> None:
    assert not admitted(60).vouched


@pytest.mark.parametrize(
    ("weights", "mend"),
    [
        ("trained", "train it longer (--teacher-epochs), give other weights (--teacher-weights)"),
        ("finetuned", "train it longer (--teacher-epochs), give other weights (--teacher-weights)"),
        ("pretrained", "train it (--teacher-weights train), give other weights"),
        ("file", "give other weights (--teacher-weights)"),
    ],
)
def test_a_refusal_is_true_and_says_what_can_be_done(weights: str, mend: str) -> None:
    with pytest.raises(KdzooError) as none:
        admitted(57, weights)
    assert str(none.value) == (
        "the teacher test_resnet scores 95.0% on test, no better than chance (95.0%, its own guesses in random order); "
        f"{mend}, or use it anyway (--trust-teacher)"
    )
    with pytest.raises(KdzooError, match=r"scores 96.7% on test, not surely better than chance \(93.5%, its own"):
        admitted(58, weights)


def bench_of(out: Path, weights: str, *, trust: bool) -> tuple[Run, list[str]]:
    bench = prepare(out, ["soft"], teacher_weights=weights, epochs=1, trust_teacher=trust)
    bench.lab.trust_teacher = trust
    said: list[str] = []
    bench.lab.say_with(said.append)
    bench.records = run_cells(bench.plan.cells, bench.lab, Quiet(), "failed")
    return bench, said


def vouched(record: Record) -> bool:
    assert record.teacher is not None
    return record.teacher.vouched


def test_it_is_refused_and_taken_all_the_same_by_the_same_cells(tmp_path: Path, ignorant: str) -> None:
    refused, _ = bench_of(tmp_path / "out", ignorant, trust=False)
    assert [record.status for record in refused.records] == ["failed", "failed"]
    assert "or use it anyway (--trust-teacher)" in refused.records[0].reason
    trusted, said = bench_of(tmp_path / "out", ignorant, trust=True)
    assert [record.id for record in trusted.records] == [record.id for record in refused.records]
    assert [record.status for record in trusted.records] == ["done", "done"]
    assert [vouched(record) for record in trusted.records] == [True, True]
    assert said[0] == (
        "warning: the teacher test_efficientnet scores 25.0% on test, no better than chance (25.0%, its own guesses in "
        "random order); it is used anyway, because of --trust-teacher"
    )
    # The measures that are kept are the network's, whoever vouches.
    (folder,) = (tmp_path / "out" / "teachers").iterdir()
    assert json.loads((folder / "measures.json").read_text())["scores"]["vouched"] is False
    # Finished cells stand, without the flag too.
    again, said = bench_of(tmp_path / "out", ignorant, trust=False)
    assert [record.status for record in again.records] == ["done", "done"]
    assert said == []


def test_who_is_above_chance_was_not_vouched_for(tmp_path: Path, teacher_file: str) -> None:
    plain, _ = bench_of(tmp_path / "plain", teacher_file, trust=False)
    trusted, said = bench_of(tmp_path / "trusted", teacher_file, trust=True)
    assert said == []
    for one, other in zip(plain.records, trusted.records, strict=True):
        assert not vouched(other)
        assert one.outcome() == other.outcome()


def test_its_students_can_be_measured_again(tmp_path: Path, ignorant: str) -> None:
    bench, _ = bench_of(tmp_path / "out", ignorant, trust=True)
    measured: list[str] = []
    faults = remeasure(
        bench.records, bench.lab.store, bench.lab.registry, data_dir=None, device="cpu", measured=measured.append
    )
    assert faults == []
    assert sorted(measured) == sorted(record.id for record in bench.records)
