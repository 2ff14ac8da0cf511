"""The errors that kdzoo tells a person in one sentence, and words that such sentences share."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from difflib import SequenceMatcher, get_close_matches


class KdzooError(Exception):
    """What went wrong, in one sentence that says how to mend it; the command line prints it without a traceback."""


class UsageError(KdzooError):
    """The person asked for something that cannot be: a wrong name, value, file or folder. Exit code 2."""


class OddFileError(KdzooError):
    """What stands in the place of a file is none that is read: a folder, a pipe, a device, or larger than it may be.

    The message says what it is and lacks the path, which who asked for the file knows.
    """


class DamagedError(KdzooError):
    """A file that kdzoo keeps is not what it wrote; what the file told can be made again."""


class NewerError(KdzooError):
    """A file was written by a newer kdzoo, and is left as it is."""


class PairError(KdzooError):
    """A strategy cannot serve this teacher and student. Told before anything trains; the other cells run."""


class NonFiniteLossError(KdzooError):
    """A loss became NaN or infinite; the cell fails and says where."""


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """One sentence for an unknown name, with the closest known ones.

    Args:
        kind: what the name should have named, for example ``"strategy"``.
        name: the name as given.
        known: the names that would have been right.
    """
    names = sorted(set(known))
    close = get_close_matches(name, names, n=3, cutoff=0.5)
    # Among many names a second and third are always there; only those that are about as near as the first help.
    close = [each for each in close if _likeness(name, each) > _likeness(name, close[0]) - 0.1]
    if close:
        return f"unknown {kind} {name!r}; did you mean {' or '.join(close)}?"
    if len(names) <= 20:
        return f"unknown {kind} {name!r}; known: {', '.join(names) or 'none'}"
    return f"unknown {kind} {name!r}; none of the {len(names):,} known ones is close to it"


def _likeness(name: str, known: str) -> float:
    return SequenceMatcher(None, known, name).ratio()


def counted(number: int, noun: str) -> str:
    """``1 trial``, ``15 trials``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def os_reason(error: OSError) -> str:
    """What the operating system says is wrong, as the end of a sentence."""
    return "the disk is full" if error.errno == errno.ENOSPC else (error.strerror or str(error)).lower()
