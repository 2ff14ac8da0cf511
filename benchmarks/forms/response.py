"""The losses on logits, beside their equations as the papers write them; 256 samples of 1,000 classes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from forms import Form
from kdzoo_zoo import functional

SAMPLES, CLASSES = 256, 1000


def logits(**others: Any) -> dict[str, Any]:
    """Logits of a student, which ask for gradients, and of a teacher, and whatever else the loss takes."""
    draw = torch.Generator().manual_seed(0)
    student, teacher = (3 * torch.randn(SAMPLES, CLASSES, generator=draw) for _ in range(2))
    return {"student_logits": student.requires_grad_(), "teacher_logits": teacher, **others}


def labelled(**others: Any) -> dict[str, Any]:
    """The same with labels."""
    return logits(target=torch.arange(SAMPLES) % CLASSES, **others)


def raw_temperature() -> dict[str, Any]:
    """The same with a learned temperature."""
    return logits(raw_temperature=torch.ones(1, requires_grad=True), reversal=0.5)


def one_network(target: bool) -> dict[str, Any]:
    """Logits of one network, and labels if they are needed."""
    given = labelled() if target else logits()
    del given["teacher_logits"]
    return {"logits": given.pop("student_logits"), **given}


def soft_target(student_logits: Tensor, teacher_logits: Tensor, temperature: float | Tensor) -> Tensor:
    p = F.softmax(teacher_logits / temperature, dim=1)
    log_p = F.log_softmax(teacher_logits / temperature, dim=1)
    log_q = F.log_softmax(student_logits / temperature, dim=1)
    return temperature**2 * (p * (log_p - log_q)).sum(dim=1).mean()


def logit_matching(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    return (student_logits - teacher_logits).square().mean()


def hard_label(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    log_q = F.log_softmax(student_logits, dim=1)
    return -log_q[torch.arange(len(log_q)), teacher_logits.argmax(dim=1)].mean()


def _two_parts(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """log (p_y, 1 - p_y), B x 2, and the log-probabilities among the other classes, B x (K - 1)."""
    log_p = F.log_softmax(logits, dim=1)
    label = F.one_hot(target, logits.shape[1]).bool()
    others = log_p[~label].view(len(logits), -1)
    shares = torch.stack([log_p[label], others.logsumexp(dim=1)], dim=1)
    return shares, F.log_softmax(others, dim=1)


def decoupled(
    student_logits: Tensor, teacher_logits: Tensor, target: Tensor, alpha: float, beta: float, temperature: float
) -> Tensor:
    own, theirs = _two_parts(student_logits / temperature, target), _two_parts(teacher_logits / temperature, target)
    binary, rest = (F.kl_div(q, p, reduction="batchmean", log_target=True) for q, p in zip(own, theirs, strict=True))
    return temperature**2 * (alpha * binary + beta * rest)


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.factor * gradients[0], None


def curriculum_temperature(
    student_logits: Tensor, teacher_logits: Tensor, raw_temperature: Tensor, reversal: float
) -> Tensor:
    temperature = 1 + 20 * torch.sigmoid(_Reverse.apply(raw_temperature, reversal))
    return soft_target(student_logits, teacher_logits, temperature).squeeze()


def weighted_soft_label(student_logits: Tensor, teacher_logits: Tensor, target: Tensor, temperature: float) -> Tensor:
    hard_student = F.cross_entropy(student_logits.detach(), target, reduction="none")
    hard_teacher = F.cross_entropy(teacher_logits, target, reduction="none")
    weight = 1 - torch.exp(-hard_student / (hard_teacher + 1e-7))
    p = F.softmax(teacher_logits / temperature, dim=1)
    log_q = F.log_softmax(student_logits / temperature, dim=1)
    return temperature**2 * (weight * -(p * log_q).sum(dim=1)).mean()


def normalized_knowledge(
    student_logits: Tensor, teacher_logits: Tensor, target: Tensor, gamma: float, temperature: float
) -> Tensor:
    label = F.one_hot(target, student_logits.shape[1]).bool()
    p, log_q = F.softmax(teacher_logits, dim=1), F.log_softmax(student_logits, dim=1)
    of_label = -(p[label] * log_q[label]).mean()
    others = (each[~label].view(len(each), -1) / temperature for each in (student_logits, teacher_logits))
    log_q, p = F.log_softmax(next(others), dim=1), F.softmax(next(others), dim=1)
    return of_label - gamma * temperature**2 * (p * log_q).sum(dim=1).mean()


def transformed_teacher(student_logits: Tensor, teacher_logits: Tensor, gamma: float) -> Tensor:
    powers = F.softmax(teacher_logits, dim=1) ** gamma
    q = powers / powers.sum(dim=1, keepdim=True)
    return (q * (q.log() - F.log_softmax(student_logits, dim=1))).sum(dim=1).mean()


def weighted_transformed_teacher(student_logits: Tensor, teacher_logits: Tensor, gamma: float) -> Tensor:
    powers = F.softmax(teacher_logits, dim=1) ** gamma
    mass = powers.sum(dim=1, keepdim=True)
    q = powers / mass
    return (mass.squeeze(1) * (q * (q.log() - F.log_softmax(student_logits, dim=1))).sum(dim=1)).mean()


def normalized_temperature(student_logits: Tensor, teacher_logits: Tensor, scale: float) -> Tensor:
    own, theirs = (scale * each.std(dim=1, keepdim=True) for each in (student_logits, teacher_logits))
    p, log_p = F.softmax(teacher_logits / theirs, dim=1), F.log_softmax(teacher_logits / theirs, dim=1)
    log_q = F.log_softmax(student_logits / own, dim=1)
    return (theirs.squeeze(1) ** 2 * (p * (log_p - log_q)).sum(dim=1)).mean()


def standardize(logits: Tensor) -> Tensor:
    return (logits - logits.mean(dim=1, keepdim=True)) / (1e-7 + logits.std(dim=1, keepdim=True))


def sort(logits: Tensor, target: Tensor) -> Tensor:
    values, _ = logits.sort(dim=1, descending=True)
    first = logits.scatter(1, target[:, None], float("inf")).argsort(dim=1, descending=True, stable=True)
    return torch.zeros_like(logits).scatter(1, first, values)


def weighed(modifier: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A number that depends on all that a modifier gives, for the backward pass."""
    weights = torch.randn(SAMPLES, CLASSES, generator=torch.Generator().manual_seed(1))
    return lambda **given: (weights * modifier(**given)).sum()


