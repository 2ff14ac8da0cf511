"""Any image as 8-bit RGB: the one conversion by which decoded images reach networks.

``docs/data.md`` has the rules as a table.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kdzoo import foreign
from kdzoo.errors import UsageError

if TYPE_CHECKING:
    from PIL.Image import Image


RULES = 1
"""Raise it with every change of pixels: whatever remembers something about decoded files hashes it."""

_ORIGIN = "kdzoo.origin"
_FAINT = 16
"""A picture with fewer grey levels than this between its darkest and its brightest value cannot be seen."""
_KEPT = ("exif", "Raw profile type exif")
"""What stays of an image's metadata."""
_ALPHA = {"RGBA": "RGBA", "LA": "RGBA", "PA": "RGBA", "RGBa": "RGBA", "La": "LA"}
"""What an image with alpha is brought to first."""
_PLAIN = {
    "1": "black and white",
    "L": "grey",
    "P": "palette",
    **{mode: mode for mode in ("RGB", "CMYK", "YCbCr", "LAB", "HSV")},
    "RGBX": "RGB",
}
"""Modes that Pillow's own conversion serves, and what they are called."""

MEANINGS = {
    "16-bit grey": "the upper 8 bits are read",
    "32-bit grey": "values from 0 to 255 are read as they are",
    "floating point": "0 to 1 is read as 0 to 255",
    "transparent": "laid on white",
    "transparent, bright": "laid on black, since white would hide them",
    "alpha of one value": "alpha is ignored",
    **dict.fromkeys(("CMYK", "LAB"), "colour profiles are ignored"),
}
"""Kinds of images whose pixels are not simply copied, and what is done with them."""


SHOWN = 20
"""Images that a message names; of more it tells the number."""

_LONGEST = 200


class ImageOrigin(NamedTuple):
    """What an image was before it became RGB.

    Args:
        kind: in words, such as ``grey`` or ``16-bit grey``.
        brightest: the highest value of 16-bit grey, of 65,535.
    """

    kind: str
    brightest: int | None = None


def to_rgb(image: Image) -> Image:
    """Convert an image of any mode to 8-bit RGB.

    Grey, RGB and palettes without transparency become what Pillow's ``image.convert("RGB")`` makes of them. Of an
    animation, the frame that is shown counts (the first of a file just opened). EXIF orientation and colour profiles
    are ignored, as timm and torchvision do.

    Args:
        image: height and width stay.

    Returns:
        A new image; :func:`origin` tells what it was.

    Raises:
        UsageError: whole numbers of 32 bits or floating-point numbers outside of the range that has a meaning, or a
            mode that Pillow cannot convert.
    """
    image.load()
    made, origin = _converted(image)
    made.info = {_ORIGIN: origin}
    made.info.update((key, image.info[key]) for key in _KEPT if key in image.info)
    return made


def origin(image: Image) -> ImageOrigin | None:
    """What an image was before :func:`to_rgb` made it; None for any other image."""
    found: ImageOrigin | None = image.info.get(_ORIGIN)
    return found


