"""Teacher-free distillation: the teacher is a rule that is right with a fixed probability."""

from __future__ import annotations

import math

from torch import Tensor

from kdzoo import Batch, Outputs, Paper, Strategy, Terms, param
from kdzoo_zoo.response.distributions import label_loss, labels_of
from kdzoo_zoo.tensors import full_precision

_SOURCE = "authors' settings, CIFAR-100 with ResNet18"


def virtual_teacher_loss(
    student_logits: Tensor,
    target: Tensor,
    correct_probability: float = 0.99,
    temperature: float = 20.0,
    soften_student: bool = False,
) -> Tensor:
    """Divergence of the student's probabilities from those of a virtual teacher that knows the label.

    Equation, with a = ``correct_probability``, T = ``temperature``, y = ``target``, K classes::

        u(c) = a if c = y, else (1 - a) / (K - 1)
        q = softmax(u / T)
        loss = mean_b KL(q || softmax(student_logits))

    The probabilities u themselves are softened, so q is nearly uniform. With ``soften_student`` the student's logits
    are divided by T as well. No square of the temperature in either.

    Args:
        student_logits: B x classes, at least two.
        target: B, int64, the labels.
        correct_probability: from 0 to 1, of the label.
        temperature: above 0; higher is softer.
        soften_student: whether the student is softened too, as the paper's formula has it.

    Returns:
        A scalar, at least 0 up to rounding: summed over classes, mean over the batch.

    Raises:
        ValueError: there is a single class.

    Precision: computed in float32 for half-precision logits, else in the logits' own, under autocast too. The virtual
    teacher has two values, which are plain numbers; no epsilon.

    Source: Yuan, Tay, Li, Wang, Feng, "Revisiting Knowledge Distillation via Label Smoothing Regularization", CVPR
    2020, arXiv 1909.11723. Authors' code: https://github.com/yuanli2333/Teacher-free-Knowledge-Distillation, with which
    their results were made; it divides by B x K and multiplies by 100 for CIFAR-100, which is this form. The paper's
    formula softens the student too.

    Example:
        With T = 1 the label has e^0.9 / (e^0.9 + e^0.1) = 0.690 of two classes, the student 1/2:

        >>> import torch
        >>> virtual_teacher_loss(torch.zeros(1, 2), torch.tensor([0]), correct_probability=0.9, temperature=1.0)
        tensor(0.0740)
    """
    classes = student_logits.shape[1]
    if classes < 2:
        raise ValueError("virtual_teacher_loss spreads what is not the label's over the others, and needs two classes")
    gap = (correct_probability - (1 - correct_probability) / (classes - 1)) / temperature
    # Logarithms of q: nothing overflows where the temperature is near 0.
    excess = math.log(classes - 1) - gap
    log_label = -(max(excess, 0.0) + math.log1p(math.exp(-abs(excess))))
    log_other = log_label - gap
    label, other = math.exp(log_label), math.exp(log_other)
    negentropy = label * log_label + (classes - 1) * other * log_other
    softened = full_precision(student_logits) / temperature if soften_student else student_logits
    # The label's share and those of the others sum up to 1.
    return negentropy + label_loss(softened, target, spread=classes * other).mean()


class TeacherFreeKD(Strategy):
    """Tf-KD, the regularisation: soft targets of a virtual teacher, which is right with a fixed probability.

    Knowledge: none of a trained teacher, which is never run: the label, and all other classes alike. It is label
    smoothing with an amount that the temperature sets.

    Loss: (1 - alpha) CE(student, labels) + alpha KL(q || p_s), q = softmax(u / T), u the virtual teacher's
    probabilities, p_s the student's without a temperature, summed over the classes of logits B x classes; no square of
    the temperature.

    Cost: a softmax of the student.

    Differs from the paper: the paper's formula softens the student too, which ``soften_student`` does. The default is
    the authors' code, by which their results and the values of alpha and T were found. The self-training variant, in
    which the same network, trained before, is the teacher, is ``soft`` with that network as the teacher; it has no name
    of its own here. Under mixed labels the label is the class with the largest share.
    """

    name = "tfkd"
    family = "response"
    paper = Paper(
        title="Revisiting Knowledge Distillation via Label Smoothing Regularization",
        authors="Li Yuan, Francis E.H. Tay, Guilin Li, Tao Wang, Jiashi Feng",
        year=2020,
        venue="CVPR 2020",
        id="1909.11723",
        code="https://github.com/yuanli2333/Teacher-free-Knowledge-Distillation",
    )
    signals = ("logits",)
    teacher_signals = ()
    per_sample = True
    non_negative = True

    alpha: float = param(
        0.1,
        "weight of the virtual teacher; hard labels get 1 - alpha",
        ge=0.0,
        le=1.0,
        search=(0.05, 0.95),
        source=_SOURCE,
    )
    temperature: float = param(
        20.0, "T, divides the virtual teacher's probabilities", gt=0.0, search=(1.0, 40.0), log=True, source=_SOURCE
    )
    correct_probability: float = param(
        0.99, "what the virtual teacher gives to the label", gt=0.0, lt=1.0, search=(0.9, 0.999), source=_SOURCE
    )
    soften_student: bool = param(False, "whether T divides the student's logits too", paper=True)

    @property
    def ce_weight(self) -> float:  # type: ignore[override]
        """1 - alpha."""
        return 1.0 - self.alpha

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """One term, ``virtual``."""
        loss = virtual_teacher_loss(
            student.logits, labels_of(batch), self.correct_probability, self.temperature, self.soften_student
        )
        return {"virtual": self.alpha * loss}
