"""Label smoothing: a part of each label is spread over all classes."""

from __future__ import annotations

from torch import Tensor

from kdzoo import Batch, Outputs, Paper, Strategy, Terms, param
from kdzoo_zoo.response.distributions import label_loss, log_probabilities


def label_smoothing_loss(student_logits: Tensor, target: Tensor, smoothing: float, others: bool = False) -> Tensor:
    """Cross-entropy with labels of which a part is spread evenly over all classes.

    Equation, with e = ``smoothing``, y = ``target``, p_s = softmax(student_logits), K classes::

        loss = - mean_b sum_c [(1 - e) 1(c = y) + e / K] log p_s(c)

    With ``others``, e / (K - 1) for the classes other than y alone; that is the above with e K / (K - 1) for e.

    Args:
        student_logits: B x classes; at least two with ``others``.
        target: B, int64, the labels.
        smoothing: from 0, for plain labels, to 1.
        others: whether the label has no part of what is spread.

    Returns:
        A scalar, above 0: summed over classes, mean over the batch.

    Precision: computed in float32 for half-precision logits, else in the logits' own, under autocast too. No epsilon.

    Source: Szegedy, Vanhoucke, Ioffe, Shlens, Wojna, "Rethinking the Inception Architecture for Computer Vision", CVPR
    2016, arXiv 1512.00567. The code of Tf-KD (Yuan et al., CVPR 2020) spreads over the other classes.

    Example:
        The label has 9/10 + 1/20 and the other class 1/20; the student gives them 3/4 and 1/4:

        >>> import torch
        >>> logits = torch.tensor([[3.0, 1.0]]).log()
        >>> label_smoothing_loss(logits, torch.tensor([0]), 0.1)
        tensor(0.3426)
    """
    share = spread_over_all(smoothing, student_logits.shape[1]) if others else smoothing
    return label_loss(student_logits, target, share).mean()


def spread_over_all(smoothing: float, classes: int) -> float:
    """What is spread over all classes where ``smoothing`` is spread over all but the label."""
    return smoothing * classes / (classes - 1)


class LabelSmoothing(Strategy):
    """Label smoothing: no class is ever certain, so the student's logits stay moderate.

    Knowledge: none of a teacher, which is never run: a part of the label is the same for all classes.

    Loss: (1 - smoothing) CE(student, labels) + smoothing mean over samples and classes of - log p_s, logits B x
    classes.

    Cost: a softmax of the student.

    Relation to the recipe's ``label_smoothing``: that one changes the hard-label loss of all strategies, ``ce`` among
    them, and this strategy alone does the same. With both, a part 1 - (1 - smoothing)(1 - label_smoothing) of the label
    is spread: leave the recipe's at 0 to compare. The label and its mixture under mixup are the recipe's.

    Differs from the paper: nothing. With ``others`` nothing of the spread part goes to the label, as in the code of
    Tf-KD.
    """

    name = "smooth"
    family = "response"
    paper = Paper(
        title="Rethinking the Inception Architecture for Computer Vision",
        authors="Christian Szegedy, Vincent Vanhoucke, Sergey Ioffe, Jonathon Shlens, Zbigniew Wojna",
        year=2016,
        venue="CVPR 2016",
        id="1512.00567",
    )
    signals = ("logits",)
    teacher_signals = ()
    per_sample = True
    non_negative = True

    smoothing: float = param(
        0.1, "part of the label that is spread", ge=0.0, lt=1.0, search=(0.01, 0.5), log=True, source="the paper's"
    )
    others: bool = param(False, "whether it is spread over the other classes alone", in_paper=False)

    @property
    def share(self) -> float:
        """What is spread over all classes, the label among them."""
        return spread_over_all(self.smoothing, self.setup.num_classes) if self.others else self.smoothing

    @property
    def ce_weight(self) -> float:  # type: ignore[override]
        """1 - the part that is spread."""
        return 1.0 - self.share

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """One term, ``uniform``; the label's own part is the hard-label loss."""
        return {"uniform": -self.share * log_probabilities(student.logits, 1.0).mean()}
