"""Weights on disk: written so that plain timm loads them, read so that nothing wrong gets in, or it is said what is."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from kdzoo.errors import OddFileError, UsageError, counted, os_reason
from kdzoo.files import check_plain
from kdzoo.foreign import some
from kdzoo.models.taps import last_layers
from kdzoo.models.weightfile import METADATA_KEY, Average, WeightFile, open_weights

_COUNTER = "num_batches_tracked"


Shapes: TypeAlias = Mapping[str, tuple[int, ...]]
_OF_SIZE = re.compile(r"pos_embed|position|rel_pos|relative_|attention_bias|attn_mask|pos_emb")
_NUMBER = re.compile(r"(?<=\.)[0-9]+(?=\.)")


def save_weights(model: nn.Module, path: Path, metadata: Mapping[str, Any]) -> None:
    """Write a network's ``state_dict`` as safetensors, the same bytes for the same tensors and metadata.

    Tied tensors are written under each of their names, so that plain timm reads the file in two lines::

        model = timm.create_model(**header["create_model"])
        model.load_state_dict(safetensors.torch.load_file("student.safetensors"))

    docs/models.md shows how the header is read, and how images become what the network expects.

    Args:
        model: the plain network, without taps.
        path: the file; whoever calls makes the write atomic.
        metadata: plain values, kept in the header under ``kdzoo`` as one JSON text.
    """
    tensors = {name: _own(tensor) for name, tensor in model.state_dict().items()}
    save_file(tensors, path, metadata={METADATA_KEY: json.dumps(dict(metadata), sort_keys=True)})


def load_weights(model: nn.Module, path: Path, average: Average | None = None) -> tuple[str, ...]:
    """Read weights into a network: :func:`open_weights` and :func:`fit_weights`."""
    return fit_weights(model, open_weights(path), average)


def fit_weights(model: nn.Module, file: WeightFile, average: Average | None = None) -> tuple[str, ...]:
    """Put a file's weights into a network: all of its tensors and no others, each of the right shape.

    A prefix that all of the network's names share in the file, as Lightning's ``model.``, is taken off; BatchNorm's
    counters of batches, which older files lack and nothing here reads, may be missing.

    Args:
        model: the plain network, without taps.
        file: the file.
        average: the entry that holds the moving average to take; by default the weights themselves.

    Returns:
        What a person should know of it, in a few words each.

    Raises:
        UsageError: they are for another class count or another network, or hold NaN. The network is then as it was.
    """
    own = model.state_dict()
    found, prefix = _without_prefix(file.tensors(average), own, file.path)
    tensors = {name: found[name] for name in found if name in own}
    for name, tensor in own.items():
        if name not in found and name.endswith(_COUNTER) and name.replace(_COUNTER, "running_mean") in found:
            tensors[name] = tensor.clone()
    shapes = {name: tuple(tensor.shape) for name, tensor in {**found, **tensors}.items()}
    if wrong := misfit(model, shapes, {name: tuple(tensor.shape) for name, tensor in own.items()}):
        raise UsageError(f"the weights {file.path} {wrong}")
    _check_values(tensors, own, file.path)
    learned = {name for name, _ in model.named_parameters()}
    learned |= {name for name in own if name.endswith(("running_mean", "running_var"))}
    if broken := [name for name in tensors if name in learned and not bool(tensors[name].float().isfinite().all())]:
        raise UsageError(
            f"the weights {file.path} hold NaN or infinity at {some(broken)}: their training diverged; use an "
            f"earlier checkpoint"
        )
    model.load_state_dict(tensors)
    notes = [f"its {average}, the moving average, is used"] if average else []
    notes += [f"the prefix {prefix} is removed from the names"] if prefix else []
    narrow = sorted({str(t.dtype).removeprefix("torch.") for n, t in tensors.items() if t.dtype != own[n].dtype})
    notes += [f"{' and '.join(narrow)} is read as float32"] if narrow else []
    return tuple(notes)


def _without_prefix(found: dict[str, Tensor], own: Iterable[str], path: Path) -> tuple[dict[str, Tensor], str]:
    """The tensors by the network's own names, and what stood before these.

    Raises:
        UsageError: several networks of this kind are in the file.
    """
    needed = [name for name in own if not name.endswith(_COUNTER)]
    if not needed or any(name in found for name in needed):
        return found, ""
    starts = [name.removesuffix(needed[0]) for name in found if name.endswith(f".{needed[0]}")]
    whole = [start for start in starts if all(start + name in found for name in needed)]
    if len(whole) > 1:
        raise UsageError(
            f"the weights {path} hold several networks of this kind (under {some(whole)}): save the state dict of one"
        )
    prefix = whole[0] if whole else _shared(found)
    return {name.removeprefix(prefix): tensor for name, tensor in found.items()}, prefix


def _shared(names: Iterable[str]) -> str:
    """The longest prefix of whole parts that all names share."""
    parts = [name.split(".")[:-1] for name in names]
    shared = []
    for column in zip(*parts, strict=False):
        if len(set(column)) > 1 or column[0].isdigit():
            break
        shared.append(column[0])
    return "".join(f"{part}." for part in shared)


def _check_values(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor], path: Path) -> None:
    for name, tensor in tensors.items():
        plain = tensor.layout == torch.strided and not tensor.is_quantized and not tensor.is_meta
        if not plain or (own[name].is_floating_point() and not tensor.is_floating_point()):
            kind = str(tensor.dtype if plain or tensor.is_quantized else tensor.layout).removeprefix("torch.")
            raise UsageError(
                f"the weights {path} are not plain numbers at {name} ({'meta' if tensor.is_meta else kind}), as in a "
                "quantised network: save those it was made from"
            )


def file_digest(path: Path) -> str:
    """The SHA-256 of a file, in hex.

    Raises:
        UsageError: the file cannot be read.
    """
    try:
        check_plain(path)
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OddFileError as error:
        raise UsageError(f"the file {path} {error}") from error
    except OSError as error:
        raise UsageError(f"the file {path} cannot be read: {os_reason(error)}") from error


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


def misfit(model: nn.Module, found: Shapes, expected: Shapes) -> str | None:
    """What is wrong, as the end of a sentence that begins with ``the weights FILE``; None where all fits.

    Args:
        model: the network that the tensors are for.
        found: the shapes of the file's tensors by name.
        expected: those of the network's.
    """
    heads = [*last_layers(model)] if hasattr(model, "get_classifier") else []
    for key in (f"{name}.weight" for name in heads):
        if key in found and found[key][:1] != expected[key][:1]:
            return f"are for {found[key][0]} classes, and {expected[key][0]} are needed"
    missing = [name for name in expected if name not in found]
    surplus = [name for name in found if name not in expected]
    if missing or surplus:
        return _of_names(heads, missing, surplus, found, expected)
    unfit = [name for name in expected if found[name] != expected[name]]
    return _of_shapes(model, unfit, found, expected) if unfit else None


def _of_names(heads: list[str], missing: list[str], surplus: list[str], found: Shapes, expected: Shapes) -> str:
    own = [name for name in missing if name.rpartition(".")[0] in heads]
    if own and own == missing:
        widths = {expected[name][1:2] for name in own if name.endswith(".weight")}
        others = [name for name in surplus if name.endswith(".weight") and found[name][1:2] in widths]
        if not surplus:
            return f"have no classifier: {some(own)} {_are(own)} missing; save the state dict of the whole network"
        if others:
            return (
                f"have their classifier under another name, {some(others)}, and {some(own)} is expected: "
                "rename it in the state dict"
            )
    if depth := _depth(missing, surplus, found, expected):
        where, theirs, ours = depth
        return f"are of another depth: {theirs} blocks in {where}, and {ours} are needed; they belong to another model"
    wrong = [f"{what} {some(names)}" for what, names in (("lack", missing), ("also hold", surplus)) if names]
    return f"{' and '.join(wrong)}: they belong to another model or other arguments"


def _depth(missing: list[str], surplus: list[str], found: Shapes, expected: Shapes) -> tuple[str, int, int] | None:
    """The list of blocks that is longer or shorter than expected, where that explains every other name."""
    theirs, ours = _lengths(found), _lengths(expected)
    other = {where for where in theirs.keys() & ours.keys() if theirs[where] != ours[where]}
    unexplained = [
        name
        for name in (*missing, *surplus)
        if not any(where in other and number >= min(theirs[where], ours[where]) for where, number in _places(name))
    ]
    where = min(other, default=None)
    return None if unexplained or where is None else (where, theirs[where], ours[where])


def _lengths(names: Iterable[str]) -> dict[str, int]:
    lengths: dict[str, int] = {}
    for name in names:
        for where, number in _places(name):
            lengths[where] = max(lengths.get(where, 0), number + 1)
    return lengths


def _places(name: str) -> list[tuple[str, int]]:
    """``stages.0.blocks.5.conv`` -> (stages, 0), (stages.0.blocks, 5)."""
    return [(name[: match.start() - 1], int(match.group())) for match in _NUMBER.finditer(name)]


def _of_shapes(model: nn.Module, unfit: list[str], found: Shapes, expected: Shapes) -> str:
    for name in unfit:
        theirs, ours = found[name], expected[name]
        if name in _first_convolutions(model) and len(theirs) == len(ours) == 4:
            if theirs[1] != ours[1] and (theirs[0], *theirs[2:]) == (ours[0], *ours[2:]):
                return (
                    f"take images of {counted(theirs[1], 'channel')}, and these have {ours[1]} ({name}): take weights "
                    "for such images"
                )
            if theirs[2:] != ours[2:] and theirs[0] == ours[0] and "patch_embed" in name:
                return (
                    f"have patches of {theirs[2]} x {theirs[3]} pixels, and the model {ours[2]} x {ours[3]} ({name}): "
                    f"write the model as NAME:patch_size={theirs[2]}"
                )
    name = unfit[0]
    shapes = f"{list(found[name])} instead of {list(expected[name])}"
    if all(_OF_SIZE.search(each) for each in unfit):
        return (
            f"are for images of another size, by their shape at {some(unfit)} ({shapes}): give theirs with "
            "--teacher-input size=PIXELS"
        )
    if len(unfit) > len(expected) / 2 and all(len(found[each]) == len(expected[each]) for each in unfit):
        return f"are of another width, by their shape at {some(unfit)} ({shapes}): they belong to another model"
    return (
        f"have another shape at {some(unfit)} ({shapes}): they belong to another model, other arguments or another "
        "image size"
    )


def _first_convolutions(model: Any) -> Collection[str]:
    config = getattr(model, "pretrained_cfg", None) or {}
    names = config.get("first_conv") or ()
    return [f"{name}.weight" for name in ((names,) if isinstance(names, str) else names)]


def _are(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are"
