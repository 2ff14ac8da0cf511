"""A file of weights as it is read: its tensors, and what it and the files beside it tell of the network's input."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal, TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from timm.models import clean_state_dict
from torch import Tensor

from kdzoo.errors import OddFileError, UsageError, os_reason
from kdzoo.files import check_plain
from kdzoo.yamltext import read_mapping

METADATA_KEY = "kdzoo"
"""Where the metadata stand in the file's header: one JSON text, since safetensors gives several no fixed order."""

Average: TypeAlias = Literal["state_dict_ema", "model_ema"]
_AVERAGES: tuple[Average, ...] = ("state_dict_ema", "model_ema")
_NESTED = ("state_dict", "model", "model_state_dict", "net")
_TIMM_ARGS = frozenset({"model", "mean", "std", "crop_pct", "interpolation"})
_MOST_BYTES = 2**22
"""Of a text beside the weights; ImageNet's 21,841 names take a tenth."""


@dataclass(frozen=True)
class WeightFile:
    """What a file of weights holds.

    Args:
        path: the file.
        content: what was read: tensors by name, alone or among other things.
        header: what kdzoo wrote into the header of a safetensors file; empty in any other.
    """

    path: Path
    content: Any = field(repr=False)
    header: Mapping[str, Any]

    @property
    def average(self) -> Average | None:
        """The entry that holds a moving average of the weights, which timm prefers; None where there is none."""
        if not isinstance(self.content, dict):
            return None
        return next((name for name in _AVERAGES if isinstance(self.content.get(name), dict)), None)

    def tensors(self, average: Average | None = None) -> dict[str, Tensor]:
        """The tensors by name, without what wrappers for several devices and compilers put before the names.

        Args:
            average: the entry to take; by default the weights themselves.

        Raises:
            UsageError: there is no state dict.
        """
        content = self.content
        if average is not None and isinstance(content, dict):
            content = content.get(average)
        while isinstance(content, dict) and not _are_tensors(content):
            inner = next((content[key] for key in _NESTED if isinstance(content.get(key), dict)), None)
            if inner is None:
                break
            content = inner
        if not isinstance(content, dict) or not _are_tensors(content):
            raise UsageError(f"the weights {self.path} hold no state dict: save the model's state_dict()")
        if "n_averaged" in content:  # of torch's AveragedModel
            content = {name: tensor for name, tensor in content.items() if name != "n_averaged"}
        return dict(clean_state_dict(content))

    @cached_property
    def timm_args(self) -> tuple[str, Mapping[str, Any]] | None:
        """The arguments of timm's training, from the file or from ``args.yaml`` beside it, and where they stand."""
        args = self.content.get("args") if isinstance(self.content, dict) else None
        args = vars(args) if isinstance(args, argparse.Namespace) else args
        if isinstance(args, dict) and args.keys() >= _TIMM_ARGS:
            return f"args in {self.path.name}", args
        beside = self.path.with_name("args.yaml")
        if (text := _text(beside)) is None:
            return None
        try:
            args = read_mapping(text, str(beside))
        except UsageError:
            return None  # whatever it is, it is not timm's
        return (f"args.yaml beside {self.path.name}", args) if args.keys() >= _TIMM_ARGS else None

    @cached_property
    def timm_config(self) -> Mapping[str, Any] | None:
        """timm's ``config.json`` beside the file, as in a folder of the Hugging Face Hub; what concerns the data."""
        if (text := _text(self.path.with_name("config.json"))) is None:
            return None
        try:
            whole = json.loads(text)
        except (ValueError, RecursionError):
            return None
        if not isinstance(whole, dict) or not isinstance(whole.get("architecture"), str):
            return None
        config = whole.get("pretrained_cfg", whole)
        names = {key: whole[key] for key in ("label_names", "labels") if key in whole}
        return {**config, **names} if isinstance(config, dict) else None

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The names of the classes in the order of the scores, where they are told."""
        config = self.timm_config or {}
        names = self.header.get("classes") or config.get("label_names") or config.get("labels")
        if isinstance(names, dict):  # timm writes numbers -> names where it has them so
            names = [names.get(str(number)) for number in range(len(names))]
        if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
            return tuple(names)
        return None


def open_weights(path: Path) -> WeightFile:
    """Read a file of weights, safely: of what is no tensor, only plain values and the arguments of a training.

    Args:
        path: a safetensors file, or one of ``torch.save``.

    Raises:
        UsageError: it is missing, damaged or unsafe.
    """
    try:
        check_plain(path)
        with path.open("rb"):
            pass
        if path.suffix == ".safetensors":
            return WeightFile(path, load_file(path), read_header(path))
        # timm's own checkpoints hold the arguments of their training, as plain values in a Namespace.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return WeightFile(path, torch.load(path, map_location="cpu", weights_only=True), {})
    except OddFileError as error:
        raise UsageError(f"the weights {path} cannot be read: the path {error}") from error
    except OSError as error:
        raise UsageError(f"the weights {path} cannot be read: {os_reason(error)}") from error
    except UnpicklingError as error:
        raise UsageError(
            f"the weights {path} are damaged, or hold more than tensors, which is not safe to load: "
            "save the model's state_dict() alone, best as safetensors"
        ) from error
    except (SafetensorError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UsageError(f"the weights {path} are damaged, or not a file of weights") from error


def read_header(path: Path) -> dict[str, Any]:
    """What kdzoo wrote into the header of a safetensors file; empty where it wrote none.

    Raises:
        SafetensorError: it is damaged, or another kind of file.
        OSError: it cannot be read.
    """
    with safe_open(path, framework="pt") as file:
        text = (file.metadata() or {}).get(METADATA_KEY, "")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _are_tensors(content: dict[Any, Any]) -> bool:
    return bool(content) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items())


def _text(path: Path) -> str | None:
    """A small text file; None for anything else."""
    try:
        if not path.is_file() or path.stat().st_size > _MOST_BYTES:
            return None
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
