"""A strategy that keeps to everything, and the same with one classic mistake each.

``caught_by`` names the check that is meant for the mistake; ``also`` those that may fail with it. The ``classic`` ones
have spoilt published results; of those that only waste something the kit ``warns``.
"""

from __future__ import annotations

import random
import sys
import time
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdzoo import Batch, Outputs, PairError, Paper, Phase, Setup, Strategy, Terms, param
from kdzoo.models.teacher import Teacher
from kdzoo.testing.training import BATCH


def divergence(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """KL divergence of the softened probabilities.

    Equation: loss = T^2 mean_b sum_c p_t (log p_t - log p_s)

    Args:
        student_logits: B x classes.
        teacher_logits: B x classes.
        temperature: above 0.

    Example:
        >>> divergence(torch.zeros(1, 2), torch.zeros(1, 2), 1.0)
        tensor(0.)
    """
    log_s = F.log_softmax(student_logits.float() / temperature, dim=1)
    log_t = F.log_softmax(teacher_logits.float() / temperature, dim=1)
    return temperature**2 * F.kl_div(log_s, log_t, reduction="batchmean", log_target=True)


class Sound(Strategy):
    """The divergence of the logits, and an adapted embedding near the teacher's.

    Loss: CE + beta KL + mean((W s - t)^2)
    """

    name = "sound"
    family = "response"
    paper = Paper(title="A Paper", authors="Ada Author", year=2020, venue="Nowhere", id="2001.00001")
    signals = ("logits", "embedding")
    non_negative = True

    caught_by: ClassVar[str] = ""
    warns: ClassVar[bool] = False
    classic: ClassVar[bool] = False
    also: ClassVar[frozenset[str]] = frozenset()

    temperature: float = param(4.0, "softens", gt=0.0, search=(1.0, 8.0), log=True)
    beta: float = param(1.0, "weight", ge=0.0, search=(0.1, 10.0), log=True)

    def build(self, setup: Setup) -> None:
        self.adapter = nn.Linear(setup.student.embedding, setup.teacher.embedding)
        self.register_buffer("seen", torch.zeros(setup.num_samples))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        with torch.no_grad():
            self.seen[batch.index] += 1
        return {"kd": self.beta * self.compare(student, teacher), "near": self.follow(student, teacher)}

    def compare(self, student: Outputs, teacher: Outputs) -> Tensor:
        return divergence(student.logits, teacher.logits, self.temperature)

    def follow(self, student: Outputs, teacher: Outputs) -> Tensor:
        return F.mse_loss(self.adapter(student.embedding).float(), teacher.embedding.float())


class TeacherInTrainMode(Sound):
    """It reaches around kdzoo for the teacher, and wakes its dropout and BatchNorm."""

    name = "teacher-in-train-mode"
    classic = True
    caught_by = "teacher-untouched"

    def compare(self, student: Outputs, teacher: Outputs) -> Tensor:
        frame = sys._getframe()
        while frame := frame.f_back:
            taught_by = getattr(frame.f_locals.get("self"), "teacher", None)
            if isinstance(taught_by, Teacher):
                taught_by.model.model.train()
        return super().compare(student, teacher)


class TeacherMoves(Sound):
    """It averages the student's classifier into the teacher's, the live one. Classifier: classes x D."""

    name = "teacher-moves"
    classic = True
    signals = ("logits", "embedding")
    teacher_signals = ("logits", "embedding", "classifier")
    caught_by = "teacher-untouched"
    also = frozenset({"gradient-teacher"})

    def compare(self, student: Outputs, teacher: Outputs) -> Tensor:
        with torch.no_grad():
            teacher.classifier.weight.mul_(0.999)
        return super().compare(student, teacher)


class WritesToSignals(Sound):
    """It divides by the temperature in place."""

    name = "writes-to-signals"
    caught_by = "gradient-teacher"

    def compare(self, student: Outputs, teacher: Outputs) -> Tensor:
        return divergence(student.logits, teacher.logits.div_(self.temperature), 1.0)


class GradientIntoTeacher(Sound):
    """It asks for gradients of the teacher."""

    name = "gradient-into-teacher"
    classic = True
    caught_by = "gradient-teacher"

    def follow(self, student: Outputs, teacher: Outputs) -> Tensor:
        return F.mse_loss(self.adapter(student.embedding).float(), teacher.embedding.requires_grad_().float())


class DetachedStudent(Sound):
    """One of its terms does not teach."""

    name = "detached-student"
    caught_by = "gradient-student"

    def compare(self, student: Outputs, teacher: Outputs) -> Tensor:
        return divergence(student.logits.detach(), teacher.logits, self.temperature)


class SwappedDivergence(Sound):
    """Student and teacher are swapped in the divergence of the logits."""

    name = "swapped-divergence"
    classic = True
    caught_by = "argument-order"

    def compare(self, student: Outputs, teacher: Outputs) -> Tensor:
        return divergence(teacher.logits, student.logits, self.temperature)


class SwappedNames(Sound):
    """Its forward takes the teacher first."""

    name = "swapped-names"
    classic = True
    signals = ("logits",)
    caught_by = "argument-order"

    def build(self, setup: Setup) -> None:
        self.register_buffer("seen", torch.zeros(setup.num_samples))

    def forward(self, teacher: Outputs, student: Outputs, batch: Batch) -> Terms:
        return {"kd": self.beta * divergence(student.logits, teacher.logits, self.temperature)}


class IgnoresTeacher(SwappedNames):
    """It sharpens the student's own logits and calls that distillation."""

    name = "ignores-teacher"

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        own = student.logits.float()
        return {"kd": self.beta * divergence(own, 2 * own.detach(), self.temperature)}


class UnregisteredAdapter(Sound):
    """Its adapter is in a plain list."""

    name = "unregistered-adapter"
    classic = True
    caught_by = "registered"
    # The adapter is neither converted to float64 nor trained nor kept.
    also = frozenset({"float64", "gradient-adapters"})

    def build(self, setup: Setup) -> None:
        super().build(setup)
        self.adapters = [self.adapter]
        del self.adapter

    def follow(self, student: Outputs, teacher: Outputs) -> Tensor:
        return F.mse_loss(self.adapters[0](student.embedding).float(), teacher.embedding.float())


class UntrainedAdapter(Sound):
    """Its adapter stands on the teacher's side, where nothing is recorded."""

    name = "untrained-adapter"
    classic = True
    caught_by = "gradient-adapters"

    def build(self, setup: Setup) -> None:
        super().build(setup)
        self.adapter = nn.Linear(setup.teacher.embedding, setup.student.embedding)

    def follow(self, student: Outputs, teacher: Outputs) -> Tensor:
        with torch.no_grad():
            target = self.adapter(teacher.embedding).float()
        return F.mse_loss(student.embedding.float(), target)


class LateAdapter(Sound):
    """Its adapter is made when it is first used: the optimizer does not know it."""

    name = "late-adapter"
    caught_by = "two-epochs"
    also = frozenset({"float64"})

    def follow(self, student: Outputs, teacher: Outputs) -> Tensor:
        if not hasattr(self, "late"):
            self.late = nn.Linear(teacher.embedding.shape[1], teacher.embedding.shape[1])
        return F.mse_loss(self.late(self.adapter(student.embedding)).float(), teacher.embedding.float())


class DependsOnOrder(Sound):
    """It compares each sample with the one before it."""

    name = "depends-on-order"
    classic = True
    caught_by = "batch-order"

    def follow(self, student: Outputs, teacher: Outputs) -> Tensor:
        return F.mse_loss(self.adapter(student.embedding).float(), teacher.embedding.float().roll(1, dims=0))


class SumsOverBatch(Sound):
    """It sums where it should average."""

    name = "sums-over-batch"
    classic = True
    caught_by = "batch-size"

    def follow(self, student: Outputs, teacher: Outputs) -> Tensor:
        return 0.01 * (self.adapter(student.embedding).float() - teacher.embedding.float()).square().sum()


class DiesInHalf(Sound):
    """The root of what rounds to 0 in bfloat16."""

    name = "dies-in-half"
    classic = True
    caught_by = "bf16"
    also = frozenset({"degenerate"})  # equal networks are nearer than nearly equal ones

    def follow(self, student: Outputs, teacher: Outputs) -> Tensor:
        squares = (student.logits - teacher.logits).float().square().sum(dim=1)
        return squares.sqrt().mean() + 0.1 * super().follow(student, teacher)


class HalfPrecision(Sound):
    """Its term has the precision of the signals."""

    name = "half-precision"
    caught_by = "float32"

    def follow(self, student: Outputs, teacher: Outputs) -> Tensor:
        return (self.adapter(student.embedding) - teacher.embedding).square().mean()


class LosesDigits(Sound):
    """A variance as the difference of two large numbers."""

    name = "loses-digits"
    caught_by = "float64"
    also = frozenset({"batch-order"})  # what is left is rounding, which an order changes
    non_negative = False

    def follow(self, student: Outputs, teacher: Outputs) -> Tensor:
        x = 1000 + self.adapter(student.embedding).float() - teacher.embedding.float()
        return x.square().mean() - x.mean().square()


class NeedsTwoSamples(Sound):
    """The deviation over a batch of one sample is NaN."""

    name = "needs-two-samples"
    caught_by = "batch-of-one"

    def follow(self, student: Outputs, teacher: Outputs) -> Tensor:
        own, theirs = self.adapter(student.embedding).float(), teacher.embedding.float()
        return F.mse_loss(own.std(dim=0), theirs.std(dim=0))


class FirstBatchDecides(Sound):
    """It remembers how large the first batch was."""

    name = "first-batch-decides"
    caught_by = "partial-batch"

    def follow(self, student: Outputs, teacher: Outputs) -> Tensor:
        self.rows = getattr(self, "rows", len(student.embedding))
        gap = self.adapter(student.embedding).float() - teacher.embedding.float()
        return gap.reshape(self.rows, -1).square().mean()


class TopFive(Sound):
    """It asks for five classes where there may be two."""

    name = "top-five"
    caught_by = "two-classes"
    # The tiny dataset of the trainings has four classes.
    also = frozenset({"two-epochs"})

    def compare(self, student: Outputs, teacher: Outputs) -> Tensor:
        best = teacher.logits.topk(5, dim=1).indices
        return divergence(student.logits.gather(1, best), teacher.logits.gather(1, best), self.temperature)


class Views(Sound):
    """It views memory as if it were contiguous."""

    name = "views"
    caught_by = "non-contiguous"

    def follow(self, student: Outputs, teacher: Outputs) -> Tensor:
        teacher.embedding.view(-1)
        return super().follow(student, teacher)


class WantsLabels(Sound):
    """It takes targets for class numbers."""

    name = "wants-labels"
    caught_by = "mixup-targets"

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        right = student.logits.float().log_softmax(dim=1).gather(1, batch.targets[:, None])
        return super().forward(student, teacher, batch) | {"right": -0.1 * right.mean()}


class EqualChannels(Sound):
    """It subtracts embeddings of whatever width."""

    name = "equal-channels"
    caught_by = "unequal-channels"
    also = frozenset({"two-epochs"})

    def build(self, setup: Setup) -> None:
        super().build(setup)
        self.adapter = nn.Identity()


class WrongStages(Sound):
    """It finds the teacher's stages by the student's numbers."""

    name = "wrong-stages"
    signals = ("logits", "embedding", "stages")
    caught_by = "unequal-stages"
    # The networks of the trainings have different stages too.
    also = frozenset({"two-epochs", "unequal-sizes", "unequal-channels"})

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        terms = super().forward(student, teacher, batch)
        for place, _ in self.setup.stage_pairs:
            own, theirs = student.stages[place].float().mean(dim=1), teacher.stages[place].float().mean(dim=1)
            terms[f"stage {place}"] = F.mse_loss(own.mean(dim=(1, 2)), theirs.mean(dim=(1, 2)))
            assert setup_of(self, place) == theirs.shape[1:]
        return terms


def setup_of(strategy: Strategy, place: int) -> tuple[int, int]:
    """Height and width of the teacher's stage that faces a stage of the student."""
    faces = dict(strategy.setup.stage_pairs)
    return tuple(strategy.setup.teacher.stages[faces[place]][1:])


class MemoryOutside(Sound):
    """What it remembers is a plain attribute."""

    name = "memory-outside"
    classic = True
    caught_by = "checkpoint"

    def build(self, setup: Setup) -> None:
        super().build(setup)
        self.average = 1.0

    def compare(self, student: Outputs, teacher: Outputs) -> Tensor:
        loss = super().compare(student, teacher)
        self.average = 0.9 * self.average + 0.1 * float(loss.detach())
        return loss / (1e-3 + self.average)


class HiddenBuffer(Sound):
    """Its memory is a buffer that is kept out of the checkpoint."""

    name = "hidden-buffer"
    caught_by = "checkpoint"

    def build(self, setup: Setup) -> None:
        super().build(setup)
        self.register_buffer("seen", torch.zeros(setup.num_samples), persistent=False)


class SeededGenerator(Sound):
    """Its own generator, seeded in build, starts again when a run is taken up."""

    name = "seeded-generator"
    caught_by = "checkpoint"
    also = frozenset({"float64"})  # a generator gives other numbers in float64

    def build(self, setup: Setup) -> None:
        super().build(setup)
        self.draw = torch.Generator().manual_seed(0)

    def follow(self, student: Outputs, teacher: Outputs) -> Tensor:
        keep = torch.rand(1, generator=self.draw).item()
        return (0.5 + keep) * super().follow(student, teacher)


class OwnGenerator(Sound):
    """Its generator is seeded by the clock."""

    name = "own-generator"
    classic = True
    caught_by = "repeatable"

    def build(self, setup: Setup) -> None:
        super().build(setup)
        self.draw = random.Random()

    def compare(self, student: Outputs, teacher: Outputs) -> Tensor:
        return (0.5 + self.draw.random()) * super().compare(student, teacher)


class SetsTheSeed(Sound):
    """It draws the same numbers at every step."""

    name = "sets-the-seed"
    caught_by = "repeatable"

    def compare(self, student: Outputs, teacher: Outputs) -> Tensor:
        torch.manual_seed(0)
        return super().compare(student, teacher) * (1 + torch.rand(()))


class SharedMemory(Sound):
    """What one training remembers, the next one finds: it is in the class."""

    name = "shared-memory"
    caught_by = "training-again"
    # A fresh strategy is not fresh, whatever it is made for.
    also = frozenset({"checkpoint"})
    steps: ClassVar[dict[str, int]] = {}

    def gradients(self, terms: Terms, backward: Any) -> None:
        self.steps["done"] = self.steps.get("done", 0) + 1
        super().gradients(terms | {"kd": terms["kd"] * self.steps["done"]}, backward)


class UnboundedTemperature(Sound):
    """Nobody says that the temperature must not be 0."""

    name = "unbounded-temperature"
    classic = True
    caught_by = "parameters"
    temperature: float = param(4.0, "softens", search=(1.0, 8.0))


class PlainNumber(Sound):
    """A weight that nobody can set."""

    name = "plain-number"
    caught_by = "parameters"
    warns = True
    weight = 0.5

    def follow(self, student: Outputs, teacher: Outputs) -> Tensor:
        return self.weight * super().follow(student, teacher)


class NothingToSearch(Sound):
    """Its numbers have no ranges."""

    name = "nothing-to-search"
    caught_by = "search-space"
    warns = True
    temperature: float = param(4.0, "softens", gt=0.0)
    beta: float = param(1.0, "weight", ge=0.0)


class HoleyRange(Sound):
    """Most values of its search range do not divide the classes."""

    name = "holey-range"
    caught_by = "search-space"
    parts: int = param(1, "groups of features", ge=1, search=(1, 40))

    def compare(self, student: Outputs, teacher: Outputs) -> Tensor:
        if student.logits.shape[1] % self.parts:
            raise RuntimeError(f"{student.logits.shape[1]} classes are not {self.parts} equal parts")
        return super().compare(student, teacher)


class QuadraticMemory(Sound):
    """All pairs of samples, feature by feature."""

    name = "quadratic-memory"
    caught_by = "memory-growth"
    warns = True

    def follow(self, student: Outputs, teacher: Outputs) -> Tensor:
        own, theirs = self.adapter(student.embedding).float(), teacher.embedding.float()
        return F.mse_loss(own[:, None] - own[None, :], theirs[:, None] - theirs[None, :])


class NoCard(Sound):
    name = "no-card"
    caught_by = "card"


class NoPaper(Sound):
    """The divergence."""

    name = "no-paper"
    paper = None
    caught_by = "card"


class WrongExample(Sound):
    """The divergence.

    Example:
        >>> 1 + 1
        3
    """

    name = "wrong-example"
    caught_by = "examples"


class ClaimsZero(Sound):
    """A random adapter is not at its target where the networks are equal."""

    name = "claims-zero"
    zero_when_equal = True
    caught_by = "zero-when-equal"


class ClaimsPositive(Sound):
    """It leaves the teacher's entropy out, with the wrong sign."""

    name = "claims-positive"
    caught_by = "non-negative"

    def compare(self, student: Outputs, teacher: Outputs) -> Tensor:
        return (teacher.logits.float().softmax(dim=1) * student.logits.float().log_softmax(dim=1)).sum(dim=1).mean()


class ClaimsSymmetry(Sound):
    """The divergence."""

    name = "claims-symmetry"
    symmetric = True
    caught_by = "argument-order"


class ReducesTheBatch(Sound):
    """What it keeps of the teacher is centred over the batch."""

    name = "reduces-the-batch"
    caught_by = "reduce"

    def reduce(self, teacher: Outputs) -> Outputs:
        centred = teacher.embedding - teacher.embedding.mean(dim=0)
        return Outputs({"logits": teacher.logits, "embedding": centred})


class PredictsAlone(Sound):
    """What the student needs in order to predict stays behind."""

    name = "predicts-alone"
    caught_by = "predict"

    def build(self, setup: Setup) -> None:
        super().build(setup)
        self.shift = nn.Parameter(torch.zeros(setup.num_classes))

    def predict(self, student: Outputs) -> Tensor:
        return student.logits + self.shift


class TwoTermsInOne(Sound):
    """A term is a vector."""

    name = "two-terms-in-one"
    caught_by = "terms"

    def follow(self, student: Outputs, teacher: Outputs) -> Tensor:
        return (self.adapter(student.embedding).float() - teacher.embedding.float()).square().mean(dim=1)


class IdleSignal(Sound):
    """It asks for stages and does not look at them."""

    name = "idle-signal"
    signals = ("logits", "embedding", "stages")
    caught_by = "signals"
    warns = True


class MissingLogarithm(Sound):
    """The divergence of probabilities from probabilities, averaged over the classes too."""

    name = "missing-logarithm"
    caught_by = "terms"
    non_negative = False

    def compare(self, student: Outputs, teacher: Outputs) -> Tensor:
        return F.kl_div(student.logits.float().softmax(dim=1), teacher.logits.float().softmax(dim=1))


class RefusesAll(Sound):
    """It refuses every pair when it is called."""

    name = "refuses-all"
    caught_by = "terms"

    def compare(self, student: Outputs, teacher: Outputs) -> Tensor:
        raise PairError("these two do not fit")


class SaysNothing(Sound):
    """It asks for the teacher and gives no term."""

    name = "says-nothing"
    caught_by = "terms"

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        return {}


class LateSum(Sound):
    """A sum over the batch that begins at the end of the training."""

    name = "late-sum"
    caught_by = "batch-size"

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        terms = super().forward(student, teacher, batch)
        return terms if batch.progress < 0.9 else {**terms, "late": len(batch.labels) * terms["kd"]}


class DividesTwice(Sound):
    """A mean over the batch, divided by the batch once more."""

    name = "divides-twice"
    caught_by = "batch-size"

    def compare(self, student: Outputs, teacher: Outputs) -> Tensor:
        return super().compare(student, teacher) / len(student.logits)


class MemoryByRow(Sound):
    """Its memory of the teacher is found by the row, and not by the sample."""

    name = "memory-by-row"
    caught_by = "batch-order"
    also = frozenset({"partial-batch"})

    def build(self, setup: Setup) -> None:
        super().build(setup)
        self.register_buffer("memory", torch.zeros(setup.num_samples, setup.teacher.embedding))

    def follow(self, student: Outputs, teacher: Outputs) -> Tensor:
        rows = len(teacher.embedding)
        with torch.no_grad():
            self.memory[:rows] = 0.5 * self.memory[:rows] + 0.5 * teacher.embedding.float()
        return F.mse_loss(self.adapter(student.embedding).float(), self.memory[:rows].clone())


class RefusesItsRange(Sound):
    """It refuses most values of its own search range."""

    name = "refuses-its-range"
    caught_by = "search-space"
    stage: int = param(0, "which stage", ge=0, search=(0, 40))

    def build(self, setup: Setup) -> None:
        if self.stage >= len(setup.teacher.stages):
            raise PairError(f"there is no stage {self.stage}")
        super().build(setup)


class AdapterInAnObject(Sound):
    """Its adapter is an attribute of a plain object."""

    name = "adapter-in-an-object"
    caught_by = "registered"
    also = frozenset({"float64", "checkpoint", "resume"})

    def build(self, setup: Setup) -> None:
        self.parts = SimpleNamespace(adapter=nn.Linear(setup.student.embedding, setup.teacher.embedding))
        self.register_buffer("seen", torch.zeros(setup.num_samples))

    def follow(self, student: Outputs, teacher: Outputs) -> Tensor:
        return F.mse_loss(self.parts.adapter(student.embedding).float(), teacher.embedding.float())


class FrozenAdapter(Sound):
    """Its adapter is random and never trained."""

    name = "frozen-adapter"
    caught_by = "registered"
    warns = True

    def build(self, setup: Setup) -> None:
        super().build(setup)
        self.adapter.requires_grad_(False)


class WritesToTheBatch(Sound):
    """It changes the sample numbers."""

    name = "writes-to-the-batch"
    caught_by = "gradient-teacher"

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        terms = super().forward(student, teacher, batch)
        batch.index.zero_()
        return terms


class ClaimsModeSeeking(Sound):
    """It claims what releases it from a check, and is not so."""

    name = "claims-mode-seeking"
    caught_by = "argument-order"
    warns = True
    mode_seeking = True


class ClaimsOrder(Sound):
    """It claims to depend on the order, and does not."""

    name = "claims-order"
    caught_by = "batch-order"
    warns = True
    order_dependent = True


class PairwiseMemory(Sound):
    """All pairs of samples: a matrix of B x B."""

    name = "pairwise-memory"
    caught_by = "memory-growth"
    warns = True

    def follow(self, student: Outputs, teacher: Outputs) -> Tensor:
        own, theirs = self.adapter(student.embedding).float(), teacher.embedding.float()
        return F.mse_loss(torch.tanh(own @ own.T), torch.tanh(theirs @ theirs.T))


class PairsOfClasses(Sound):
    """All pairs of classes, for each sample."""

    name = "pairs-of-classes"
    caught_by = "thousand-classes"
    warns = True

    def compare(self, student: Outputs, teacher: Outputs) -> Tensor:
        own, theirs = student.logits.float().softmax(dim=1), teacher.logits.float().softmax(dim=1)
        return (own[:, :, None] * own[:, None, :] - theirs[:, :, None] * theirs[:, None, :]).square().sum((1, 2)).mean()


class LabelsTwice(Sound):
    """It adds the hard-label loss, which the engine adds too."""

    name = "labels-twice"
    caught_by = "labels-once"
    warns = True

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        hard = F.cross_entropy(student.logits.float(), batch.labels)
        return super().forward(student, teacher, batch) | {"labels": 0.1 * hard}


class BareNorm(Sound):
    """It divides by a norm that may be 0."""

    name = "bare-norm"
    caught_by = "degenerate"

    def follow(self, student: Outputs, teacher: Outputs) -> Tensor:
        own, theirs = self.adapter(student.embedding).float(), teacher.embedding.float()
        return F.mse_loss(own / own.norm(dim=1, keepdim=True), theirs / theirs.norm(dim=1, keepdim=True))


class DeadParameter(Sound):
    """Nothing reads one of its parameters."""

    name = "dead-parameter"
    caught_by = "parameters"
    warns = True

    gamma: float = param(0.5, "read by nobody", ge=0.0, search=(0.1, 1.0))


class SameSizes(Sound):
    """It takes maps to be of one size."""

    name = "same-sizes"
    signals = ("logits", "embedding", "stages")
    caught_by = "unequal-sizes"

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        terms = super().forward(student, teacher, batch)
        for own, theirs in self.setup.stage_pairs:
            maps = [one.float().square().mean(dim=1) for one in (student.stages[own], teacher.stages[theirs])]
            terms[f"stage {own}"] = F.mse_loss(*maps)
        return terms


class AsItLies(Sound):
    """It takes the maps as they lie in memory."""

    name = "as-it-lies"
    signals = ("logits", "embedding", "stages")
    caught_by = "channels-last"
    also = frozenset({"non-contiguous"})

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        own = student.stages[0].float()
        first = own.as_strided((len(own), own[0].numel() // 2), (own[0].numel(), 1))
        return super().forward(student, teacher, batch) | {"first half": first.abs().mean()}


class ForgetsAPhase(Sound):
    """What its first phase remembers is a plain attribute that is gone when the phase ends."""

    name = "forgets-a-phase"
    caught_by = "resume"

    def phases(self, epochs: int) -> tuple[Phase, ...]:
        return Phase("first", epochs // 2), Phase("second", epochs - epochs // 2)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        terms = super().forward(student, teacher, batch)
        if batch.phase == "second":
            self.steps = 0
            return terms
        self.steps = getattr(self, "steps", 0) + 1
        return {name: term / (1 + self.steps) for name, term in terms.items()}


class Slow(Sound):
    """It takes its time, in its first phase only."""

    name = "slow"
    caught_by = "step-cost"
    warns = True

    def phases(self, epochs: int) -> tuple[Phase, ...]:
        return Phase("first", epochs // 2), Phase("second", epochs - epochs // 2)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        if batch.phase == "first" and len(batch.labels) == BATCH:
            time.sleep(0.3)
        return super().forward(student, teacher, batch)


class ShrinkingMaps(Sound):
    """It pools by the factor between its stages, as if the last were always smaller than the first."""

    name = "shrinking-maps"
    signals = ("logits", "embedding", "stages")
    caught_by = "vit-from-cnn"

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        first, last = student.stages[0].float(), student.stages[-1].float()
        factor = first.shape[-1] // last.shape[-1]
        if factor < 2:
            raise ValueError(f"pooling by {factor} leaves no smaller map")
        drop = F.avg_pool2d(first.mean(dim=1, keepdim=True), factor).mean() - last.mean()
        return super().forward(student, teacher, batch) | {"drop": drop.square()}


def all_broken() -> list[type[Sound]]:
    """Every strategy of this file with a mistake."""
    found = [each for each in globals().values() if isinstance(each, type) and issubclass(each, Sound)]
    return [each for each in found if each.caught_by]
