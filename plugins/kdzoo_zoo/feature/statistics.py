"""Statistics of a teacher over the training samples, for strategies that survey it before they train."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from kdzoo import Batch, Outputs, UsageError

_ROWS = 2**24
"""Values of the class kernels that are held at a time."""


def class_means(batches: Iterable[tuple[Outputs, Batch]], num_classes: int) -> Tensor:
    """The mean embedding of each class.

    Args:
        batches: what :meth:`kdzoo.Strategy.survey` gets, with embeddings.
        num_classes: of the dataset.

    Returns:
        classes x D, float64, on the embeddings' device; zeros for a class without samples. Sums in float64 by a matrix
        product, which is the same in each run and hardly depends on the size of the batches.
    """
    total: Tensor | None = None
    count: Tensor | None = None
    for teacher, batch in batches:
        belongs = F.one_hot(batch.labels, num_classes).double()
        sums, counts = belongs.T @ teacher.embedding.double(), belongs.sum(dim=0)
        total, count = (sums, counts) if total is None or count is None else (total + sums, count + counts)
    if total is None or count is None:
        raise ValueError("there are no samples")
    return total / count.clamp(min=1)[:, None]


def class_features(batches: Iterable[tuple[Outputs, Batch]], num_classes: int) -> Tensor:
    """As many embeddings of each class as the smallest one has: the first ones, in the order of the samples.

    Args:
        batches: what :meth:`kdzoo.Strategy.survey` gets, with embeddings.
        num_classes: of the dataset.

    Returns:
        classes x n x D.

    Raises:
        UsageError: a class has fewer than two samples.
    """
    rows: list[list[Tensor]] = [[] for _ in range(num_classes)]
    for teacher, batch in batches:
        for label in set(batch.labels.tolist()):
            rows[label].append(teacher.embedding[batch.labels == label])
    fewest = min(sum(map(len, parts)) for parts in rows)
    if fewest < 2:
        raise UsageError("a class has fewer than two training samples, so that classes cannot be compared by CKA")
    return torch.stack([torch.cat(parts)[:fewest] for parts in rows])


def class_cost_matrix(features: Tensor) -> Tensor:
    """How different the classes are to the teacher: 1 - linear CKA of each pair of classes.

    Equation::

        Xc = features of class c, n x D, minus their mean over the n samples
        CKA(a, b) = |Xa' Xb|^2 / (|Xa' Xa| |Xb' Xb|)   with Frobenius norms; ' transposes
        cost = 1 - CKA

    Args:
        features: classes x n x D; see :func:`class_features`. The i-th sample of one class stands beside the i-th of
            the other, in the order in which they are given.

    Returns:
        classes x classes, from 0 to 1, 0 on the diagonal. A class whose samples are all alike is at 1 from all others.

    Precision: computed in float64. Norms are taken as at least 1e-12.

    Source: Lv, Yang, Li, "Wasserstein Distance Rivals Kullback-Leibler Divergence for Knowledge Distillation", NeurIPS
    2024, arXiv 2412.08139: the cost of WKD-L before it is sharpened. Authors' code:
    https://github.com/JiamingLv/WKD, tools/generate_cost_matrix.py. The authors take logits on ImageNet, and on
    CIFAR-100 every position of the last map as a sample.

    Example:
        >>> import torch
        >>> line = torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
        >>> class_cost_matrix(torch.stack([line, 3 * line.flip(1), line[[1, 0, 1]]]))  # alike in order; not alike
        tensor([[0., 0., 1.],
                [0., 0., 1.],
                [1., 1., 0.]], dtype=torch.float64)
    """
    features = features.double()
    features = features - features.mean(dim=1, keepdim=True)
    classes, samples, _ = features.shape
    products = features.new_zeros(classes, classes)
    # The same number by the n x n kernels Xa Xa', some of their rows at a time: one product for all pairs of classes.
    for rows in torch.split(features, max(1, _ROWS // (classes * samples)), dim=1):
        kernels = (rows @ features.mT).flatten(1)
        products += kernels @ kernels.T
    norms = products.diagonal().sqrt().clamp(min=1e-12)
    cost = 1 - products / (norms[:, None] * norms)
    return cost.clamp(0, 1).fill_diagonal_(0)
