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

A plugin is a module, or any object, with functions that have a hook's name and are marked by `kdzoo.hookimpl`. An
installed distribution announces it by an [entry point](strategies.md#a-package-that-others-install); a single file is
passed by `--plugin FILE.py`. A hook may omit arguments that it does not need. `kdzoo plugins` lists what each plugin
provides, or why it failed to load. The types are those of [the public names](api.md#public-names).

`python docs/generate.py` makes this page from `kdzoo/hookspecs.py`, and a test compares the two. Edit the docstrings
there, and the other text in `docs/hooks_page.py`.

Example: a plugin that prints a line for each epoch, and provides a network:

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

## What a plugin provides
'''

EVENTS = """\
## Events of a run

These hooks are called in the process that runs the cell: in `kdzoo bench` itself, or with several workers in the
worker, which loads the plugins separately. So a plugin's memory is not shared between cells that run at the same time.
If kdzoo writes a record for a worker that died, the hook is called in the process of `kdzoo bench`. Finished cells that
are found again cause no calls.

Arguments are read-only copies: changes have no effect on other hooks or on the cell. If a hook raises an exception, the
cell and the bench continue. The error is reported in one line with the plugin and the hook, once for each plugin and
hook in a process; the hook is called again the next time. Return values are ignored.
"""

TRACKERS = """\
## Trackers

`--log-with tensorboard`, `wandb`, `mlflow`, or several in a comma list, logs every cell by
[accelerate](https://huggingface.co/docs/accelerate)'s trackers: the mean of each loss term (`loss/...`), the learning
rate (`lr`) and the main measure on tune (`tune/top1`) at each epoch, and the measures of the record at the end
(`test/top1`, `test/nll`, `test/agreement`, `cost/train` and others). `pip install "kdzoo[trackers]"` brings all three
libraries. Logging is not part of a cell's identity: a finished cell is not logged again.

```console
$ kdzoo bench --strategies soft --log-with tensorboard
$ tensorboard --logdir runs/cells
```

The logs of a cell are in `cells/ID/logs/` of the run directory. MLflow stores all cells in `mlflow.db` there, unless
`MLFLOW_TRACKING_URI` names another place (`mlflow ui --backend-store-uri sqlite:///runs/mlflow.db` shows them). Weights
& Biases sends them to its project `kdzoo`; `WANDB_MODE=offline` stores them locally. A resumed cell continues in the
same tracker run; a cell that is trained again gets a new one.

Like a hook, a tracker that fails does not fail the cell. A tracker that failed to start twice is switched off for the
rest of the process.
"""


def hooks_page() -> str:
    """The whole page."""
    hooks = dict(_hooks())
    provided = [_section(name, hook) for name, hook in hooks.items() if not _is_event(hook)]
    events = [_section(name, hook) for name, hook in hooks.items() if _is_event(hook)]
    return "\n".join(part.rstrip("\n") + "\n" for part in (INTRODUCTION, *provided, EVENTS, *events, TRACKERS))


def _hooks() -> Iterator[tuple[str, Callable[..., Any]]]:
    """The hooks in the order in which they are written down."""
    for name, value in vars(hookspecs).items():
        if hasattr(value, "kdzoo_spec"):
            yield name, value


def _is_event(hook: Callable[..., Any]) -> bool:
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
