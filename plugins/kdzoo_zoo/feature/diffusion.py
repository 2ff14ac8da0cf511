"""A small diffusion model of the teacher's features, which takes the noise out of the student's."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdzoo_zoo.adapters import BatchNorm
from kdzoo_zoo.tensors import full_precision

TRAINED_STEPS = 1000
"""Levels of noise that the model is trained on; betas rise linearly from 1e-4 to 0.02."""

_EMBEDDED_STEPS = 1280
"""Rows of the embedding of steps, as in the authors' code."""


def ddim_step(noisy: Tensor, predicted_noise: Tensor, level: float, next_level: float) -> Tensor:
    """One step of denoising that draws nothing: what a noisy tensor is at a lower level of noise.

    Equation, with a, n = ``level``, ``next_level``::

        clean = (noisy - sqrt(1 - a) predicted_noise) / sqrt(a)
        result = sqrt(n) clean + sqrt(1 - n) predicted_noise

    Args:
        noisy: of any shape.
        predicted_noise: of the same shape; unit variance.
        level: share of the variance that is signal, above 0, at most 1.
        next_level: that share after the step.

    Returns:
        A tensor of the same shape.

    Precision: that of the arguments.

    Source: Song, Meng, Ermon, "Denoising Diffusion Implicit Models", ICLR 2021, arXiv 2010.02502, equation 12 with
    eta = 0; used by Huang, Zhang, Zheng, You, Wang, Qian, Xu, "Knowledge Diffusion for Distillation", NeurIPS 2023,
    arXiv 2305.15712. Authors' code: https://github.com/hunto/DiffKD.

    Example:
        >>> ddim_step(torch.tensor([1.4]), torch.tensor([1.0]), level=0.36, next_level=1.0)
        tensor([1.0000])
    """
    # Both lines in one: a product and a sum over the map fewer.
    scale = math.sqrt(next_level / level)
    return scale * noisy + (math.sqrt(1 - next_level) - scale * math.sqrt(1 - level)) * predicted_noise


def signal_levels() -> Tensor:
    """The share of the variance that is signal at each of the trained steps, float64."""
    return (1 - torch.linspace(1e-4, 0.02, TRAINED_STEPS, dtype=torch.float64)).cumprod(dim=0)


class Refiner(nn.Module):
    """A diffusion model of the teacher's features, and the way of the student's features through it.

    Args:
        student_channels: of the student's map.
        channels: of the teacher's.
        steps: of denoising; they are the last ones of twice as many over all levels of noise.
        spatial: whether maps have positions that 3x3 convolutions look at; else the layers see one position.
    """

    levels: Tensor

    def __init__(self, student_channels: int, channels: int, steps: int, spatial: bool) -> None:
        super().__init__()
        self.adapter = nn.Conv2d(student_channels, channels, kernel_size=1)
        self.embedding = nn.Embedding(_EMBEDDED_STEPS, channels)
        self.denoiser = _spatial_denoiser(channels) if spatial else _pointwise_denoiser(channels)
        self.noise_adapter = _Share(channels, spatial)
        self.projector = nn.Sequential(nn.Conv2d(channels, channels, kernel_size=1), BatchNorm(channels))
        levels = signal_levels()
        self.register_buffer("levels", levels.float())
        stride = TRAINED_STEPS // (2 * steps)
        self.schedule = [
            (step, float(levels[step]), float(levels[step - stride]) if step >= stride else 1.0)
            for step in range((steps - 1) * stride, -1, -stride)
        ]

    def forward(self, student_map: Tensor) -> Tensor:
        """The student's features without what the model takes for noise, B x C x H x W -> B x channels x H x W."""
        features = self.adapter(self._cast(student_map))
        share = full_precision(self.noise_adapter(features))[:, None, None, None]
        features = full_precision(features)
        noisy = share * features + (1 - share) * torch.randn_like(features)
        for step, level, following in self.schedule:
            noisy = ddim_step(noisy, self.predict(noisy, self.embedding.weight[step]), level, following)
        refined: Tensor = self.projector(self._cast(noisy))
        return refined

    def noise_loss(self, teacher_map: Tensor) -> Tensor:
        """How far off the model is where it predicts the noise in the teacher's features; what trains it."""
        teacher_map = full_precision(teacher_map)
        steps = torch.randint(TRAINED_STEPS, teacher_map.shape[:1], device=teacher_map.device)
        level = full_precision(self.levels)[steps][:, None, None, None]
        noise = torch.randn_like(teacher_map)
        noisy = level.sqrt() * teacher_map + (1 - level).sqrt() * noise
        return F.mse_loss(self.predict(noisy, self.embedding(steps)), noise)

    def predict(self, noisy: Tensor, embedded: Tensor) -> Tensor:
        """The noise in a map, in at least float32; ``embedded`` is the step's embedding, C or B x C."""
        return full_precision(self.denoiser(self._cast(noisy) + embedded[..., None, None]))

    def _cast(self, x: Tensor) -> Tensor:
        return x.to(self.embedding.weight.dtype)


class Autoencoder(nn.Module):
    """Fewer channels for the teacher's features: B x C x H x W -> B x latent x H x W, and back.

    Args:
        channels: of the teacher's map.
        latent: channels between.
    """

    def __init__(self, channels: int, latent: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(channels, latent, kernel_size=1), BatchNorm(latent))
        self.decoder = nn.Conv2d(latent, channels, kernel_size=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The latent features, and what is made of them again."""
        latent = self.encoder(x.to(self.decoder.weight.dtype))
        return latent, self.decoder(latent)


class _Share(nn.Module):
    """How much of the student's features is signal, between 0 and 1 for each sample."""

    def __init__(self, channels: int, spatial: bool) -> None:
        super().__init__()
        layers = (
            _Bottleneck(channels, 8)
            if spatial
            else nn.Sequential(*_pointwise(channels, 2 * channels), nn.ReLU(), *_pointwise(2 * channels, channels))
        )
        self.features = layers
        self.linear = nn.Linear(channels, 2)

    def forward(self, x: Tensor) -> Tensor:
        share: Tensor = self.linear(self.features(x).mean(dim=(2, 3))).softmax(dim=1)[:, 0]
        return share


class _Bottleneck(nn.Module):
    """A residual block of 1x1, 3x3 and 1x1 convolutions."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        inner = max(channels // reduction, 1)
        self.block = nn.Sequential(
            *_pointwise(channels, inner),
            nn.ReLU(),
            nn.Conv2d(inner, inner, kernel_size=3, padding=1),
            BatchNorm(inner),
            nn.ReLU(),
            *_pointwise(inner, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.block(x) + x
        return out


def _pointwise(channels: int, out: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(channels, out, kernel_size=1), BatchNorm(out)


def _spatial_denoiser(channels: int) -> nn.Sequential:
    return nn.Sequential(_Bottleneck(channels, 4), _Bottleneck(channels, 4), *_pointwise(channels, channels))


def _pointwise_denoiser(channels: int) -> nn.Sequential:
    wide = 4 * channels
    return nn.Sequential(
        *_pointwise(channels, wide),
        nn.ReLU(),
        *_pointwise(wide, channels),
        *_pointwise(channels, wide),
        nn.ReLU(),
        nn.Conv2d(wide, channels, kernel_size=1),
    )
