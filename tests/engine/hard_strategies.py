"""Strategies that ask much of the contract, each in miniature; the equations are in the spirit of the papers named."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdzoo import Batch, Outputs, Phase, Setup, Strategy, Terms, param


class TeachersHead(Strategy):
    """SimKD: a projector brings the student's embedding in front of the teacher's classifier, and predicts by it."""

    name = "teachers-head"
    signals = ("embedding",)
    teacher_signals = ("embedding", "classifier")
    deployed = ("projector", "head")
    ce_weight = 0.0

    def build(self, setup: Setup) -> None:
        weight, bias = setup.classifier
        self.projector = nn.Sequential(nn.Linear(setup.student.embedding, setup.teacher.embedding), nn.ReLU())
        self.head = nn.Linear(setup.teacher.embedding, setup.num_classes).requires_grad_(False)
        self.head.weight.copy_(weight)
        self.head.bias.copy_(bias)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        return {"embedding": F.mse_loss(self.projector(student.embedding), teacher.embedding)}

    def predict(self, student: Outputs) -> Tensor:
        return self.head(self.projector(student.embedding))


class Review(Strategy):
    """ReviewKD: deeper student maps are fused into the earlier ones, each compared with the teacher's."""

    name = "review"
    signals = ("stages",)

    def build(self, setup: Setup) -> None:
        pairs = setup.paired_shapes()
        self.enter = nn.ModuleList(nn.Conv2d(own.channels, 8, 1) for own, _ in pairs)
        self.leave = nn.ModuleList(
            nn.Sequential(nn.Conv2d(8, theirs.channels, 1), nn.BatchNorm2d(theirs.channels)) for _, theirs in pairs
        )

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        fused, terms = None, {}
        for i, (s, t) in reversed(list(enumerate(self.setup.stage_pairs))):
            own, theirs = self.enter[i](student.stages[s]), teacher.stages[t]
            fused = own if fused is None else own + F.interpolate(fused, own.shape[2:])
            terms[f"stage {i}"] = F.mse_loss(F.adaptive_avg_pool2d(self.leave[i](fused), theirs.shape[2:]), theirs)
        return terms


class Contrast(Strategy):
    """CRD: a memory of embeddings keyed by sample, negatives drawn from it at random, updated as samples come by."""

    name = "contrast"
    signals = ("embedding",)
    stochastic = True
    negatives: int = param(12, "drawn from the memory", ge=1)

    def build(self, setup: Setup) -> None:
        self.embed = nn.Linear(setup.student.embedding, setup.teacher.embedding)
        self.register_buffer("memory", F.normalize(torch.randn(setup.num_samples, setup.teacher.embedding), dim=1))
        self.register_buffer("seen", torch.zeros(setup.num_samples, dtype=torch.int64))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        own, theirs = F.normalize(self.embed(student.embedding), dim=1), F.normalize(teacher.embedding, dim=1)
        others = self.memory[torch.randint(len(self.memory), (self.negatives,), device=own.device)]
        scores = torch.cat([(own * theirs).sum(1, keepdim=True), own @ others.T], dim=1) / 0.1
        self.memory[batch.index] = theirs.detach()
        self.seen[batch.index] += 1
        return {"contrast": F.cross_entropy(scores, torch.zeros_like(batch.labels))}


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradient, None


class Curriculum(Strategy):
    """CTKD: a learned temperature that makes it harder, by reversed gradients that grow with the progress."""

    name = "curriculum"
    signals = ("logits",)

    def build(self, setup: Setup) -> None:
        self.temperature = nn.Parameter(torch.tensor(2.0))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        hot = 1 + F.softplus(_Reverse.apply(self.temperature, batch.progress))
        log_s, log_t = (F.log_softmax(outputs.logits / hot, dim=1) for outputs in (student, teacher))
        return {"soft": F.kl_div(log_s, log_t, log_target=True, reduction="batchmean")}


