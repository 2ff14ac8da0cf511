"""ABKD: the alpha-beta divergence, which has the forward and the reverse KL divergence as limits."""

from __future__ import annotations

from torch import Tensor

from kdzoo import Batch, Outputs, Paper, Setup, Strategy, Terms, param
from kdzoo_zoo.classes import check_classes
from kdzoo_zoo.response.distributions import log_probabilities
from kdzoo_zoo.tensors import check_same

_SOURCE = "authors' command for resnet56 -> resnet20"


def alpha_beta_loss(
    student_logits: Tensor, teacher_logits: Tensor, alpha: float, beta: float, temperature: float
) -> Tensor:
    """Alpha-beta divergence of the student's softened class probabilities from the teacher's.

    Equation, with p = softmax(teacher_logits / T), q = softmax(student_logits / T), T = ``temperature``::

        loss = - 1/(alpha beta) mean_b sum_c [p^alpha q^beta - alpha/(alpha + beta) p^(alpha + beta)
                                              - beta/(alpha + beta) q^(alpha + beta)]

    Limits: KL(p || q) at (1, 0), KL(q || p) at (0, 1), half the squared Euclidean distance at (1, 1).

    Args:
        student_logits: B x classes.
        teacher_logits: B x classes. Not detached: pass it without gradient.
        alpha: not 0; higher looks more at the classes that the teacher finds likely.
        beta: not 0, and not -alpha; higher looks more at the classes that the student finds likely.
        temperature: above 0; higher is softer.

    Returns:
        A scalar, at least 0 up to rounding: summed over classes, mean over the batch; 0 where the logits are equal. No
        square of the temperature.

    Raises:
        ValueError: the shapes differ, or the divergence is not defined.

    Precision: computed in float32 for half-precision logits, else in the logits' own, under autocast too. Powers are
    exponentials of log-probabilities, so that none is taken of 0; no epsilon. With a negative exponent the values may
    be beyond any number where a probability vanishes.

    Source: Wang, Yang, Wang, Wang, Xu, Huang, "ABKD: Pursuing a Proper Allocation of the Probability Mass in Knowledge
    Distillation via alpha-beta-Divergence", ICML 2025, arXiv 2505.04560. Authors' code:
    https://github.com/ghwang-s/abkd, which also has the limits.

    Example:
        At (1, 1) half the squared distance of (3/4, 1/4) and (1/2, 1/2):

        >>> import torch
        >>> student, teacher = torch.zeros(1, 2), torch.tensor([[3.0, 1.0]]).log()
        >>> alpha_beta_loss(student, teacher, alpha=1.0, beta=1.0, temperature=1.0)
        tensor(0.0625)
    """
    check_same("logits", student_logits, teacher_logits)
    both = alpha + beta
    if 0 in (alpha, beta, both):
        raise ValueError(f"alpha {alpha:g}, beta {beta:g} and their sum must not be 0: take the KL divergence instead")
    log_q, log_p = log_probabilities(student_logits, temperature), log_probabilities(teacher_logits, temperature)
    crossed = (alpha * log_p + beta * log_q).exp().sum(dim=1)
    of_teacher, of_student = (both * log_p).exp().sum(dim=1), (both * log_q).exp().sum(dim=1)
    return ((alpha * of_teacher + beta * of_student) / both - crossed).mean() / (alpha * beta)


class AlphaBetaKD(Strategy):
    """ABKD: alpha says how much the teacher's likely classes count, beta how much the student's own.

    Knowledge: the softened class probabilities. Forward KL divergence spreads the student over all that the teacher
    finds possible, the reverse one confines it to a part of that; this divergence lies between and beyond the two.

    Loss: CE(student, labels) + weight x the alpha-beta divergence of the softened probabilities p_t and p_s, summed
    over the classes of logits B x classes, mean over the batch, without the square of the temperature.

    Cost: one softmax of each network and three powers; no adapters. Serves every pair whose logits have the same
    classes.

    Differs from the paper: nothing. The limits in which alpha, beta or their sum is 0 are left out: ``soft`` is the one
    at (1, 0). Defaults are those of the authors' resnet56 -> resnet20; other pairs have others, and for ImageNet none
    are known.
    """

    name = "abkd"
    family = "response"
    paper = Paper(
        title="ABKD: Pursuing a Proper Allocation of the Probability Mass in Knowledge Distillation via "
        "alpha-beta-Divergence",
        authors="Guanghui Wang, Zhiyong Yang, Zitai Wang, Shi Wang, Qianqian Xu, Qingming Huang",
        year=2025,
        venue="ICML 2025",
        id="2505.04560",
        code="https://github.com/ghwang-s/abkd",
    )
    signals = ("logits",)
    per_sample = True
    zero_when_equal = True
    non_negative = True

    alpha: float = param(0.8, "exponent of the teacher's probabilities", gt=0.0, search=(0.2, 1.2), source=_SOURCE)
    beta: float = param(0.3, "exponent of the student's probabilities", gt=0.0, search=(0.1, 1.0), source=_SOURCE)
    weight: float = param(32.0, "weight of the divergence", ge=0.0, search=(1.0, 100.0), log=True, source=_SOURCE)
    temperature: float = param(
        4.0,
        "T, divides both networks' logits: higher is softer",
        gt=0.0,
        search=(1.0, 8.0),
        log=True,
        source="RepDistiller's, on which the authors' code is built",
    )

    def build(self, setup: Setup) -> None:
        """Check that both networks speak of the same classes."""
        check_classes(self.name, setup)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """One term, ``divergence``."""
        loss = alpha_beta_loss(student.logits, teacher.logits, self.alpha, self.beta, self.temperature)
        return {"divergence": self.weight * loss}
