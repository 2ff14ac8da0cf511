"""Files of weights in a store: their header, whether they are intact, and teachers that must be retrained."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from kdzoo.cell import Cell
from kdzoo.data.load import LoadedData
from kdzoo.errors import OddFileError, UsageError, os_reason
from kdzoo.files import check_plain, set_aside
from kdzoo.models.preprocessing import short_numbers
from kdzoo.models.taps import TappedModel
from kdzoo.models.weights import file_digest
from kdzoo.models.zoo import plain_arguments
from kdzoo.needed import trainings
from kdzoo.record import Record
from kdzoo.refs import ModelRef
from kdzoo.store import Store

WEIGHTS = "student.safetensors"
PEER_WEIGHTS = "peer.safetensors"
"""Of a second student, where there is one."""
DEPLOYED = "deployed.safetensors"
"""The modules that a strategy leaves in the student, where it has any."""


def weights_fault(path: Path, record: Record) -> str:
    """What is wrong with a file of weights; empty where nothing is.

    Args:
        path: the file, in the folder of a cell.
        record: the cell's. One that an older kdzoo wrote has no digest, and then the file need only be a whole one.

    Raises:
        UsageError: it may not be read.
    """
    digest = record.weights.get(path.name)
    try:
        check_plain(path)
        if digest:
            return "" if file_digest(path) == digest else "is not the one that the cell's record was made with"
        with safe_open(path, framework="pt"):
            return ""
    except FileNotFoundError:
        return "is gone"
    except OddFileError as error:
        return str(error)
    except SafetensorError:
        return "is damaged"
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {os_reason(error)}") from None


def teachers_again(cells: Iterable[Cell], store: Store, must_run: Callable[[Cell], bool]) -> list[Cell]:
    """The trainings of teachers that are done and whose weights are gone or damaged, as far as a cell needs them.

    What is left of such a training is set aside, and said. It is trained again from nothing, which gives the same
    weights on the same kind of processor.

    Args:
        cells: what a bench will run.
        store: where they live.
        must_run: whether a cell has no result yet. A teacher that nobody needs any more may lack its weights.
    """
    needed: dict[str, Cell] = {}
    for cell in cells:
        lacking = [training for training in trainings(cell) if training.id not in needed]
        if lacking and must_run(cell):
            needed |= {training.id: training for training in lacking}
    return [training for training in needed.values() if _set_aside(training, store)]


def _set_aside(training: Cell, store: Store) -> bool:
    """Whether a training was done and is not any more."""
    folder = store.folder(training.id)
    with store.claim(training.id) as mine:
        record = store.find_record(training.id) if mine else None
        fault = weights_fault(folder / WEIGHTS, record) if record and record.status == "done" else ""
        if not fault:
            return False
        with store.writing():
            # The record last: where this is cut short, the next bench finds the weights gone and goes on.
            there = [name for name in (WEIGHTS, "record.json") if (folder / name).exists()]
            kept = [set_aside(folder / name).name for name in there]
    what = f"the {training.kind} {training.student}: {folder / WEIGHTS} {fault}"
    store.say(f"{what}; it is retrained ({' and '.join(kept)} {'are' if len(kept) > 1 else 'is'} the old file)")
    return True


def weights_header(cell: Cell, model: ModelRef, student: TappedModel, data: LoadedData) -> dict[str, Any]:
    """The header of a cell's weights; docs/models.md describes it.

    Args:
        cell: the cell.
        model: what it trained: its student, or its second one.
        student: the same, trained.
        data: its dataset.
    """
    return {
        "cell": cell.id,
        "classes": data.classes,
        "create_model": plain_arguments(model, cell.data, own_input=cell.starts_pretrained),
        "in_chans": cell.data.channels,
        "input_size": student.input_size,
        "kdzoo": version("kdzoo"),
        "mean": short_numbers(student.mean.flatten().tolist()),
        "std": short_numbers(student.std.flatten().tolist()),
        "strategy": cell.strategy.name,
        # How an original becomes the image that is augmented, and then resized to input_size.
        "crop_mode": "center",
        "crop_pct": data.shown.crop,
        "img_size": cell.data.img_size,
        "interpolation": data.shown.interpolation,
        "margin": data.shown.margin,
    }
