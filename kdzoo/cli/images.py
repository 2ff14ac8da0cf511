"""The images of a dataset, told to a person: what they are, which are damaged, and which occur twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np

from kdzoo.board.labels import counted
from kdzoo.foreign import visible

if TYPE_CHECKING:
    from kdzoo.data.duplicates import Duplicates
    from kdzoo.data.load import LoadedData, Split
    from kdzoo.data.survey import Progress, Survey

_QUIET_SECONDS = 5.0
"""A survey that takes longer says how far it is, and does so again after four times as long."""


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
            say(f"looking at the images of {name}: {done:,} of {total:,}")

    return tell


def checked_text(data: LoadedData) -> str:
    """Whether the images of a dataset were looked at, for a dry run."""
    from kdzoo.data.survey import kept_survey

    found = kept_survey(data)
    if found is None:
        return f"{data.ref.name}: its images were not looked at yet; a bench decodes them all once before it trains"
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
