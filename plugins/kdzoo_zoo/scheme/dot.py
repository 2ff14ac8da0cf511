"""DOT: the distillation loss keeps more momentum than the hard-label loss."""

from __future__ import annotations

import torch
from torch import Tensor

from kdzoo import Backward, Batch, Outputs, PairError, Paper, Recipe, Setup, Strategy, Terms, param
from kdzoo_zoo.classes import check_classes
from kdzoo_zoo.response.soft import soft_target_loss, soft_temperature, soft_weight
from kdzoo_zoo.scheme.momenta import SeparateMomenta
from kdzoo_zoo.tensors import check_same


def separate_momentum_trajectory(
    parameter: Tensor,
    task_gradients: Tensor,
    distillation_gradients: Tensor,
    lr: float,
    momentum: float,
    delta: float,
    weight_decay: float,
) -> Tensor:
    """Where SGD with a momentum for each of two losses takes a parameter, for given gradients.

    Equation, with g_t and k_t rows of ``task_gradients`` and ``distillation_gradients``, p_0 = ``parameter``::

        a_t = (momentum - delta) a_(t-1) + g_t + weight_decay p_(t-1),  a_0 = 0
        b_t = (momentum + delta) b_(t-1) + k_t,                         b_0 = 0
        p_t = p_(t-1) - lr (a_t + b_t)

    With delta = 0 it is SGD with classical momentum on the sum of both losses.

    Args:
        parameter: n values before the first step.
        task_gradients: steps x n, of the hard-label loss.
        distillation_gradients: steps x n, of the distillation terms.
        lr: learning rate.
        momentum: what both momenta are on average.
        delta: half of the difference between the two.
        weight_decay: belongs to the task, and uses the value before the step.

    Returns:
        steps x n: the parameter after each step.

    Raises:
        ValueError: the gradients differ in shape, or are not of the parameter.

    Precision: that of the arguments.

    Source: Zhao, Cui, Song, Liang, "DOT: A Distillation-Oriented Trainer", ICCV 2023, arXiv 2307.08436. Authors' code:
    https://github.com/megvii-research/mdistiller, ``mdistiller/engine/dot.py``, of which this is the rule for
    parameters that get both gradients.

    Example:
        >>> one = torch.ones(2, 1)
        >>> separate_momentum_trajectory(torch.zeros(1), one, one, 1.0, 0.5, 0.25, 0.0)
        tensor([[-2.],
                [-5.]])
    """
    check_same("gradients", task_gradients, distillation_gradients, of=("task", "distillation"))
    if task_gradients.shape[1:] != parameter.shape:
        shapes = f"{tuple(task_gradients.shape)} and {tuple(parameter.shape)}"
        raise ValueError(f"gradients and parameter do not fit each other: {shapes}")
    task, distilled = torch.zeros_like(parameter), torch.zeros_like(parameter)
    path = []
    for gradient, other in zip(task_gradients, distillation_gradients, strict=True):
        task = (momentum - delta) * task + gradient + weight_decay * parameter
        distilled = (momentum + delta) * distilled + other
        parameter = parameter - lr * (task + distilled)
        path.append(parameter)
    return torch.stack(path) if path else task_gradients


class DistillationOrientedTrainer(Strategy):
    """DOT: SGD keeps one momentum for each loss, and that of the distillation loss is larger.

    Knowledge: soft targets, as in ``soft``. What is new is the step: with one momentum for both losses the student
    tends to a compromise, in which it follows the teacher less than it could.

    Loss: (1 - alpha) CE(student, labels) + alpha T^2 KL(p_t || p_s), KL summed over classes, mean over the batch.

    Step: a = (momentum - delta) a + gradient of CE + weight decay; b = (momentum + delta) b + gradient of the soft
    targets; parameter -= lr (a + b). Momentum, rate and weight decay are those of the recipe. With delta = 0 it is
    ``soft``.

    Cost: two backward passes a step, and a second momentum in memory; no adapters. Serves every pair whose logits have
    the same classes, under recipes with SGD and momentum, without clipped gradients, in fp32 or bf16; it refuses
    others. It cannot be combined.

    Differs from the paper: nothing under ``optimizer: momentum``. Under Nesterov momentum (``optimizer: sgd``), which
    the authors do not use, each of the two looks ahead with its own factor, so that delta = 0 is ``soft`` there too.
    """

    name = "dot"
    family = "scheme"
    paper = Paper(
        title="DOT: A Distillation-Oriented Trainer",
        authors="Borui Zhao, Quan Cui, Renjie Song, Jiajun Liang",
        year=2023,
        venue="ICCV 2023",
        id="2307.08436",
        code="https://github.com/megvii-research/mdistiller",
    )
    signals = ("logits",)
    per_sample = True
    zero_when_equal = True
    non_negative = True

    delta: float = param(
        0.075,
        "half of the difference between the two momenta",
        ge=0.0,
        le=0.5,
        imagenet=0.09,
        source="the paper: CIFAR-100 and Tiny-ImageNet; ImageNet",
        search=(0.0, 0.09),
    )
    temperature: float = soft_temperature()
    alpha: float = soft_weight()

    @property
    def ce_weight(self) -> float:  # type: ignore[override]
        """1 - alpha."""
        return 1.0 - self.alpha

    def build(self, setup: Setup) -> None:
        """Check that both networks speak of the same classes."""
        check_classes(self.name, setup)
        self._distilled: dict[Tensor, Tensor] = {}

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """One term, ``soft``."""
        return {"soft": self.alpha * soft_target_loss(student.logits, teacher.logits, self.temperature)}

    def gradients(self, terms: Terms, backward: Backward) -> None:
        """The hard-label loss's in ``grad``; those of the soft targets are set aside for the optimizer."""
        self._distilled.clear()
        backward(terms["soft"], retain_graph="ce" in terms)
        for parameter in backward.parameters:
            if parameter.grad is not None:
                self._distilled[parameter] = parameter.grad
                parameter.grad = None
        if "ce" in terms:
            backward(terms["ce"])

    def optimizer(self, made: torch.optim.Optimizer, recipe: Recipe) -> torch.optim.Optimizer:
        """Two momenta in the place of SGD's one."""
        if not isinstance(made, torch.optim.SGD) or not recipe.momentum:
            raise PairError(
                f"dot splits the momentum of SGD in two, and the recipe has optimizer {recipe.optimizer} with momentum "
                f"{recipe.momentum:g}: take recipe.optimizer=momentum and recipe.momentum=0.9"
            )
        if not self.delta <= recipe.momentum < 1 - self.delta:
            raise PairError(
                f"dot.delta is {self.delta:g}, and momentum {recipe.momentum:g} less or more than that must be from 0 "
                "to below 1: lower it"
            )
        if recipe.clip_grad:
            raise PairError("dot has two gradients, and the recipe clips their sum: set recipe.clip_grad=0")
        if recipe.precision == "fp16":
            raise PairError("dot keeps gradients over steps, and fp16 scales them: take --precision bf16 or fp32")
        return SeparateMomenta(made, self._distilled, self.delta)
