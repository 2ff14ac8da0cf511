"""Rates, decay, mixup and averages are what the recipe says."""

from __future__ import annotations

import math

import numpy as np
import pytest
import timm
import torch

from kdzoo import Batch, UsageError
from kdzoo.engine.optim import Mixer, check_recipe, make_average, make_optimizer, make_schedule
from kdzoo.matrix import load_recipe
from kdzoo.recipe import Recipe
from kdzoo.yamltext import shipped


def _recipe(**values: object) -> Recipe:
    return Recipe(**({"name": "r", "epochs": 10, "batch_size": 8, "lr": 0.1} | values))


def _rates(recipe: Recipe, epochs: int = 10, steps: int = 7) -> list[float]:
    optimizer = make_optimizer(torch.nn.Linear(2, 2), recipe)
    schedule = make_schedule(optimizer, recipe, epochs, steps)
    rates = []
    for step in range(epochs * steps):
        schedule.step_update(step)
        (rate,) = {group["lr"] for group in optimizer.param_groups}
        rates.append(rate)
    return rates


def test_cosine_falls_from_the_peak_to_its_share() -> None:
    rates = _rates(_recipe(schedule="cosine", min_lr=0.2))
    expected = [0.02 + 0.08 * 0.5 * (1 + math.cos(math.pi * step / 70)) for step in range(70)]
    assert rates == pytest.approx(expected)


def test_linear_falls_evenly() -> None:
    assert _rates(_recipe(schedule="linear")) == pytest.approx([0.1 * (1 - step / 70) for step in range(70)])
    rates = _rates(_recipe(schedule="linear", min_lr=0.5))
    assert rates == pytest.approx([0.05 + 0.05 * (1 - step / 70) for step in range(70)])


def test_constant_stays() -> None:
    assert _rates(_recipe(schedule="constant")) == [0.1] * 70


@pytest.mark.parametrize(("epochs", "steps"), [(10, 7), (240, 3), (16, 1), (3, 5)])
def test_steps_fall_at_the_first_update_after_each_milestone(epochs: int, steps: int) -> None:
    shares = (0.625, 0.75, 0.875)
    rates = _rates(_recipe(schedule="step", milestones=shares), epochs, steps)
    expected = [
        0.1 * 0.1 ** sum(step >= round(share * epochs * steps) for share in shares) for step in range(epochs * steps)
    ]
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant", "step"])
def test_a_warm_up_rises_linearly_and_then_the_schedule_goes_on(schedule: str) -> None:
    extra = {"milestones": (0.5,)} if schedule == "step" else {}
    plain, warmed = (_rates(_recipe(schedule=schedule, warmup=share, **extra)) for share in (0.0, 0.2))
    assert warmed[:14] == pytest.approx([1e-4 + (0.1 - 1e-4) * step / 14 for step in range(14)])
    assert warmed[14:] == pytest.approx(plain[14:])


def test_nothing_of_one_dimension_decays_nor_what_the_model_leaves_out() -> None:
    model = timm.create_model("test_vit", img_size=16, num_classes=3)
    optimizer = make_optimizer(model, _recipe(weight_decay=0.3))
    decayed = {id(p) for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0, 0.3}
    for name, parameter in model.named_parameters():
        left_out = parameter.ndim <= 1 or name in model.no_weight_decay()
        assert (id(parameter) in decayed) is not left_out, name


def test_frozen_parameters_are_left_out() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2).requires_grad_(False))
    optimizer = make_optimizer(model, _recipe())
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 2


@pytest.mark.parametrize(
    ("name", "nesterov"), [("sgd", True), ("momentum", False)], ids=["sgd is Nesterov's", "momentum is classical"]
)
def test_sgd_takes_the_momentum(name: str, nesterov: bool) -> None:
    (group, *_) = make_optimizer(torch.nn.Linear(2, 2), _recipe(optimizer=name, momentum=0.8)).param_groups
    assert (group["momentum"], group["nesterov"]) == (0.8, nesterov)


def test_adamw_takes_the_momentum_as_beta1() -> None:
    optimizer = make_optimizer(torch.nn.Linear(2, 2), _recipe(optimizer="adamw", momentum=0.8))
    assert all(group["betas"] == (0.8, 0.999) for group in optimizer.param_groups)


