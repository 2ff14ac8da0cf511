"""The teacher: frozen, whatever is done to the training around it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Self

import torch
from torch import Tensor, nn

from kdzoo.declarations import Signal, Signature
from kdzoo.models.memory_format import by_channels
from kdzoo.models.taps import TappedModel
from kdzoo.outputs import Classifier, Outputs, PreActivation


class Teacher(nn.Module):
    """A network that gives signals and never learns: no gradients, always in eval mode, its buffers never change.

    Args:
        model: the network behind its taps; its parameters stop requiring gradients.
    """

    def __init__(self, model: TappedModel) -> None:
        super().__init__()
        self.model = model.requires_grad_(False)
        # Convolutions in eval mode run 1.4 to 1.8 times as fast so (measured on small networks, CPU).
        by_channels(self.model)
        self._parts = tuple(model.modules())
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode, whatever ``mode`` says."""
        return super().train(False)

    # Not inference_mode: the signals enter the student's loss, and autograd refuses inference tensors there.
    @torch.no_grad()
    def forward(self, inputs: Tensor, signals: Collection[Signal]) -> Outputs:
        """The asked signals of B x C x H x W images in [0, 1]; see :class:`TappedModel`."""
        if any(part.training for part in self._parts):  # somebody reached past this module
            self.eval()
        outputs: Outputs = self.model(inputs, signals)
        return outputs

    def signature(self) -> Signature:
        """The shapes of the signals."""
        return self.model.signature()

    def classifier(self) -> Classifier:
        """A detached copy of the last linear layer.

        Raises:
            PairError: the logits are not one linear layer of the embedding.
        """
        weight, bias = self.model.classifier()
        return Classifier(weight.detach().clone(), None if bias is None else bias.detach().clone())

    def pre_activations(self) -> tuple[PreActivation | None, ...]:
        """Detached copies; see :meth:`TappedModel.pre_activations`."""
        return self.model.pre_activations()
