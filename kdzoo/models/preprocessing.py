"""How the network of a file of weights is shown images: what is stated of it, and what of that can be done here."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import timm
from timm.data.config import resolve_data_config

from kdzoo.errors import UsageError
from kdzoo.inputs import AskedInput, input_text
from kdzoo.models.weightfile import WeightFile
from kdzoo.models.zoo import of_channels
from kdzoo.refs import DataRef, Input, ModelRef

_KEYS = ("mean", "std", "size", "crop", "interpolation")
_NEAREST_KIND: dict[str, Literal["nearest", "bilinear", "bicubic"]] = {
    **{"nearest": "nearest", "bilinear": "bilinear", "bicubic": "bicubic"},
    **{"lanczos": "bicubic", "box": "bilinear", "hamming": "bilinear", "random": "bilinear"},
}
"""timm's interpolations, and which of those that there are for tensors comes closest."""


@dataclass(frozen=True)
class StatedInput:
    """What is known of a network's input.

    Args:
        values: by the names of :class:`~kdzoo.cell.Input`, unchecked; any may lack.
        source: where they stand, in words.
    """

    values: Mapping[str, Any]
    source: str


@dataclass(frozen=True)
class DatasetImages:
    """The images that a dataset gives.

    Args:
        ref: the dataset.
        mean, std: of its channels.
        seen: share of the originals' height and width that they show.
    """

    ref: DataRef
    mean: Sequence[float]
    std: Sequence[float]
    seen: float


def stated_input(file: WeightFile, model: ModelRef) -> StatedInput | None:
    """What a file tells, or else what stands beside it: kdzoo's header, the arguments of timm's training, or timm's
    ``config.json``; None where nothing does.

    Args:
        file: the file.
        model: the network, for timm's defaults of the model where its training was given no other values.

    Raises:
        UsageError: timm itself would refuse what is stated.
    """
    if {"mean", "std", "input_size"} <= file.header.keys():
        names = {"size": "input_size", "crop": "crop_pct"}
        found = {key: file.header.get(names.get(key, key)) for key in _KEYS}
        return StatedInput(found, f"the header of {file.path.name}")
    if file.timm_args:
        source, args = file.timm_args
        return StatedInput(_as_timm(args, _defaults(args["model"], model), source), source)
    if file.timm_config:
        source = f"config.json beside {file.path.name}"
        return StatedInput(_as_timm({}, file.timm_config, source), source)
    return None


def _defaults(name: Any, model: ModelRef) -> Mapping[str, Any]:
    for each in (name, model.name):
        if isinstance(each, str) and ":" not in each and timm.is_model(each.partition(".")[0]):
            try:
                config = timm.get_pretrained_cfg(each)
            except RuntimeError:  # a tag that this timm does not know
                continue
            if config is not None:
                return dict(config.to_dict())  # type: ignore[no-untyped-call]
    return {}


def _as_timm(args: Mapping[str, Any], config: Mapping[str, Any], source: str) -> dict[str, Any]:
    """What timm's training and validation make of arguments and a model's configuration."""
    given = {key: args.get(key) for key in ("in_chans", "chans", "input_size", "img_size", *_KEYS, "crop_pct")}
    try:
        found = resolve_data_config(given or None, pretrained_cfg=dict(config) or {"input_size": None})  # type: ignore[no-untyped-call]
        size = found["input_size"][-2:]
    except Exception as error:  # what is stated may be of any kind, and timm asserts
        raise UsageError(
            f"{source} cannot be understood ({type(error).__name__}); give --teacher-input rest=data"
        ) from error
    return {key: found.get({"crop": "crop_pct"}.get(key, key)) for key in _KEYS} | {"size": size}


