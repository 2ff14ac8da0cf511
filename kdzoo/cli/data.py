"""``kdzoo data NAME``: what is in a dataset, and what it looks like."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import torch
import typer
from PIL import Image, ImageDraw
from torch import Tensor

from kdzoo.recipe import Augment

if TYPE_CHECKING:
    from kdzoo.data.load import LoadedData


def data(
    name: Annotated[str, typer.Argument(help="A dataset, for example digits, fashion_mnist[:5000] or folder:PATH.")],
    *,
    data_dir: Annotated[Path | None, typer.Option(help="The folder that holds datasets.")] = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch what is missing.")] = False,
    img_size: Annotated[str | None, typer.Option(help="Height and width in pixels: 64, or 64x96.")] = None,
    plugin: Annotated[list[Path] | None, typer.Option(help="A Python file that brings datasets.")] = None,
    recipe: Annotated[str, typer.Option(help="The recipe whose augmentation is drawn.")] = "quick",
    out: Annotated[Path | None, typer.Option(help="Where the image grid goes; NAME.png by default.")] = None,
) -> None:
    """Print a dataset's splits, classes, shape, fingerprint and images, and draw a grid of its images.

    All images are decoded once. The exit code is 1 where some cannot be read.
    """
    from kdzoo.cli.data import image_grid
    from kdzoo.cli.images import class_text, progress, survey_facts
    from kdzoo.config import load_recipe, parse_size
    from kdzoo.data.load import Split, open_data
    from kdzoo.data.rgb import damage_text
    from kdzoo.data.survey import survey
    from kdzoo.errors import UsageError
    from kdzoo.foreign import visible
    from kdzoo.registry import Registry

    path = out or Path(re.sub(r"\W+", "_", name).strip("_") + ".png")
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(f"the image grid cannot be written to {path}: name a file in a folder that exists with --out")
    try:
        size = None if img_size is None else parse_size(img_size)
    except ValueError as error:
        raise UsageError(str(error)) from error
    registry = Registry.load(plugin or ())
    loaded = open_data(name, registry.find_dataset, data_dir=data_dir, download=download, img_size=size)
    ref = loaded.ref
    height, width = ref.img_size
    found = survey(loaded, progress(ref.name, partial(typer.echo, err=True)))
    splits: tuple[Split, ...] = ("fit", "tune", "test")
    facts = [
        *((split, class_text(loaded, split)) for split in splits),
        (
            "classes",
            f"{ref.num_classes}: {', '.join(map(visible, loaded.classes[:20]))}{' ...' * (ref.num_classes > 20)}",
        ),
        ("shape", f"{ref.channels} x {height} x {width}"),
        ("mean, std", f"{_numbers(loaded.mean)}, {_numbers(loaded.std)}"),
        *survey_facts(found),
        ("fingerprint", f"{ref.fingerprint} ({loaded.covers})"),
        *(("note", note) for note in loaded.notes),
    ]
    if not found.damaged:
        try:
            image_grid(loaded, load_recipe(recipe, {}).augment).save(path, format="PNG")
        except OSError as error:
            raise UsageError(f"cannot write {path}: {error.strerror or error}") from error
        facts.append(("image grid", f"{path} (left: as they are; right: augmented as by the recipe {recipe})"))
    typer.echo(ref.name)
    last = ""
    for key, value in facts:
        typer.echo(f"  {key if key != last else '':<12} {value}")
        last = key
    if found.damaged:
        typer.echo(damage_text(ref.name, found.images, found.damaged, found.lines), err=True)
        raise typer.Exit(1)


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.4f}" for value in values)


_GAP, _LABEL, _CELL = 4, 110, 64


def image_grid(data: LoadedData, spec: Augment, *, columns: int = 5, most_classes: int = 20) -> Image.Image:
    """One row per class: ``columns`` samples of fit, and the same samples augmented.

    Args:
        data: the dataset.
        spec: the augmentation of the right half.
        columns: samples per class.
        most_classes: the first so many classes are drawn.
    """
    labels = data.labels("fit")
    scale = max(1, _CELL // max(data.ref.img_size))
    height, width = (size * scale for size in data.ref.img_size)
    classes = data.classes[:most_classes]
    right = _LABEL + columns * (width + _GAP) + 3 * _GAP
    picture = Image.new("RGB", (right + columns * (width + _GAP), len(classes) * (height + _GAP)), "white")
    draw = ImageDraw.Draw(picture)
    for row, name in enumerate(classes):
        ids = torch.nonzero(labels == row).flatten()[:columns]
        top = row * (height + _GAP)
        draw.text((_GAP, top + height // 2 - 5), name[:17], fill="black")
        for left, images in ((_LABEL, data.images("fit", ids)), (right, data.images("fit", ids, spec))):
            for column, image in enumerate(images):
                tile = _tile(image).resize((width, height), Image.Resampling.NEAREST)
                picture.paste(tile, (left + column * (width + _GAP), top))
    return picture


def _tile(image: Tensor) -> Image.Image:
    pixels = (image * 255).round().to(torch.uint8).expand(3, -1, -1).permute(1, 2, 0)
    return Image.fromarray(np.ascontiguousarray(pixels.numpy()))
