"""Checks that a training which was killed goes on as if it had not been."""

from __future__ import annotations

import pickle
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from kdzoo.engine.checkpoint import Checkpoints
from kdzoo.strategy import Phase
from kdzoo.testing.check import Check, Verdict, failed, passed
from kdzoo.testing.state import plain_state, same
from kdzoo.testing.stepping import step
from kdzoo.testing.subject import Subject
from kdzoo.testing.training import CPU, first_difference, phases_of

_KIND = re.compile(r"GLOBAL ([\w.]+)")


def _checkpoint(subject: Subject) -> Verdict:
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
    terms = [step(training, phase) for training in (live, restored)]
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


def _resume(subject: Subject) -> Verdict:
    whole = subject.trainings.whole
    phases = phases_of(whole.training)
    told = []
    for phase in phases:
        last = max(number for number, (each, _) in enumerate(whole.training.plan) if each == phase)
        where = f"in the last epoch{_named(phase, phases)}"
        if last == 0:
            # A training that is killed before its first checkpoint begins anew, which would show nothing.
            last, where = 1, f"right after the only epoch{_named(phase, phases)}"
        if difference := first_difference(whole.outcome, subject.trainings.killed(last).outcome):
            return failed(f"after a kill {where}: {difference}")
        told.append(where)
    return passed(f"killed {', '.join(told)} and taken up, weights and curves are equal bit for bit")


def _named(phase: Phase, phases: Sequence[Phase]) -> str:
    return f" of the phase {phase.name!r}" if len(phases) > 1 else ""


CHECKPOINT = Check(
    name="checkpoint",
    verifies="a strategy made anew from the checkpoint holds what the trained one holds and gives the same terms",
    matters="a run that is killed and taken up goes on with an empty memory, and nobody sees it",
    mend="make memories buffers (`self.register_buffer`), or hand other state out in `get_extra_state` and take it up "
    "in `set_extra_state`; replace `persistent=False`",
    run=_checkpoint,
    needs=("two-epochs", "repeatable", "teacher-untouched"),
)

RESUME = Check(
    name="resume",
    verifies="a training that is killed in the last epoch of each phase, in one after another, and taken up by new "
    "objects ends in the same weights; right after a first phase of one epoch, which has no checkpoint before its end",
    matters="long trainings are killed; a resumed one must not be another experiment",
    mend="as for `checkpoint` and `repeatable`",
    run=_resume,
    needs=("two-epochs", "repeatable", "training-again", "checkpoint"),
)
