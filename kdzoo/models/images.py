"""How much of each image a network sees: its middle, brought to the network's size, and cut into whole patches."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch.nn.functional as F
from torch import Tensor, nn

from kdzoo.errors import UsageError

if TYPE_CHECKING:
    from kdzoo.models.taps import TappedModel


def shown(images: Tensor, size: tuple[int, int], crop: float, interpolation: str) -> Tensor:
    """What a network sees of images: as timm does, they are brought to ``size / crop``, and the middle is cut out.

    Args:
        images: B x C x H x W in [0, 1].
        size: height and width that the network expects, pixels.
        crop: share of an image's height and width that is left.
        interpolation: ``nearest``, ``bilinear`` or ``bicubic``, the latter two antialiased.

    Returns:
        B x C x height x width; the images themselves where they have that size.
    """
    height, width = size
    whole = math.floor(height / crop), math.floor(width / crop)
    if tuple(images.shape[-2:]) != whole:
        images = _resized(images, whole, interpolation)
    if whole != size:
        top, left = round((whole[0] - height) / 2), round((whole[1] - width) / 2)  # as torchvision rounds
        images = images[..., top : top + height, left : left + width]
    return images


def _resized(images: Tensor, size: tuple[int, int], interpolation: str) -> Tensor:
    if interpolation == "nearest":
        return F.interpolate(images, size=size, mode="nearest-exact")
    images = F.interpolate(images, size=size, mode=interpolation, align_corners=False, antialias=True)
    # Bicubic overshoots at edges, which images of whole numbers cannot.
    return images.clamp_(0, 1) if interpolation == "bicubic" else images


def check_patches(model: TappedModel) -> None:
    """Refuse a network that leaves out a part of each image.

    A patch embedding is a convolution over the image whose stride is its kernel; where the size is no multiple of the
    patch, it drops the rest without a word: at 28 pixels, patches of 16 see the first 16 of them, a third of the area.
    Networks that pad or resize the image before they cut it see all of it, and pass. Do not ask at the size of timm's
    own weights: some were trained so (SigLIP's at 384 with patches of 14).

    Args:
        model: the network at the size at which it gets its images.

    Raises:
        UsageError: a part would never be seen; the sentence has the share and the sizes that would do.
    """
    height, width = model.input_size
    suspects = [(layer, patch) for layer in model.modules() if (patch := _patch_of(layer, model.mean.numel()))]
    suspects = [(layer, patch) for layer, patch in suspects if height % patch[0] or width % patch[1]]
    if not suspects:
        return
    cut = {patch for layer, patch in suspects if _gets_the_image(layer, model)}
    if not cut:
        return
    rows, columns = min(cut)
    unseen = 1 - (height - height % rows) * (width - width % columns) / (height * width)
    sizes = [(height + -height % rows, width + -width % columns), (height - height % rows, width - width % columns)]
    fitting = " or ".join(_pixels(*size) for size in sizes if all(size))
    raise UsageError(
        f"patches of {rows} x {columns} pixels do not fill images of {height} x {width}, and the network would never "
        f"see {100 * unseen:.0f} % of each image; bring the images to {fitting} by the model's argument img_size or by "
        "--img-size, or give the model another patch_size if it takes one"
    )


def _patch_of(layer: nn.Module, channels: int) -> tuple[int, int] | None:
    """The patch of a layer that cuts images into patches that do not overlap; None of any other layer."""
    if not isinstance(layer, nn.Conv2d) or layer.in_channels != channels or layer.padding not in ((0, 0), "valid"):
        return None
    kernel: tuple[Any, ...] = layer.kernel_size
    return (kernel[0], kernel[1]) if kernel == layer.stride and kernel != (1, 1) else None


def _gets_the_image(layer: nn.Module, model: TappedModel) -> bool:
    """Whether what enters a layer has the size of the image, neither padded nor resized before."""
    sizes: list[tuple[int, ...]] = []

    def note(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        sizes.append(tuple(args[0].shape[-2:]))

    hook = layer.register_forward_pre_hook(note)  # the copy that is traced has it too
    try:
        model.trace(model.input_size, {"logits"})
    finally:
        hook.remove()
    return model.input_size in sizes


def _pixels(height: int, width: int) -> str:
    return str(height) if height == width else f"{height}x{width}"
