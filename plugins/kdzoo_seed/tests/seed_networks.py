"""The shapes of a CNN and of a ViT."""

from __future__ import annotations

from kdzoo import Signature, StageShape

CNN = Signature(stages=(StageShape(8, 8, 8), StageShape(16, 4, 4)), embedding=16, num_classes=3)
VIT = Signature(stages=(StageShape(12, 4, 4),) * 4, embedding=12, num_classes=3)
