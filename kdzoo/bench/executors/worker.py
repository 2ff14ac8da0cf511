"""A worker process: it sets up once, then does one job after the other until the leading process is gone."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import queue
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection

import torch

from kdzoo import foreign
from kdzoo.bench.executors.crew import Began, Ended, Event, Said, Telling
from kdzoo.bench.executors.remote import LabSettings, check_cell
from kdzoo.data import decoding

_STEP_SECONDS = 0.1


@dataclass(frozen=True)
class Raised:
    """What ended the worker, where it could still tell."""

    error: BaseException


def work(pipe: Connection, settings: LabSettings, decoders: int) -> None:
    """Take jobs from a pipe and tell of them.

    The process ends when the other end of the pipe is closed, which the system does however the leading process
    ends, also in the middle of a job: what it writes is made to bear that.

    Args:
        pipe: gives (token, job, pickled news of the lab's ``expected``), and takes events.
        settings: of the lab.
        decoders: processes that may decode images for this one.
    """
    _leave_ctrl_c_to_the_leader()
    inbox: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(pipe, inbox), daemon=True).start()

    def tell(message: Event | Raised) -> None:
        try:
            pipe.send_bytes(pickle.dumps(message))
        except OSError:
            _vanish()

    try:
        decoding.WORKERS = decoders
        lab = settings.make()
        while True:
            # Read here and not where it arrives: two threads that import at once may find modules half made.
            token, job, expected = pickle.loads(inbox.get())
            if expected:
                lab.expected |= pickle.loads(expected)
            torch.set_num_threads(job.threads)
            check_cell(job.cell, lab)
            lab.say_with(partial(say, token, tell))
            tell(Began(token))
            tell(Ended(token, job(lab, Telling(token, tell, _STEP_SECONDS))))
    except BaseException as error:
        tell(Raised(portable(error)))


def say(token: int, tell: Callable[[Event], None], line: str) -> None:
    """Tell of a line for the person."""
    tell(Said(token, line))


def _leave_ctrl_c_to_the_leader() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _listen(pipe: Connection, inbox: queue.SimpleQueue[bytes]) -> None:
    with contextlib.suppress(EOFError, OSError):
        while True:
            inbox.put(pipe.recv_bytes())
    _vanish()


def _vanish() -> None:
    """End at once, from whatever thread, with the processes that decode images for this one."""
    for child in multiprocessing.active_children():
        child.kill()
    os._exit(0)


def portable(error: BaseException) -> Exception:
    """The error with its story as a note; the story alone where it does not pickle, or would end the leader."""
    story = foreign.story_of(error)
    try:
        pickle.loads(pickle.dumps(error))
        error.add_note(story)
    except BaseException:
        return RuntimeError(story)
    return error if isinstance(error, Exception) else RuntimeError(story)
