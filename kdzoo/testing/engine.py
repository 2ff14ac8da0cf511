"""Checks that train: real networks, the engine's own loop, its checkpoints, its teacher."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from kdzoo.engine.devices import seed_everything
from kdzoo.engine.train import Training
from kdzoo.strategy import Batch, Outputs, Phase, Strategy, Terms
from kdzoo.testing.check import Check, Verdict, failed, passed, warned
from kdzoo.testing.state import plain_state, same
from kdzoo.testing.subject import Subject
from kdzoo.testing.training import BATCH, CNN, CPU, VIT, first_difference, phases_of, teacher_of

DEAR = 5.0
"""Times a step of the student alone; beyond, a warning."""


def _two_epochs(subject: Subject) -> Verdict:
    done = subject.trainings.whole
    first, last = done.training.curve[0], done.training.curve[-1]
    terms = ", ".join(f"{name} {value:.4g}" for name, value in last.terms.items())
    return passed(f"{len(done.training.curve)} epochs in {len({first.phase, last.phase})} phase(s); at the end {terms}")


def _bf16_training(subject: Subject) -> Verdict:
    curve = subject.trainings.train(CNN, subject.trainings.teacher, precision="bf16").training.curve
    return passed(", ".join(f"{name} {value:.4g}" for name, value in curve[-1].terms.items()))


def _again(subject: Subject) -> Verdict:
    again = subject.trainings.train(CNN, subject.trainings.teacher)
    told = first_difference(subject.trainings.whole.outcome, again.outcome)
    return failed(f"the same training twice: {told}") if told else passed("weights and curves are equal bit for bit")


def _resume(subject: Subject) -> Verdict:
    whole = subject.trainings.whole
    phases = phases_of(whole.training)
    for phase in phases:
        last = max(number for number, (each, _) in enumerate(whole.training.plan) if each == phase)
        if told := first_difference(whole.outcome, subject.trainings.killed(last).outcome):
            return failed(f"after a kill in the last epoch{_named(phase, phases)}: {told}")
    each = "" if len(phases) == 1 else f" of each of its {len(phases)} phases"
    return passed(f"killed in the last epoch{each} and taken up, weights and curves are equal bit for bit")


def _named(phase: Phase, phases: Sequence[Phase]) -> str:
    return f" of the phase {phase.name!r}" if len(phases) > 1 else ""


def _checkpoint(subject: Subject) -> Verdict:
    live = subject.trainings.whole.training
    with tempfile.TemporaryDirectory() as folder:
        restored = subject.trainings.begin(CNN, subject.trainings.teacher, Path(folder))
    restored.distiller.load_state_dict(live.distiller.state_dict())
    # A value that each step makes anew is no state, so both take a step before they are compared.
    phase = phases_of(live)[-1]
    restored.start_phase(phase)
    terms = [_step(training, phase) for training in (live, restored)]
    before, after = (plain_state(training.strategy) for training in (live, restored))
    lost = [name for name in before if name not in after or not same(before[name], after[name])]
    if lost:
        return failed(f"what {', '.join(lost)} held in training is not in the checkpoint")
    for name, value in terms[0].items():
        if not torch.equal(value.detach(), terms[1][name].detach()):
            other = float(terms[1][name])
            return failed(f"{name} is {float(value):.6g} in training and {other:.6g} from the checkpoint")
    counts = f"{len(list(live.strategy.parameters()))} parameters, {len(list(live.strategy.buffers()))} buffers"
    return passed(f"{counts}, and nothing beside them that changed")


def _step(training: Training, phase: Phase) -> Terms:
    """One step of a phase that was started, on the first batch, without the optimizer."""
    batches = training.data.train_batches(
        training.recipe, view=0, order_seed=1, device=CPU, views=training.strategy.views
    )
    batch = replace(next(batches), phase=phase.name, progress=0.9)
    seed_everything(99)
    training.set_modes(phase)
    training.optimizer.zero_grad()
    terms = training.model(batch, training.source.open(phase, 0)(batch), phase.hard_labels)
    training.strategy.gradients(terms, training.backward)
    return dict(terms)


def _teacher_untouched(subject: Subject) -> Verdict:
    done = subject.trainings.whole
    teacher = teacher_of(done.training)
    if done.awake:
        return failed(
            f"{len(done.awake)} modules of the teacher were in train mode after a step, among them "
            f"{sorted(done.awake)[-1]!r}"
        )
    told = first_difference(done.teacher, dict(teacher.state_dict()))
    if told:
        return failed(f"after the training, the teacher's {told}")
    for name, parameter in teacher.named_parameters():
        if parameter.requires_grad or parameter.grad is not None:
            return failed(f"the teacher's {name} asks for gradients, or has one")
    return passed(f"{len(done.teacher)} parameters and buffers are equal bit for bit, and all modules in eval mode")


def _adapters(subject: Subject) -> Verdict:
    done = subject.trainings.whole
    strategy = done.strategy
    if left := sorted(done.started - done.reached):
        return failed(f"no gradient arrives in {', '.join(left)} in any phase")
    if not done.started:
        return passed("it trains nothing of its own")
    count = sum(parameter.numel() for name, parameter in strategy.named_parameters() if name in done.started)
    return passed(f"in all {len(done.started)} tensors ({count:,} parameters)")


def _combination(student: str, teacher: str) -> Callable[[Subject], Verdict]:
    def run(subject: Subject) -> Verdict:
        curve = subject.trainings.train(student, teacher).training.curve
        return passed(", ".join(f"{name} {value:.4g}" for name, value in curve[-1].terms.items()))

    return run


class _Labels(Strategy):
    """The student alone, to compare costs with."""

    name = "labels-alone"
    teacher_signals = ()

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """No distillation terms."""
        return {}


def _cost(subject: Subject) -> Verdict:
    with tempfile.TemporaryDirectory() as folder:
        plain = subject.trainings.begin(CNN, subject.trainings.teacher, Path(folder), kind=_Labels)
        own = subject.trainings.begin(CNN, subject.trainings.teacher, Path(folder))
    phases = phases_of(own)
    (labels,) = phases_of(plain)
    plain.start_phase(labels)
    found, dear = [], False
    for phase in phases:
        own.start_phase(phase)
        whole, alone = _times(partial(_step, own, phase), partial(_step, plain, labels))
        dear |= whole > DEAR * alone
        found.append(
            f"{whole / alone:.2f} times that of labels alone{_named(phase, phases).replace(' of', ' in')} "
            f"({1e3 * whole:.1f} ms against {1e3 * alone:.1f} ms)"
        )
    told = f"a step at batch {BATCH}, the teacher's pass included, takes {', '.join(found)}"
    return warned(told) if dear else passed(told)


def _times(*steps: Callable[[], object]) -> Iterator[float]:
    """The shortest time of each, seconds; they take turns."""
    seconds: list[list[float]] = [[] for _ in steps]
    for _ in range(7):
        for step, taken in zip(steps, seconds, strict=True):
            began = time.perf_counter()
            step()
            taken.append(time.perf_counter() - began)
    return map(min, seconds)


TRAINING = (
    Check(
        name="two-epochs",
        verifies="a tiny CNN taught by another trains through the engine for two epochs, or as many as the phases need",
        matters="this is what a bench does",
        mend="read the error; a bench of this strategy puts it, with its traceback, into the record",
        run=_two_epochs,
        needs=("terms",),
    ),
    Check(
        name="training-again",
        verifies="the same training gives the same weights and curves when it is run twice",
        matters="others could not check a result that does not come again",
        mend="as for `repeatable`; also keep no state in the class or the module, where the next training finds it",
        run=_again,
        needs=("two-epochs", "repeatable"),
    ),
    Check(
        name="teacher-untouched",
        verifies="after the training the teacher's parameters and buffers are equal bit for bit and have no gradients, "
        "and its modules were in eval mode after every step",
        matters="a teacher in train mode gives other answers and moves its BatchNorm statistics: this has spoilt "
        "published numbers",
        mend="use the teacher's signals alone; do not write to `teacher.classifier`, which is the live layer",
        run=_teacher_untouched,
        needs=("two-epochs",),
    ),
    Check(
        name="checkpoint",
        verifies="a strategy made anew from the checkpoint holds what the trained one holds and gives the same terms",
        matters="a run that is killed and taken up goes on with an empty memory, and nobody sees it",
        mend="make memories buffers (`self.register_buffer`), or hand other state out in `get_extra_state` and take it "
        "up in `set_extra_state`; replace `persistent=False`",
        run=_checkpoint,
        needs=("two-epochs", "repeatable", "teacher-untouched"),
    ),
    Check(
        name="resume",
        verifies="a training that is killed in the last epoch of each phase, in one after another, and taken up by new "
        "objects ends in the same weights",
        matters="long trainings are killed; a resumed one must not be another experiment",
        mend="as for `checkpoint` and `repeatable`",
        run=_resume,
        needs=("two-epochs", "repeatable", "training-again", "checkpoint"),
    ),
    Check(
        name="gradient-adapters",
        verifies="a gradient arrives in every trained parameter of the strategy in some phase",
        matters="an adapter that stays random makes the student imitate noise, and its curve still falls",
        mend="make adapters in `build`, use each in `forward`, and not under no_grad; set `requires_grad_(False)` on "
        "what shall stay as it is",
        run=_adapters,
        needs=("two-epochs",),
    ),
    *(
        Check(
            name=f"{kinds[0]}-from-{kinds[1]}",
            verifies=f"a {kinds[0].upper()} taught by a {kinds[1].upper()} trains through the engine, or the pair is "
            "refused by a PairError",
            matters="maps of CNNs shrink from stage to stage, those of a ViT do not, and users pair them freely",
            mend="take shapes from `setup.paired_shapes()`, bring maps to one size, or raise `PairError` in `build`",
            run=_combination(*networks),
            needs=("two-epochs",),
        )
        for kinds, networks in (
            (("cnn", "vit"), (CNN, VIT)),
            (("vit", "cnn"), (VIT, CNN)),
            (("vit", "vit"), (VIT, VIT)),
        )
    ),
    Check(
        name="bf16-training",
        verifies="the training runs in bfloat16 with finite terms",
        matters="adapters meet half-precision signals there, and a loss that dies ends the training",
        mend="as for `bf16`; compute under autocast, or convert signals to the adapter's own type",
        run=_bf16_training,
        needs=("two-epochs",),
    ),
    Check(
        name="step-cost",
        verifies="the time of a step, in each phase, against that of a student trained on labels alone, on tiny "
        "networks; a warning beyond five times",
        matters="a gain that takes five times the time should be compared with five times the epochs",
        mend="look for loops over samples or pairs, copies to the CPU (`.item()`), and signals that are not needed",
        run=_cost,
        needs=("two-epochs",),
    ),
)
"""In the order in which they run."""
