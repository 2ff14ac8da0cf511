"""The real command line, in processes that may be killed."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import waiting

OPTIONS = shlex.split(
    "--strategies soft,fitnets --teacher test_efficientnet --student test_resnet --seeds 1 --epochs 3 "
    "--dataset 'digits[:120]' --img-size 16 --teacher-epochs 8 --device cpu "
    "--set recipe.batch_size=16 --set recipe.lr=0.02"
)
"""One teacher and three students, a second each."""


def start(out: Path) -> subprocess.Popen[str]:
    """Start ``kdzoo bench`` in a session of its own."""
    return waiting.start(sys.executable, "-m", "kdzoo", "bench", *OPTIONS, "--out", out)


def events(out: Path) -> list[dict[str, Any]]:
    """What the store's log tells so far."""
    path = out / "events.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
