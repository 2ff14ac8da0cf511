"""What ends a run from outside, told from what other people's code raises. No torch here."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class LeftError(BaseException):
    """A course was closed from outside. A class of its own, since a GeneratorExit that a strategy raises is that
    strategy's failure."""


class _Noted:
    came = False


def _note(number: int, frame: FrameType | None) -> None:
    _Noted.came = True
    signal.default_int_handler(number, frame)


@contextmanager
def noting_ctrl_c() -> Iterator[None]:
    """In the ``with`` block Ctrl-C is noted, and interrupts as always.

    Where somebody handles SIGINT in their own way, or ignores it, that stays so.
    """
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    _Noted.came = False
    signal.signal(signal.SIGINT, _note)
    try:
        yield
    finally:
        _Noted.came = False
        signal.signal(signal.SIGINT, signal.default_int_handler)


def heed(error: BaseException) -> None:
    """Go on to stop where a person wants to; call it before an error of other people's code is taken for a result.

    Args:
        error: as it was caught. A plugin may have made it of a KeyboardInterrupt.

    Raises:
        KeyboardInterrupt: somebody typed Ctrl-C. Where signals are not noted, and may come, each one counts as typed.
    """
    if _Noted.came:
        raise KeyboardInterrupt from error
    if isinstance(error, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        raise error
