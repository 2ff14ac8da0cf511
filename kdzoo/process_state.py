"""What a plugin can change for everybody in its process: read before its code runs, put back behind it, and named.

Imports no torch; its settings count once somebody else has imported it.
"""

from __future__ import annotations

import contextlib
import gc
import io
import locale
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

_VARIABLES = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "CUBLAS_WORKSPACE_CONFIG"),
    *("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE"),
)
"""The environment variables by which torch and kdzoo decide how to compute. Libraries set others when imported."""

_Value: TypeAlias = Any


@dataclass(frozen=True)
class ProcessSetting:
    """One thing that all code of a process shares.

    Args:
        name: in a sentence: ``the default dtype``.
        read: gives its value, which can be compared.
        write: sets it to a value that was read.
        shown: whether its value says anything to a person.
        slow: whether reading it takes tens of microseconds.
        fresh: its value in a process that has just imported torch, for one of torch's that a number depends on.
    """

    name: str
    read: Callable[[], _Value]
    write: Callable[[_Value], object]
    shown: bool = True
    fresh: _Value = None
    slow: bool = False


def _write_folder(folder: _Value) -> None:
    if folder is not None:
        os.chdir(folder)


def _read_folder() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109  # as text, which tells and compares quicker
    except FileNotFoundError:  # somebody removed it
        return None


def _read_variables() -> dict[str, str]:
    return {name: os.environ[name] for name in _VARIABLES if name in os.environ}


def _write_variables(values: _Value) -> None:
    for name in _read_variables().keys() - values.keys():
        del os.environ[name]
    os.environ.update(values)


def _read_handler(number: int) -> Callable[[], _Value]:
    return lambda: signal.getsignal(number)


def _write_handler(number: int) -> Callable[[_Value], object]:
    def write(handler: _Value) -> None:
        # Only the main thread may, and what was not made in Python cannot be put back.
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(number, handler)

    return write


def _read_umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


_spare: dict[tuple[int, _Value], int] = {}
"""Where standard output or error led -> a second descriptor of it, from which a closed one is made again."""
_MOST_SPARE = 8


def _read_stream(name: str, number: int) -> Callable[[], _Value]:
    def read() -> _Value:
        stream = getattr(sys, name)
        try:
            status = os.fstat(number)
            target = (status.st_dev, status.st_ino)
            if (number, target) in _spare:
                _spare[number, target] = _spare.pop((number, target))  # what is in use is dropped last
            else:
                _spare[number, target] = os.dup(number)  # no process that is started inherits it
                if len(_spare) > _MOST_SPARE:
                    os.close(_spare.pop(next(iter(_spare))))
        except OSError:
            target = None
        return stream, bool(getattr(stream, "closed", False)), target

    return read


def _write_stream(name: str, number: int) -> Callable[[_Value], object]:
    def write(value: _Value) -> None:
        stream, closed, target = value
        _, _, now = _read_stream(name, number)()
        if now != target and (number, target) in _spare:
            with contextlib.suppress(OSError):
                os.dup2(_spare[number, target], number)
        if not closed and getattr(stream, "closed", False):
            # It cannot be opened again; another one in its place writes where it wrote.
            encoding = getattr(stream, "encoding", None) or "utf-8"
            raw = open(number, "wb", buffering=0, closefd=False)  # noqa: SIM115  # lives as long as the process
            stream = io.TextIOWrapper(raw, encoding, "backslashreplace", write_through=True)
        setattr(sys, name, stream)

    return write


_PLAIN: Sequence[ProcessSetting] = (
    ProcessSetting("the current folder", _read_folder, _write_folder),
    ProcessSetting("environment variables", _read_variables, _write_variables, shown=False, slow=True),
    ProcessSetting("standard output", _read_stream("stdout", 1), _write_stream("stdout", 1), shown=False, slow=True),
    ProcessSetting("standard error", _read_stream("stderr", 2), _write_stream("stderr", 2), shown=False, slow=True),
    *(
        ProcessSetting(f"the handler of {number.name}", _read_handler(number), _write_handler(number), shown=False)
        for number in (signal.SIGINT, signal.SIGTERM)
    ),
    ProcessSetting("the mask of new files", _read_umask, os.umask),
    ProcessSetting(
        "the locale", lambda: locale.setlocale(locale.LC_ALL), lambda value: locale.setlocale(locale.LC_ALL, value)
    ),
    ProcessSetting("whether garbage is collected", gc.isenabled, lambda on: gc.enable() if on else gc.disable()),
)


