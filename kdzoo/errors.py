"""The errors that kdzoo tells a person in one sentence, words that such sentences share, and interruptions."""

from __future__ import annotations

import errno
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import SequenceMatcher, get_close_matches
from types import FrameType


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


def counted(number: int, noun: str, plural: str = "") -> str:
    """``1 trial``, ``15 trials``; with the plural where that is not the noun and an s."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def strategies_text(number: int) -> str:
    """``1 strategy``, ``38 strategies``."""
    return counted(number, "strategy", "strategies")


def os_reason(error: OSError) -> str:
    """What the operating system says is wrong, as the end of a sentence."""
    return "the disk is full" if error.errno == errno.ENOSPC else (error.strerror or str(error)).lower()


class LeftError(BaseException):
    """A course was closed from outside. A class of its own, since a GeneratorExit that a strategy raises is that
    strategy's failure."""


class _Interrupted:
    came = False


def _record(number: int, frame: FrameType | None) -> None:
    _Interrupted.came = True
    signal.default_int_handler(number, frame)


@contextmanager
def recording_ctrl_c() -> Iterator[None]:
    """Record Ctrl-C in the ``with`` block; it interrupts as always.

    Where somebody handles SIGINT in their own way, or ignores it, that stays so.
    """
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    _Interrupted.came = False
    signal.signal(signal.SIGINT, _record)
    try:
        yield
    finally:
        _Interrupted.came = False
        signal.signal(signal.SIGINT, signal.default_int_handler)


def raise_if_interrupted(error: BaseException) -> None:
    """Stop if the user interrupted the run; call it before an error of a plugin's code is taken for a result.

    Args:
        error: as it was caught. A plugin may have made it of a KeyboardInterrupt.

    Raises:
        KeyboardInterrupt: the user typed Ctrl-C. Where signals are not recorded, any of its kind counts.
    """
    if _Interrupted.came:
        raise KeyboardInterrupt from error
    if isinstance(error, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        raise error
