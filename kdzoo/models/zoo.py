"""From a model's name to a network behind taps, or to one sentence that says why not."""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
from timm.data.config import resolve_data_config
from timm.models import parse_model_name, resolve_model_input_args
from torch.utils.flop_counter import FlopCounterMode

from kdzoo.declarations import Profile
from kdzoo.errors import UsageError, unknown
from kdzoo.models.folders import timm_name
from kdzoo.models.images import check_patches
from kdzoo.models.taps import TappedModel
from kdzoo.refs import DataRef, Input, ModelRef

_WRONG_ARGUMENT = re.compile(r"(an unexpected|multiple values for) keyword argument '(\w+)'")
_NOT_FROM_USERS = frozenset(
    {
        "aux_logits",
        "cache_dir",
        "checkpoint_path",
        "features_only",
        "fork_feat",
        "in_chans",
        "model_name",
        "num_classes",
        "out_indices",
        "pretrained",
        "pretrained_cfg",
        "pretrained_cfg_overlay",
        "pretrained_model_args",
        "return_interm_layers",
    }
)


_PLAIN = Input()


def check_model(ref: ModelRef) -> None:
    """Refuse a name that timm does not know, and arguments that are not the person's to set; nothing is built.

    Raises:
        UsageError: with the closest names or tags.
    """
    if taken := sorted(_NOT_FROM_USERS & set(ref.args)):
        raise UsageError(f"model {ref}: {', '.join(taken)} cannot be set as an argument of a model")
    try:
        source, name = parse_model_name(timm_name(ref))
    except ValueError as error:
        raise UsageError(
            f"unknown model {ref.name!r}; write hf-hub:{ref.name} for a model of the Hugging Face Hub, "
            f"or local-dir:{ref.name} for a folder"
        ) from error
    if source is not None:
        return  # a hub's or a folder's model: its files say what it is, when it is made
    base, dot, tag = name.partition(".")
    if not timm.is_model(base):
        raise UsageError(unknown("model", base, timm.list_models()))
    if dot and name not in (tagged := timm.list_models(f"{base}.*", include_tags=True)):
        raise UsageError(unknown(f"tag of {base}", tag, (each.partition(".")[2] for each in tagged)))


def names_weights(ref: ModelRef) -> bool:
    """Whether the name says which weights are meant: by a tag, as in ``resnet101.a1h_in1k``, or as a hub's model."""
    source, name = parse_model_name(timm_name(ref))
    return source is not None or "." in name


def pretrained_classes(ref: ModelRef) -> int | None:
    """The number of classes that timm's weights of this name were trained for; None where there are no weights.

    0 means weights without a classifier. Where it is not the dataset's count, those weights get a new, random head.

    Raises:
        UsageError: the name is unknown, or a hub's model cannot be looked up.
    """
    check_model(ref)
    config = _timm_arguments(ref, None)["pretrained_cfg"]
    sources = ("url", "file", "state_dict", "hf_hub_id")
    return int(config["num_classes"]) if any(config.get(key) for key in sources) else None