def _torch_settings(torch: Any) -> list[ProcessSetting]:
    backends = torch.backends

    def precision_of(place: Any) -> ProcessSetting:
        return ProcessSetting(
            "the precision of float32",
            lambda: place.fp32_precision,
            lambda value: setattr(place, "fp32_precision", value),
            shown=False,
        )

    def flag(name: str, place: Any, field: str) -> ProcessSetting:
        return ProcessSetting(name, lambda: getattr(place, field), lambda value: setattr(place, field, value))

    def read_precision() -> str | None:
        try:
            return str(torch.get_float32_matmul_precision())
        except RuntimeError:  # it does not say it once somebody has set the newer forms apart
            return None

    def write_precision(value: str | None) -> None:
        if value is not None:
            torch.set_float32_matmul_precision(value)

    def write_device(device: _Value) -> None:
        # Naming the CPU would slow down each call: see torch.set_default_device.
        torch.set_default_device(None if device.type == "cpu" else device)

    def write_inference(on: bool) -> None:
        _kept.append(torch.inference_mode(on))
        _kept[-1].__enter__()

    return [
        ProcessSetting("grad mode", torch.is_grad_enabled, torch.set_grad_enabled, fresh=True),
        ProcessSetting("inference mode", torch.is_inference_mode_enabled, write_inference, fresh=False),
        ProcessSetting("the default dtype", torch.get_default_dtype, torch.set_default_dtype, fresh=torch.float32),
        ProcessSetting("the default device", torch.get_default_device, write_device, fresh=torch.device("cpu")),
        ProcessSetting("the number of threads", torch.get_num_threads, torch.set_num_threads),
        ProcessSetting(
            "the deterministic mode", torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode, fresh=0
        ),
        ProcessSetting("anomaly mode", torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly, fresh=False),
        ProcessSetting("autocast's cache", torch.is_autocast_cache_enabled, torch.set_autocast_cache_enabled),
        *(
            setting
            for kind in ("cpu", "cuda")
            for setting in (
                ProcessSetting(
                    f"autocast on {kind}",
                    partial(torch.is_autocast_enabled, kind),
                    partial(torch.set_autocast_enabled, kind),
                ),
                ProcessSetting(
                    f"autocast's dtype on {kind}",
                    partial(torch.get_autocast_dtype, kind),
                    partial(torch.set_autocast_dtype, kind),
                ),
            )
        ),
        # The older form first: setting it sets some of the newer ones.
        ProcessSetting("the precision of float32", read_precision, write_precision, shown=False, fresh="highest"),
        precision_of(backends.cuda.matmul),
        precision_of(backends.cudnn.conv),
        precision_of(backends.mkldnn.matmul),
        precision_of(backends.mkldnn.conv),
        flag("cudnn", backends.cudnn, "enabled"),
        flag("cudnn's benchmark mode", backends.cudnn, "benchmark"),
        flag("cudnn's deterministic mode", backends.cudnn, "deterministic"),
        ProcessSetting("mkldnn", lambda: backends.mkldnn.enabled, torch._C._set_mkldnn_enabled),
    ]


_kept: list[Any] = []
"""Contexts that stay open, since they end with the object."""

_of_torch: list[ProcessSetting] = []


def _torch() -> Sequence[ProcessSetting]:
    """The settings of torch; none before somebody imported it."""
    torch = sys.modules.get("torch")
    if not _of_torch and torch is not None and hasattr(torch, "backends"):
        _of_torch.extend(_torch_settings(torch))
    return _of_torch


@dataclass(frozen=True)
class ProcessState:
    """The settings as they were at a moment, and what was changed since and put back, in words."""

    values: tuple[tuple[ProcessSetting, _Value], ...]
    changed: dict[str, None] = field(default_factory=dict)

    @classmethod
    def now(cls, *, plain: bool = True, quick: bool = False) -> ProcessState:
        """What it is now.

        Args:
            plain: whether what is not torch's counts.
            quick: leave out the streams and the environment, which take most of the time; for what is done each step.
        """
        settings = [setting for setting in (_PLAIN if plain else ()) if not (quick and setting.slow)]
        return cls(tuple((setting, _read(setting)) for setting in (*settings, *_torch())))

    def put_back(self) -> None:
        """Make everything as it was, and note what had been changed."""
        values = list(self.values)
        if not any(setting is one for setting, _ in values for one in _of_torch[:1]):
            values += [(setting, setting.fresh) for setting in _torch() if setting.fresh is not None]
        for setting, before in values:
            now = _read(setting)
            if now != before:
                with contextlib.suppress(OSError, ValueError, RuntimeError):
                    setting.write(before)
                self.changed[f"{setting.name} to {_value_text(now)}" if setting.shown else setting.name] = None

    def summary(self) -> str:
        """What was put back, as the end of a sentence; empty where nothing was."""
        return f"changed {', '.join(self.changed)}, which was restored" if self.changed else ""


def _read(setting: ProcessSetting) -> _Value:
    try:
        return setting.read()
    except Exception as error:  # a stream that somebody put there may be anything
        return type(error)


def _value_text(value: _Value) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return Path(value).name or "/" if isinstance(value, str) and os.sep in value else str(value).removeprefix("torch.")
