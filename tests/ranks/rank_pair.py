"""Two processes that do what they are told at the same time, as ranks of one world that meet by gloo."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import socket
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch
import torch.distributed as dist

from kdzoo.engine.ranks import World

SIZE = 2
_SECONDS = 120


class Pair:
    """The processes; both get each call, and what they give comes back in the order of their ranks."""

    def __enter__(self) -> Pair:
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        self._processes = []
        for rank in range(SIZE):
            here, there = context.Pipe()
            process = context.Process(target=_serve, args=(rank, there), daemon=True)
            process.start()
            self._pipes.append(here)
            self._processes.append(process)
        return self

    def __exit__(self, *error: object) -> None:
        for process in self._processes:
            process.kill()
            process.join()

    def call(self, job: Callable[..., Any], *arguments: Any) -> list[Any]:
        """Run a function of a module in both, as a launcher would have started them: each may join the world once."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        for pipe in self._pipes:
            pipe.send((port, job, arguments))
        told = []
        for pipe in self._pipes:
            assert pipe.poll(_SECONDS), "a rank hangs"
            told.append(pipe.recv())
        for ok, value in told:
            assert ok, value
        return [value for _, value in told]

    def together(self, job: Callable[..., Any], *arguments: Any) -> list[Any]:
        """The same, for a function whose first argument is the world."""
        return self.call(_joined, job, *arguments)


def _joined(job: Callable[..., Any], *arguments: Any) -> Any:
    return job(World.join(torch.device("cpu")), *arguments)


def _serve(rank: int, pipe: Connection) -> None:
    torch.set_num_threads(1)
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": SIZE, "LOCAL_WORLD_SIZE": SIZE, "MASTER_ADDR": "127.0.0.1"}
    os.environ |= {name: str(value) for name, value in names.items()}
    while True:
        port, job, arguments = pipe.recv()
        os.environ["MASTER_PORT"] = str(port)
        try:
            pipe.send((True, job(*arguments)))
        except BaseException:
            pipe.send((False, traceback.format_exc()))
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
