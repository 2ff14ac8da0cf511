from __future__ import annotations

import pytest
import torch
from torch import nn

from kdzoo import PairError, Recipe
from kdzoo.testing import run_checks
from kdzoo_zoo.functional import separate_momentum_trajectory
from kdzoo_zoo.scheme.dot import DistillationOrientedTrainer

STEPS, SIZE = 5, 3
VALUES = {"lr": 0.1, "momentum": 0.9, "delta": 0.075, "weight_decay": 0.01}


def recipe(**values) -> Recipe:
    return Recipe(**({"name": "r", "epochs": 2, "batch_size": 4, "optimizer": "momentum"} | values))


def drawn() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return tuple(torch.randn(*shape, dtype=torch.float64) for shape in ((SIZE,), (STEPS, SIZE), (STEPS, SIZE)))


def naive(parameter, task, distilled, lr, momentum, delta, weight_decay):
    """Number by number."""
    columns = []
    for place in range(SIZE):
        p, a, b, column = float(parameter[place]), 0.0, 0.0, []
        for step in range(STEPS):
            a = (momentum - delta) * a + float(task[step, place]) + weight_decay * p
            b = (momentum + delta) * b + float(distilled[step, place])
            p -= lr * (a + b)
            column.append(p)
        columns.append(column)
    return torch.tensor(columns, dtype=torch.float64).T


def stepped(strategy, parameter, task, distilled, *, made=None, **group):
    """The same by the strategy's optimizer and its `gradients`; None is no gradient."""
    own = nn.Parameter(parameter.clone())
    values = {"lr": VALUES["lr"], "momentum": VALUES["momentum"], "weight_decay": VALUES["weight_decay"]} | group
    optimizer = strategy.optimizer(torch.optim.SGD([own], **values), recipe(weight_decay=values["weight_decay"]))

    class Backward:
        parameters = (own,)

        def __call__(self, loss, *, retain_graph=False):
            if loss.requires_grad:
                loss.backward(retain_graph=retain_graph)

    path = []
    for step in range(STEPS):
        optimizer.zero_grad()
        terms = {"soft": torch.zeros(()) if distilled is None else (own * distilled[step]).sum()}
        if task is not None:
            terms["ce"] = (own * task[step]).sum()
        strategy.gradients(terms, Backward())
        optimizer.step()
        path.append(own.detach().clone())
    return torch.stack(path)


def test_the_trajectory_equals_the_naive_loop_and_its_gradient_is_right():
    given = drawn()
    torch.testing.assert_close(separate_momentum_trajectory(*given, **VALUES), naive(*given, **VALUES))
    for each in given:
        each.requires_grad_()
    assert torch.autograd.gradcheck(lambda *given: separate_momentum_trajectory(*given, **VALUES), given)


def test_the_trajectory_equals_the_values_computed_by_hand():
    # One step of each: a = 1 + 0.5 x 2 = 2, b = 3, p = 2 - 0.1 x 5; then a = 0.25 x 2 + 1 + 0.75, b = 0.75 x 3 + 3.
    path = separate_momentum_trajectory(
        torch.tensor([2.0]), torch.ones(2, 1), torch.full((2, 1), 3.0), 0.1, 0.5, 0.25, 0.5
    )
    assert path.flatten().tolist() == pytest.approx([1.5, 1.5 - 0.1 * (2.25 + 5.25)])


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="the gradients of task and distillation do not fit"):
        separate_momentum_trajectory(torch.zeros(2), torch.zeros(3, 2), torch.zeros(4, 2), **VALUES)
    with pytest.raises(ValueError, match="gradients and parameter do not fit"):
        separate_momentum_trajectory(torch.zeros(1), torch.zeros(3, 2), torch.zeros(3, 2), **VALUES)


def test_the_optimizer_follows_the_trajectory(setup):
    given = drawn()
    strategy = DistillationOrientedTrainer(setup(), delta=VALUES["delta"])
    torch.testing.assert_close(stepped(strategy, *given), separate_momentum_trajectory(*given, **VALUES))


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("missing", [None, "task", "distilled"])
def test_without_a_difference_or_with_one_gradient_it_is_the_recipes_sgd(setup, nesterov, missing):
    parameter, task, distilled = drawn()
    delta = 0.0 if missing is None else 0.075
    own = nn.Parameter(parameter.clone())
    sgd = torch.optim.SGD([own], lr=0.1, momentum=0.9, weight_decay=0.01, nesterov=nesterov)
    whole = {None: task + distilled, "task": distilled, "distilled": task}[missing]
    expected = []
    for gradient in whole:
        own.grad = gradient.clone()
        sgd.step()
        expected.append(own.detach().clone())
    given = None if missing == "task" else task, None if missing == "distilled" else distilled
    found = stepped(DistillationOrientedTrainer(setup(), delta=delta), parameter, *given, nesterov=nesterov)
    torch.testing.assert_close(found, torch.stack(expected))


def test_a_parameter_without_a_gradient_stays(setup):
    strategy = DistillationOrientedTrainer(setup())
    own = nn.Parameter(torch.ones(2))
    optimizer = strategy.optimizer(torch.optim.SGD([own], lr=0.1, momentum=0.9, weight_decay=0.5), recipe())
    optimizer.step()
    assert own.tolist() == [1, 1]
    assert not optimizer.state[own]


def test_momenta_are_part_of_the_optimizers_state(setup):
    strategy = DistillationOrientedTrainer(setup())
    own = nn.Parameter(torch.ones(2))
    optimizer = strategy.optimizer(torch.optim.SGD([own], lr=0.1, momentum=0.9), recipe())
    own.grad = torch.ones(2)
    optimizer.step()
    (state,) = optimizer.state_dict()["state"].values()
    assert state["task"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("made", "values", "message"),
    [
        (torch.optim.AdamW, {"optimizer": "adamw"}, "splits the momentum of SGD .* adamw .* recipe.optimizer=momentum"),
        (torch.optim.SGD, {"momentum": 0.0}, "with momentum 0: take"),
        (torch.optim.SGD, {"momentum": 0.95}, "delta is 0.075, and momentum 0.95"),
        (torch.optim.SGD, {"momentum": 0.05}, "delta is 0.075, and momentum 0.05"),
        (torch.optim.SGD, {"clip_grad": 1.0}, r"set recipe\.clip_grad=0"),
        (torch.optim.SGD, {"precision": "fp16"}, "take --precision bf16 or fp32"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(setup, made, values, message):
    optimizer = made([nn.Parameter(torch.ones(1))], lr=0.1)
    with pytest.raises(PairError, match=message):
        DistillationOrientedTrainer(setup()).optimizer(optimizer, recipe(**values))


def test_other_classes_are_refused(setup):
    with pytest.raises(PairError, match="3 classes and the teacher 4"):
        DistillationOrientedTrainer(setup(classes=(3, 4)))


def test_weights_are_those_of_soft_targets(setup):
    assert DistillationOrientedTrainer(setup(), alpha=0.25).ce_weight == 0.75


def test_the_kit_sees_a_parameter_of_the_step_alone():
    found = run_checks(DistillationOrientedTrainer, only=("parameters",))[-1]
    assert (found.status, found.text) == ("ok", "6 values at the edges of 3 parameters")
