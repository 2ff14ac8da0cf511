"""What holds for all tests."""

from __future__ import annotations

import os

# Small tensors gain nothing from threads, and idle ones that spin slow down whatever else the machine does.
# Set before torch is imported, and inherited by every process that a test starts.
os.environ["OMP_NUM_THREADS"] = "1"

# Tables are as wide as in a file, wherever the tests run; pytest-xdist tells its workers the terminal's width.
os.environ.pop("COLUMNS", None)
