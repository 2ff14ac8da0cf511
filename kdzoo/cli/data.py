"""``kdzoo data NAME``: what is in a dataset, and what it looks like."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Annotated

import typer


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
    from kdzoo.cli.images import class_text, progress, survey_facts
    from kdzoo.data.damage import damage_text
    from kdzoo.data.grid import image_grid
    from kdzoo.data.load import Split, open_data
    from kdzoo.data.survey import survey
    from kdzoo.errors import UsageError
    from kdzoo.flags import parse_size
    from kdzoo.foreign import visible
    from kdzoo.matrix import load_recipe
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
