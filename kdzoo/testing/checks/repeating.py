"""Checks that the same seed gives the same terms: at once, in a training, and in another process."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import math
import os
import random
import subprocess
import sys
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kdzoo.combination import parts_of
from kdzoo.combining import combine
from kdzoo.strategy import Strategy
from kdzoo.testing.kit import Check, CheckResult, failed, passed, skipped, warned
from kdzoo.testing.kit.instruments import first_difference, same
from kdzoo.testing.kit.subject import MOMENTS, Subject
from kdzoo.testing.kit.synthetic import NO_TERMS

_GENERATORS: dict[str, Callable[[], object]] = {
    "torch": torch.random.get_rng_state,
    "numpy": np.random.get_state,
    "Python": random.getstate,
}
"""Whose global generator -> how to read its state."""


def _repeatable(subject: Subject) -> CheckResult:
    for seed in range(2):
        one, other = subject.call(seed=seed).values, subject.call(seed=seed).values
        if one != other:
            name = next(name for name in one if one[name] != other.get(name))
            return failed(f"with the same seed {name} is {one[name]:.8g} and then {other.get(name, math.nan):.8g}")
    setup = subject.pair().setup(subject.kind)
    if whose := _seeded(lambda seed: subject.build(setup, seed=seed)):
        return failed(
            f"build sets the seed of {whose}'s global generator: its adapters start alike whatever the seed of the "
            "training"
        )
    if whose := _seeded(lambda seed: subject.call(seed=seed)):
        return failed(f"it sets the seed of {whose}'s global generator, whose numbers then repeat at every step")
    return passed("bit for bit with the same seed" + ("; it draws from the global generators" if subject.draws else ""))


def _seeded(run: Callable[[int], object]) -> str:
    """Whose generator is in one state after ``run`` with different seeds; empty where none is."""
    after: list[dict[str, object]] = []
    for seed in range(2):
        run(seed)
        after.append({whose: state() for whose, state in _GENERATORS.items()})
    return next((whose for whose in _GENERATORS if same(after[0][whose], after[1][whose])), "")


def _stochastic(subject: Subject) -> CheckResult:
    if not subject.gives_terms:
        return skipped(NO_TERMS)
    claimed = subject.kind.stochastic
    if not subject.draws:
        if claimed:
            return warned("stochastic is claimed, and the terms are the same whatever is drawn: drop the claim")
        return passed("nothing is drawn at a step")
    if claimed:
        return passed("its terms depend on what is drawn at each step, as claimed (stochastic)")
    modules = subject.usual.strategy.modules()
    if any(isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0 for module in modules):
        return passed("its terms depend on its dropout modules")
    return failed(
        f"on the same batch and the same state {_drawn(subject)}: forward draws random numbers at each call, as where "
        "a projection or an adapter is made there instead of in build; if masks, negatives or the like shall be new at "
        "each step, claim stochastic = True"
    )


def _drawn(subject: Subject) -> str:
    """The terms under two seeds, in words."""
    one, other = subject.usual.values, subject.call(seed=1).values
    for name, value in one.items():
        if value != other.get(name):
            return f"{name} is {value:.6g} at one call and {other.get(name, 0.0):.6g} at another"
    return "the gradients of two calls differ"


def _again(subject: Subject) -> CheckResult:
    again = subject.trainings.train(*subject.trainings.pair)
    message = first_difference(subject.trainings.whole.outcome, again.outcome)
    return (
        failed(f"the same training twice: {message}") if message else passed("weights and curves are equal bit for bit")
    )


_RUNS = {"1": False, "2": True}
"""PYTHONHASHSEED of another process -> whether a strategy of another seed is made and called there before."""

_PATIENCE = 300
"""Seconds that they may take."""

_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from kdzoo.testing.checks.repeating import answer_stdin; answer_stdin()"
)


def _other_process(subject: Subject) -> CheckResult:
    places = [_place(kind) for kind in parts_of(subject.kind)]
    if hidden := next((each for each in places if each["module"] == "__main__" or "<" in each["name"]), None):
        return skipped(f"another process cannot import {hidden['name']}: define it in a module, outside of functions")
    own = _digests(subject)
    for (seed, after), answer in zip(_RUNS.items(), _answers({"kinds": places, "params": subject.params}), strict=True):
        where = f"with PYTHONHASHSEED={seed}, in another process{', after one of another seed' if after else ''}"
        if "lost" in answer:
            return skipped(f"another process cannot import it: {answer['lost']}")
        if "error" in answer:
            return failed(f"{where}, {answer['error']}")
        theirs = answer["found"]
        if different := next((name for name in {**own, **theirs} if own.get(name) != theirs.get(name)), ""):
            kept = ", or what the first strategy of a process leaves in its class or module" if after else ""
            return failed(f"{where}, {different} differs: a set or hash() may be behind it{kept}")
    return passed(f"the same in {len(_RUNS)} other processes")


def _place(kind: type[Strategy]) -> dict[str, str]:
    """Where another process finds a class."""
    file = getattr(sys.modules[kind.__module__], "__file__", None)
    return {"module": kind.__module__, "file": file or "", "name": kind.__qualname__}


def _answers(request: dict[str, Any]) -> list[dict[str, Any]]:
    """What processes with these seeds answer; they run side by side."""
    running = []
    for seed in _RUNS:
        quiet = {"PYTHONHASHSEED": seed, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", _PROGRAM, json.dumps(sys.path)]
        pipe = subprocess.PIPE
        running.append(
            subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env={**os.environ, **quiet})
        )
    try:
        asked = [json.dumps(request | {"after_another": after}) for after in _RUNS.values()]
        said = [process.communicate(text, timeout=_PATIENCE) for process, text in zip(running, asked, strict=True)]
    finally:
        for process in running:
            process.kill()
    return [_read(*each) for each in said]


def _read(stdout: str, stderr: str) -> dict[str, Any]:
    """The last line, as the strategy's own modules may print too."""
    try:
        answer: dict[str, Any] = json.loads(stdout.splitlines()[-1])
    except (IndexError, ValueError):
        return {"error": f"it ended without an answer: {' '.join(stderr.split())[-300:]}"}
    return answer


