"""Images that cannot be read: why, in a few words, and many of them in one message."""

from __future__ import annotations

from collections.abc import Sequence

from kdzoo import foreign
from kdzoo.errors import UsageError

SHOWN = 20
"""Images that a message names; of more it tells the number."""
_LONGEST = 200


class DamagedImageError(UsageError):
    """An image that cannot be read.

    Args:
        name: its file, or its place in a dataset.
        reason: why.
    """

    def __init__(self, name: str, reason: str) -> None:
        name = foreign.visible(name)
        super().__init__(f"cannot read the image {name} ({reason}): mend or remove it")
        self.line = f"{name} ({reason})"


def reason_of(error: Exception) -> str:
    """What went wrong when an image was decoded, as a clause of bounded length."""
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, Image.DecompressionBombError):
        return f"it has more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels, which no network needs; make it smaller"
    if isinstance(error, UnidentifiedImageError):
        return "it is not an image, or damaged from the start"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return bounded(str(error)) or type(error).__name__


def bounded(text: str) -> str:
    """A text on one line of at most 200 characters, none of which acts: names of files hold any."""
    return foreign.line(" ".join(text.split()), _LONGEST)


def damage_text(what: str, total: int, count: int, lines: Sequence[str]) -> str:
    """One message about all damaged images of a set.

    Args:
        what: the set.
        total: how many images it has.
        count: how many of them are damaged.
        lines: what is known of them, one image a line; the first 20 are shown.
    """
    more = [f"and {count - SHOWN:,} more"] if count > SHOWN else []
    listed = "\n  ".join([*lines[:SHOWN], *more])
    return f"{count:,} of the {total:,} images of {what} cannot be read; mend or remove them:\n  {listed}"
