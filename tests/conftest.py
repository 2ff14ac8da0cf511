"""What holds for all tests."""

from __future__ import annotations

import os

# Small tensors gain nothing from threads, and idle ones that spin slow down whatever else the machine does.
# Set before torch is imported, and inherited by every process that a test starts.
os.environ["OMP_NUM_THREADS"] = "1"
