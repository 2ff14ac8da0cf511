"""The text of hooks.md, made from the hooks' own signatures and docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

from kdzoo import hookspecs

_ARGUMENT = re.compile(r"    (\w+): (.*)")

INTRODUCTION = '''\
# Hooks

This page is made from `kdzoo/hookspecs.py` by `python docs/generate.py`; a test compares the two. Change the docstrings
there, and the words around them in `docs/hooks_page.py`.

A plugin is a module, or any object, with functions that bear a hook's name and are marked by `kdzoo.hookimpl`. An
installed distribution announces it by an [entry point](strategies.md#a-package-that-others-install); a single file is
given by `--plugin FILE.py`. A hook may leave out arguments that it does not need. `kdzoo plugins` lists what each
plugin brings, and why one could not be loaded. The types are those of [the public names](api.md#public-names).

A plugin that wants a line for each epoch, and brings a network of its own:

```python title="watcher.py"
"""Prints the loss of each epoch, and brings a network with two convolutions."""

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.resnet import BasicBlock, ResNet

from kdzoo import Cell, Epoch, Record, hookimpl

kdzoo_api = "1.0"

default_cfgs = generate_default_cfgs({"resnet_narrow": {"first_conv": "conv1", "classifier": "fc"}})


@register_model
def resnet_narrow(pretrained=False, **kwargs):
    shape = {"block": BasicBlock, "layers": (1, 1, 1, 1), "channels": (16, 32, 64, 128)}
    return build_model_with_cfg(ResNet, "resnet_narrow", pretrained, **shape, **kwargs)


@hookimpl
def kdzoo_models() -> list[str]:
    return ["resnet_narrow"]


@hookimpl
def kdzoo_epoch_ended(cell: Cell, epoch: Epoch) -> None:
    print(f"{cell.strategy.name} seed {cell.seed}: epoch {epoch.epoch}, loss {sum(epoch.terms.values()):.3f}")


@hookimpl
def kdzoo_record_written(record: Record) -> None:
    if record.status == "failed":
        print(f"{record.cell.strategy.name} seed {record.cell.seed} failed: {record.reason}")
```

```console
$ kdzoo bench --plugin watcher.py --strategies soft --student resnet_narrow
```

## What a plugin brings
'''

EVENTS = """\
## What a plugin is told of a run

These are called in the process that runs the cell: in that of `kdzoo bench`, or with several workers in the worker's,
which has loaded the plugins for itself. So what a plugin keeps in memory is not shared between cells that run at a
time. A record that kdzoo writes for a worker which died is told in the process of `kdzoo bench`. What is found done is
not told.

Arguments are read-only copies: whatever a hook does to them, no other hook and no cell sees it. What a hook raises
harms nothing but itself. It is told in one line with the plugin, the hook and the error, once for each plugin and hook
in a process; the hook is called again the next time, and the cell and the bench go on. An answer is not read.
"""

TRACKERS = """\
## Trackers

`--log-with tensorboard`, `wandb`, `mlflow`, or several in a comma list, logs every cell by
[accelerate](https://huggingface.co/docs/accelerate)'s trackers: the mean of each loss term (`loss/...`), the learning
rate (`lr`) and the main measure on tune (`tune/top1`) at each epoch, and the measures of the record at the end
(`test/top1`, `test/nll`, `test/agreement`, `cost/train` and others). `pip install "kdzoo[trackers]"` brings all three
libraries. Logging is no part of a cell's identity: a cell that is found done is not logged again.

```console
$ kdzoo bench --strategies soft --log-with tensorboard
$ tensorboard --logdir runs/cells
```

The logs of a cell are in `cells/ID/logs/` of the folder of runs. MLflow keeps all cells in `mlflow.db` of that folder,
unless `MLFLOW_TRACKING_URI` names another place (`mlflow ui --backend-store-uri sqlite:///runs/mlflow.db` shows them).
Weights & Biases sends them to its project `kdzoo`; `WANDB_MODE=offline` keeps them here. A cell that is resumed goes on
in the same run, one that is trained again gets a new one.

A tracker that fails costs no cell, like a hook. One that could not be started twice is left out for the rest of the
process.
"""


def hooks_page() -> str:
    """The whole page."""
    hooks = dict(_hooks())
    brought = [_section(name, hook) for name, hook in hooks.items() if not _tells(hook)]
    told = [_section(name, hook) for name, hook in hooks.items() if _tells(hook)]
    return "\n".join(part.rstrip("\n") + "\n" for part in (INTRODUCTION, *brought, EVENTS, *told, TRACKERS))


def _hooks() -> Iterator[tuple[str, Callable[..., Any]]]:
    """The hooks in the order in which they are written down."""
    for name, value in vars(hookspecs).items():
        if hasattr(value, "kdzoo_spec"):
            yield name, value


def _tells(hook: Callable[..., Any]) -> bool:
    return bool(inspect.signature(hook).parameters)


def _section(name: str, hook: Callable[..., Any]) -> str:
    signature = inspect.signature(hook)
    arguments = ", ".join(f"{one.name}: {one.annotation}" for one in signature.parameters.values())
    lines = [f"### {name}", "", f"`{name}({arguments}) -> {signature.return_annotation}`", ""]
    inside = False
    for line in (inspect.getdoc(hook) or "").splitlines():
        if line == "Args:":
            inside = True
        elif inside and (match := _ARGUMENT.fullmatch(line)):
            lines.append(f"- `{match[1]}`: {match[2]}")
        else:
            lines.append(f"  {line.strip()}" if inside and line.strip() else line)
    return "\n".join(lines).replace("``", "`")
