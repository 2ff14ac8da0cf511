"""The teacher: frozen, whatever is done to the training around it; and several that teach as one."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Self

import torch
from torch import Tensor, nn

from kdzoo.declarations import Signal, Signature, shared_signature
from kdzoo.errors import PairError
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


class Committee(Teacher):
    """Several teachers that teach as one: its logits are the logarithm of the mean of their probabilities.

    Args:
        members: the teachers, at least two, each frozen.
    """

    def __init__(self, members: Sequence[Teacher]) -> None:
        nn.Module.__init__(self)
        self.members = nn.ModuleList(members)
        self._parts = tuple(self.modules())
        self.eval()

    @torch.no_grad()
    def forward(self, inputs: Tensor, signals: Collection[Signal]) -> Outputs:
        """The logits, if they are asked for.

        Raises:
            PairError: another signal is asked for.
        """
        refuse_beside_logits(signals)
        given = [member(inputs, {"logits"}).logits for member in self.members] if signals else []
        return Outputs({"logits": mean_logits(given)} if given else {})

    def signature(self) -> Signature:
        """The shapes of what several teachers share: the classes."""
        members = [each for each in self.members if isinstance(each, Teacher)]
        return shared_signature([member.signature() for member in members])

    def classifier(self) -> Classifier:
        """Several teachers have none.

        Raises:
            PairError: always.
        """
        refuse_beside_logits({"classifier"})
        raise AssertionError


def mean_logits(logits: Sequence[Tensor]) -> Tensor:
    """Logits whose softmax is the mean of the softmax of several: log(1/n sum_i softmax(logits_i)), at temperature 1.

    Finite for finite logits of any size. Half precision is computed in float32.

    Args:
        logits: B x classes of each.
    """
    wide = [each.float() if each.dtype in (torch.float16, torch.bfloat16) else each for each in logits]
    spread = torch.stack([each.log_softmax(dim=1) for each in wide])
    return spread.logsumexp(dim=0) - math.log(len(wide))


def refuse_beside_logits(signals: Collection[Signal]) -> None:
    """See that nothing else is asked of several teachers than logits, which have no other signals in common.

    Raises:
        PairError: something is.
    """
    if others := sorted({"logits", *signals} - {"logits"}):
        raise PairError(
            f"it needs the teacher's {' and '.join(others)}, and several teachers give only the mean of their "
            "probabilities: take one teacher, or a strategy that needs logits alone"
        )
