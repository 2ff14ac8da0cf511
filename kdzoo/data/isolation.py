"""A stretch of code with random states of its own, for libraries that draw from the global ones."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def isolated_random(seed: int) -> Iterator[None]:
    """Seed Python's, NumPy's and torch's CPU random states inside, and put back the former ones after.

    Args:
        seed: any whole number; its lowest 64 bits count (32 for NumPy's legacy state).
    """
    python, legacy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        random.seed(seed % 2**64)
        np.random.seed(seed % 2**32)
        # torch.manual_seed would seed the accelerators too.
        torch.default_generator.manual_seed(seed % 2**63)
        yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)
        torch.set_rng_state(cpu)