def choose_input(
    asked: AskedInput | None, stated: StatedInput | None, model: ModelRef, images: DatasetImages, name: str
) -> tuple[Input | None, str]:
    """How a network is shown a dataset's images, and what a person should read of it.

    Args:
        asked: what the person asked for, which wins.
        stated: what is known of the file.
        model: the network; its own ``img_size`` stands.
        images: the dataset.
        name: what the file is called.

    Returns:
        What differs from the dataset's way, None where nothing does; and a line.

    Raises:
        UsageError: a value is impossible, or contradicts the model's arguments.
    """
    asked = asked or AskedInput()
    if stated and asked.rest == "data":
        stated = None
    sources = {key: "--teacher-input" for key in _KEYS if getattr(asked, key) is not None}
    values: dict[str, Any] = {key: getattr(asked, key) for key in sources}
    for key in _KEYS if stated else ():
        if key not in values and stated and stated.values.get(key) is not None:
            values[key], sources[key] = stated.values[key], stated.source
    remarks: list[str] = []
    own_size = model.args.get("img_size")
    if own_size is not None and "size" in values:
        if sources["size"] == "--teacher-input" and tuple(values["size"]) != (own_size, own_size):
            raise UsageError(f"--teacher-input size={values['size'][0]} contradicts {model}; leave one of them out")
        if tuple(values["size"]) != (own_size, own_size):
            remarks.append("the model's own img_size overrides its size")
        del values["size"], sources["size"]
    found = _typed(values, sources, images.ref.channels, remarks)
    size = found.size or ((own_size, own_size) if isinstance(own_size, int) else images.ref.img_size)
    crop = found.crop if found.crop and found.crop < images.seen else None
    if found.crop and found.crop > images.seen:
        remarks.append(
            f"crop {found.crop:.4g} cannot be shown, as the dataset's images are cropped to {images.seen:.4g}"
        )
    resized = crop is not None or size != images.ref.img_size
    if found.interpolation and found.interpolation != "bilinear" and not resized:
        remarks.append(
            f"interpolation {found.interpolation} is not used, as the dataset's images have that size already"
        )
    shown = Input(
        mean=None if found.mean is None or found.mean == short_numbers(images.mean) else found.mean,
        std=None if found.std is None or found.std == short_numbers(images.std) else found.std,
        size=None if found.size == images.ref.img_size else found.size,
        crop=crop,
        interpolation=found.interpolation if resized and found.interpolation != "bilinear" else None,
    )
    whole = Input(
        mean=found.mean or short_numbers(images.mean),
        std=found.std or short_numbers(images.std),
        size=size,
        crop=shown.crop,
        interpolation=shown.interpolation,
    )
    line = f"input {input_text(whole)} ({_sources(sources, asked, name)})"
    return None if shown == Input() else shown, "; ".join([line, *remarks])


def _typed(values: Mapping[str, Any], sources: Mapping[str, str], channels: int, remarks: list[str]) -> Input:
    """The values as they can be used; what is not possible here is replaced, and remarked.

    Raises:
        UsageError: they are no such values.
    """
    found: dict[str, Any] = {}
    for key, value in values.items():
        try:
            found[key] = _one(key, value, channels, remarks, strict=sources[key] == "--teacher-input")
        except (TypeError, ValueError, OverflowError):
            raise UsageError(
                f"{sources[key]}: {reprlib.repr(value)} cannot be the {key} of images; give --teacher-input {key}=..."
            ) from None
    return Input(**found)


def _one(key: str, value: Any, channels: int, remarks: list[str], *, strict: bool) -> Any:
    if key in ("mean", "std"):
        numbers = tuple(float(each) for each in (value if isinstance(value, (list, tuple)) else [value]))
        if not numbers or not all(np.isfinite(numbers)) or (key == "std" and min(numbers) <= 0):
            raise ValueError
        if strict and len(numbers) not in (1, channels):
            raise UsageError(
                f"--teacher-input {key} has {len(numbers)} numbers: give one, or one for each channel ({channels})"
            )
        return short_numbers(of_channels(numbers, channels))
    if key == "size":
        height, width = (int(side) for side in value)
        if min(height, width) < 1:
            raise ValueError
        return height, width
    if key == "crop":
        if not 0 < float(value) <= 1:
            raise ValueError
        return float(value)
    if value not in _NEAREST_KIND:
        raise ValueError
    if _NEAREST_KIND[value] != value:
        remarks.append(f"{_NEAREST_KIND[value]} is used instead of the interpolation {value}")
    return _NEAREST_KIND[value]


def short_numbers(values: Sequence[float]) -> tuple[float, ...]:
    """Each number in the fewest digits that give the same float32, which is what a network computes with."""
    return tuple(float(str(np.float32(value))) for value in values)


def _sources(sources: Mapping[str, str], asked: AskedInput, name: str) -> str:
    groups: dict[str, list[str]] = {}
    for key in _KEYS:
        if key in sources:
            groups.setdefault(sources[key], []).append(key)
    if not groups:
        why = "as asked" if asked.rest == "data" else f"as neither {name} nor a file beside it says otherwise"
        return f"the dataset's own, {why}"
    if len(groups) == 1 and {"mean", "std", "size"} <= sources.keys():
        return f"from {next(iter(groups))}"
    parts = [f"{', '.join(keys)} from {source}" for source, keys in groups.items()]
    return "; ".join([*parts, *([] if {"mean", "std", "size"} <= sources.keys() else ["the rest is the dataset's"])])


def check_classes(names: Sequence[str] | None, classes: Sequence[str], path: object) -> str:
    """Compare the names of a file's classes with the dataset's.

    Returns:
        A warning where they are other names; empty where they are the same, or none are told.

    Raises:
        UsageError: they are the same names in another order.
    """
    if names is None or len(names) != len(classes) or tuple(names) == tuple(classes):
        return ""
    place = next(i for i, (theirs, ours) in enumerate(zip(names, classes, strict=True)) if theirs != ours)
    differ = f"their class {place} is {names[place]!r:.60}, and the dataset's is {classes[place]!r:.60}"
    if sorted(names) == sorted(classes):
        raise UsageError(
            f"the weights {path} have the dataset's classes in another order ({differ}): bring the rows of their "
            "classifier into the dataset's order, or rename the dataset's classes so that they sort as theirs"
        )
    return f"the weights {path} were trained for other classes by name: {differ}"
