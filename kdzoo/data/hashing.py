"""Random choices that no library version can change: integer hashes instead of random number generators."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    T = TypeVar("T", Tensor, NDArray[np.int64])
else:
    T = TypeVar("T")

GOLDEN = 0x9E3779B97F4A7C15 - 2**64
_STEPS = ((30, 0xBF58476D1CE4E5B9 - 2**64), (27, 0x94D049BB133111EB - 2**64))


def mix(keys: T) -> T:
    """The finaliser of SplitMix64: a bijection of 64-bit integers whose values look random.

    Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators (OOPSLA 2014), with the constants of Vigna's
    splitmix64. In int64 the products wrap around, so NumPy and torch agree on every device.

    Args:
        keys: int64 array or tensor of any shape.
    """
    for shift, factor in _STEPS:
        keys = (keys ^ _shifted(keys, shift)) * factor
    return keys ^ _shifted(keys, 31)


def seed_from(*parts: int | str) -> int:
    """A signed 64-bit seed from numbers and texts."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "little", signed=True)


def shuffle_keys(count: int, seed: int) -> NDArray[np.int64]:
    """A random-looking key for each of 0..count-1; sorting by it shuffles."""
    steps = np.arange(1, count + 1, dtype=np.int64) * GOLDEN
    return mix(steps + seed)


def permutation(count: int, seed: int) -> NDArray[np.int64]:
    """0..count-1 in an order that depends on the seed alone."""
    return np.argsort(shuffle_keys(count, seed), kind="stable").astype(np.int64)


def digest(*parts: str | tuple[int, ...] | NDArray[Any]) -> str:
    """SHA-256 of texts, shapes and arrays (their bytes, little-endian), each with its length; 64 hex digits."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            data = np.ascontiguousarray(part, dtype=part.dtype.newbyteorder("<")).reshape(-1).view(np.uint8).data
        else:
            data = memoryview(repr(part).encode())
        total.update(f"{data.nbytes}:".encode())
        total.update(data)
    return total.hexdigest()


def _shifted(keys: T, shift: int) -> T:
    # int64 shifts in copies of the sign; the mask makes the shift a logical one.
    return (keys >> shift) & ((1 << (64 - shift)) - 1)
