"""Losses on logits of recent years, and losses without a teacher."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from forms import Form
from kdzoo_zoo import functional

TEMPERATURES = (4.0, 2.0, 3.0, 5.0, 6.0)


def divergence(p: Tensor, q: Tensor, dim: int = 1) -> Tensor:
    """KL(p || q) of each sample."""
    return (p * (p.log() - q.log())).sum(dim=dim)


def correlation(first: Tensor, second: Tensor) -> Tensor:
    """Of each row."""
    a, b = first - first.mean(dim=1, keepdim=True), second - second.mean(dim=1, keepdim=True)
    lengths = [(x**2).sum(dim=1).sqrt() for x in (a, b)]
    return (a * b).sum(dim=1) / (lengths[0] * lengths[1] + 1e-8)


def dist(student_logits: Tensor, teacher_logits: Tensor, beta: float, gamma: float, temperature: float) -> Tensor:
    q, p = (student_logits / temperature).softmax(dim=1), (teacher_logits / temperature).softmax(dim=1)
    inter, intra = 1 - correlation(q, p).mean(), 1 - correlation(q.T, p.T).mean()
    return temperature**2 * (beta * inter + gamma * intra)


def batch_correlation(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    q, p = (student_logits / temperature).softmax(dim=1), (teacher_logits / temperature).softmax(dim=1)
    return ((q @ q.T - p @ p.T) ** 2).sum() / len(q)


def class_correlation(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    q, p = (student_logits / temperature).softmax(dim=1), (teacher_logits / temperature).softmax(dim=1)
    return ((q.T @ q - p.T @ p) ** 2).sum() / q.shape[1]


def multi_level(student_logits: Tensor, teacher_logits: Tensor, temperatures: tuple[float, ...]) -> Tensor:
    total = torch.zeros(())
    for temperature in temperatures:
        pair = (student_logits, teacher_logits, temperature)
        p, q = (teacher_logits / temperature).softmax(dim=1), (student_logits / temperature).softmax(dim=1)
        total = total + temperature**2 * divergence(p, q).mean() + batch_correlation(*pair) + class_correlation(*pair)
    return total


def within(student: Tensor, teacher: Tensor, part: Tensor) -> Tensor:
    """KL of each sample over the classes of a part; 0 where it has none."""
    log_p, log_q = (x.masked_fill(~part, -1e9).log_softmax(dim=1) for x in (teacher, student))
    return (log_p.exp() * (log_p - log_q) * part).sum(dim=1)


def refined_logit(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    alpha: float,
    beta: float,
    temperature: float,
    alpha_temperature: float,
) -> Tensor:
    label = target[:, None]
    p = (teacher_logits / alpha_temperature).softmax(dim=1).max(dim=1).values
    q = (student_logits / alpha_temperature).softmax(dim=1).gather(1, label).squeeze(1)
    confidence = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    below = teacher_logits < teacher_logits.gather(1, label)
    ranking = within(student_logits / temperature, teacher_logits / temperature, below)
    return alpha_temperature**2 * alpha * confidence.mean() + temperature**2 * beta * ranking.mean()


def wasserstein_logit(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    cost: Tensor,
    gamma: float,
    temperature: float,
) -> Tensor:
    rows, classes = student_logits.shape
    label = target[:, None]
    known, own = (x.softmax(dim=1).gather(1, label) for x in (teacher_logits, student_logits))
    others = torch.ones_like(student_logits, dtype=torch.bool).scatter(1, label, False)
    p, q = ((x[others].view(rows, -1) / temperature).softmax(dim=1) for x in (student_logits, teacher_logits))
    price = torch.stack([cost[each][:, each] for each in others]).relu() + 1e-8
    kernel = (-price / 0.05).exp()
    u = torch.full_like(p, 1 / (classes - 1))
    for _ in range(10):
        v = q / ((kernel.mT @ u[:, :, None]).squeeze(2) + 1e-8)
        u = p / ((kernel @ v[:, :, None]).squeeze(2) + 1e-8)
    flow = u[:, :, None] * kernel * v[:, None, :]
    return -(known * own.log()).mean() + gamma * (flow * price).sum(dim=(1, 2)).mean()


def scale_decoupled(student_logits: Tensor, teacher_logits: Tensor, target: Tensor, temperature: float) -> Tensor:
    right = teacher_logits.argmax(dim=1) == target[:, None]
    weight = torch.where(right != right[:, :1], 2.0, 1.0)
    p, q = (teacher_logits / temperature).softmax(dim=1), (student_logits / temperature).softmax(dim=1)
    return temperature**2 * (weight * divergence(p, q)).mean()


def generalized_decoupled(
    student_logits: Tensor, teacher_logits: Tensor, w0: float, w1: float, w2: float, k: int, temperature: float
) -> Tensor:
    top = torch.zeros_like(teacher_logits, dtype=torch.bool).scatter(1, teacher_logits.topk(k, dim=1).indices, True)
    student, teacher = student_logits / temperature, teacher_logits / temperature
    q, p = student.softmax(dim=1), teacher.softmax(dim=1)
    shares = sum((p * part).sum(dim=1) * ((p * part).sum(dim=1) / (q * part).sum(dim=1)).log() for part in (top, ~top))
    parts = w1 * within(student, teacher, top) + w2 * within(student, teacher, ~top)
    return temperature**2 * (w0 * shares + parts).mean()


def entropy(p: Tensor) -> Tensor:
    return -(p * (p + 1e-10).log()).sum(dim=1)


def entropy_adaptive(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    own, known = (entropy((x.detach() / 3.0).softmax(dim=1)) for x in (student_logits, teacher_logits))
    weight = known * (1 + own / math.log(student_logits.shape[1])) / 2
    p, q = (teacher_logits / temperature).softmax(dim=1), (student_logits / temperature).softmax(dim=1)
    return temperature**2 * (weight * divergence(p, q)).mean()


def alpha_beta(student_logits: Tensor, teacher_logits: Tensor, alpha: float, beta: float, temperature: float) -> Tensor:
    p, q = (teacher_logits / temperature).softmax(dim=1), (student_logits / temperature).softmax(dim=1)
    both = alpha + beta
    inside = p**alpha * q**beta - alpha / both * p**both - beta / both * q**both
    return -inside.sum(dim=1).mean() / (alpha * beta)


def label_smoothing(student_logits: Tensor, target: Tensor, smoothing: float) -> Tensor:
    classes = student_logits.shape[1]
    labels = F.one_hot(target, classes) * (1 - smoothing) + smoothing / classes
    return -(labels * student_logits.softmax(dim=1).log()).sum(dim=1).mean()


def virtual_teacher(student_logits: Tensor, target: Tensor) -> Tensor:
    classes = student_logits.shape[1]
    made_up = torch.full_like(student_logits, 0.01 / (classes - 1)).scatter(1, target[:, None], 0.99)
    return divergence((made_up / 20.0).softmax(dim=1), student_logits.softmax(dim=1)).mean()


def universal_self(student_logits: Tensor, weak_logits: Tensor, target: Tensor) -> Tensor:
    classes, label = student_logits.shape[1], target[:, None]
    s, w = student_logits.softmax(dim=1), weak_logits.softmax(dim=1)
    s_y, w_y = s.gather(1, label), w.gather(1, label)
    sure = (s_y**2 + 1 - (s_y**2).mean()).detach()
    rank = w / (1 - w_y + 1e-6) + s / (1 - s_y + 1e-6)
    others = 1 - F.one_hot(target, classes)
    places = rank.argsort(dim=1, descending=True).argsort(dim=1) + 1
    share = others / places
    share = share / share.sum(dim=1, keepdim=True)
    log_others = student_logits.masked_fill(others == 0, -1e9).log_softmax(dim=1)
    labels = 0.9 * F.one_hot(target, classes) + 0.1 / classes
    ranked, smoothed = (share * log_others * others).sum(dim=1), (labels * w.log()).sum(dim=1)
    return -(sure * s_y.log()).mean() - 0.1 * ranked.mean() - 0.005 * smoothed.mean()


def logits(
    *shape: int,
    teacher: str = "teacher_logits",
    target: bool = False,
    make: Callable[[], Any] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Arguments: logits of both networks, of which the student's asks for a gradient, labels, and whatever else."""
    found: dict[str, Any] = {"student_logits": (3 * torch.randn(*shape)).requires_grad_()}
    if teacher:
        found[teacher] = (3 * torch.randn(*shape)).requires_grad_(teacher == "weak_logits")
    if target:
        found["target"] = torch.randint(shape[1], shape[:1])
    return found | ({"cost": make()} if make else {}) | more