FORMS = [
    Form("soft", "soft", functional.soft_target_loss, soft_target, partial(logits, temperature=4.0)),
    Form("logit", "logit", functional.logit_matching_loss, logit_matching, logits),
    Form("hard", "hard", functional.hard_label_loss, hard_label, logits),
    Form("dkd", "dkd", functional.decoupled_loss, decoupled, partial(labelled, alpha=1.0, beta=8.0, temperature=4.0)),
    Form("ctkd", "ctkd", functional.curriculum_temperature_loss, curriculum_temperature, raw_temperature),
    Form("wsld", "wsld", functional.weighted_soft_label_loss, weighted_soft_label, partial(labelled, temperature=4.0)),
    Form(
        "nkd",
        "nkd",
        functional.normalized_knowledge_loss,
        normalized_knowledge,
        partial(labelled, gamma=3.5, temperature=3.0),
    ),
    Form("ttm", "ttm", functional.transformed_teacher_loss, transformed_teacher, partial(logits, gamma=0.1)),
    Form(
        "wttm",
        "wttm",
        functional.weighted_transformed_teacher_loss,
        weighted_transformed_teacher,
        partial(logits, gamma=0.2),
    ),
    Form(
        "normkd", "normkd", functional.normalized_temperature_loss, normalized_temperature, partial(logits, scale=2.0)
    ),
    Form("ls", "ls", weighed(functional.standardize_logits), weighed(standardize), partial(one_network, target=False)),
    Form("sort", "sort", weighed(functional.sort_logits), weighed(sort), partial(one_network, target=True)),
]
