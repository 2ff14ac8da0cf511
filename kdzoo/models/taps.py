"""The one place that knows timm's feature interface: any timm model, in any role, gives the signals asked of it."""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from kdzoo.declarations import SIGNALS, Signal, Signature, StageShape
from kdzoo.errors import PairError, UsageError
from kdzoo.models.images import shown
from kdzoo.models.watching import (
    ActivationPlace,
    entering_activations,
    entering_layers,
    find_activation,
    leaving_layers,
    watching,
)
from kdzoo.outputs import Classifier, Outputs, PreActivation

ISOTROPIC_STAGES = 4
"""Blocks that stand for the stages of a network whose maps all have one resolution."""


class TappedModel(nn.Module):
    """A timm model behind taps: images in, the asked signals out, in one pass.

    Stages are outputs of timm's ``forward_intermediates``, without the final norm (``norm=False``), so that every map
    is what its block gives to the next one. A hierarchical network gives the last map of each reduction; one whose
    reductions are all equal (ViT, mixer) gives four evenly spaced blocks, the last one included, prefix tokens dropped.

    The embedding is what enters the last linear layer, dropout included where timm puts it before that layer. Where a
    network averages several heads with inputs of their own (distilled DeiT, CrossViT), it is their concatenation, so
    that ``logits = embedding @ weight.T + bias`` holds for every network that has a ``classifier``.

    The map before a stage's activation is what enters the activation module whose output is the stage's map. A map that
    no such module gives (a sum of residuals, a linear bottleneck, tokens, a map that is pooled behind its activation)
    stands for itself.

    Args:
        model: a network made by timm; its ``state_dict`` is what is saved.
        mean: of each channel, for images in [0, 1].
        std: of each channel, likewise.
        input_size: height and width that the network expects, pixels; other images are resized.
        crop: share of an image's height and width, around its middle, that the network sees: as timm does, the image
            is brought to ``input_size / crop``, and its middle is cut out.
        interpolation: of the resizing: ``nearest``, ``bilinear`` or ``bicubic``, the latter two antialiased.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        input_size: tuple[int, int],
        crop: float = 1.0,
        interpolation: str = "bilinear",
    ) -> None:
        super().__init__()
        self.model = model
        self.input_size, self.crop, self.interpolation = input_size, crop, interpolation
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)
        heads = last_layers(model)
        self._heads, self._names = tuple(heads.values()), tuple(heads)
        infos: Any = getattr(model, "feature_info", ())
        self._stages = _stage_indices([info["reduction"] for info in infos])
        self._signature: Signature | None = None
        self._before: tuple[ActivationPlace | None, ...] = ()
        self._sources: tuple[int, ...] = ()
        self._head_sees_map = False
        self._needs_values = False

    def forward(self, inputs: Tensor, signals: Collection[Signal]) -> Outputs:
        """Run the network once.

        Args:
            inputs: B x C x H x W images in [0, 1], of any size.
            signals: what to give; with ``{"logits"}`` alone the cost is that of the plain network.

        Returns:
            Exactly the asked signals.

        Raises:
            PairError: ``classifier`` is asked of a network whose logits are not one linear layer of its embedding, or
                ``heads`` of one that has several and does not average them.
        """
        wanted = set(signals)
        if unknown := wanted.difference(SIGNALS):
            raise UsageError(f"unknown signals {sorted(unknown)}; known: {', '.join(SIGNALS)}")
        values: dict[str, Any] = {"classifier": self.classifier()} if "classifier" in wanted else {}
        if wanted - {"classifier"}:
            images = self._convert(inputs)
            several = "heads" in wanted and len(self._names) > 1
            entering, leaving = self._heads if "embedding" in wanted else (), self._heads if several else ()
            with entering_layers(entering) as entered, leaving_layers(leaving) as left:
                values |= self._run(images, wanted)
            if "embedding" in wanted:
                values["embedding"] = self._join(entered)
            if "heads" in wanted:
                values["heads"] = self._apart(left) if several else (values["logits"],)
        return Outputs({name: values[name] for name in SIGNALS if name in wanted})

    def _convert(self, images: Tensor) -> Tensor:
        return shown(images, self.input_size, self.crop, self.interpolation).sub(self.mean).div_(self.std)

    def _run(self, images: Tensor, wanted: set[Signal]) -> dict[str, Any]:
        model: Any = self.model
        if "pre_stages" in wanted:
            self.signature()  # finds the activations
            taps = [
                None if before is None else (model.get_submodule(before.activation), before.call)
                for before in self._before
            ]
            with entering_activations([tap[0] for tap in taps if tap]) as entered:
                values = self._run(images, wanted - {"pre_stages"} | {"stages"})
            pairs = zip(taps, values["stages"], strict=True)
            return values | {"pre_stages": tuple(entered[tap[0]][tap[1]] if tap else own for tap, own in pairs)}
        if "stages" not in wanted:
            return {"logits": model(images)}
        indices = list(self._stages)
        if wanted.isdisjoint({"logits", "embedding", "heads"}):
            maps = model.forward_intermediates(images, indices=indices, output_fmt="NCHW", intermediates_only=True)
            return {"stages": tuple(maps)}
        features, maps = model.forward_intermediates(images, indices=indices, output_fmt="NCHW")
        self._head_sees_map = features is maps[-1]
        return {"stages": tuple(maps), "logits": model.forward_head(features)}

    def _join(self, entered: Sequence[Tensor]) -> Tensor:
        """The inputs of the heads side by side, each once: averaged heads may share theirs."""
        self._sources = tuple(next(i for i, other in enumerate(entered) if other is each) for each in entered)
        parts = [_pooled(entered[i]) for i in dict.fromkeys(self._sources)]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def _apart(self, left: Sequence[Tensor]) -> tuple[Tensor, ...]:
        if _mixes_heads_otherwise(self.model):
            raise PairError(f"the logits of {type(self.model).__name__} are not the mean of its heads")
        return tuple(left)

    def classifier(self) -> Classifier:
        """The last linear layer, live: ``logits = embedding @ weight.T + bias``.

        Averaged heads (distilled networks) are joined into the one layer that they amount to.

        Raises:
            PairError: the logits are not one linear layer of the embedding.
        """
        if _mixes_heads_otherwise(self.model):
            raise PairError(f"{type(self.model).__name__} has no single last linear layer before its logits")
        if len(self._heads) == 1:
            return Classifier(self._heads[0].weight.flatten(1), self._heads[0].bias)
        self.signature()  # finds which heads share an input
        columns: dict[int, list[Tensor]] = {}
        for head, source in zip(self._heads, self._sources, strict=True):
            columns.setdefault(source, []).append(head.weight.flatten(1))
        biases = [head.bias for head in self._heads if head.bias is not None]
        count = len(self._heads)
        weight = torch.cat([torch.stack(each).sum(0) for each in columns.values()], dim=1) / count
        return Classifier(weight, torch.stack(biases).sum(0) / count if biases else None)

    def pre_activations(self) -> tuple[PreActivation | None, ...]:
        """Of each stage, what stands before the activation whose output is its map; None where none gives it.

        Detached copies. The batch normalisation is the one that ran between the activation and the one before it, in
        the same block, a shortcut's own left aside (as OFD's authors take it: the shortcut is not part of the margin).
        """
        self.signature()
        return tuple(None if before is None else before.norm_in(self.model, self.mean) for before in self._before)

    def signature(self) -> Signature:
        """The shapes of the signals for one image; found once, without computing where the network allows that.

        Raises:
            UsageError: the network does not give one row of logits per image.
        """
        if self._signature is None:
            twin, out = self._trace(self.input_size, {"logits", "stages", "embedding"})
            self._sources, self._before = twin._sources, twin._before
            width = sum(self._heads[i].weight.shape[1] for i in set(self._sources))
            if not isinstance(out.logits, Tensor) or out.logits.ndim != 2 or out.embedding.shape[1:] != (width,):
                raise UsageError(f"{type(self.model).__name__} does not give one row of logits per image")
            stages = tuple(StageShape(*fmap.shape[1:]) for fmap in out.stages)
            pools = twin._head_pools(stages[-1])
            self._signature = Signature(stages, width, out.logits.shape[1], pools, self._names)
        return self._signature

    def _head_pools(self, shape: StageShape) -> bool:
        """Whether the head averages the last map over its positions; asked of a copy that was run.

        The head is given a map of numbers. A copy without values of weights can only bring it to the last layer where
        nothing but pooling lies before that; what comes out is compared with the mean.
        """
        if len(self._heads) != 1 or not self._head_sees_map or _mixes_heads_otherwise(self.model):
            return False
        device = "cpu" if self.mean.is_meta else self.mean.device
        # Larger than the map, which may have a single position: there, every pooling is a mean.
        size = (1, shape.channels, shape.height + 1, shape.width + 2)
        fmap = torch.arange(math.prod(size), dtype=torch.float32, device=device).sin().view(size)
        timm_model: Any = self.model
        # A copy without values stops at the last layer at the latest, a head for maps of one size before it.
        stopped = suppress(RuntimeError, AssertionError)
        with torch.no_grad(), entering_layers(self._heads) as entered, stopped:
            timm_model.forward_head(fmap)
        mean, found = fmap.mean(dim=(2, 3)), entered[0]
        if found.device != mean.device or found.numel() != mean.numel():
            return False
        return torch.allclose(found.flatten(), mean.flatten(), atol=1e-5)

    def trace(self, size: tuple[int, int], signals: Collection[Signal]) -> Outputs:
        """The signals of one blank image of the given size, in eval mode: right shapes, no values to be used.

        They are meta tensors, unless the network asks for values on its way (Gemma 4) and must run for real. It is a
        copy that runs: no buffer, cache or mode of this network changes.
        """
        return self._trace(size, signals)[1]

    def _trace(self, size: tuple[int, int], signals: Collection[Signal]) -> tuple[TappedModel, Outputs]:
        if self._needs_values:
            return copy.deepcopy(self).eval()._run_blank(size, signals)
        # What deepcopy finds in its memo it does not copy: the twin comes without a second set of weights.
        tensors = [*self.parameters(), *self.buffers()]
        memo: dict[int, Any] = {id(tensor): torch.empty_like(tensor, device="meta") for tensor in tensors}
        try:
            return copy.deepcopy(self, memo).eval()._run_blank(size, signals)
        except (RuntimeError, NotImplementedError):  # what fails for another reason fails again, with that reason
            self._needs_values = True
            return self._trace(size, signals)

    def _run_blank(self, size: tuple[int, int], signals: Collection[Signal]) -> tuple[TappedModel, Outputs]:
        image = self.mean.new_zeros(1, self.mean.numel(), *size)
        # Fused attention kernels are unknown to flop counters; the plain one falls apart into matrix products.
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), watching(self.model) as events:
            outputs: Outputs = self(image, signals)
        self._before = tuple(find_activation(fmap, events) for fmap in outputs.values.get("stages", ()))
        return self, outputs


def last_layers(model: nn.Module) -> dict[str, nn.Linear | nn.Conv2d]:
    """The layers that give class scores, by name; several in networks with more than one head.

    Raises:
        UsageError: there is none, as in networks that only encode.
    """
    timm_model: Any = model
    heads = timm_model.get_classifier() if hasattr(model, "get_classifier") else ()
    parts = set(heads) if isinstance(heads, (tuple, list)) else {heads}
    inside = {module for part in parts if isinstance(part, nn.Module) for module in part.modules()}
    found = {
        name: module
        for name, module in model.named_modules()
        if module in inside
        and isinstance(module, (nn.Linear, nn.Conv2d))
        and module.weight.shape[0] == timm_model.num_classes
    }
    if not found:
        raise UsageError(f"{type(model).__name__} only encodes images: it has no classifier")
    return found


def _pooled(entered: Tensor) -> Tensor:
    """A head's input as B x D; CLIP's attention pooling puts all tokens through its last layer and keeps the first."""
    return entered[:, 0] if entered.ndim == 3 else entered.flatten(1)


def _mixes_heads_otherwise(model: nn.Module) -> bool:
    """Whether the heads are combined otherwise than by their mean: EfficientViM learns weights, VOLO adds a maximum."""
    return getattr(model, "aux_head", None) is not None or isinstance(getattr(model, "weights", None), nn.Parameter)


def _stage_indices(reductions: Sequence[int]) -> tuple[int, ...]:
    """Which of timm's intermediates are stages, given how many pixels each of their cells spans.

    Raises:
        UsageError: there is none.
    """
    count = len(reductions)
    if not count:
        raise UsageError("timm gives no feature maps of this model")
    if len(set(reductions)) > 1:
        return tuple(sorted({reduction: i for i, reduction in enumerate(reductions)}.values()))
    wanted = min(count, ISOTROPIC_STAGES)
    return tuple(count * (k + 1) // wanted - 1 for k in range(wanted))
