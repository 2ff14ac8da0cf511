"""SEED: a phase without labels in which the student learns similarities, then a phase on labels."""

from __future__ import annotations

from torch import Tensor, nn

from kdzoo import Batch, Outputs, PairError, Paper, Phase, Setup, Strategy, Terms, UsageError, param
from kdzoo_seed.loss import similarity_distillation
from kdzoo_seed.memory import TeacherQueue

DISTIL = "distil"


class SelfSupervisedDistillation(Strategy):
    """SEED: the student learns, without labels, how similar the teacher finds each sample to a queue of others.

    Knowledge: the teacher's pooled embeddings, as similarities between samples.

    Loss: in the first phase the cross-entropy of two distributions over one list, the teacher's embedding of the
    sample itself and K remembered teacher embeddings: softmax(cosines / teacher_temperature) is the target for
    softmax(cosines / student_temperature). The student's embedding goes through an MLP (linear, ReLU, linear) to the
    teacher's width. In the second phase CE(student, labels) + main_weight times the same loss.

    Phases: of E epochs, round(share x E) distil without labels, at least one and at most E - 1; the rest train on
    labels. E must be at least 2.

    Memory: a queue of K = min(queue, training samples) embeddings of the teacher, each with its sample's index. A
    batch is compared with the queue as it was, then takes the place of the oldest. The queue starts with random
    directions, as in the authors' code. It is part of the checkpoint.

    Cost: the MLP, discarded after training; K x (teacher's width) of memory; B x (K + 1) similarities a step. The
    teacher is not run in the second phase if main_weight is 0. Serves every pair whose teacher has an embedding of
    width 2 or more, CNN or ViT. The loss of one step does not depend on the order of the batch; the order of batches
    decides what the queue holds.

    Differs from the paper: the teacher is trained on labels, not self-supervised, so it has no projection head, and
    its pooled features are taken as they are (the paper's are 128 wide). The queue is no longer than the training set,
    and an entry that belongs to the sample itself, an epoch ago, is left out of that sample's list; on ImageNet
    (65,536 of 1.28 million) hardly any would be found. The second phase trains the whole student, with the recipe's
    own schedule; the paper trains a linear classifier on frozen features, or fine-tunes on 1% or 10% of the labels.
    Epochs are shared out between the phases, so that the whole is as long as every other strategy's training; the
    authors' code distils for 200 and then trains the classifier for 100. Augmentation is the recipe's, and weaker
    than MoCo v2's. The column "paper" has the values of the authors' code.
    """

    name = "seed"
    family = "relation"
    paper = Paper(
        title="SEED: Self-supervised Distillation For Visual Representation",
        authors="Zhiyuan Fang, Jianfeng Wang, Lijuan Wang, Lei Zhang, Yezhou Yang, Zicheng Liu",
        year=2021,
        venue="ICLR 2021",
        id="2101.04731",
        code="https://github.com/jacobswan1/SEED",
    )
    signals = ("embedding",)
    non_negative = True

    share: float = param(
        0.5, "share of the epochs that distil without labels", paper=0.667, gt=0.0, lt=1.0, search=(0.2, 0.8)
    )
    student_temperature: float = param(0.2, "divides the student's cosines", gt=0.0, search=(0.02, 1.0), log=True)
    teacher_temperature: float = param(
        0.01, "divides the teacher's cosines; towards 0 only the sample itself counts", paper=1e-4, gt=0.0,
        search=(1e-4, 0.2), log=True,
    )  # fmt: skip
    main_weight: float = param(0.0, "weight of the distillation beside the labels", ge=0.0, search=(0.0, 2.0))
    queue: int = param(65536, "remembered teacher embeddings, at most one for each training sample", ge=1)

    def build(self, setup: Setup) -> None:
        """Make the MLP and the queue."""
        narrow, wide = setup.student.embedding, setup.teacher.embedding
        if wide < 2:
            raise PairError("seed compares directions, and the teacher's embedding has width 1: choose another teacher")
        self.projector = nn.Sequential(nn.Linear(narrow, narrow), nn.ReLU(), nn.Linear(narrow, wide))
        self.memory = TeacherQueue(min(self.queue, setup.num_samples), wide)

    def phases(self, epochs: int) -> tuple[Phase, ...]:
        """The phase without labels, then the main phase."""
        if epochs < 2:
            raise UsageError(f"seed has two phases, and the recipe has {epochs} epoch: give it 2 or more (--epochs)")
        first = min(max(round(self.share * epochs), 1), epochs - 1)
        joint = self.main_weight > 0
        return (
            Phase(DISTIL, first, hard_labels=False),
            Phase("main", epochs - first, trains="both" if joint else "student", teacher=joint),
        )

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """One term, ``similarity``; none in the main phase if ``main_weight`` is 0."""
        weight = 1.0 if batch.phase == DISTIL else self.main_weight
        if weight == 0:
            return {}
        taught = teacher.embedding
        loss = similarity_distillation(
            self._project(student.embedding),
            taught,
            self.memory.embeddings.clone(),  # the backward pass needs it as it was before the batch is written
            self.memory.samples == batch.index[:, None],
            self.student_temperature,
            self.teacher_temperature,
        )
        self.memory.push(taught, batch.index)
        return {"similarity": weight * loss}

    def _project(self, embedding: Tensor) -> Tensor:
        """B x (student's width) -> B x (teacher's width); the embedding's precision may differ from the weights'."""
        projected: Tensor = self.projector(embedding.to(next(self.projector.parameters()).dtype))
        return projected
