"""CAT-KD: where the student sees each class in the image matches where the teacher sees it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kdzoo import Batch, Classifier, Outputs, PairError, Paper, Setup, StageShape, Strategy, Terms, param
from kdzoo_zoo.tensors import check_same, full_precision, pool_to


def class_attention_loss(student_map: Tensor, teacher_map: Tensor, size: int, normalize: bool) -> Tensor:
    """Squared differences of two networks' class activation maps.

    Equation, with pool the average pooling to ``size`` x ``size``, for the map A of each class and sample::

        a = pool(A), and if normalize: a / max(||a||, 1e-12), over its positions
        loss = mean over b, k and positions of (a of the student - a of the teacher)^2

    Args:
        student_map: B x K x H x W, the scores of each class at each position.
        teacher_map: B x K x H' x W', any size. Not detached: pass it without gradient.
        size: height and width at which they are compared.
        normalize: whether each map is brought to length 1, so that only where a class is seen counts.

    Returns:
        A scalar, at least 0: the mean over batch, classes and positions; 0 where the maps are equal.

    Raises:
        ValueError: batch or classes differ.

    Precision: computed in float32 for half-precision maps, else in the maps' own, under autocast too. Epsilon 1e-12 on
    the lengths; a map of zeros stays zeros.

    Source: Guo, Yan, Li, Lin, "Class Attention Transfer Based Knowledge Distillation", CVPR 2023, arXiv 2304.12777.
    Authors' code: https://github.com/GzyAftermath/CAT-KD. The paper presents normalised maps as the method; the
    authors' configurations for pairs of one family do not normalise.

    Example:
        >>> maps = torch.tensor([[[[3.0, 4.0], [0.0, 0.0]]]]), torch.tensor([[[[4.0, 3.0], [0.0, 0.0]]]])
        >>> class_attention_loss(*maps, size=2, normalize=True)
        tensor(0.0200)
    """
    check_same("batch and classes", student_map, teacher_map, slice(2))
    maps = (pool_to(full_precision(each), (size, size)) for each in (student_map, teacher_map))
    student, teacher = (F.normalize(each.flatten(2), dim=2, eps=1e-12) if normalize else each for each in maps)
    return F.mse_loss(student, teacher)


def class_activation_map(fmap: Tensor, classifier_weight: Tensor) -> Tensor:
    """The scores that a classifier gives to each position of a map, without its bias.

    Equation, with F = ``fmap`` and W = ``classifier_weight``::

        A_kp = sum over c of W_kc F_cp at position p; its mean over positions are the logits, less the bias

    Args:
        fmap: B x C x H x W, which the network's head averages over positions.
        classifier_weight: K x C.

    Returns:
        B x K x H x W.

    Precision: computed in float32 for half precisions, under autocast too.

    Source: Zhou, Khosla, Lapedriza, Oliva, Torralba, "Learning Deep Features for Discriminative Localization", CVPR
    2016, arXiv 1512.04150.

    Example:
        >>> class_activation_map(torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([[3.0], [0.0]])).flatten()
        tensor([3., 6., 0., 0.])
    """
    with torch.autocast(fmap.device.type, enabled=False):
        return torch.einsum("kc,bchw->bkhw", full_precision(classifier_weight), full_precision(fmap))


class ClassAttentionTransfer(Strategy):
    """CAT-KD, class attention transfer: the student sees each class where the teacher sees it.

    Knowledge: the teacher's class activation maps, which its classifier gives at each position of its last map.

    Loss: CE(student without bias, labels) + beta mean((a_s - a_t)^2), a = pool(W F), B x classes x size x size, F the
    last of the stages and W the weight of the classifier, each map divided by its length if ``normalize``. Computed as
    W pool(F), which is the same.

    The bias of both classifiers is dropped, as the authors do: of the teacher only the maps are used, and the student
    is trained and measured by W e, e its embedding. Set the bias of a deployed student to 0.

    Cost: a product of the pooled maps with the classifiers; no adapters. Serves pairs of networks whose heads are
    average pooling and one linear layer.

    Differs from the paper: nothing in the loss. The authors' configurations for CIFAR-100 have other weights and forms
    for each pair: without normalising 15 (resnet32x4 to resnet8x4), 4.5 (VGG), 12 (wrn16_2), 1.5 (wrn40_1), 0.7 and 1.8
    (resnet56 and 110); normalised 15 and 40 at size 2, 80 and 600 at size 4.
    """

    name = "catkd"
    family = "feature"
    paper = Paper(
        title="Class Attention Transfer Based Knowledge Distillation",
        authors="Ziyao Guo, Haonan Yan, Hui Li, Xiaodong Lin",
        year=2023,
        venue="CVPR 2023",
        id="2304.12777",
        code="https://github.com/GzyAftermath/CAT-KD",
    )
    signals = ("stages", "embedding", "classifier")
    teacher_signals = ("stages", "classifier")
    per_sample = True
    zero_when_equal = True
    non_negative = True
    symmetric = True

    beta: float = param(
        15.0,
        "weight of the term",
        ge=0.0,
        search=(0.1, 600.0),
        log=True,
        imagenet=0.5,
        source="the authors' configurations: vgg13 to MobileNetV2 on CIFAR-100, ResNet34 to ResNet18 on ImageNet",
    )
    size: int = param(
        2,
        "height and width at which the maps are compared",
        ge=2,
        search=(2, 4),
        imagenet=4,
        source="the authors' configurations, the same pairs; 4 for some others",
    )
    normalize: bool = param(
        True,
        "bring each map to length 1, so that only where a class is seen counts",
        imagenet=False,
        source="the paper, and the authors' configurations for pairs of different families; ResNet34 to ResNet18",
    )

    def build(self, setup: Setup) -> None:
        """Check that the classifiers can be applied to the last maps, and that these have something to compare."""
        if not (setup.student.head_pools and setup.teacher.head_pools):
            who = "teacher" if setup.student.head_pools else "student"
            raise PairError(
                f"catkd applies the classifier to the last map, and the {who}'s head is not average pooling and one "
                "linear layer: choose networks such as ResNets, DenseNets or RegNets"
            )
        if setup.student.num_classes != setup.teacher.num_classes:
            raise PairError(
                f"catkd compares maps of classes, but the student has {setup.student.num_classes} classes and the "
                f"teacher {setup.teacher.num_classes}: use a teacher trained on the dataset's classes"
            )
        single = any(_positions(network.stages[-1], self.size) == 1 for network in (setup.student, setup.teacher))
        if self.normalize and single:
            raise PairError(
                "catkd compares where classes are seen, and a last map has a single position: choose a larger "
                "--img-size, or output_stride=8 of the model, or compare the scores with --set catkd.normalize=false"
            )

    def reduce(self, teacher: Outputs) -> Outputs:
        """The last stage pooled to the size: the classifier gives the same before and after pooling."""
        return Outputs({"stages": (self._pooled(teacher),), "classifier": teacher.classifier})

    def reduction(self) -> dict[str, str | tuple[str, ...]]:
        """The stage and the size."""
        return {"stages": (f"stages.{len(self.setup.teacher.stages) - 1} pooled to {self.size}x{self.size}",)}

    def _pooled(self, outputs: Outputs) -> Tensor:
        return pool_to(full_precision(outputs.stages[-1]), (self.size, self.size))

    def predict(self, student: Outputs) -> Tensor:
        """The student's logits without the bias."""
        return F.linear(student.embedding, student.classifier.weight)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """One term, ``attention``."""
        layers: tuple[Classifier, Classifier] = (student.classifier, teacher.classifier)
        pooled = self._pooled(student), teacher.stages[0]
        own, theirs = (class_activation_map(x, layer.weight) for x, layer in zip(pooled, layers, strict=True))
        return {"attention": self.beta * class_attention_loss(own, theirs, self.size, self.normalize)}


def _positions(shape: StageShape, size: int) -> int:
    """Different values in a map that is pooled to a size."""
    return min(shape.height, size) * min(shape.width, size)
