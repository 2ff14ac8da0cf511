"""Optimizer, schedule, moving average and mixup of a recipe, from timm."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import numpy as np
import torch
from timm.data import Mixup
from timm.optim import create_optimizer_v2, get_optimizer_class, list_optimizers
from timm.scheduler import create_scheduler_v2
from timm.scheduler.scheduler import Scheduler
from timm.utils import ModelEmaV3
from torch import nn

from kdzoo.errors import UsageError, unknown
from kdzoo.outputs import Batch
from kdzoo.recipe import Recipe
from kdzoo.strategy import Strategy

_TIMM_SCHEDULES = {"cosine": "cosine", "step": "multistep", "linear": "poly", "constant": "constant"}


def check_recipe(recipe: Recipe, samples: int) -> None:
    """Refuse what timm would refuse later.

    Args:
        recipe: how students or teachers are trained.
        samples: how many train; a batch is never larger.

    Raises:
        UsageError: an optimizer that timm does not have, or mixup in batches of odd size.
    """
    known = [str(name) for name in list_optimizers(exclude_filters=["bnb*", "fused*"])]
    if recipe.optimizer not in known:
        raise UsageError(unknown("optimizer", recipe.optimizer, known))
    batch = min(recipe.batch_size, samples)
    if (recipe.mixup or recipe.cutmix) and batch % 2:
        raise UsageError(f"mixup and cutmix mix a batch by pairs and need an even batch_size, not {batch}")


def make_optimizer(module: nn.Module, recipe: Recipe, *, plain_gradients: bool = False) -> torch.optim.Optimizer:
    """The recipe's optimizer over what a module trains; timm leaves biases and norms out of the decay.

    Args:
        module: on its device.
        recipe: names the optimizer.
        plain_gradients: whether autograd alone fills the gradients, which lets fused kernels take the step; see
            :func:`kdzoo.engine.optim.form_of`.
    """
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    optimizer: torch.optim.Optimizer = create_optimizer_v2(
        module,
        opt=recipe.optimizer,
        lr=recipe.lr,
        weight_decay=recipe.weight_decay,
        momentum=recipe.momentum,
        **form_of(recipe.optimizer, device, plain_gradients=plain_gradients),
    )
    for group in (optimizer.defaults, *optimizer.param_groups):
        # timm hands the momentum only to optimizers that call it so; beta2 stays the optimizer's own.
        if "betas" in group and "momentum" not in group:
            group["betas"] = (recipe.momentum, *group["betas"][1:])
    return optimizer


def make_schedule(optimizer: torch.optim.Optimizer, recipe: Recipe, epochs: int, steps: int) -> Scheduler:
    """The recipe's schedule over one phase; a function of the step alone, so a resumed run needs no state of it."""
    # timm's annotations say whole epochs; its arithmetic is in steps and takes shares of them.
    timing: dict[str, Any] = {
        # timm steps one update before a milestone; half an update more makes it the first one after.
        "decay_milestones": [(round(share * epochs * steps) + 0.5) / steps for share in recipe.milestones],
        "warmup_epochs": recipe.warmup * epochs,
    }
    schedule: Scheduler
    schedule, _ = create_scheduler_v2(
        optimizer,
        sched=_TIMM_SCHEDULES[recipe.schedule],
        num_epochs=epochs,
        decay_rate=recipe.decay if recipe.schedule == "step" else 1.0,
        min_lr=recipe.min_lr * recipe.lr,
        warmup_lr=recipe.lr * 1e-3,
        **timing,
        step_on_epochs=False,
        updates_per_epoch=steps,
    )
    return schedule


def make_average(module: nn.Module, recipe: Recipe) -> ModelEmaV3 | None:
    """The moving average of a module, warmed up so that short trainings are not held at their first weights."""
    return ModelEmaV3(module, decay=recipe.ema, use_warmup=True) if recipe.ema else None


class Mixer:
    """Mixup and cutmix, each batch's draw a function of (seed, epoch, step) alone."""

    def __init__(self, recipe: Recipe, num_classes: int, seed: int) -> None:
        self.active = recipe.mixup > 0 or recipe.cutmix > 0
        self.seed = seed
        if self.active:
            self._mixup = Mixup(
                mixup_alpha=recipe.mixup, cutmix_alpha=recipe.cutmix, label_smoothing=0.0, num_classes=num_classes
            )

    def __call__(self, batch: Batch, step: int, epoch: int | None = None) -> Batch:
        """The batch with inputs and targets mixed, or as it is where the recipe does not mix.

        Args:
            batch: plain.
            step: its place in the epoch.
            epoch: number of the epoch; by default that of the view, as it is where each epoch shows a new one.
        """
        if not self.active:
            return batch
        # timm draws from numpy's global generator; it is lent a seeded state and given back as it was.
        outer = np.random.get_state()
        np.random.seed(
            np.random.SeedSequence([self.seed, batch.view if epoch is None else epoch, step]).generate_state(4)
        )
        try:
            inputs, targets = self._mixup(batch.inputs, batch.labels)
        finally:
            np.random.set_state(outer)
        return dataclasses.replace(batch, inputs=inputs, targets=targets)


def form_of(name: str, device: torch.device, *, plain_gradients: bool) -> dict[str, Any]:
    """The arguments that give an optimizer its fastest form.

    On a CPU torch and timm loop over the parameters unless they are told otherwise. Measured there (one core,
    mobilenetv3_small_050, milliseconds a step; loop, lists, fused): sgd 2.6, 1.9, 0.8; adamw 6.7, 4.6, 1.6; lamb 9.9,
    5.0; radam 10.0, 5.3. The forms give the same up to rounding. On other devices their own choice stands.

    The fused kernels of the CPU read parameter, gradient and state as flat memory, and give wrong values in silence
    where these do not lie in the same order. So they serve only gradients that come from autograd as they are.

    Args:
        name: as timm calls the optimizer.
        device: where the parameters are.
        plain_gradients: whether autograd alone fills the gradients; see :func:`has_plain_gradients`.
    """
    if device.type != "cpu":
        return {}
    known = inspect.signature(get_optimizer_class(name, bind_defaults=False)).parameters
    if "fused" in known and plain_gradients:
        return {"fused": True}
    return {"foreach": True} if "foreach" in known else {}


def has_plain_gradients(strategy: type[Strategy]) -> bool:
    """Whether a strategy leaves the gradients to one backward pass, and sets none of its own."""
    return strategy.gradients is Strategy.gradients


def load_optimizer(optimizer: Any, state: dict[str, Any]) -> None:
    """Take up an optimizer's state, each tensor in the memory order of its parameter.

    The form stays: a checkpoint may come from a version of kdzoo that took another.

    Args:
        optimizer: freshly made for the same parameters.
        state: what its ``state_dict`` gave.
    """
    forms = [{key: group[key] for key in ("foreach", "fused") if key in group} for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, form in zip(optimizer.param_groups, forms, strict=True):
        group.update(form)
        for parameter in group["params"]:
            values = optimizer.state.get(parameter, {})
            for name, value in values.items():
                if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                    values[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
