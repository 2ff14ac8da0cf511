"""What the tests of models share: datasets as networks see them, and networks made for them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from kdzoo.models.taps import TappedModel
from kdzoo.models.zoo import create_model
from kdzoo.refs import DataRef, ModelRef

MEAN, STD = 0.4, 0.2


@pytest.fixture
def data_ref() -> Callable[..., DataRef]:
    """A dataset of ten classes in small grey images, unless told otherwise."""

    def make(channels: int = 1, size: int = 32, num_classes: int = 10) -> DataRef:
        return DataRef(
            name="some",
            fingerprint="0",
            num_classes=num_classes,
            channels=channels,
            img_size=(size, size),
            fit=80,
            tune=10,
            test=10,
        )

    return make


@pytest.fixture
def make_model(data_ref: Callable[..., DataRef]) -> Callable[..., TappedModel]:
    """A network by its text, with weights from seed 0."""

    def make(text: str, channels: int = 1, size: int = 32, num_classes: int = 10) -> TappedModel:
        torch.manual_seed(0)
        data = data_ref(channels, size, num_classes)
        return create_model(ModelRef.parse(text), data, [MEAN] * channels, [STD] * channels)

    return make
