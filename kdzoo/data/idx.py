"""The IDX format of MNIST and its relatives (https://yann.lecun.com/exdb/mnist), plain or gzipped."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kdzoo.data.dataset import ArrayData
from kdzoo.errors import OddFileError, UsageError
from kdzoo.files import read_plain

_IMAGES, _LABELS = 0x00000803, 0x00000801  # unsigned bytes with 3 and 1 dimensions
_MOST = 2**36


def read_pair(images: Path, labels: Path) -> ArrayData:
    """Read a file of images and the file of their labels.

    Raises:
        UsageError: a file is unreadable, damaged or of another kind, or the two do not belong together.
    """
    pixels, classes = _read(images, _IMAGES), _read(labels, _LABELS)
    if len(pixels) != len(classes):
        raise UsageError(f"{images} holds {len(pixels)} images but {labels} holds {len(classes)} labels")
    return ArrayData(pixels[:, None], classes.astype(np.int64))


def _read(path: Path, magic: int) -> NDArray[np.uint8]:
    data = _bytes(path)
    kind = {_IMAGES: "images", _LABELS: "labels"}[magic]
    dims = magic & 0xFF
    header = 4 * (1 + dims)
    if len(data) < header or int.from_bytes(data[:4], "big") != magic:
        raise UsageError(f"{path} is not an IDX file of {kind}: it must start with the bytes {magic:08x}")
    shape = [int.from_bytes(data[4 * d : 4 * d + 4], "big") for d in range(1, dims + 1)]
    expected = header + math.prod(shape)
    if len(data) != expected:
        raise UsageError(f"{path} is damaged: its header announces {expected} bytes and it has {len(data)}")
    return np.frombuffer(data, dtype=np.uint8, offset=header).reshape(shape)


def _bytes(path: Path) -> bytes:
    try:
        data = read_plain(path, _MOST)
        return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UsageError(f"{path} is damaged ({error}); get it again") from error
    except OddFileError as error:
        raise UsageError(f"{path} {error}") from error
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
