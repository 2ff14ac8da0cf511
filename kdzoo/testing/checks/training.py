"""Checks that train: real networks, the engine's own loop, its checkpoints, its teacher."""

from __future__ import annotations

import pickle
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from kdzoo.declarations import Phase
from kdzoo.engine.checkpoint import Checkpoints
from kdzoo.errors import PairError
from kdzoo.testing.kit import Check, CheckResult, failed, passed, warned
from kdzoo.testing.kit.instruments import first_difference, one_step, plain_state, same
from kdzoo.testing.kit.subject import Subject
from kdzoo.testing.kit.trainings import CNN, CPU, PAIRS, VIT, Trained, phases_of, teacher_of


def _two_epochs(subject: Subject) -> CheckResult:
    try:
        pair = subject.trainings.pair
    except PairError as error:
        return warned(f"nothing is trained, as it refuses every pair of the tiny networks: {error}")
    done = subject.trainings.whole
    first, last = done.training.curve[0], done.training.curve[-1]
    where = "" if pair in PAIRS[:2] else f" of {pair[0]}, taught by {pair[1]}"
    phases = len({first.phase, last.phase})
    message = f"{len(done.training.curve)} epochs{where} in {phases} phase(s); at the end {_end(done)}"
    gentler = subject.trainings.gentler(*pair)
    return warned(f"{message}; {gentler}: its terms or their gradients may be large") if gentler else passed(message)


def _end(done: Trained) -> str:
    """The terms of the last epoch in words."""
    return ", ".join(f"{name} {value:.4g}" for name, value in done.training.curve[-1].terms.items())


def _bf16_training(subject: Subject) -> CheckResult:
    trainings = subject.trainings
    message = _end(trainings.train(*trainings.pair, precision="bf16"))
    gentler = trainings.gentler(*trainings.pair, precision="bf16")
    return passed(f"{message}, {gentler}" if gentler else message)


def _teacher_untouched(subject: Subject) -> CheckResult:
    done = subject.trainings.whole
    teacher = teacher_of(done.training)
    if done.awake:
        return failed(
            f"{len(done.awake)} modules of the teacher were in train mode after a step, among them "
            f"{sorted(done.awake)[-1]!r}"
        )
    message = first_difference(done.teacher, dict(teacher.state_dict()))
    if message:
        return failed(f"after the training, the teacher's {message}")
    for name, parameter in teacher.named_parameters():
        if parameter.requires_grad or parameter.grad is not None:
            return failed(f"the teacher's {name} asks for gradients, or has one")
    return passed(f"{len(done.teacher)} parameters and buffers are equal bit for bit, and all modules in eval mode")


def _adapters(subject: Subject) -> CheckResult:
    done = subject.trainings.whole
    strategy = done.training.strategy
    if left := sorted(done.started - done.reached):
        return failed(f"no gradient arrives in {', '.join(left)} in any phase")
    if not done.started:
        return passed("it trains nothing of its own")
    count = sum(parameter.numel() for name, parameter in strategy.named_parameters() if name in done.started)
    return passed(f"in all {len(done.started)} tensors ({count:,} parameters)")


def _combination(student: str, teacher: str) -> Callable[[Subject], CheckResult]:
    def run(subject: Subject) -> CheckResult:
        trainings = subject.trainings
        same = (student, teacher) == trainings.pair
        return passed(_end(trainings.whole if same else trainings.train(student, teacher)))

    return run


_KIND = re.compile(r"GLOBAL ([\w.]+)")


def _checkpoint(subject: Subject) -> CheckResult:
    live = subject.trainings.whole.training
    with tempfile.TemporaryDirectory() as folder:
        restored = subject.trainings.begin(*subject.trainings.pair, Path(folder))
        # Through a file, as in a training: what is only handed over would be one object in both.
        checkpoints = Checkpoints(Path(folder))
        checkpoints.save(1, {"distiller": live.distiller.state_dict()})
        try:
            state = checkpoints.load(CPU)
        except pickle.UnpicklingError as error:
            return failed(_unreadable(error))
    assert state is not None
    restored.distiller.load_state_dict(state["distiller"])
    # A value that each step makes anew is no state, so both take a step before they are compared.
    phase = phases_of(live)[-1]
    restored.start_phase(phase)
    terms = [one_step(training, phase) for training in (live, restored)]
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