def _digests(subject: Subject) -> dict[str, str]:
    """What must be the same in every process, by what it is: order and content of the state, and the usual terms."""
    call = subject.usual
    state = call.strategy.state_dict()
    found = {"the order of its parameters and buffers": " ".join(state)}
    found |= {name: _digest(value) for name, value in state.items() if isinstance(value, Tensor)}
    return found | {f"the term {name}": value.hex() for name, value in call.values.items()}


def _digest(tensor: Tensor) -> str:
    flat = tensor.detach().cpu().flatten().contiguous()
    return hashlib.sha256(flat.view(torch.uint8).numpy().tobytes()).hexdigest()[:16]


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    """``found`` with the digests, ``lost`` where the class is not found, or ``error`` where the strategy fails."""
    try:
        kinds = [_find(**place) for place in request["kinds"]]
    except Exception as error:
        return {"lost": f"{type(error).__name__}: {error}"}
    try:
        kind = kinds[0] if len(kinds) == 1 else combine(kinds, [each.revision for each in kinds])
        subject = Subject(kind, request["params"])
        if request["after_another"]:
            _another(subject)
        return {"found": _digests(subject)}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


def _another(subject: Subject) -> None:
    """Another training in the same process, with another seed: a bench has many."""
    pair = subject.pair()
    strategy = subject.build(pair.setup(subject.kind), seed=99)
    # Named, since what is asked for else is looked up by calls with the usual seed, which would come before.
    subject.call(pair, strategy=strategy, seed=99, moment=MOMENTS[0])


def _find(module: str, file: str, name: str) -> type[Strategy]:
    found: Any = _module(module, file)
    for part in name.split("."):
        found = getattr(found, part)
    kind: type[Strategy] = found
    return kind


def _module(name: str, file: str) -> ModuleType:
    """The module of that name, or what a file holds that was loaded under that name and that nobody else can import."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        spec = importlib.util.spec_from_file_location(name, file)
        if error.name != name or spec is None or spec.loader is None:
            raise
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def answer_stdin() -> None:
    """Answer the request."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    print("\n" + json.dumps(_answer(json.load(sys.stdin))))


REPEATABLE = Check(
    name="repeatable",
    verifies="two fresh strategies give bit for bit the same terms from the same seed, and neither `build` nor "
    "`forward` sets a seed itself, be it torch's, numpy's or Python's",
    matters="a result that changes from run to run cannot be checked by others, nor can a killed run be resumed; "
    "a seed set in `build` gives runs of different seeds the same start, and too small a spread",
    mend="draw from torch's global generator (`torch.randint`, `torch.rand`), which is seeded for each epoch; set no "
    "seed, make no generator of your own, read no clock, iterate over no set",
    run=_repeatable,
    needs=("terms",),
)


STOCHASTIC = Check(
    name="stochastic",
    verifies="two calls on the same batch and the same state give the same terms and gradients, unless "
    "`stochastic` is claimed or the strategy has dropout modules; a warning if it is claimed but not true",
    matters="a projection that is drawn at each step is a new target at each step, which no student can follow",
    mend="draw in `build`, and keep the result by `self.register_buffer(name, tensor)`; or claim `stochastic = True`",
    run=_stochastic,
    needs=("terms", "repeatable"),
)


TRAINING_AGAIN = Check(
    name="training-again",
    verifies="the same training gives the same weights and curves when it is run twice",
    matters="a result that cannot be repeated cannot be checked",
    mend="as for `repeatable`; also keep no state in the class or the module, where the next training finds it",
    run=_again,
    needs=("two-epochs", "repeatable"),
)


OTHER_PROCESS = Check(
    name="other-process",
    verifies="built and called in two other processes, in which Python iterates over sets in other orders "
    "(PYTHONHASHSEED), it has the same parameters and buffers in the same order and gives the same terms, in one of "
    "them after a strategy of another seed",
    matters="every process has another order, so results differ between processes, and a killed run is resumed by "
    "another process",
    mend="iterate over lists, tuples and dicts, or over `sorted(names)`; derive no number from `hash(text)`; keep what "
    "is drawn in a buffer of the strategy, not in a dict of its class or module",
    run=_other_process,
    needs=("terms", "repeatable"),
)
