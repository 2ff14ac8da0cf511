"""Interruptions of a run, as opposed to errors that plugins raise. No torch here."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


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
        KeyboardInterrupt: the user typed Ctrl-C. where signals are not recorded, any of its kind counts.
    """
    if _Interrupted.came:
        raise KeyboardInterrupt from error
    if isinstance(error, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        raise error
