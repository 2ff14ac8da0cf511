"""A training that cycles through its views: what it shows, and what it is called."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_lab import FIT, STEPS, prepare, run

from kdzoo import Batch, Outputs, Strategy, Terms
from kdzoo.config import load_bench
from kdzoo.matrix import resolve_recipes


class Watching(Strategy):
    name = "watching"
    seen: list[tuple[int, torch.Tensor, torch.Tensor]]

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        self.seen.append((batch.view, batch.index, batch.inputs))
        return {"one": student.logits.square().mean()}


def test_epochs_show_the_views_in_turn_in_ever_new_orders(tmp_path: Path, teacher_file: str) -> None:
    Watching.seen = []
    run(tmp_path, [Watching], teacher_weights=teacher_file, epochs=5, recipe={"views": 2})
    epochs = [Watching.seen[start : start + STEPS] for start in range(0, 5 * STEPS, STEPS)]
    assert [[view for view, _, _ in epoch] for epoch in epochs] == [[n % 2] * STEPS for n in range(5)]
    orders = [torch.cat([index for _, index, _ in epoch]) for epoch in epochs]
    images = [
        torch.cat([inputs for _, _, inputs in epoch])[order.argsort()]
        for epoch, order in zip(epochs, orders, strict=True)
    ]
    assert all(sorted(order.tolist()) == list(range(FIT)) for order in orders)
    assert len({tuple(order.tolist()) for order in orders}) == 5
    assert torch.equal(images[0], images[2])
    assert torch.equal(images[1], images[3])
    assert not torch.equal(images[0], images[1])


def test_the_number_of_views_names_the_cell_and_its_default_does_not(tmp_path: Path, teacher_file: str) -> None:
    ids = []
    for recipe in ({}, {"views": 0}, {"views": 3}, {"views": 4}):
        plan = prepare(tmp_path / str(len(ids)), ["soft"], teacher_weights=teacher_file, recipe=recipe).plan
        ids.append([cell.id for cell in plan.cells])
    assert ids[0] == ids[1]
    assert ids[0] != ids[2] != ids[3]
    assert "views" not in str(plan.cells[0].model_copy(update={"recipe": plan.cells[0].recipe}).identity()["teacher"])


def test_the_flag_is_the_students_and_the_trials(tmp_path: Path) -> None:
    recipes = resolve_recipes(load_bench("quick", {"views": 3, "tune": 2}))
    assert (recipes.student.views, recipes.trial.views, recipes.teacher.views) == (3, 3, 0)
    assert recipes.student.name == "quick+views=3"
    recipes = resolve_recipes(load_bench("quick", {"set": {"recipe.views": 3}}))
    assert (recipes.student.views, recipes.teacher.views) == (3, 0)
    (tmp_path / "four.yaml").write_text("epochs: 8\nbatch_size: 8\nviews: 4\n")
    recipes = resolve_recipes(load_bench("quick", {"recipe": str(tmp_path / "four.yaml")}))
    assert (recipes.student.views, recipes.teacher.views) == (4, 4)


def test_flag_and_setting_are_not_both_given() -> None:
    with pytest.raises(Exception, match=r"give --views or --set recipe\.views, not both"):
        load_bench("quick", {"views": 3, "set": {"recipe.views": 3}})
