"""What holds for all tests."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Small tensors gain nothing from threads, and idle ones that spin slow down whatever else the machine does.
# Set before torch is imported, and inherited by every process that a test starts.
os.environ["OMP_NUM_THREADS"] = "1"

# Tables are as wide as in a file, wherever the tests run; pytest-xdist tells its workers the terminal's width.
os.environ.pop("COLUMNS", None)

sys.path.insert(0, str(Path(__file__).parent))

from waiting import end_all

# A shell starts what it puts in the background with Ctrl-C ignored. Tests that type it need it to arrive.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The hashes of files that datasets keep do not go into the home of whoever runs the tests."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def _nothing_is_left_running() -> Iterator[None]:
    """A test that fails ends no process by itself."""
    yield
    end_all()
