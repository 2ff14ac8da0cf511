"""The options of a bench, in one table: keys of its configuration, flags of the command line, lines of the reference.

Nothing is imported here: ``kdzoo --help`` reads it. Types, defaults and validation of keys are in
:class:`kdzoo.config.BenchConfig`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_WHAT, _HOW, _TUNE, _WHERE = "What to compare", "How to train", "Tuning", "Where and when"
_SCALE = "Several cells at a time"


@dataclass(frozen=True)
class Option:
    """One option.

    Args:
        name: the key in a bench file.
        panel: heading of ``--help`` under which it stands.
        metavar: what ``--help`` writes for the value; empty for a switch.
        help: for ``--help``.
        kind: type of the flag's value.
        many: whether the flag may be repeated.
        flags: how it is written, where that is not the name with dashes.
        default: of the flag; None leaves the value to the file and to the configuration.
        key: for the reference of keys, where a bench file says it otherwise than a flag.
        needs: what must be asked for too: ``tune``, or the executor ``ray`` or ``command``.
        flag: whether the shared flags have it.
    """

    name: str
    panel: str
    metavar: str
    help: str
    kind: type = str
    many: bool = False
    flags: tuple[str, ...] = ()
    default: str | None = None
    key: str = ""
    needs: str = ""
    flag: bool = True

    @property
    def spelled(self) -> tuple[str, ...]:
        """The flag, as typed; a switch that can be turned off has both forms in one text."""
        return self.flags or ("--" + self.name.replace("_", "-"),)


_TABLE = (
    Option(
        "strategies",
        _WHAT,
        "NAMES",
        "Strategies, comma-separated, or all; soft+at combines two. ce is always included.",
    ),
    Option(
        "teacher",
        _WHAT,
        "MODELS",
        "timm models, comma-separated; arguments as in NAME:patch_size=4; A+B teaches the mean of both.",
    ),
    Option("student", _WHAT, "MODELS", "timm models, comma-separated."),
    Option("pairs", _WHAT, "", "[teacher, student] pairs, instead of teacher and student.", flag=False),
    Option(
        "dataset",
        _WHAT,
        "NAMES",
        "Datasets, comma-separated; NAME[:5000] takes a subset. Escape a comma or bracket in a name with a backslash.",
    ),
    Option(
        "seeds", _WHAT, "N", "Number of seeds, with one training of each strategy per seed; by default 3.", kind=int
    ),
    Option(
        "config",
        _WHAT,
        "NAME|FILE",
        "A shipped bench (quick, digits, zoo, fashion_mnist, cifar100, imagenet) or a YAML file; flags override it.",
        default="quick",
    ),
    Option("plugin", _WHAT, "FILE", "A Python file with strategies; may be repeated.", kind=Path, many=True),
    Option("recipe", _HOW, "NAME|FILE", "A shipped recipe or a YAML file."),
    Option("epochs", _HOW, "N", "Epochs of each training.", kind=int),
    Option(
        "set",
        _HOW,
        "KEY=VALUE",
        "strategy.param=value or recipe.key=value; may be repeated.",
        many=True,
        key="Single changes: strategy.param or recipe.key -> value.",
    ),
    Option(
        "balance",
        _HOW,
        "RATIO",
        "Scale each strategy's terms so that at first their gradient is RATIO times the labels'; 0 (the default): no.",
        kind=float,
        key="Scale each strategy's terms so that over the first steps their gradient is so many times that of the "
        "hard-label loss; by default (0) they are not scaled.",
    ),
    Option(
        "defaults",
        _HOW,
        "KIND",
        "Which values strategies take for what is not set: cifar (the default) or imagenet, as their cards list them.",
    ),
    Option("teacher_weights", _HOW, "KIND|FILE", "auto (the default), train, pretrained, or a file of weights."),
    Option(
        "teacher_input",
        _HOW,
        "KEY=VALUE,...",
        "Input of a teacher from a file, in place of what the file says: "
        "mean=0.5,std=0.5,size=32,crop=0.9,interpolation=bicubic.",
        key="Input of the network of a weight file, in place of what the file says: any of mean, std, size, crop "
        "and interpolation; rest: data ignores the file.",
    ),
    Option(
        "trust_teacher",
        _HOW,
        "",
        "Allow a teacher that is not better than chance; its records and the board are marked.",
        kind=bool,
    ),
    Option("teacher_recipe", _HOW, "NAME|FILE", "Recipe of the teacher's training; by default the students'."),
    Option("teacher_epochs", _HOW, "N", "Epochs of the teacher's training.", kind=int),
    Option(
        "student_init",
        _HOW,
        "KIND",
        "random (the default), or pretrained: students start from timm's weights, with a new head.",
        key="Initial weights of students: random, or timm's pretrained weights with a head for the dataset's "
        "classes; required if a student's name includes a tag of weights.",
    ),
    Option("img_size", _HOW, "PIXELS", "Size of the images, pixels: 32 or 32x48."),
    Option("precision", _HOW, "KIND", "fp32, bf16 or fp16."),
    Option(
        "views",
        _HOW,
        "K",
        "Augmented views of each sample, repeated over the epochs; by default (0) each epoch has a new view.",
        kind=int,
    ),
    Option(
        "eval_every",
        _HOW,
        "K",
        "Evaluate on tune every K epochs and after the last; by default after each. Results do not change.",
        kind=int,
    ),
    Option(
        "compile",
        _WHERE,
        "",
        "Compile student and teacher with torch.compile, which takes minutes before the first step.",
        kind=bool,
    ),
    Option(
        "tune",
        _TUNE,
        "N",
        "Tuning trials for each strategy and pair; winners are retrained on fresh seeds.",
        kind=int,
        flags=("--tune", "--trials"),
    ),
    Option("tune_epochs", _TUNE, "N", "Epochs of a trial; by default those of the training.", kind=int, needs="tune"),
    Option(
        "tune_recipe",
        _TUNE,
        "KEYS",
        "Recipe keys to search too, the same for every strategy: lr, weight_decay, momentum, label_smoothing.",
        needs="tune",
    ),
    Option(
        "search",
        _TUNE,
        "KEY=RANGE",
        "strategy.param=low:high[:log], in place of the declared range; may be repeated.",
        many=True,
        key="strategy.param or recipe.key -> low:high or low:high:log, in place of the declared range.",
        needs="tune",
    ),
    Option(
        "pruner",
        _TUNE,
        "KIND",
        "Pruner that stops trials early: none (the default), median or hyperband.",
        needs="tune",
    ),
    Option(
        "tune_batch",
        _TUNE,
        "N",
        "Trials of a study that are sampled at a time, to run in parallel; by default 1.",
        kind=int,
        needs="tune",
    ),
    Option("device", _WHERE, "KIND", "auto (the default), cpu, cuda or mps."),
    Option("data_dir", _WHERE, "FOLDER", "Folder of the data."),
    Option("download", _WHERE, "", "Download missing data.", kind=bool),
    Option("out", _WHERE, "FOLDER", "Folder of the runs; by default runs."),
    Option(
        "rerun",
        _WHERE,
        "WHICH",
        "Finished cells to run again: never, safe (the default: failed cells that did not crash their process), "
        "failed or always.",
    ),
    Option(
        "log_with",
        _WHERE,
        "NAMES",
        "Trackers that log each cell, comma-separated: tensorboard, wandb, mlflow, or a plugin's.",
    ),
    Option(
        "bank",
        _WHERE,
        "KIND",
        "Where to cache the teacher's signals for the cells that share them: auto (the default), ram, disk, or off.",
        key="Where to cache the teacher's signals for the cells that share them: in memory (ram), on disk, "
        "nowhere (off), or wherever they fit and save time (auto).",
    ),
    Option("bank_budget", _WHERE, "SIZE", "Size limit of the cache; by default 4GiB."),
    Option(
        "bank_dtype",
        _WHERE,
        "TYPE",
        "Data type of cached embeddings and stages: float16 (the default), bfloat16 or float32.",
    ),
    Option(
        "workers",
        _SCALE,
        "N|auto",
        "Cells to run in parallel, in processes that share the CPU cores: a number (by default 1), or auto to measure.",
        key="Cells to run in parallel: a number, or auto to measure what is fastest; by default 1, with Ray as "
        "many as fit on the cluster, with a command 256.",
    ),
    Option(
        "lockstep",
        _SCALE,
        "N",
        "Cells of a lockstep group, which share each on-the-fly pass of the teacher; by default 1.",
        kind=int,
    ),
    Option("executor", _SCALE, "KIND", "local (the default), ray for a Ray cluster, or command for COMMAND."),
    Option(
        "command",
        _SCALE,
        "COMMAND",
        "Command that starts a cell with --executor command, without a shell: 'sbatch --wait --wrap {command}'.",
        flag=False,
        needs="command",
    ),
    Option(
        "address",
        _SCALE,
        "ADDRESS",
        "The Ray cluster: auto, HOST:PORT or ray://HOST:PORT.",
        key="Address of the Ray cluster; by default a cluster that runs on this machine, else a new cluster for "
        "the bench.",
        needs="ray",
    ),
    Option(
        "shared_store",
        _SCALE,
        "",
        "Whether all machines see --out; otherwise results are sent back.",
        kind=bool,
        flags=("--shared-store/--no-shared-store",),
        needs="ray",
    ),
    Option("cpus_per_cell", _SCALE, "N", "CPU cores that a cell requests; by default 1.", kind=int, needs="ray"),
    Option(
        "gpus_per_cell",
        _SCALE,
        "X",
        "GPUs that a cell requests; by default 1 if there are any.",
        kind=float,
        needs="ray",
    ),
)

OPTIONS = {option.name: option for option in _TABLE}
"""In the order in which ``--help`` lists them. ``config`` and ``plugin`` are flags alone."""


def split_list(text: str) -> tuple[str, ...]:
    r"""The names of a comma list; spaces around them do not count, and ``\,`` is a comma inside a name."""
    pieces = (piece.strip() for piece in re.split(r"(?<!\\),", text))
    return tuple(piece.replace(r"\,", ",") for piece in pieces if piece)