@pytest.mark.parametrize(("name", "close"), [("adamv", "adam"), ("sdg", "sgd")])
def test_an_unknown_optimizer_is_named_with_the_closest_ones(name: str, close: str) -> None:
    with pytest.raises(UsageError, match=f"unknown optimizer '{name}'; did you mean {close} or "):
        check_recipe(_recipe(optimizer=name), 100)


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_mixing_needs_even_batches(kind: str) -> None:
    with pytest.raises(UsageError, match="even batch_size, not 7"):
        check_recipe(_recipe(batch_size=7, **{kind: 0.2}), 100)
    with pytest.raises(UsageError, match="even batch_size, not 5"):
        check_recipe(_recipe(batch_size=8, **{kind: 0.2}), 5)  # the only batch has five samples
    check_recipe(_recipe(batch_size=8, **{kind: 0.2}), 100)
    check_recipe(_recipe(batch_size=7), 100)


@pytest.mark.parametrize("name", shipped("recipes"))
def test_shipped_recipes_can_be_trained_by(name: str) -> None:
    recipe = load_recipe(name, {})
    check_recipe(recipe, 10000)
    model = torch.nn.Linear(2, 2)
    optimizer = make_optimizer(model, recipe)
    schedule = make_schedule(optimizer, recipe, recipe.epochs, 2)
    model(torch.ones(1, 2)).sum().backward()
    before = model.weight.clone()
    schedule.step_update(1)
    optimizer.step()
    assert not torch.equal(before, model.weight)


def test_the_cifar_recipe_steps_at_150_180_and_210() -> None:
    recipe = load_recipe("cifar240", {})
    rates = _rates(recipe, 240, 2)
    falls = [step / 2 for step in range(1, 480) if rates[step] < 0.5 * rates[step - 1]]
    assert falls == [150, 180, 210]
    assert rates[0] == pytest.approx(0.05)
    assert rates[-1] == pytest.approx(5e-5)


def _batch(view: int = 0) -> Batch:
    labels = torch.arange(8) % 4
    return Batch(torch.rand(8, 1, 6, 6), labels, labels, torch.arange(8), view=view)


def test_no_mixing_gives_the_batch_itself() -> None:
    batch = _batch()
    assert Mixer(_recipe(), 4, seed=0)(batch, 0) is batch


def test_mixup_mixes_inputs_and_targets_alike_and_keeps_the_labels() -> None:
    batch = _batch()
    inputs = batch.inputs.clone()
    mixed = Mixer(_recipe(mixup=1.0), 4, seed=0)(batch, 3)
    one_hot = torch.nn.functional.one_hot(batch.labels, 4).float()
    share = mixed.targets[0, 0] if batch.labels[0] != batch.labels[7] else None
    assert share is not None
    assert 0 < share < 1
    assert torch.allclose(mixed.targets, share * one_hot + (1 - share) * one_hot.flip(0))
    assert torch.allclose(mixed.inputs, share * inputs + (1 - share) * inputs.flip(0))
    assert torch.equal(mixed.labels, batch.labels)
    assert torch.equal(mixed.index, batch.index)


def test_each_draw_of_a_mix_follows_from_seed_view_and_step_alone() -> None:
    torch.manual_seed(0)
    inputs = torch.rand(8, 1, 6, 6)

    def share(seed: int, view: int, step: int) -> float:
        labels = torch.arange(8) % 4
        batch = Batch(inputs.clone(), labels, labels, torch.arange(8), view=view)
        return float(Mixer(_recipe(mixup=0.4), 4, seed)(batch, step).targets[0, 0])

    first = share(1, 2, 3)
    np.random.seed(5)
    assert share(1, 2, 3) == first
    assert len({first, share(2, 2, 3), share(1, 3, 3), share(1, 2, 4)}) == 4


def test_mixing_leaves_numpys_global_draws_as_they_were() -> None:
    np.random.seed(7)
    expected = np.random.rand(3)
    np.random.seed(7)
    Mixer(_recipe(mixup=0.4, cutmix=1.0), 4, seed=0)(_batch(), 0)
    assert np.array_equal(np.random.rand(3), expected)


def test_the_average_follows_the_weights_and_warms_up() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    average = make_average(model, _recipe(ema=0.5))
    assert average is not None
    expected = 0.0
    for step in range(1, 6):
        torch.nn.init.constant_(model.weight, float(step))
        average.update(model, step=step)
        decay = min(0.5, 1 - step ** (-2 / 3)) if step > 1 else 0.0
        expected = decay * expected + (1 - decay) * step
        assert float(average.module.weight.detach()) == pytest.approx(expected, rel=1e-6)
    assert make_average(model, _recipe()) is None
