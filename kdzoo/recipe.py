"""The recipe: everything of training that is not the strategy."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

MOST_EPOCHS = 100_000
"""Epochs of the longest training: what is above it is a slip of the keyboard."""


class Augment(BaseModel):
    """How a view of a sample is made. Every choice is a pure function of (this, view number, sample id).

    Args:
        crop: pixels of zero padding on each side before a random crop back to size (small images), 0 for none.
        resized_crop: lowest share of the area in a random resized crop, 0 for none; the usual choice for photographs.
        flip: whether half of the views are mirrored left to right.
        rotate: largest rotation, in degrees to either side.
        auto: timm's policy string (for example ``rand-m9-mstd0.5``), for datasets read from files.
        erase: probability of random erasing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    crop: Annotated[int, Field(ge=0)] = 0
    resized_crop: Annotated[float, Field(ge=0, lt=1)] = 0.0
    flip: bool = False
    rotate: Annotated[float, Field(ge=0, le=180)] = 0.0
    auto: str = ""
    erase: Annotated[float, Field(ge=0, le=1)] = 0.0


class Recipe(BaseModel):
    """Epochs, batch, optimizer, schedule, augmentation, precision: all that the cells of a comparison share.

    Args:
        name: what boards call it; a changed key adds to it, as in ``quick+lr=0.1``.
        epochs: length of the training, all phases together.
        batch_size: samples per step.
        optimizer: a name of timm's optimizer factory.
        lr: peak learning rate.
        momentum: momentum, or beta1.
        weight_decay: decay of the weights; timm leaves biases and norms out.
        schedule: ``cosine``, ``step`` (at ``milestones``), ``linear`` or ``constant``.
        milestones: shares of the epochs at which ``step`` multiplies the rate by ``decay``.
        decay: factor at each milestone.
        warmup: share of the epochs with a rate that rises linearly from near zero.
        min_lr: rate at the end of ``cosine`` and ``linear``, as a share of ``lr``.
        label_smoothing: probability spread over all classes in the hard-label loss.
        mixup: alpha of mixup, 0 for none.
        cutmix: alpha of cutmix, 0 for none.
        ema: decay of the weights' moving average that is measured and kept in the student's place, 0 for none.
        clip_grad: largest gradient norm, 0 for none.
        augment: how views are made.
        precision: ``fp32``, or autocast to ``bf16`` or ``fp16``.
        views: how many different views of each sample the training cycles through, 0 for a new one in every epoch.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    name: str
    epochs: Annotated[int, Field(ge=1, le=MOST_EPOCHS)]
    batch_size: Annotated[int, Field(ge=1)]
    optimizer: str = "sgd"
    lr: Annotated[float, Field(gt=0)] = 0.05
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    schedule: Literal["cosine", "step", "linear", "constant"] = "cosine"
    milestones: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = ()
    decay: Annotated[float, Field(gt=0, lt=1)] = 0.1
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    min_lr: Annotated[float, Field(ge=0, le=1)] = 0.0
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    mixup: Annotated[float, Field(ge=0)] = 0.0
    cutmix: Annotated[float, Field(ge=0)] = 0.0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    clip_grad: Annotated[float, Field(ge=0)] = 0.0
    augment: Augment = Augment()
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    views: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _step_has_milestones(self) -> Recipe:
        if (self.schedule == "step") != bool(self.milestones):
            raise ValueError("milestones belong to schedule step, and step needs at least one")
        return self

    def view(self, epoch: int) -> int:
        """The number of the view that an epoch shows."""
        return epoch % self.views if self.views else epoch
