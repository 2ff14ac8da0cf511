"""Which checks the tests of the kit run."""

from __future__ import annotations

from kdzoo.testing import CHECKS
from kdzoo.testing.checks import GROUPS

SLOW = {"cnn-from-vit", "vit-from-cnn", "vit-from-vit", "bf16-training", "step-cost", "other-process"}
"""They say no more of a mistake than the training that the other checks look at, or are meant for a single one."""

QUICK = [check.name for check in CHECKS if check.name not in SLOW]
TRAINED = {check.name for check in GROUPS["Training"]}
UNTRAINED = [name for name in QUICK if name not in TRAINED]