def parts_of_images() -> dict[str, Any]:
    """The same for 21 parts of each image, of which a last layer makes all classes of one before those of the next."""
    found = logits(64, 100, 21, target=True, **SOFT)
    for name in ("student_logits", "teacher_logits"):
        parts_first = found[name].detach().transpose(1, 2).contiguous()
        found[name] = parts_first.transpose(1, 2).requires_grad_(found[name].requires_grad)
    return found


def costs() -> Tensor:
    rows = F.normalize(torch.randn(100, 64), dim=1)
    return 1 - (rows @ rows.T - 1).exp()


MANY = (256, 1000)
SOFT: dict[str, Any] = {"temperature": 4.0}
REFINED: dict[str, Any] = {"target": True, "alpha": 1.0, "beta": 8.0, "temperature": 4.0, "alpha_temperature": 1.0}
DECOUPLED: dict[str, Any] = {"w0": 1.0, "w1": 2.0, "w2": 8.0, "k": 5, "temperature": 4.0}
TRANSPORT: dict[str, Any] = {"target": True, "make": costs, "gamma": 600.0, "temperature": 8.0}
POWERS: dict[str, Any] = {"alpha": 0.8, "beta": 0.3, "temperature": 4.0}

FORMS: list[Form] = [
    Form("dist", "dist", functional.dist_loss, dist, partial(logits, *MANY, beta=2.0, gamma=2.0, temperature=4.0)),
    Form("mlkd batch", "mlkd", functional.batch_correlation_loss, batch_correlation, partial(logits, *MANY, **SOFT)),
    Form("mlkd class", "mlkd", functional.class_correlation_loss, class_correlation, partial(logits, *MANY, **SOFT)),
    Form("mlkd", "mlkd", functional.multi_level_loss, multi_level, partial(logits, *MANY, temperatures=TEMPERATURES)),
    Form("rld", "rld", functional.refined_logit_loss, refined_logit, partial(logits, *MANY, **REFINED)),
    # A matrix of all classes for each sample: 256 x 1000 logits would need several GB in the straightforward form.
    Form("wkd_l", "wkd_l", functional.wasserstein_logit_loss, wasserstein_logit, partial(logits, 64, 100, **TRANSPORT)),
    Form(
        "sdd",
        "sdd",
        functional.scale_decoupled_loss,
        scale_decoupled,
        parts_of_images,
    ),
    Form(
        "gdkd",
        "gdkd",
        functional.generalized_decoupled_loss,
        generalized_decoupled,
        partial(logits, *MANY, **DECOUPLED),
    ),
    Form("eakd", "eakd", functional.entropy_adaptive_loss, entropy_adaptive, partial(logits, *MANY, **SOFT)),
    Form("abkd", "abkd", functional.alpha_beta_loss, alpha_beta, partial(logits, *MANY, **POWERS)),
    Form(
        "smooth",
        "smooth",
        functional.label_smoothing_loss,
        label_smoothing,
        partial(logits, *MANY, teacher="", target=True, smoothing=0.1),
    ),
    Form(
        "tfkd",
        "tfkd",
        functional.virtual_teacher_loss,
        virtual_teacher,
        partial(logits, *MANY, teacher="", target=True),
    ),
    Form(
        "uskd",
        "uskd",
        functional.universal_self_loss,
        universal_self,
        partial(logits, *MANY, teacher="weak_logits", target=True),
    ),
]
