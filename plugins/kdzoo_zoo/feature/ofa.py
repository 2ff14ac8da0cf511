"""One for all: heads on the student's stages answer as the teacher does, whatever the two networks are."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdzoo import Batch, Outputs, PairError, Paper, Setup, Strategy, Terms, param
from kdzoo_zoo.classes import check_classes
from kdzoo_zoo.feature.blocks import has_one_resolution
from kdzoo_zoo.feature.stage_heads import ConvolutionHead, TokenHead
from kdzoo_zoo.response.distributions import cross_entropy, labels_of, log_probabilities
from kdzoo_zoo.tensors import check_same, full_precision

_STAGES = 4
"""The deepest ones, which have a head each."""


def one_for_all_loss(
    student_logits: Tensor, teacher_logits: Tensor, target: Tensor, eps: float, temperature: float
) -> Tensor:
    """Cross-entropy with the teacher's probabilities, which counts the label the more, the surer the teacher is of it.

    Equation, with p_t, p_s = softmax(logits / temperature) and y = ``target``::

        loss = - mean over b of [((p_t(y) + 1)^eps - 1) log p_s(y) + sum over c != y of p_t(c)^eps log p_s(c)]

    With eps = 1 it is the cross-entropy of p_t and p_s.

    Args:
        student_logits: B x classes.
        teacher_logits: B x classes. Not detached: pass them without gradient.
        target: B, the labels' class numbers.
        eps: above 0; higher counts the label more, and unlikely classes less.
        temperature: above 0; there is no factor of its square.

    Returns:
        A scalar, at least 0: summed over classes, the mean over the batch.

    Raises:
        ValueError: the shapes do not fit.

    Precision: computed in float32 for half-precision logits, else in the logits' own, under autocast too. No epsilon:
    powers are taken of logarithms.

    Source: Hao, Guo, Han, Tang, Hu, Wang, Xu, "One-for-All: Bridge the Gap Between Heterogeneous Architectures in
    Knowledge Distillation", NeurIPS 2023, arXiv 2310.19444. Authors' code: https://github.com/Hao840/OFAKD.

    Example:
        Both networks give 1/2 to each class: (1.5^2 - 1 + 0.5^2) log 2

        >>> one_for_all_loss(torch.zeros(1, 2), torch.zeros(1, 2), torch.tensor([0]), eps=2.0, temperature=1.0)
        tensor(1.0397)
    """
    check_same("logits", student_logits, teacher_logits)
    if target.shape != student_logits.shape[:1]:
        raise ValueError(f"target must have one class of each sample, and has the shape {tuple(target.shape)}")
    if eps == 1:
        return cross_entropy(student_logits, teacher_logits, temperature, temperature).distance.mean()
    student = full_precision(student_logits) / temperature
    teacher = log_probabilities(teacher_logits, temperature)
    label = target[:, None]
    likely = teacher.gather(1, label).exp()
    weights = (eps * teacher).exp().scatter(1, label, (eps * likely.log1p()).expm1())
    return F.cross_entropy(student, weights)


class OneForAll(Strategy):
    """OFA: the student's answer, and those of a head on each of its stages, follow the teacher's answer.

    Knowledge: the class probabilities. Features of unlike networks do not compare; heads bring the student's stages
    into the space of logits, which all networks share.

    Loss: CE(student, labels) + final OFA(student's logits) + heads sum over the student's four deepest stages of
    OFA(head's logits), each against the teacher's final logits; OFA(s) = - mean [((p_t(y) + 1)^eps - 1) log p_s(y) +
    sum over other classes of p_t^eps log p_s].

    Heads of maps that shrink: for stage i of 4, 4 - i blocks of separable convolutions with stride 2 (for the last one
    a 1x1 convolution), pooling, a linear layer. Heads of tokens (all stages of one shape): merged by four while the
    grid stays 7 x 7 or larger, max(4 - i, 1) transformer blocks with 4 heads, the mean of the tokens, a linear layer.
    They are trained with the student and discarded after training.

    Cost: the heads' forward and backward pass, which may be a large part of a small student's. Serves every pair whose
    logits have the same classes; of a student with tokens of a width that 4 divides.

    Differs from the paper: the heads of tokens average them, where the authors take the class token of a student that
    has one. A network with fewer than four stages has as many heads. Under mixup the label is the likeliest class, as
    in the authors' code. Their images of CIFAR are enlarged to 224 pixels, and they train for 300 epochs.
    """

    name = "ofa"
    family = "feature"
    paper = Paper(
        title="One-for-All: Bridge the Gap Between Heterogeneous Architectures in Knowledge Distillation",
        authors="Zhiwei Hao, Jianyuan Guo, Kai Han, Yehui Tang, Han Hu, Yunhe Wang, Chang Xu",
        year=2023,
        venue="NeurIPS 2023",
        id="2310.19444",
        code="https://github.com/Hao840/OFAKD",
    )
    signals = ("logits", "stages")
    teacher_signals = ("logits",)
    per_sample = True
    non_negative = True

    eps: float = param(
        1.0,
        "exponent: higher counts the label more",
        gt=0.0,
        le=4.0,
        imagenet=1.5,
        source="the authors' code: its default; ImageNet: their example",
        search=(1.0, 2.0),
    )
    temperature: float = param(
        1.0, "divides both networks' logits", gt=0.0, source="the authors' code", search=(0.5, 4.0), log=True
    )
    final: float = param(
        1.0, "weight of the student's own logits", ge=0.0, source="the authors' code", search=(0.1, 4.0), log=True
    )
    heads: float = param(
        1.0, "weight of the sum over the heads", ge=0.0, source="the authors' code", search=(0.1, 4.0), log=True
    )

    def build(self, setup: Setup) -> None:
        """Make a head for each of the deepest stages."""
        check_classes(self.name, setup)
        shapes = setup.student.stages[-_STAGES:]
        if not shapes:
            raise PairError("ofa puts heads on the student's stages, and it has none: choose another student")
        self.first = len(setup.student.stages) - len(shapes)
        below = [len(shapes) - 1 - place for place in range(len(shapes))]
        if has_one_resolution(setup.student):
            if shapes[0].channels % 4:
                raise PairError(
                    f"ofa has attention with 4 heads on the student's tokens, and 4 does not divide their width "
                    f"{shapes[0].channels}: choose another student"
                )
            made: list[nn.Module] = [
                TokenHead(shape, depth, setup.num_classes) for shape, depth in zip(shapes, below, strict=True)
            ]
        else:
            width = max(setup.student.embedding, setup.teacher.embedding)
            made = [
                ConvolutionHead(shape.channels, depth, width, setup.num_classes)
                for shape, depth in zip(shapes, below, strict=True)
            ]
        self.stage_heads = nn.ModuleList(made)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """The terms ``final`` and ``heads``."""
        target = labels_of(batch)

        def loss(logits: Tensor) -> Tensor:
            return one_for_all_loss(logits, teacher.logits, target, self.eps, self.temperature)

        terms: Terms = {}
        if self.final:
            terms["final"] = self.final * loss(student.logits)
        if self.heads:
            stages = student.stages[self.first :]
            losses = [loss(head(stage)) for head, stage in zip(self.stage_heads, stages, strict=True)]
            terms["heads"] = self.heads * torch.stack(losses).sum()
        return terms
