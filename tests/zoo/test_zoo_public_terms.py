"""The terms of strategies are the public losses on what the strategy compares, bit for bit, reduced or not."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, TypeAlias

import pytest
import torch
from torch import Tensor
from zoo_pairs import NEEDED, STRATEGIES, served, teaching_phase, trained_signals

from kdzoo import Outputs
from kdzoo_zoo import functional as losses
from kdzoo_zoo.tensors import pool_to

Terms: TypeAlias = dict[str, Tensor]
Public: TypeAlias = Callable[[Any, Outputs, Outputs], Terms]


def on_logits(term: str, loss: Callable[[Any, tuple[Tensor, Tensor], Tensor], Tensor]) -> Public:
    """The one term of a strategy that compares logits, where all labels are 0."""

    def found(strategy: Any, student: Outputs, teacher: Outputs) -> Terms:
        labels = torch.zeros(len(student.logits), dtype=torch.int64)
        return {term: loss(strategy, (student.logits, teacher.logits), labels)}

    return found


def of_stages(term: str, loss: Callable[[Any, Tensor, Tensor], Tensor]) -> Public:
    """The one term of a strategy that sums over its compared stages."""

    def found(strategy: Any, student: Outputs, teacher: Outputs) -> Terms:
        parts = [loss(strategy, student.stages[s], teacher.stages[t]) for s, t, *_ in strategy.compared]
        return {term: strategy.beta * torch.stack(parts).sum()}

    return found


def soft(strategy: Any, student: Outputs, teacher: Outputs) -> Terms:
    if strategy.joins:
        top = losses.top_logits(teacher.logits, strategy.top_k, strategy.temperature)
        return {"soft": strategy.alpha * losses.top_soft_target_loss(student.logits, top, strategy.temperature)}
    return {"soft": strategy.alpha * losses.soft_target_loss(student.logits, teacher.logits, strategy.temperature)}


def fitnets(strategy: Any, student: Outputs, teacher: Outputs) -> Terms:
    adapted = strategy.adapter(student.stages[strategy.student_stage])
    return {"hint": strategy.beta * losses.hint_loss(adapted, teacher.stages[strategy.teacher_stage])}


def vid(strategy: Any, student: Outputs, teacher: Outputs) -> Terms:
    found = []
    parts = zip(strategy.compared, strategy.regressors, strategy.log_scales, strict=True)
    for (s, t, _, _, size), regressor, scale in parts:
        mean, theirs = regressor(pool_to(student.stages[s], size)), pool_to(teacher.stages[t], size)
        found.append(losses.variational_information_loss(mean, theirs, scale))
    return {"information": strategy.beta * torch.stack(found).sum()}


def fsp(strategy: Any, student: Outputs, teacher: Outputs) -> Terms:
    ours = [adapter(stage) for adapter, stage in zip(strategy.adapters, student.stages, strict=True)]
    pairs = zip(pairwise(ours), pairwise(teacher.stages), strict=True)
    found = [losses.flow_of_solution_loss(*mine, *theirs) for mine, theirs in pairs]
    return {"flow": strategy.beta * torch.stack(found).sum()}


def ft(strategy: Any, student: Outputs, teacher: Outputs) -> Terms:
    mine, theirs = (pool_to(network.stages[-1], strategy.size) for network in (student, teacher))
    factors = strategy.translator(mine), strategy.encoder(theirs).detach()
    return {"factor": strategy.beta * losses.factor_transfer_loss(*factors)}


def sp(strategy: Any, student: Outputs, teacher: Outputs) -> Terms:
    return {"similarity": strategy.beta * losses.similarity_preserving_loss(student.stages[-1], teacher.stages[-1])}


def irg(strategy: Any, student: Outputs, teacher: Outputs) -> Terms:
    maps = student.stages[-2:], teacher.stages[-2:]
    pairs = [(student.embedding, teacher.embedding), *zip(*maps, strict=True)]
    edges = torch.stack([losses.instance_edge_loss(*pair) for pair in pairs])
    moved = losses.instance_transformation_loss(*maps[0], *maps[1])
    return {
        "vertex": strategy.vertex * torch.nn.functional.mse_loss(student.logits, teacher.logits),
        "edge": strategy.edge * edges.mean(),
        "transformation": strategy.transformation * moved,
    }


def pkt(strategy: Any, student: Outputs, teacher: Outputs) -> Terms:
    loss = losses.probabilistic_transfer_loss(student.embedding, teacher.embedding)
    return {"neighbours": strategy.beta * loss}


def rkd(strategy: Any, student: Outputs, teacher: Outputs) -> Terms:
    pair = student.embedding, teacher.embedding
    return {
        "distance": strategy.distance * losses.relational_distance_loss(*pair),
        "angle": strategy.angle * losses.relational_angle_loss(*pair),
    }


def curriculum(strategy: Any, logits: tuple[Tensor, Tensor], labels: Tensor) -> Tensor:
    temperature = strategy.raw_temperature, 1.0, strategy.start, strategy.span
    loss: Tensor = strategy.beta * losses.curriculum_temperature_loss(*logits, *temperature)
    return loss


PUBLIC: dict[str, Public] = {
    "at": of_stages("attention", lambda one, s, t: losses.attention_transfer_loss(s, t, one.power)),
    "ctkd": on_logits("ctkd", curriculum),
    "dkd": on_logits("dkd", lambda one, z, y: losses.decoupled_loss(*z, y, one.alpha, one.beta, one.temperature)),
    "fitnets": fitnets,
    "fsp": fsp,
    "ft": ft,
    "hard": on_logits("hard", lambda one, z, y: one.alpha * losses.hard_label_loss(*z)),
    "irg": irg,
    "logit": on_logits("logit", lambda one, z, y: one.beta * losses.logit_matching_loss(*z)),
    "nkd": on_logits("nkd", lambda one, z, y: losses.normalized_knowledge_loss(*z, y, one.gamma, one.temperature)),
    "normkd": on_logits("normkd", lambda one, z, y: one.beta * losses.normalized_temperature_loss(*z, one.scale)),
    "nst": of_stages("selectivity", lambda one, s, t: losses.neuron_selectivity_loss(s, t)),
    "pkt": pkt,
    "rkd": rkd,
    "soft": soft,
    "sp": sp,
    "ttm": on_logits("ttm", lambda one, z, y: one.beta * losses.transformed_teacher_loss(*z, one.gamma)),
    "vid": vid,
    "wsld": on_logits("wsld", lambda one, z, y: one.alpha * losses.weighted_soft_label_loss(*z, y, one.temperature)),
    "wttm": on_logits("wttm", lambda one, z, y: one.beta * losses.weighted_transformed_teacher_loss(*z, one.gamma)),
}


@pytest.mark.parametrize("kept", [False, True], ids=["signals", "reduced"])
@pytest.mark.parametrize(
    ("name", "params"), [*((name, NEEDED.get(name, {})) for name in PUBLIC), ("soft", {"top_k": 1})]
)
def test_the_terms_are_the_public_losses_bit_for_bit(name, params, kept, setup, outputs, batch):
    strategy = served(name, setup, params=params)
    student, teacher = outputs(strategy.setup.student, 4, trained=True), outputs(strategy.setup.teacher, 4)
    leaves = list(trained_signals(student, STRATEGIES[name].signals))
    given = strategy.reduce(teacher) if kept else teacher
    found = []
    for terms in (
        strategy(student, given, batch(4, teaching_phase(strategy))),
        PUBLIC[name](strategy, student, teacher),
    ):
        gradients = [
            gradient
            for term in terms.values()
            for gradient in torch.autograd.grad(
                term, leaves, retain_graph=True, allow_unused=True, materialize_grads=True
            )
        ]
        found.append((terms, gradients))
    (own, slopes), (public, others) = found
    assert own == public
    assert all(map(torch.equal, slopes, others))
