"""Why a file's tensors are not those of a network, in one sentence."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeAlias

from torch import nn

from kdzoo.foreign import bounded, visible
from kdzoo.models.taps import last_layers

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]
_OF_SIZE = re.compile(r"pos_embed|position|rel_pos|relative_|attention_bias|attn_mask|pos_emb")
_NUMBER = re.compile(r"(?<=\.)[0-9]+(?=\.)")


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
                    f"take images of {_counted(theirs[1], 'channel')}, and these have {ours[1]} ({name}): take weights "
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


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _are(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are"


def some(names: list[str]) -> str:
    """The first names of a list, and how many more there are. They come from a file, so nothing in them may act."""
    shown = ", ".join(visible(bounded(name)) for name in names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown
