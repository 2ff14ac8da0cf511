"""The one place that knows timm's feature interface: any timm model, in any role, gives the signals asked of it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm

from kdzoo.declarations import SIGNALS, Signal, Signature, StageShape
from kdzoo.errors import PairError, UsageError
from kdzoo.outputs import Classifier, Outputs, PreActivation

ISOTROPIC_STAGES = 4
"""Blocks that stand for the stages of a network whose maps all have one resolution."""

SHORTCUTS = frozenset({"downsample", "shortcut", "skip", "conv_skip"})
"""Names that timm gives to what a block's input passes on its way around the block."""


@dataclass(frozen=True)
class _Before:
    """Where a stage's map comes from.

    Args:
        activation: name of the module whose output it is.
        call: in which of the module's calls in one pass.
        norm: name of the batch normalisation right before it; None where there is none, or more than one.
    """

    activation: str
    call: int
    norm: str | None


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
        self._before: tuple[_Before | None, ...] = ()
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
            with _entering(entering) as entered, _leaving(leaving) as left:
                values |= self._run(images, wanted)
            if "embedding" in wanted:
                values["embedding"] = self._join(entered)
            if "heads" in wanted:
                values["heads"] = self._apart(left) if several else (values["logits"],)
        return Outputs({name: values[name] for name in SIGNALS if name in wanted})

    def _convert(self, images: Tensor) -> Tensor:
        height, width = self.input_size
        whole = math.floor(height / self.crop), math.floor(width / self.crop)
        if tuple(images.shape[-2:]) != whole:
            images = _resized(images, whole, self.interpolation)
        if whole != self.input_size:
            top, left = round((whole[0] - height) / 2), round((whole[1] - width) / 2)  # as torchvision rounds
            images = images[..., top : top + height, left : left + width]
        return images.sub(self.mean).div_(self.std)

    def _run(self, images: Tensor, wanted: set[Signal]) -> dict[str, Any]:
        model: Any = self.model
        if "pre_stages" in wanted:
            self.signature()  # finds the activations
            taps = [
                None if before is None else (model.get_submodule(before.activation), before.call)
                for before in self._before
            ]
            with _before_activations([tap[0] for tap in taps if tap]) as entered:
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
        return tuple(None if before is None else self._norm(before.norm) for before in self._before)

    def _norm(self, name: str | None) -> PreActivation:
        if name is None:
            return PreActivation(None, None)
        norm: Any = self.model.get_submodule(name)
        weight, bias = norm.weight, norm.bias
        mean = norm.running_mean if norm.running_mean is not None else self.mean.new_zeros(norm.num_features)
        weight = torch.ones_like(mean) if weight is None else weight.detach().clone()
        return PreActivation(weight, torch.zeros_like(mean) if bias is None else bias.detach().clone())

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
        with torch.no_grad(), _entering(self._heads) as entered, stopped:
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
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), _watching(self.model) as events:
            outputs: Outputs = self(image, signals)
        self._before = tuple(_find_before(fmap, events) for fmap in outputs.values.get("stages", ()))
        return self, outputs


def _resized(images: Tensor, size: tuple[int, int], interpolation: str) -> Tensor:
    if interpolation == "nearest":
        return F.interpolate(images, size=size, mode="nearest-exact")
    images = F.interpolate(images, size=size, mode=interpolation, align_corners=False, antialias=True)
    # Bicubic overshoots at edges, which images of whole numbers cannot.
    return images.clamp_(0, 1) if interpolation == "bicubic" else images


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


@contextmanager
def _entering(layers: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """What enters each layer in the pass that runs meanwhile, in the order of the layers."""
    entered = [torch.empty(0)] * len(layers)

    def tap(i: int) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _, args: entered.__setitem__(i, args[0])

    hooks = [layer.register_forward_pre_hook(tap(i)) for i, layer in enumerate(layers)]
    try:
        yield entered
    finally:
        for hook in hooks:
            hook.remove()


def _is_activation(module: nn.Module) -> bool:
    home = type(module).__module__
    own = home == "torch.nn.modules.activation" or home.startswith("timm.layers.activations")
    return own and not isinstance(module, nn.MultiheadAttention)


@contextmanager
def _before_activations(activations: Sequence[nn.Module]) -> Iterator[dict[nn.Module, list[Tensor]]]:
    """What enters each activation in the pass that runs meanwhile, call by call.

    One that works in place is given a copy, or it would overwrite what is kept.
    """
    entered: dict[nn.Module, list[Tensor]] = {activation: [] for activation in activations}

    def keep(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        entered[module].append(args[0])
        return (args[0].clone(), *args[1:]) if getattr(module, "inplace", False) else None

    hooks = [activation.register_forward_pre_hook(keep) for activation in entered]
    try:
        yield entered
    finally:
        for hook in hooks:
            hook.remove()


@dataclass(frozen=True)
class _Event:
    """An activation or a batch normalisation that ran.

    Args:
        name: of the module.
        module: the module.
        output: what it gave; None for a normalisation, which is noted when it begins.
    """

    name: str
    module: nn.Module
    output: Tensor | None


@contextmanager
def _watching(model: nn.Module) -> Iterator[list[_Event]]:
    """The activations and batch normalisations of the pass that runs meanwhile, in their order."""
    events: list[_Event] = []

    def began(name: str) -> Callable[[nn.Module, Any], None]:
        return lambda module, args: events.append(_Event(name, module, None))

    def ended(name: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda module, args, output: events.append(_Event(name, module, output))

    hooks = []
    for name, module in model.named_modules():
        if _is_activation(module):
            hooks.append(module.register_forward_hook(ended(name)))
        elif isinstance(module, _BatchNorm):
            hooks.append(module.register_forward_pre_hook(began(name)))
    try:
        yield events
    finally:
        for hook in hooks:
            hook.remove()


def _find_before(fmap: Tensor, events: Sequence[_Event]) -> _Before | None:
    """Which activation gave a map, and which batch normalisation ran right before it."""
    place = next((i for i, event in enumerate(events) if event.output is fmap), None)
    if place is None:
        return None
    activation = events[place]
    call = sum(event.output is not None and event.module is activation.module for event in events[:place])
    block = activation.name.rpartition(".")[0]
    since = max((i + 1 for i, event in enumerate(events[:place]) if event.output is not None), default=0)
    norms = [event for event in events[since:place] if _in_path(event.name, block, fmap.shape[1], event.module)]
    return _Before(activation.name, call, norms[0].name if len(norms) == 1 else None)


def _in_path(name: str, block: str, channels: int, norm: Any) -> bool:
    """Whether a normalisation belongs to a block, and not to its shortcut."""
    inside = name == block or not block or name.startswith(f"{block}.")
    parts = name.removeprefix(block).strip(".").split(".")
    return inside and norm.num_features == channels and SHORTCUTS.isdisjoint(parts)


@contextmanager
def _leaving(layers: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """What each layer gives in the pass that runs meanwhile, in the order of the layers."""
    left = [torch.empty(0)] * len(layers)

    def tap(i: int) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda _, __, output: left.__setitem__(i, output)

    hooks = [layer.register_forward_hook(tap(i)) for i, layer in enumerate(layers)]
    try:
        yield left
    finally:
        for hook in hooks:
            hook.remove()
