"""A strategy may step in its own way: the engine trains with its optimizer, and the plan asks for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_lab import prepare, run, whole_and_cut
from torch import Tensor

from kdzoo import Backward, Recipe, Strategy, Terms, UsageError
from kdzoo.combining import combine
from kdzoo_zoo.functional import separate_momentum_trajectory
from kdzoo_zoo.response.soft import SoftTargets
from kdzoo_zoo.scheme.dot import DistillationOrientedTrainer

SGD = {
    "optimizer": "momentum",
    "schedule": "constant",
    "warmup": 0.0,
    "lr": 0.02,
    "momentum": 0.9,
    "weight_decay": 0.01,
}


class Recorded(DistillationOrientedTrainer):
    """DOT that notes parameters and gradients before each step."""

    name = "recorded"
    steps: list[list[tuple[Tensor, ...]]] = []  # noqa: RUF012
    decays: dict[int, float] = {}  # noqa: RUF012

    def gradients(self, terms: Terms, backward: Backward) -> None:
        super().gradients(terms, backward)
        self.order = backward.parameters
        noted = [
            tuple(each.detach().double().clone() for each in (parameter, parameter.grad, self._distilled[parameter]))
            for parameter in backward.parameters
        ]
        Recorded.steps.append(noted)

    def optimizer(self, made: torch.optim.Optimizer, recipe: Recipe) -> torch.optim.Optimizer:
        Recorded.decays = {id(p): group["weight_decay"] for group in made.param_groups for p in group["params"]}
        return super().optimizer(made, recipe)


def test_dot_follows_its_trajectory_in_a_training(tmp_path: Path, teacher_file: str) -> None:
    Recorded.steps = []
    order: list[Any] = []
    original = Recorded.gradients

    def spy(self: Recorded, terms: Terms, backward: Backward) -> None:
        original(self, terms, backward)
        order[:] = backward.parameters

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recorded, "gradients", spy)
        record = run(
            tmp_path, [Recorded], teacher_weights=teacher_file, recipe=SGD, epochs=2, without_baseline=True
        ).only("recorded")
    assert record.status == "done", record.traceback
    assert len(Recorded.steps) == 8
    assert {Recorded.decays[id(parameter)] for parameter in order} == {0.0, SGD["weight_decay"]}
    for place, parameter in enumerate(order):
        path, task, distilled = (
            torch.stack([step[place][part].flatten() for step in Recorded.steps]) for part in range(3)
        )
        path = torch.cat([path, parameter.detach().double().flatten()[None]])
        expected = separate_momentum_trajectory(
            path[0], task, distilled, SGD["lr"], SGD["momentum"], 0.075, Recorded.decays[id(parameter)]
        )
        torch.testing.assert_close(path[1:], expected, rtol=1e-6, atol=1e-6)


def test_a_stop_changes_nothing(tmp_path: Path, teacher_file: str) -> None:
    settings = {"teacher_weights": teacher_file, "recipe": SGD, "epochs": 2, "without_baseline": True}
    whole, cut = whole_and_cut(tmp_path, ["dot"], [(1, 2)], **settings)
    one, other = whole.only("dot"), cut.only("dot")
    assert one.status == "done", one.traceback
    assert one.outcome() == other.outcome()
    files = [bench.folder(record) / "student.safetensors" for bench, record in ((whole, one), (cut, other))]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_without_a_difference_it_trains_as_soft_targets_do(tmp_path: Path, teacher_file: str) -> None:
    settings = {"teacher_weights": teacher_file, "recipe": SGD, "epochs": 2, "without_baseline": True}
    bench = run(tmp_path, ["dot", "soft"], set={"dot.delta": 0.0}, **settings)
    dot, soft = (bench.only(name).curve[-1].terms for name in ("dot", "soft"))
    assert dot == pytest.approx(soft, rel=1e-3)


@pytest.mark.parametrize("change", [{"optimizer": "adamw"}, {"clip_grad": 1.0}, {"momentum": 0.0}])
def test_a_recipe_that_does_not_fit_is_refused_while_planning_and_the_others_run(
    change: dict[str, Any], tmp_path: Path, teacher_file: str
) -> None:
    plan = prepare(tmp_path, ["dot", "soft"], teacher_weights=teacher_file, recipe=SGD | change).plan
    assert [each.strategy for each in plan.refused] == ["dot"]
    assert "soft" in {cell.strategy.name for cell in plan.cells if cell.strategy}


def test_an_optimizer_of_its_own_is_not_combined() -> None:
    with pytest.raises(UsageError, match=r"dot\+soft: dot has an optimizer of its own"):
        combine([DistillationOrientedTrainer, SoftTargets], ["1", "1"])


def test_the_default_is_the_recipes() -> None:
    made = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    assert Strategy.optimizer(SoftTargets.__new__(SoftTargets), made, None) is made  # type: ignore[arg-type]
