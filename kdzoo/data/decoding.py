"""The source whose images are decoded on the way, by worker processes."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from kdzoo import foreign
from kdzoo.data.augment import augment, to_float
from kdzoo.data.dataset import Samples
from kdzoo.data.hashing import seed_from
from kdzoo.data.loaders import ImageSource, Request
from kdzoo.data.rgb import to_rgb
from kdzoo.errors import UsageError, raise_if_interrupted
from kdzoo.recipe import Augment

if TYPE_CHECKING:
    from PIL.Image import Image


CROP, INTERPOLATION = 0.875, "bilinear"
"""Share of the height and width, around the middle, that is shown where nothing is augmented (timm's default), and how
images are brought to their size. Another value makes other pixels of the same files."""
WORKERS = min(8, os.cpu_count() or 1)
"""Processes that decode files. The batches do not depend on it."""
WORTH_WORKERS = 512
"""Fewer samples than this are decoded in the main process: starting workers would take longer."""
_LONGEST = 64
"""Bytes of a folder below which Python makes a socket: the whole path may have 103, and 33 of them are the name."""


class FileSource(ImageSource):
    """Images that are decoded one at a time; timm's transforms bring them to size.

    The resized crop and the automatic policy need the whole image and are done where it is decoded, with random
    states seeded by (view, sample); the rest of the augmentation is done on the batch, as for images in memory.

    Args:
        samples: N images with their labels.
        img_size: height and width of the batches.
        workers: processes that decode.
    """

    channels = 3

    def __init__(self, samples: Samples, img_size: tuple[int, int], *, workers: int | None = None) -> None:
        self.samples, self._img_size = samples, img_size
        self._workers = workers

    def check(self, spec: Augment) -> None:
        """See :meth:`ImageSource.check`."""
        file_transform(self._img_size, spec)

    def batches(
        self, requests: Iterable[Request], spec: Augment | None, fill: tuple[float, ...], device: torch.device
    ) -> Iterator[Tensor]:
        """See :meth:`ImageSource.batches`.

        Raises:
            UsageError: a sample cannot be decoded.
        """
        asked = list(requests)
        size = sum(len(request.ids) for request in asked)
        default = WORKERS if size >= WORTH_WORKERS else 0
        loader: DataLoader[Any] = DataLoader(
            _Decoded(self.samples, file_transform(self._img_size, spec)),
            batch_sampler=_Keys(asked),
            num_workers=default if self._workers is None else self._workers,
            collate_fn=_collate,
            worker_init_fn=_keep_sockets_short,
            pin_memory=device.type == "cuda",
            # Without a generator of its own the loader would draw a seed from the global one.
            generator=torch.Generator().manual_seed(0),
        )
        on_batch = None if spec is None else spec.model_copy(update={"resized_crop": 0.0, "auto": ""})
        colour = torch.tensor(fill, device=device)
        for request, made in zip(asked, loader, strict=True):
            if isinstance(made, str):
                raise UsageError(made)
            images = made.to(device, non_blocking=True)
            if on_batch is None:
                yield to_float(images)
            else:
                ids, views = (torch.from_numpy(part).to(device) for part in request)
                yield augment(images, ids, views, on_batch, colour)


def _keep_sockets_short(_: int) -> None:
    """Where TMPDIR is a long path, a worker that hands over a batch by a socket below it would wait for ever."""
    if len(os.fsencode(tempfile.gettempdir())) > _LONGEST and Path("/tmp").is_dir():
        tempfile.tempdir = "/tmp"


class _Decoded(Dataset[Any]):
    """Decoded, resized uint8 images by (view, sample); an unreadable one gives its error's sentence."""

    def __init__(self, samples: Samples, transform: Callable[[Image], Tensor]) -> None:
        self.samples, self.transform = samples, transform
        self.homes = foreign.homes_of_samples(samples)

    def __getitem__(self, key: tuple[int, int]) -> Tensor | str:
        view, sample = key
        try:
            image = to_rgb(self.samples[sample][0])
        except UsageError as error:
            # An exception would reach the main process with the worker's traceback inside its message.
            return str(error)
        except BaseException as error:
            raise_if_interrupted(
                error
            )  # anything else that a plugin's samples raise ends neither a worker nor the bench
            return f"sample {sample} cannot be read: {foreign.sentence(error, self.homes)}"
        with isolated_random(seed_from("decode", view, sample)):
            return self.transform(image)


def _collate(items: list[Tensor | str]) -> Tensor | str:
    tensors = []
    for item in items:
        if isinstance(item, str):
            return item
        tensors.append(item)
    return torch.stack(tensors)


class _Keys(Sampler[list[tuple[int, int]]]):
    """The (view, sample) keys of each request, made when they are needed."""

    def __init__(self, requests: list[Request]) -> None:
        self.requests = requests

    def __len__(self) -> int:
        return len(self.requests)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for request in self.requests:
            yield list(zip(request.views.tolist(), request.ids.tolist(), strict=True))


def file_transform(img_size: tuple[int, int], spec: Augment | None) -> Callable[[Image], Tensor]:
    """What is done to an RGB image where it is decoded, in timm's transforms; gives 3 x H x W uint8.

    Raises:
        UsageError: timm does not know the automatic policy.
    """
    from timm.data.transforms_factory import create_transform
    from torchvision.transforms import Compose

    common: dict[str, Any] = {"input_size": (3, *img_size), "interpolation": INTERPOLATION, "normalize": False}
    plain: Compose = create_transform(**common, is_training=False, crop_pct=CROP)
    if spec is None or not (spec.resized_crop or spec.auto):
        return plain
    try:
        crop, policy, tensor = create_transform(
            **common | {"color_jitter": None},
            is_training=True,
            scale=(spec.resized_crop, 1.0),
            hflip=0.0,
            auto_augment=spec.auto or None,
            separate=True,
        )
    except (AssertionError, KeyError, ValueError) as error:
        raise UsageError(f"augment.auto: timm knows no policy {spec.auto!r}; for example rand-m9-mstd0.5") from error
    # The plain transform ends with the conversion to a tensor.
    steps = [crop] if spec.resized_crop else plain.transforms[:-1]
    return Compose([*steps, policy, tensor])  # type: ignore[no-untyped-call]


@contextmanager
def isolated_random(seed: int) -> Iterator[None]:
    """Seed Python's, NumPy's and torch's CPU random states inside, and put back the former ones after.

    Args:
        seed: any whole number; its lowest 64 bits count (32 for NumPy's legacy state).
    """
    python, legacy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        random.seed(seed % 2**64)
        np.random.seed(seed % 2**32)
        # torch.manual_seed would seed the accelerators too.
        torch.default_generator.manual_seed(seed % 2**63)
        yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)
        torch.set_rng_state(cpu)
