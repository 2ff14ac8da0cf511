"""Checks that train: real networks, the engine's own loop, its checkpoints, its teacher."""

from __future__ import annotations

from collections.abc import Callable

from kdzoo.errors import PairError
from kdzoo.testing.check import Check, Verdict, failed, passed, warned
from kdzoo.testing.cost import COST
from kdzoo.testing.processes import OTHER_PROCESS
from kdzoo.testing.resuming import CHECKPOINT, RESUME
from kdzoo.testing.subject import Subject
from kdzoo.testing.training import CNN, PAIRS, VIT, Trained, first_difference, teacher_of


def _two_epochs(subject: Subject) -> Verdict:
    try:
        pair = subject.trainings.pair
    except PairError as error:
        return warned(f"nothing is trained, as it refuses every pair of the tiny networks: {error}")
    done = subject.trainings.whole
    first, last = done.training.curve[0], done.training.curve[-1]
    where = "" if pair in PAIRS[:2] else f" of {pair[0]}, taught by {pair[1]}"
    phases = len({first.phase, last.phase})
    told = f"{len(done.training.curve)} epochs{where} in {phases} phase(s); at the end {_end(done)}"
    gentler = subject.trainings.gentler(*pair)
    return warned(f"{told}; {gentler}: its terms or their gradients may be large") if gentler else passed(told)


def _end(done: Trained) -> str:
    """The terms of the last epoch in words."""
    return ", ".join(f"{name} {value:.4g}" for name, value in done.training.curve[-1].terms.items())


def _bf16_training(subject: Subject) -> Verdict:
    trainings = subject.trainings
    told = _end(trainings.train(*trainings.pair, precision="bf16"))
    gentler = trainings.gentler(*trainings.pair, precision="bf16")
    return passed(f"{told}, {gentler}" if gentler else told)


def _again(subject: Subject) -> Verdict:
    again = subject.trainings.train(*subject.trainings.pair)
    told = first_difference(subject.trainings.whole.outcome, again.outcome)
    return failed(f"the same training twice: {told}") if told else passed("weights and curves are equal bit for bit")


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
        trainings = subject.trainings
        same = (student, teacher) == trainings.pair
        return passed(_end(trainings.whole if same else trainings.train(student, teacher)))

    return run


TRAINING = (
    Check(
        name="two-epochs",
        verifies="a tiny CNN taught by another trains through the engine for two epochs, or as many as the phases "
        "need; where CNNs are refused, a tiny ViT taught by a ViT, by which the training's other checks go too; a "
        "warning where every pair is refused, or where the student diverges and it takes a tenth of the learning rate",
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
    OTHER_PROCESS,
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
    CHECKPOINT,
    RESUME,
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
        verifies="the training runs in bfloat16 with finite terms, if need be at a tenth of the learning rate",
        matters="adapters meet half-precision signals there, and a loss that dies ends the training",
        mend="as for `bf16`; compute under autocast, or convert signals to the adapter's own type",
        run=_bf16_training,
        needs=("two-epochs",),
    ),
    COST,
)
"""In the order in which they run."""
