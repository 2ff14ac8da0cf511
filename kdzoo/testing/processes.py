"""The check that a strategy is the same in every process: Python orders its sets anew in each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from kdzoo.strategy import Strategy
from kdzoo.testing.check import Check, Verdict, failed, passed, skipped
from kdzoo.testing.elsewhere import digests
from kdzoo.testing.subject import Subject, parts_of

RUNS = {"1": False, "2": True}
"""PYTHONHASHSEED of another process -> whether a strategy of another seed is made and called there before."""

PATIENCE = 300
"""Seconds that they may take."""

_PROGRAM = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from kdzoo.testing.elsewhere import main; main()"


def _other_process(subject: Subject) -> Verdict:
    places = [_place(kind) for kind in parts_of(subject.kind)]
    if hidden := next((each for each in places if each["module"] == "__main__" or "<" in each["name"]), None):
        return skipped(f"another process cannot import {hidden['name']}: define it in a module, outside of functions")
    own = digests(subject)
    for (seed, after), answer in zip(RUNS.items(), _answers({"kinds": places, "params": subject.params}), strict=True):
        where = f"with PYTHONHASHSEED={seed}, in another process{', after one of another seed' if after else ''}"
        if "lost" in answer:
            return skipped(f"another process cannot import it: {answer['lost']}")
        if "error" in answer:
            return failed(f"{where}, {answer['error']}")
        theirs = answer["found"]
        if told := next((name for name in {**own, **theirs} if own.get(name) != theirs.get(name)), ""):
            kept = ", or what the first strategy of a process leaves in its class or module" if after else ""
            return failed(f"{where}, {told} differs: a set or hash() may be behind it{kept}")
    return passed(f"the same in {len(RUNS)} other processes")


def _place(kind: type[Strategy]) -> dict[str, str]:
    """Where another process finds a class."""
    file = getattr(sys.modules[kind.__module__], "__file__", None)
    return {"module": kind.__module__, "file": file or "", "name": kind.__qualname__}


def _answers(request: dict[str, Any]) -> list[dict[str, Any]]:
    """What processes with these seeds answer; they run side by side."""
    running = []
    for seed in RUNS:
        quiet = {"PYTHONHASHSEED": seed, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", _PROGRAM, json.dumps(sys.path)]
        pipe = subprocess.PIPE
        running.append(
            subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env={**os.environ, **quiet})
        )
    try:
        asked = [json.dumps(request | {"after_another": after}) for after in RUNS.values()]
        said = [process.communicate(text, timeout=PATIENCE) for process, text in zip(running, asked, strict=True)]
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


OTHER_PROCESS = Check(
    name="other-process",
    verifies="built and called in two other processes, in which Python iterates over sets in other orders "
    "(PYTHONHASHSEED), it has the same parameters and buffers in the same order and gives the same terms, in one of "
    "them after a strategy of another seed",
    matters="each run has an order of its own: what is made in it is another experiment in each process, and a run "
    "that is killed is taken up by another process",
    mend="iterate over lists, tuples and dicts, or over `sorted(names)`; derive no number from `hash(text)`; keep what "
    "is drawn in a buffer of the strategy, not in a dict of its class or module",
    run=_other_process,
    needs=("terms", "repeatable"),
)
