"""SimKD: the student's map, projected, matches what enters the teacher's head, which then predicts for the student."""

from __future__ import annotations

from torch import Tensor, nn

from kdzoo import Batch, Outputs, PairError, Paper, Setup, Strategy, Terms, param
from kdzoo_zoo.feature.fitnets import hint_loss, reduce_hint, reduced_hint_loss
from kdzoo_zoo.feature.layers import Projector, conv_norm, pooled_text
from kdzoo_zoo.feature.step_cache import StepCache
from kdzoo_zoo.tensors import common_size, pool_to


def reused_classifier_loss(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Squared difference of the student's projected map and the teacher's last map.

    Equation::

        s, t = student_map, teacher_map average-pooled to the smaller height and width of the two
        loss = mean over b, c, h, w of (s - t)^2

    It is the hint loss of FitNets, at the place where the teacher's classifier follows.

    Args:
        student_map: B x C x H x W, already projected to the teacher's channels.
        teacher_map: B x C x H' x W'. Not detached: pass it without gradient.

    Returns:
        A scalar, at least 0: the mean over all elements; 0 where the maps are equal.

    Raises:
        ValueError: batch or channels differ.

    Precision: computed in float32 for half-precision maps, else in the maps' own, under autocast too. No epsilon.

    Source: Chen, Mei, Zhang, Wang, Feng, Chen, "Knowledge Distillation with the Reused Teacher Classifier", CVPR 2022,
    arXiv 2203.14001. Authors' code: https://github.com/DefangChen/SimKD.

    Example:
        >>> import torch
        >>> reused_classifier_loss(torch.zeros(1, 1, 2, 2), torch.full((1, 1, 4, 4), 3.0))
        tensor(9.)
    """
    return hint_loss(student_map, teacher_map)


class ReusedClassifier(Strategy):
    """SimKD: the student learns to give what enters the teacher's classifier, and reuses the teacher's classifier.

    Knowledge: the teacher's last map, element by element, and the teacher's classifier, frozen.

    Loss: mean((P(s) - t)^2) alone, s and t the last stages, P a projector of three convolutions (1x1, 3x3, 1x1) with
    BatchNorm and ReLU after each; the larger of the two maps is average-pooled to the size of the smaller. No labels.

    The student predicts by the teacher's classifier on the mean of P(s) over positions, in training and afterwards: the
    projector and the classifier are deployed with it and count among its parameters.

    Cost: with n = student channels, m = teacher channels and w = m / ``factor``, n w + 9 w^2 + w m weights on the map.
    Serves every student, and teachers whose head is average pooling and one linear layer.

    Differs from the paper: nothing in the loss.
    """

    name = "simkd"
    family = "feature"
    paper = Paper(
        title="Knowledge Distillation with the Reused Teacher Classifier",
        authors="Defang Chen, Jian-Ping Mei, Hailin Zhang, Can Wang, Yan Feng, Chun Chen",
        year=2022,
        venue="CVPR 2022",
        id="2203.14001",
        code="https://github.com/DefangChen/SimKD",
    )
    signals = ("stages",)
    teacher_signals = ("stages", "classifier")
    deployed = ("projector", "head")
    ce_weight = 0.0
    per_sample = True
    non_negative = True

    factor: int = param(
        2,
        "the projector's inner width is the teacher's channels divided by it",
        ge=1,
        le=64,
        search=(1, 8),
        source="the authors' scripts",
    )

    def build(self, setup: Setup) -> None:
        """Make the projector and copy the teacher's classifier."""
        if not setup.teacher.head_pools:
            raise PairError(
                "simkd applies the teacher's classifier to its last map, and this teacher's head is not average "
                "pooling and one linear layer: choose a teacher such as a ResNet, DenseNet or RegNet"
            )
        if not setup.student.stages:
            raise PairError("simkd needs a map of the student, and it has none: choose another student")
        student, teacher = setup.student.stages[-1], setup.teacher.stages[-1]
        self.size = common_size(student, teacher)
        inner = max(1, teacher.channels // self.factor)
        self.projector = Projector(
            *conv_norm(student.channels, inner, activated=True),
            *conv_norm(inner, inner, 3, activated=True),
            *conv_norm(inner, teacher.channels, activated=True),
        )
        assert setup.classifier is not None, "it is among the teacher's signals"
        weight, bias = setup.classifier
        self.head = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None).requires_grad_(False)
        self.head.weight.copy_(weight)
        if bias is not None:
            self.head.bias.copy_(bias)
        self._cache: StepCache[Tensor] = StepCache()

    def reduce(self, teacher: Outputs) -> Outputs:
        """The last stage, at the size at which it is compared."""
        return Outputs({"stages": (reduce_hint(teacher.stages[-1], self.size),)})

    def reduction(self) -> dict[str, tuple[str, ...]]:
        """The stage, and the size if it is pooled."""
        return {"stages": (pooled_text(self.setup.teacher, len(self.setup.teacher.stages) - 1, self.size),)}

    def _projected(self, student: Outputs) -> Tensor:
        projected: Tensor = self.projector(pool_to(student.stages[-1], self.size))
        return projected

    def predict(self, student: Outputs) -> Tensor:
        """The teacher's classifier on the student's projected map."""
        projected = self._projected(student)
        if self.training:
            self._cache.keep(student.stages[-1], projected)
        logits: Tensor = self.head(projected.mean(dim=(2, 3)))
        return logits

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """One term, ``features``."""
        projected = self._cache.take(student.stages[-1])
        if projected is None:
            projected = self._projected(student)
        return {"features": reduced_hint_loss(projected, teacher.stages[0])}