class TwoMomenta(Strategy):
    """DOT: the gradients of labels and teacher come from two backward passes, each with a momentum of its own."""

    name = "two-momenta"
    signals = ("logits",)

    def build(self, setup: Setup) -> None:
        self.velocities: list[Tensor] = []

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        return {"kd": F.mse_loss(student.logits, teacher.logits)}

    def gradients(self, terms: Terms, backward: Callable[..., None]) -> None:
        parameters = backward.parameters
        backward(terms["ce"], retain_graph=True)
        task = [parameter.grad.clone() for parameter in parameters]
        for parameter in parameters:
            parameter.grad = None
        backward(terms["kd"])
        self.velocities = self.velocities or [torch.zeros_like(parameter) for parameter in parameters]
        for parameter, velocity, own in zip(parameters, self.velocities, task, strict=True):
            velocity.mul_(0.5).add_(parameter.grad)
            parameter.grad = own + velocity

    def get_extra_state(self) -> list[Tensor]:
        return self.velocities

    def set_extra_state(self, state: list[Tensor]) -> None:
        self.velocities = state


class TwoViews(Strategy):
    """MLKD's need: two augmented versions of each sample in one batch, whose predictions shall agree."""

    name = "two-views"
    signals = ("logits",)
    views = 2

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        first, second = student.logits.chunk(2)
        assert torch.equal(*batch.index.chunk(2))
        assert not torch.equal(*batch.inputs.chunk(2))
        return {"agree": F.mse_loss(first, second), "follow": F.mse_loss(student.logits, teacher.logits)}


class Everything(Strategy):
    """All signals of both networks at once; the student's classifier is the live one."""

    name = "everything"
    signals = ("logits", "stages", "embedding", "classifier")

    def build(self, setup: Setup) -> None:
        self.adapt = nn.Linear(setup.teacher.embedding, setup.student.embedding)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        for outputs in (student, teacher):
            again = F.linear(outputs.embedding, *outputs.classifier)
            assert torch.allclose(again, outputs.logits, atol=1e-4)
        assert torch.equal(self.setup.classifier.weight, teacher.classifier.weight)
        assert student.classifier.weight.requires_grad
        assert not teacher.classifier.weight.requires_grad
        crossed = F.linear(self.adapt(teacher.embedding), *student.classifier)
        sizes = [stage.square().mean() for stage in student.stages]
        return {"crossed": F.cross_entropy(crossed, batch.labels), "small": 1e-3 * torch.stack(sizes).sum()}


class ThreePhases(Strategy):
    """Factor transfer's and AB's need: the strategy learns alone, then the student alone, then both together."""

    name = "three-phases"
    signals = ("embedding",)

    def build(self, setup: Setup) -> None:
        width = setup.teacher.embedding
        self.translate = nn.Sequential(nn.Linear(setup.student.embedding, width), nn.BatchNorm1d(width))

    def phases(self, epochs: int) -> tuple[Phase, ...]:
        return (
            Phase("strategy", 1, hard_labels=False, trains="strategy"),
            Phase("student", 2, trains="student"),
            Phase("both", epochs - 3),
        )

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        return {"factor": F.mse_loss(self.translate(student.embedding), teacher.embedding)}


class Centred(Strategy):
    """Logits, less what the teacher says on average over the training samples."""

    name = "centred"

    def build(self, setup: Setup) -> None:
        self.register_buffer("mean", torch.zeros(setup.num_classes))

    def survey(self, batches: Iterable[tuple[Outputs, Batch]]) -> None:
        self.mean.copy_(torch.cat([teacher.logits for teacher, _ in batches]).mean(dim=0))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        return {"logits": F.mse_loss(student.logits, teacher.logits - self.mean)}


class Alone(Strategy):
    """Self-distillation's need: no teacher at all, but signals of the student."""

    name = "alone"
    signals = ("logits", "stages")
    teacher_signals = ()

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        assert not teacher.values
        confident = -(student.logits.softmax(1) * student.logits.log_softmax(1)).sum(1).mean()
        return {"confident": 0.1 * confident, "small": 1e-3 * student.stages[-1].square().mean()}


HARD = (TeachersHead, Review, Contrast, Curriculum, TwoMomenta, TwoViews, Everything, ThreePhases, Alone, Centred)
