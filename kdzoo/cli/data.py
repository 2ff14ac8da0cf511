"""``kdzoo data NAME``: what is in a dataset, and what it looks like; and what benches say of its images."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kdzoo.errors import counted
from kdzoo.foreign import visible

if TYPE_CHECKING:
    from PIL import Image

    from kdzoo.data.duplicates import Duplicates
    from kdzoo.data.load import LoadedData, Split
    from kdzoo.data.survey import Progress, Survey
    from kdzoo.recipe import Augment

_QUIET_SECONDS = 5.0
"""A survey that takes longer says how far it is, and does so again after four times as long."""
_GAP, _LABEL, _CELL = 4, 110, 64


def data(
    name: Annotated[str, typer.Argument(help="A dataset, for example digits, fashion_mnist[:5000] or folder:PATH.")],
    *,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the data.")] = None,
    download: Annotated[bool, typer.Option("--download", help="Download missing data.")] = False,
    img_size: Annotated[str | None, typer.Option(help="Height and width in pixels: 64, or 64x96.")] = None,
    plugin: Annotated[list[Path] | None, typer.Option(help="A Python file with datasets.")] = None,
    recipe: Annotated[str, typer.Option(help="Recipe of the augmentation in the grid.")] = "quick",
    out: Annotated[Path | None, typer.Option(help="File of the image grid; by default NAME.png.")] = None,
) -> None:
    """Print a dataset's splits, classes, shape, fingerprint and images, and draw a grid of its images.

    All images are decoded once. Exit code 1 if some cannot be read.
    """
    from kdzoo.data.load import open_data
    from kdzoo.data.rgb import damage_text
    from kdzoo.data.survey import survey
    from kdzoo.errors import UsageError, os_reason
    from kdzoo.foreign import visible
    from kdzoo.inputs import parse_size
    from kdzoo.matrix import load_recipe
    from kdzoo.registry import Registry

    path = out or Path(re.sub(r"\W+", "_", name).strip("_") + ".png")
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(f"the image grid cannot be written to {path}: name a file in a folder that exists with --out")
    try:
        size = None if img_size is None else parse_size(img_size)
    except ValueError as error:
        raise UsageError(f"--img-size {error}") from error
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
            raise UsageError(f"cannot write {path}: {os_reason(error)}") from error
        facts.append(("image grid", f"{path} (left: original; right: augmented by the recipe {recipe})"))
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


def image_grid(data: LoadedData, spec: Augment, *, columns: int = 5, most_classes: int = 20) -> Image.Image:
    """One row per class: ``columns`` samples of fit, and the same samples augmented.

    Args:
        data: the dataset.
        spec: the augmentation of the right half.
        columns: samples per class.
        most_classes: the first so many classes are drawn.
    """
    import torch
    from PIL import Image, ImageDraw
    from torchvision.transforms.functional import to_pil_image

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
                pixels = (image * 255).round().to(torch.uint8).expand(3, -1, -1)
                tile = to_pil_image(pixels).resize((width, height), Image.Resampling.NEAREST)  # type: ignore[no-untyped-call]
                picture.paste(tile, (left + column * (width + _GAP), top))
    return picture


def check_images(datasets: Iterable[LoadedData], say: Callable[[str], None]) -> None:
    """Decode the images of datasets once, before anything trains; what is remembered takes no time.

    Args:
        datasets: the datasets; those in memory are whole.
        say: told how far it is, and what spoils a measure.

    Raises:
        UsageError: images cannot be read; it lists them.
    """
    from kdzoo.data.survey import has_files, refuse_damage

    for data in datasets:
        if has_files(data):
            found = refuse_damage(data, progress(data.ref.name, say))
            for line in leaks(found.duplicates):
                say(f"warning: {data.ref.name}: {line}")


def progress(name: str, say: Callable[[str], None]) -> Progress:
    """What says now and then how many images of a dataset are looked at."""
    due = time.monotonic() + _QUIET_SECONDS

    def tell(done: int, total: int) -> None:
        nonlocal due
        if time.monotonic() > due:
            due = time.monotonic() + 4 * _QUIET_SECONDS
            say(f"checking the images of {name}: {done:,} of {total:,}")

    return tell


def checked_text(data: LoadedData) -> str:
    """Whether the images of a dataset were looked at, for a dry run."""
    from kdzoo.data.survey import kept_survey

    found = kept_survey(data)
    if found is None:
        return f"{data.ref.name}: its images are not checked yet; a bench decodes all of them once before training"
    if found.damaged:
        what = counted(found.damaged, "image")
        return f"{data.ref.name}: {what} of {found.images:,} could not be read; kdzoo data lists them"
    return f"{data.ref.name}: all {found.images:,} images can be read"


def survey_facts(found: Survey) -> list[tuple[str, str]]:
    """What a survey found, line by line: what a line is about, and what it says."""
    from kdzoo.data.rgb import MEANINGS

    facts = []
    if found.smallest and found.largest:
        (low, narrow), (high, wide) = found.smallest, found.largest
        same = found.smallest == found.largest
        facts.append(("sizes", f"all {low} x {narrow}" if same else f"{low} x {narrow} to {high:,} x {wide:,}"))
    if found.kinds:
        kinds = sorted(found.kinds, key=lambda kind: (-found.kinds[kind], kind))
        facts.append(("kinds", ", ".join(f"{found.kinds[kind]:,} {kind}" for kind in kinds)))
    for kind in sorted(found.kinds):
        if kind in MEANINGS:
            facts.append(("read as", f"{kind}: {MEANINGS[kind]}{_dark(kind, found)}"))
    if found.turned:
        facts.append(("read as", f"{counted(found.turned, 'image')} with an EXIF orientation: it is not applied"))
    again = [*leaks(found.duplicates), *_others(found.duplicates)] or ["none"]
    return facts + [("duplicates", line) for line in again]


def leaks(found: Duplicates) -> list[str]:
    """A clause for each pair of splits that share images."""
    lines = []
    for each in found.shared:
        other = f" ({each.other_class:,} with another class)" if each.other_class else ""
        lines.append(f"{counted(each.images, 'image')} of {each.split} also in {each.other}{other}")
    return lines


def class_text(data: LoadedData, split: Split) -> str:
    """How many images a split has, and how many its smallest and its largest class."""
    import numpy as np

    sizes = np.bincount(data.labels(split).numpy(), minlength=data.ref.num_classes)
    small, large = int(sizes.argmin()), int(sizes.argmax())
    text = f"{sizes.sum():,} images, "
    if sizes[small] == sizes[large]:
        return f"{text}{sizes[small]:,} of each class"
    lowest, highest = (visible(data.classes[label]) for label in (small, large))
    return f"{text}{sizes[small]:,} (class {lowest}) to {sizes[large]:,} (class {highest})"


def _dark(kind: str, found: Survey) -> str:
    if kind != "16-bit grey" or found.brightest is None:
        return ""
    dark = "; dark: stretch them to all 16 bits" if found.brightest < 2**14 else ""
    return f" (the brightest value is {found.brightest:,} of 65,535{dark})"


def _others(found: Duplicates) -> list[str]:
    lines = [f"{counted(count, 'image')} repeated within {split}" for split, count in found.again.items()]
    if found.conflicting:
        lines.append(f"{counted(found.conflicting, 'image')} with equal pixels and more than one class")
    return lines
