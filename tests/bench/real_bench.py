"""The real command line, in processes that may be killed."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

OPTIONS = shlex.split(
    "--strategies soft,fitnets --teacher test_efficientnet --student test_resnet --seeds 1 --epochs 3 "
    "--dataset 'digits[:120]' --img-size 16 --teacher-epochs 8 --device cpu "
    "--set recipe.batch_size=16 --set recipe.lr=0.02"
)
"""One teacher and three students, a second each."""


def start(out: Path) -> subprocess.Popen[str]:
    """Start ``kdzoo bench`` in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", "from kdzoo.cli import main; main()", "bench", *OPTIONS, "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )


def events(out: Path) -> list[dict[str, Any]]:
    """What the store's log tells so far."""
    path = out / "events.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