def read_rgb(source: str | Path | IO[bytes], name: str) -> Image:
    """Open an image, decode it whole and convert it by :func:`to_rgb`.

    Args:
        source: a path, or an open file, which is closed.
        name: what messages call it.

    Raises:
        DamagedImageError: it cannot be read.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            # Pillow warns of odd metadata and of large images; neither changes a pixel.
            warnings.simplefilter("ignore")
            with Path(source).open("rb") if isinstance(source, str | Path) else source as file:
                _refuse_empty(file)
                with Image.open(file) as image:
                    return to_rgb(image)
    except Exception as error:  # decoders raise anything on damaged files
        raise DamagedImageError(name, decoding_fault(error)) from error


def _refuse_empty(file: IO[bytes]) -> None:
    if not file.read(1):
        raise UsageError("the file is empty")
    file.seek(0)


def _converted(image: Image) -> tuple[Image, ImageOrigin]:
    mode = image.mode
    if mode in _ALPHA or (mode == "P" and "transparency" in image.info):
        first = image.convert(_ALPHA.get(mode, "RGBA"))
        return _laid_out(first if first.mode == "RGBA" else first.convert("RGBA"))
    if mode.startswith("I;16") or (mode == "I" and image.format in ("PNG", "PPM")):
        # The upper byte, as Pillow reads 16-bit RGB. 8-bit images that were stretched to 16 bits come back exactly,
        # whether they were multiplied by 256 or by 257.
        values = np.asarray(image)
        grey = (values >> 8).clip(0, 255).astype(np.uint8)
        return _from_grey(grey), ImageOrigin("16-bit grey", int(values.max(initial=0)))
    if mode == "I":
        return _from_grey(_in_range(np.asarray(image), 255)), ImageOrigin("32-bit grey")
    if mode == "F":
        return _from_grey(_in_range(np.asarray(image), 1)), ImageOrigin("floating point")
    try:
        return image.convert("RGB"), ImageOrigin(_PLAIN.get(mode, mode))
    except ValueError as error:
        raise UsageError(f"the mode {mode} has no conversion to RGB: save it as RGB") from error


def _laid_out(image: Image) -> tuple[Image, ImageOrigin]:
    """An RGBA image on white, or on black where white would hide it."""
    alpha = np.asarray(image.getchannel("A"))
    low, high = alpha.min(), alpha.max()
    if low == high:
        # Nothing is cut out, so the picture is in the colours; files that are wholly transparent are mistakes.
        return image.convert("RGB"), ImageOrigin("alpha of one value")
    white = _on(image, "white")
    if _levels(white) < _FAINT and _levels(black := _on(image, "black")) > _levels(white):
        return black, ImageOrigin("transparent, bright")
    return white, ImageOrigin("transparent")


def _on(image: Image, colour: str) -> Image:
    from PIL import Image

    return Image.alpha_composite(Image.new("RGBA", image.size, colour), image).convert("RGB")


def _levels(image: Image) -> int:
    return int(np.ptp(np.asarray(image), axis=(0, 1)).max())


def _in_range(values: NDArray[Any], most: int) -> NDArray[np.uint8]:
    """Values from 0 to ``most`` as 0 to 255. The formats do not say their range, so others are not guessed at: a set
    in another range has an image that shows it."""
    low, high = values.min(), values.max()
    scaled = np.rint(values * (255 / most)) if values.dtype.kind == "f" else values
    if not (scaled.min() >= 0 and scaled.max() <= 255):  # NaN is refused too
        what = "floating-point numbers" if values.dtype.kind == "f" else "32-bit whole numbers"
        span = f"{low:g} to {high:g}" if values.dtype.kind == "f" else f"{low:,} to {high:,}"
        raise UsageError(
            f"its pixels are {what} from {span}, and only 0 to {most} has a meaning here: scale it, or save it with "
            "8 or 16 bits"
        )
    return scaled.astype(np.uint8)


def _from_grey(values: NDArray[np.uint8]) -> Image:
    from PIL import Image

    return Image.fromarray(values).convert("RGB")


class DamagedImageError(UsageError):
    """An image that cannot be read.

    Args:
        name: its file, or its place in a dataset.
        reason: why.
    """

    def __init__(self, name: str, reason: str) -> None:
        name = foreign.visible(name)
        super().__init__(f"cannot read the image {name} ({reason}): fix or remove it")
        self.line = f"{name} ({reason})"


def decoding_fault(error: Exception) -> str:
    """What went wrong when an image was decoded, as a clause of bounded length."""
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, Image.DecompressionBombError):
        return f"it has more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels, which no network needs; make it smaller"
    if isinstance(error, UnidentifiedImageError):
        return "it is not an image, or damaged from the start"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return one_line(str(error)) or type(error).__name__


def one_line(text: str) -> str:
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
    return f"{count:,} of the {total:,} images of {what} cannot be read; fix or remove them:\n  {listed}"
