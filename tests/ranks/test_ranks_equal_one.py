"""A cell that two processes train together has the record that one process gives it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hard_strategies import Centred, Contrast, Everything, Review, TeachersHead, ThreePhases, TwoMomenta, TwoViews
from rank_jobs import train
from rank_pair import Pair
from small_lab import prepare

from kdzoo.engine.world import ALONE
from kdzoo.measures import exact_scores

MODERN = {
    "optimizer": "adamw",
    "lr": 0.002,
    "label_smoothing": 0.1,
    "mixup": 0.3,
    "cutmix": 0.5,
    "ema": 0.9,
    "clip_grad": 1.0,
    "augment.flip": True,
    "augment.erase": 0.2,
}
CASES = {
    "labels, BatchNorm": ("ce", {}),
    "labels, BatchNormAct": ("ce", {"student": "test_efficientnet"}),
    "labels, LayerNorm": ("ce", {"student": "test_vit:img_size=16:patch_size=8"}),
    "soft targets, modern recipe": ("soft", {"recipe": MODERN}),
    "adapters": ("fitnets", {}),
    "adapters, a phase of hints": ("fitnets", {"epochs": 3, "set": {"fitnets.hint_epochs": 1}}),
    "attention": ("at", {}),
    "per-sample parts": ("soft+at", {}),
    "rows that cannot be divided evenly": ("soft", {"recipe": {"batch_size": 15}}),
    "uneven rows through an adapter with BatchNorm": (
        "fitnets",
        {"recipe": {"batch_size": 15, "ema": 0.9, "clip_grad": 1.0}},
    ),
    "maps before activations": ("ofd", {}),
    "maps before activations, a phase": ("ab", {"epochs": 3}),
    "statistics of the teacher": (Centred, {}),
    "variants of each image": ("sskd", {"epochs": 3}),
    "relations of a batch": ("rkd", {}),
    "relations beside a per-sample part": ("soft+rkd", {}),
    "memories of all samples and negatives": ("crd", {"set": {"crd.negatives": 50}}),
    "a paraphraser's phase": ("ft", {"epochs": 3}),
    "adapters of several stages": ("vid", {}),
    "a norm of a plugin": ("reviewkd", {"epochs": 2}),
    "short whole numbers beside relations": ("hard+rkd", {}),
    "memory and draws": (Contrast, {"recipe": MODERN}),
    "adapters with BatchNorm": (Review, {}),
    "live classifier": (Everything, {}),
    "deployed modules": (TeachersHead, {"recipe": {"ema": 0.9}}),
    "three phases": (ThreePhases, {"epochs": 4}),
    "two backward passes": (TwoMomenta, {}),
    "two views": (TwoViews, {}),
    "balanced parts": ("soft+at", {"balance": 1.0}),
    "balanced relations": ("rkd", {"balance": 1.0, "epochs": 5}),
}


OVERLAPPED = {"ce", "soft", "at", "fitnets", "ft", "vid", "soft+at", "ofd", "ab", "reviewkd"}


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """One for one process, one for two."""
    folder = tmp_path_factory.mktemp("stores")
    return folder / "one", folder / "two"


@pytest.mark.parametrize(("strategy", "config"), CASES.values(), ids=CASES)
def test_two_ranks_give_what_one_gives(
    strategy: Any, config: dict[str, Any], stores: tuple[Path, Path], taught: str, pair: Pair
) -> None:
    plan = prepare(stores[0], [strategy], teacher_weights=taught, **config).plan
    (cell,) = [cell for cell in plan.cells if cell.strategy.name in (strategy, getattr(strategy, "name", ""))]
    whole = train(ALONE, stores[0], taught, cell)
    first, second = pair.together(train, stores[1], taught, cell)
    one, two = whole.record, first.record
    assert one is not None
    assert two is not None
    assert (one.status, two.status) == ("done", "done"), two.traceback
    for line, other in zip(one.curve, two.curve, strict=True):
        assert other.terms == pytest.approx(line.terms, rel=1e-6)
        assert (other.score, other.lr) == (line.score, line.lr)
    for name in ("tune", "test"):
        ours, theirs = getattr(one, name), getattr(two, name)
        assert exact_scores(theirs, ()) == exact_scores(ours, ())
        assert theirs == pytest.approx(ours, rel=1e-6)
    assert (two.test["agreement"], two.student, two.adapter_parameters) == (
        one.test["agreement"],
        one.student,
        one.adapter_parameters,
    )
    assert two.balance == pytest.approx(one.balance, rel=1e-6)
    assert bool(two.balance) is ("balance" in config)
    assert first.state.keys() == second.state.keys() == whole.state.keys()
    for name, value in whole.state.items():
        torch.testing.assert_close(first.state[name], value, rtol=1e-5, atol=1e-7, msg=name)
        assert torch.equal(first.state[name], second.state[name]), name
    for name in whole.average:
        assert torch.equal(first.average[name], second.average[name]), name
    assert (first.overlapped, second.overlapped) == (cell.strategy.name in OVERLAPPED,) * 2
    assert two.environment.device == f"2 x {one.environment.device}"
