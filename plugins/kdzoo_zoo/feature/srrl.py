"""SRRL: the student's features, and what the teacher's classifier makes of them, match the teacher's."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kdzoo import Batch, Outputs, PairError, Paper, Setup, Strategy, Terms, param
from kdzoo_zoo.feature.layers import conv_norm, draw_by_width
from kdzoo_zoo.tensors import check_same, full_precision, mean_square


def softmax_regression_loss(
    student_embedding: Tensor,
    teacher_embedding: Tensor,
    classifier_weight: Tensor,
    classifier_bias: Tensor | None,
    regression_weight: float = 1.0,
) -> Tensor:
    """Squared differences of two networks' embeddings, and of the logits that one classifier gives of both.

    Equation, with s, t the embeddings and W, b = ``classifier_weight``, ``classifier_bias``::

        loss = mean over b, d of (s - t)^2 + regression_weight mean over b, k of ((W s + b) - (W t + b))^2

    The second difference is W (s - t), whatever the bias.

    Args:
        student_embedding: B x D, already brought to the teacher's width.
        teacher_embedding: B x D. Not detached: pass it without gradient.
        classifier_weight: K x D, of the teacher's frozen classifier.
        classifier_bias: K values, or None.
        regression_weight: of the logits.

    Returns:
        A scalar, at least 0: means over all elements; 0 where the embeddings are equal.

    Raises:
        ValueError: the embeddings' shapes differ.

    Precision: computed in float32 for half-precision embeddings, else in the embeddings' own, under autocast too.
    No epsilon.

    Source: Yang, Martinez, Bulat, Tzimiropoulos, "Knowledge Distillation via Softmax Regression Representation
    Learning", ICLR 2021, https://openreview.net/forum?id=ZzwDy_wiWv. Authors' code:
    https://github.com/jingyang2017/KD_SRRL, where the first term compares the means of maps over their positions, which
    is what an embedding is.

    Example:
        >>> s, t, W = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]])
        >>> softmax_regression_loss(s, t, W, None)
        tensor(4.5000)
    """
    check_same("embeddings", student_embedding, teacher_embedding)
    student, teacher = full_precision(student_embedding), full_precision(teacher_embedding)
    apart = student - teacher
    # It cancels, and so does its gradient, which is 0 and not missing.
    bias = None if classifier_bias is None or not classifier_bias.requires_grad else classifier_bias - classifier_bias
    with torch.autocast(student.device.type, enabled=False):
        logits = F.linear(apart, full_precision(classifier_weight), bias)
    return mean_square(apart) + regression_weight * mean_square(logits)


class SoftmaxRegression(Strategy):
    """SRRL: the student's features are such that the teacher's own classifier reads them as it reads the teacher's.

    Knowledge: the teacher's embedding, and the logits that its frozen classifier gives.

    Loss: CE(student, labels) + beta [mean((e - t)^2) + regression mean((W e - W t)^2)], t the teacher's embedding, W
    the weight of the teacher's classifier, e the student's last stage after a 1x1 convolution, BatchNorm and ReLU,
    averaged over positions. The student predicts by its own classifier.

    Cost: one adapter of student channels x teacher embedding, and one product with the classifier. Serves every student
    that has a stage, and teachers with a single last linear layer.

    Differs from the paper: nothing in the loss. The ReLU makes e at least 0, as behind the teachers of the paper; the
    embedding of a transformer has values below 0, which e cannot reach.
    """

    name = "srrl"
    family = "feature"
    paper = Paper(
        title="Knowledge Distillation via Softmax Regression Representation Learning",
        authors="Jing Yang, Brais Martinez, Adrian Bulat, Georgios Tzimiropoulos",
        year=2021,
        venue="ICLR 2021",
        id="https://openreview.net/forum?id=ZzwDy_wiWv",
        code="https://github.com/jingyang2017/KD_SRRL",
    )
    signals = ("stages",)
    teacher_signals = ("embedding", "classifier")
    per_sample = True
    non_negative = True

    beta: float = param(
        1.0, "weight of both terms", ge=0.0, search=(0.01, 10.0), log=True, source="the authors' code for ImageNet"
    )
    regression: float = param(
        1.0,
        "weight of the logits among the two",
        ge=0.0,
        search=(0.1, 10.0),
        log=True,
        source="the authors' code; cls_KD has 5 for CIFAR-100",
    )

    def build(self, setup: Setup) -> None:
        """Make the adapter."""
        if not setup.student.stages:
            raise PairError("srrl needs a map of the student, and it has none: choose another student")
        self.adapter = conv_norm(setup.student.stages[-1].channels, setup.teacher.embedding, activated=True)
        draw_by_width(self.adapter.weight)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """One term, ``regression``."""
        adapted = self.adapter(student.stages[-1]).mean(dim=(2, 3))
        return {
            "regression": self.beta
            * softmax_regression_loss(adapted, teacher.embedding, *teacher.classifier, self.regression)
        }
