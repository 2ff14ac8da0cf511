"""Two processes that do what they are told at the same time, as ranks of one world that meet by gloo."""

from __future__ import annotations

import contextlib
import faulthandler
import io
import multiprocessing
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

import torch
import torch.distributed as dist
from waiting import PATIENCE

from kdzoo.engine.world import World

SIZE = 2
_LAST_WORDS = 20.0
"""Seconds for one rank to say what it makes of the failure of the other."""


@dataclass(frozen=True)
class _Rank:
    process: SpawnProcess
    pipe: Connection


class Pair:
    """The processes; both get each call, and what they give comes back in the order of their ranks.

    A call that fails ends both, as they may be out of step or still busy with it; the next call starts others.

    Attributes:
        patience: seconds that a call may take.
    """

    patience = PATIENCE

    def __enter__(self) -> Pair:
        self._ranks: list[_Rank] = []
        return self

    def __exit__(self, *error: object) -> None:
        self._end()

    def call(self, job: Callable[..., Any], *arguments: Any) -> list[Any]:
        """Run a function of a module in both, as a launcher would have started them: each may join the world once."""
        if not self._ranks:
            self._start()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        for rank in self._ranks:
            rank.pipe.send((port, job, arguments))
        values, stories = self._answers()
        if stories:
            self._end()
            raise AssertionError("\n".join(f"rank {number} {story}" for number, story in stories.items()))
        return [values[number] for number in range(SIZE)]

    def together(self, job: Callable[..., Any], *arguments: Any) -> list[Any]:
        """The same, for a function whose first argument is the world."""
        return self.call(_joined, job, *arguments)

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        for number in range(SIZE):
            here, there = context.Pipe()
            process = context.Process(target=_serve, args=(number, there), daemon=True)
            process.start()
            there.close()
            self._ranks.append(_Rank(process, here))

    def _end(self) -> None:
        for rank in self._ranks:
            rank.process.kill()
            rank.process.join()
            rank.pipe.close()
        self._ranks = []

    def _answers(self) -> tuple[dict[int, Any], dict[int, str]]:
        """What the ranks gave, and the stories of those that gave nothing."""
        values: dict[int, Any] = {}
        stories: dict[int, str] = {}
        began, left = time.monotonic(), dict(enumerate(self._ranks))
        deadline = began + self.patience
        while left and (ready := wait([rank.pipe for rank in left.values()], max(0.0, deadline - time.monotonic()))):
            for number in [number for number, rank in left.items() if rank.pipe in ready]:
                rank = left.pop(number)
                try:
                    ok, value = rank.pipe.recv()
                except EOFError:
                    rank.process.join()
                    ok, value = False, f"ended with exit code {rank.process.exitcode}"
                (values if ok else stories)[number] = value
                if not ok:
                    deadline = min(deadline, time.monotonic() + _LAST_WORDS)
        for number, rank in left.items():
            os.kill(rank.process.pid or 0, signal.SIGUSR1)
            stories[number] = f"did not answer in {time.monotonic() - began:.0f} s; standard error shows where it is"
        time.sleep(1.0 if left else 0.0)
        return values, stories


def _joined(job: Callable[..., Any], *arguments: Any) -> Any:
    return job(World.join(torch.device("cpu")), *arguments)


def _serve(rank: int, pipe: Connection) -> None:
    faulthandler.register(signal.SIGUSR1, file=sys.__stderr__)
    torch.set_num_threads(1)
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": SIZE, "LOCAL_WORLD_SIZE": SIZE, "MASTER_ADDR": "127.0.0.1"}
    os.environ |= {name: str(value) for name, value in names.items()}
    while True:
        port, job, arguments = pipe.recv()
        os.environ["MASTER_PORT"] = str(port)
        try:
            pipe.send((True, job(*arguments)))
        except BaseException:
            pipe.send((False, f"failed: {traceback.format_exc()}"))
        if dist.is_initialized():
            dist.destroy_process_group()


def kdzoo(*arguments: Any) -> tuple[int, str, str]:
    """Run a command as the installed script does; gives exit code, output and errors."""
    from kdzoo.cli import main

    out, err = io.StringIO(), io.StringIO()
    before, sys.argv = sys.argv, ["kdzoo", *map(str, arguments)]
    code: Any = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as end:
        code = end.code or 0
    finally:
        sys.argv = before
    return code, out.getvalue(), err.getvalue()
