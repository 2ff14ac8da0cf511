"""What a strategy comes to in a process of its own: digests of its state and of its terms.

Run by :mod:`kdzoo.testing.processes` with a request on stdin; the last line of stdout is the answer, both in JSON.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import sys
import warnings
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from kdzoo.combine import combine
from kdzoo.strategy import Strategy
from kdzoo.testing.moments import MOMENTS
from kdzoo.testing.subject import Subject


def digests(subject: Subject) -> dict[str, str]:
    """What must be the same in every process, by what it is: order and content of the state, and the usual terms."""
    call = subject.usual
    state = call.strategy.state_dict()
    found = {"the order of its parameters and buffers": " ".join(state)}
    found |= {name: _digest(value) for name, value in state.items() if isinstance(value, Tensor)}
    return found | {f"the term {name}": value.hex() for name, value in call.values.items()}


def _digest(tensor: Tensor) -> str:
    flat = tensor.detach().cpu().flatten().contiguous()
    return hashlib.sha256(flat.view(torch.uint8).numpy().tobytes()).hexdigest()[:16]


def answer(request: dict[str, Any]) -> dict[str, Any]:
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
        return {"found": digests(subject)}
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


def main() -> None:
    """Answer the request."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    print("\n" + json.dumps(answer(json.load(sys.stdin))))