def _unreadable(error: Exception) -> str:
    """Why torch refuses to read a checkpoint, in other words."""
    kind = _KIND.search(str(error))
    held = f"a {kind[1]}" if kind else "something"
    return (
        f"get_extra_state gives {held} that no checkpoint can be read with: give tensors, numbers, texts, and lists, "
        "tuples and dicts of them"
    )


def _resume(subject: Subject) -> CheckResult:
    whole = subject.trainings.whole
    phases = phases_of(whole.training)
    kills = []
    for phase in phases:
        last = max(number for number, (each, _) in enumerate(whole.training.plan) if each == phase)
        where = f"in the last epoch{_named(phase, phases)}"
        if last == 0:
            # A training that is killed before its first checkpoint begins anew, which would show nothing.
            last, where = 1, f"right after the only epoch{_named(phase, phases)}"
        if difference := first_difference(whole.outcome, subject.trainings.killed(last).outcome):
            return failed(f"after a kill {where}: {difference}")
        kills.append(where)
    return passed(f"killed {', '.join(kills)} and resumed, weights and curves are equal bit for bit")


def _named(phase: Phase, phases: Sequence[Phase]) -> str:
    return f" of the phase {phase.name!r}" if len(phases) > 1 else ""


TWO_EPOCHS = Check(
    name="two-epochs",
    verifies="a tiny CNN taught by another trains through the engine for two epochs, or as many as the phases "
    "need; where CNNs are refused, a tiny ViT taught by a ViT, by which the training's other checks go too; a "
    "warning where every pair is refused, or where the student diverges and it takes a tenth of the learning rate",
    matters="this is what a bench does",
    mend="read the error; a bench of this strategy records it with its traceback",
    run=_two_epochs,
    needs=("terms",),
)


TEACHER_UNTOUCHED = Check(
    name="teacher-untouched",
    verifies="after the training the teacher's parameters and buffers are equal bit for bit and have no gradients, "
    "and its modules were in eval mode after every step",
    matters="a teacher in train mode has different outputs and changes its BatchNorm statistics: this has "
    "affected published numbers",
    mend="use the teacher's signals alone; do not write to `teacher.classifier`, which is the live layer",
    run=_teacher_untouched,
    needs=("two-epochs",),
)


GRADIENT_ADAPTERS = Check(
    name="gradient-adapters",
    verifies="a gradient arrives in every trained parameter of the strategy in some phase",
    matters="with an adapter that stays random the student imitates noise, and the loss still falls",
    mend="make adapters in `build`, use each in `forward`, and not under no_grad; set `requires_grad_(False)` on "
    "constants",
    run=_adapters,
    needs=("two-epochs",),
)

OTHER_PAIRS = tuple(
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
)


BF16_TRAINING = Check(
    name="bf16-training",
    verifies="the training runs in bfloat16 with finite terms, if need be at a tenth of the learning rate",
    matters="adapters get half-precision signals there, and a loss that fails stops the training",
    mend="as for `bf16`; compute under autocast, or convert signals to the adapter's own type",
    run=_bf16_training,
    needs=("two-epochs",),
)


CHECKPOINT = Check(
    name="checkpoint",
    verifies="a new strategy loaded from the checkpoint has the same state as the trained strategy and gives the "
    "same terms",
    matters="a resumed run would silently continue with an empty memory",
    mend="make memories buffers (`self.register_buffer`), or save other state in `get_extra_state` and load it in "
    "`set_extra_state`; replace `persistent=False`",
    run=_checkpoint,
    needs=("two-epochs", "repeatable", "teacher-untouched"),
)


RESUME = Check(
    name="resume",
    verifies="a training that is killed in the last epoch of each phase in turn, and resumed with new objects, "
    "ends in the same weights; right after a first phase of one epoch, which has no checkpoint before its end",
    matters="long trainings are killed; a resumed one must not be another experiment",
    mend="as for `checkpoint` and `repeatable`",
    run=_resume,
    needs=("two-epochs", "repeatable", "training-again", "checkpoint"),
)