def timm_normalisation(ref: ModelRef, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel by which timm's weights of this name see images in [0, 1].

    Args:
        ref: the model.
        channels: of the images; where timm's weights have others, each value is the mean over theirs.

    Raises:
        UsageError: the name is unknown, or a hub's model cannot be looked up.
    """
    config = resolve_data_config(pretrained_cfg=_timm_arguments(ref, None)["pretrained_cfg"])  # type: ignore[no-untyped-call]
    return of_channels(config["mean"], channels), of_channels(config["std"], channels)


def plain_arguments(ref: ModelRef, data: DataRef, *, own_input: bool = False) -> dict[str, Any]:
    """What ``timm.create_model`` is called with, so that plain timm can load the saved weights.

    Args:
        ref: the model.
        data: the dataset, which sets the classes, the channels and, unless the model's arguments do, the size.
        own_input: whether the size is that of timm's weights instead of the dataset's.

    Raises:
        UsageError: the name is unknown, or an argument cannot be set.
    """
    arguments = _plan(ref, data, own_input).arguments
    if arguments["model_name"] == ref.name:
        return arguments
    # A folder's model is made elsewhere too, from what its config says: the folder's path is nobody else's.
    saved = _timm_arguments(ref, None)
    return {**saved.get("pretrained_model_args", {}), **arguments, "model_name": saved["model_name"]}


def create_model(
    ref: ModelRef,
    data: DataRef,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    pretrained: bool = False,
    own_input: bool | None = None,
    shown: Input | None = None,
    seen: float = 1.0,
) -> TappedModel:
    """Make a network for a dataset, random from torch's global generator unless ``pretrained``.

    Args:
        ref: the model; its ``img_size`` argument, of whatever model, is the size to which images are brought.
        data: the dataset.
        mean: of each channel of the dataset, for images in [0, 1].
        std: of each channel, likewise.
        pretrained: whether to load timm's weights. Where their classes are not the dataset's
            (:func:`pretrained_classes`) the head is new and random.
        own_input: whether images are converted to the size and normalisation of timm's weights; by default where
            those are loaded. For one input channel these are the means over the weights' channels.
        shown: how the network is shown images otherwise than the dataset would.
        seen: share of the originals' height and width that the dataset's images show, for ``shown.crop``.

    Raises:
        UsageError: timm refuses the name, an argument or the size, or the weights cannot be had.
    """
    plan = _plan(ref, data, pretrained if own_input is None else own_input, shown or _PLAIN, seen)
    if plan.own_input:
        mean, std = (of_channels(plan.config[key], data.channels) for key in ("mean", "std"))
    if shown:
        mean, std = shown.mean or mean, shown.std or std
    if not pretrained:
        return _checked(ref, plan, mean, std)
    # The hub's client tells of every retry; what matters is the one sentence at the end.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        return plan.make(mean, std, pretrained=True)
    except Exception as error:  # timm fetches in several ways, and each fails in its own
        _checked(ref, plan, mean, std)  # tells where it is not the weights that are wrong
        if timm_name(ref) != ref.name:
            raise UsageError(
                f"the weights of {ref} cannot be loaded ({_reason(error)}); its folder needs them as model.safetensors"
            ) from error
        raise UsageError(
            f"the pretrained weights of {ref} cannot be loaded ({_reason(error)}); connect to the network, "
            "or train the model, or give a file of weights"
        ) from error


@dataclass(frozen=True)
class _Plan:
    """timm's arguments, how images are brought to a size, and timm's data configuration of the weights."""

    arguments: dict[str, Any]
    size: tuple[int, int]
    config: dict[str, Any]
    own_input: bool
    crop: float
    interpolation: str

    def make(self, mean: Sequence[float], std: Sequence[float], *, pretrained: bool) -> TappedModel:
        model = timm.create_model(**self.arguments, pretrained=pretrained)
        tapped = TappedModel(model, mean, std, self.size, self.crop, self.interpolation)
        tapped.signature()  # a size that timm takes and cannot run shows here
        if self.size != tuple(self.config["input_size"][-2:]):  # the size of timm's weights is what it is
            check_patches(tapped)
        return tapped


def _plan(ref: ModelRef, data: DataRef, own_input: bool, shown: Input = _PLAIN, seen: float = 1.0) -> _Plan:
    check_model(ref)
    config = resolve_data_config(pretrained_cfg=_timm_arguments(ref, None)["pretrained_cfg"])  # type: ignore[no-untyped-call]
    height, width = config["input_size"][-2:] if own_input else shown.size or data.img_size
    if (asked := ref.args.get("img_size")) is not None:
        if type(asked) is not int or asked < 1:
            raise UsageError(f"model {ref}: img_size must be a whole number of pixels, not {asked!r}")
        height = width = asked
    arguments = {"model_name": timm_name(ref), "num_classes": data.num_classes, "in_chans": data.channels}
    if "img_size" in _timm_arguments(ref, (height, width)):
        arguments["img_size"] = (height, width)
    arguments |= {name: value for name, value in ref.args.items() if name != "img_size"}
    crop = shown.crop / seen if shown.crop else 1.0
    return _Plan(arguments, (height, width), config, own_input, crop, shown.interpolation or "bilinear")


def _checked(ref: ModelRef, plan: _Plan, mean: Sequence[float], std: Sequence[float]) -> TappedModel:
    try:
        return plan.make(mean, std, pretrained=False)
    except UsageError as error:
        raise UsageError(f"model {ref}: {error}") from error
    except Exception as error:  # timm's 1,300 models refuse what they cannot do by exceptions of every kind
        if isinstance(error, TypeError) and (match := _WRONG_ARGUMENT.search(str(error))):
            verb = "takes no" if match[1] == "an unexpected" else "fixes its"
            raise UsageError(f"timm's {ref.name} {verb} argument {match[2]!r}") from error
        height, width = plan.size
        own_size = plan.config["input_size"][-1]
        raise UsageError(
            f"timm refuses {ref} for {plan.arguments['in_chans']} x {height} x {width} images ({_reason(error)}); "
            f"change its arguments or --img-size, or have the images resized, as in {ref.name}:img_size={own_size}"
        ) from error


def _timm_arguments(ref: ModelRef, size: tuple[int, int] | None) -> dict[str, Any]:
    """timm's own reading of a model's arguments: ``img_size`` is there only where the model takes it."""
    args = {name: value for name, value in ref.args.items() if name != "img_size"}
    try:
        resolved: dict[str, Any] = resolve_model_input_args(timm_name(ref), {"img_size": size}, **args)
    except Exception as error:  # a hub's model is looked up here, and may be missing in many ways
        raise UsageError(f"the model {ref} cannot be looked up: {_reason(error)}") from error
    return resolved


def of_channels(values: Sequence[float], channels: int) -> tuple[float, ...]:
    """A mean or standard deviation for this many channels; from another count, the mean over those, as timm does."""
    if len(values) == channels:
        return tuple(values)
    return (sum(values) / len(values),) * channels


def _reason(error: Exception) -> str:
    """An exception in one line; a bare assertion is told by its source."""
    lines = str(error).strip().splitlines()
    if lines:
        return lines[0].rstrip(".:")
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "timm" in Path(frame.filename).parts]
    return f"{type(error).__name__}: {frames[-1].line}" if frames else type(error).__name__


def profile_model(tapped: TappedModel, data: DataRef) -> Profile:
    """Parameters of the plain network, and the MACs of one image of the dataset, in eval mode; see ``trace``."""
    tapped.signature()  # a network that must run for real is found out here, not while counting
    with FlopCounterMode(display=False) as counter:
        tapped.trace(data.img_size, {"logits"})
    return Profile(sum(p.numel() for p in tapped.model.parameters()), counter.get_total_flops() // 2)
