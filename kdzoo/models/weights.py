"""Weights on disk: written so that plain timm loads them, read so that nothing wrong gets in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from timm.models import clean_state_dict
from torch import Tensor, nn

from kdzoo.errors import UsageError
from kdzoo.models.taps import last_layers

METADATA_KEY = "kdzoo"
"""Where the metadata stand in the file's header: one JSON text, since safetensors gives several no fixed order."""


def save_weights(model: nn.Module, path: Path, metadata: Mapping[str, Any]) -> None:
    """Write a network's ``state_dict`` as safetensors, the same bytes for the same tensors and metadata.

    Tied tensors are written under each of their names, so that plain timm reads the file in two lines::

        model = timm.create_model("resnet18", num_classes=10, in_chans=1)
        model.load_state_dict(safetensors.torch.load_file("student.safetensors"))

    Args:
        model: the plain network, without taps.
        path: the file; whoever calls makes the write atomic.
        metadata: plain values, kept in the header under ``kdzoo`` as one JSON text.
    """
    tensors = {name: _own(tensor) for name, tensor in model.state_dict().items()}
    save_file(tensors, path, metadata={METADATA_KEY: json.dumps(dict(metadata), sort_keys=True)})


def load_weights(model: nn.Module, path: Path) -> None:
    """Read weights into a network: all of its tensors and no others, each of the right shape.

    Args:
        model: the plain network, without taps.
        path: a safetensors file, or one of ``torch.save`` that holds tensors only: a state dict, by itself or under
            ``state_dict`` or ``model``.

    Raises:
        UsageError: the file is missing, damaged, unsafe, for another class count or for another network. The network
            is then as it was.
    """
    found = _read(path)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}
    for name in last_layers(model) if hasattr(model, "get_classifier") else ():
        key = f"{name}.weight"
        if key in shapes and shapes[key][:1] != expected[key][:1]:
            raise UsageError(f"the weights {path} are for {shapes[key][0]} classes, and {expected[key][0]} are needed")
    missing = [name for name in expected if name not in shapes]
    surplus = [name for name in shapes if name not in expected]
    if missing or surplus:
        wrong = [f"{what} {_some(names)}" for what, names in (("lack", missing), ("also hold", surplus)) if names]
        raise UsageError(f"the weights {path} {' and '.join(wrong)}: they belong to another model or other arguments")
    if unfit := [name for name in expected if shapes[name] != expected[name]]:
        name = unfit[0]
        raise UsageError(
            f"the weights {path} have another shape at {_some(unfit)} ({list(shapes[name])} instead of "
            f"{list(expected[name])}): they belong to another model, other arguments or another image size"
        )
    model.load_state_dict(found)


def file_digest(path: Path) -> str:
    """The SHA-256 of a file, in hex.

    Raises:
        UsageError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"the file {path} cannot be read: {error.strerror}") from error


def body_digest(model: nn.Module) -> str:
    """The SHA-256 of a network's tensors without its last layers, which may be new and random; in hex."""
    heads = tuple(f"{name}." for name in last_layers(model))
    total = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if not name.startswith(heads):
            total.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} ".encode())
            total.update(_own(tensor).reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def _own(tensor: Tensor) -> Tensor:
    """A contiguous copy on the CPU that shares no memory, as safetensors wants it."""
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        with path.open("rb"):
            pass
        content: Any = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except OSError as error:
        raise UsageError(f"the weights {path} cannot be read: {error.strerror or error}") from error
    except UnpicklingError as error:
        raise UsageError(
            f"the weights {path} are damaged, or hold more than tensors, which is not safe to load: "
            "save the model's state_dict() alone, best as safetensors"
        ) from error
    except (SafetensorError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise UsageError(f"the weights {path} are damaged, or not a file of weights") from error
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise UsageError(f"the weights {path} hold no state dict: save the model's state_dict()")
    return dict(clean_state_dict(content))


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown
