"""DiffKD: the student's features are denoised by a diffusion model of the teacher's, and then compared."""

from __future__ import annotations

import torch.nn.functional as F

from kdzoo import Batch, Outputs, PairError, Paper, Setup, Strategy, Terms, param
from kdzoo_zoo.classes import check_classes
from kdzoo_zoo.feature.blocks import as_map
from kdzoo_zoo.feature.diffusion import Autoencoder, Refiner
from kdzoo_zoo.feature.fitnets import reduce_hint, reduced_hint_loss
from kdzoo_zoo.response.soft import soft_target_loss
from kdzoo_zoo.tensors import common_size, full_precision, pool_to


class DiffusionKD(Strategy):
    """DiffKD: a diffusion model of the teacher's features takes the noise out of the student's, which then match.

    Knowledge: the last map, in the channels of an autoencoder, and the logits. A small student's features are taken
    for the teacher's with noise; what is left without the noise is easier to match.

    Loss: CE(student, labels) + feature mean((R(s) - z)^2) + soft KL(softmax z_t || softmax R'(z_s)) + noise (errors of
    both models where they predict the noise that was added to z and z_t) + reconstruction mean((decoder(z) - t)^2); s
    and t the last maps, the larger average-pooled to the smaller, z the encoded t, detached, z_s and z_t the logits. R:
    a 1x1 convolution to the channels of z; gamma x + (1 - gamma) noise, gamma predicted for each sample; the last
    ``steps`` of 2 steps of DDIM; a 1x1 convolution with BatchNorm. All is trained with the student and discarded after
    training.

    Cost: high: steps + 1 passes of each model and their gradients; the models are as wide as the autoencoder. A weight
    of 0 leaves feature or soft out, with its model. Serves every pair whose logits have the same classes; with soft = 0
    every pair.

    Differs from the paper: nothing that is known. Its maps have equal sizes. As in the authors' code, the start mixes
    linearly, and not with the square roots of the diffusion.
    """

    name = "diffkd"
    family = "feature"
    paper = Paper(
        title="Knowledge Diffusion for Distillation",
        authors="Tao Huang, Yuan Zhang, Mingkai Zheng, Shan You, Fei Wang, Chen Qian, Chang Xu",
        year=2023,
        venue="NeurIPS 2023",
        id="2305.15712",
        code="https://github.com/hunto/DiffKD",
    )
    signals = ("logits", "stages")
    non_negative = True
    stochastic = True

    feature: float = param(
        1.0,
        "weight of the refined features; 0 leaves them out",
        ge=0.0,
        source="the authors' code",
        search=(0.1, 10.0),
        log=True,
    )
    soft: float = param(
        1.0,
        "weight of the refined logits' soft targets at temperature 1; 0 leaves them out",
        ge=0.0,
        source="the authors' code",
        search=(0.1, 10.0),
        log=True,
    )
    noise: float = param(1.0, "weight of what trains the diffusion models", ge=0.0, source="the authors' code")
    reconstruction: float = param(1.0, "weight of what trains the autoencoder", ge=0.0, source="the authors' code")
    steps: int = param(5, "steps of denoising", ge=1, le=100, source="the authors' code")
    latent: int = param(
        0,
        "channels of the autoencoder; 0: half of the teacher's",
        ge=0,
        imagenet=1024,
        source="the authors' code: its default; ImageNet: ResNet34 -> ResNet18",
    )

    def build(self, setup: Setup) -> None:
        """Make the diffusion models and the autoencoder."""
        if self.soft:
            check_classes(self.name, setup, "set diffkd.soft=0")
            self.logit_refiner = Refiner(setup.num_classes, setup.num_classes, self.steps, spatial=False)
        if self.feature:
            if not (setup.student.stages and setup.teacher.stages):
                raise PairError("diffkd compares the last maps, and one of the networks has none: set diffkd.feature=0")
            own, theirs = setup.student.stages[-1], setup.teacher.stages[-1]
            self.size = common_size(own, theirs)
            self.pools = self.size != (theirs.height, theirs.width)
            latent = self.latent or max(theirs.channels // 2, 1)
            self.autoencoder = Autoencoder(theirs.channels, latent)
            self.refiner = Refiner(own.channels, latent, self.steps, spatial=True)

    def reduce(self, teacher: Outputs) -> Outputs:
        """The last map, at the size at which it is compared, and the logits."""
        kept: dict[str, object] = {"logits": teacher.logits} if self.soft else {}
        if self.feature:
            kept["map"] = reduce_hint(teacher.stages[-1], self.size)
        return Outputs(kept)

    def reduction(self) -> dict[str, str]:
        """The stage, and the size if it is pooled."""
        texts = {"logits": "logits"} if self.soft else {}
        if self.feature:
            pooled = f" pooled to {self.size[0]}x{self.size[1]}" if self.pools else ""
            texts["map"] = f"stages.{len(self.setup.teacher.stages) - 1}{pooled}"
        return texts

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """The terms ``feature``, ``noise`` and ``reconstruction``, and ``soft`` and ``logit_noise``."""
        terms: Terms = {}
        if self.feature:
            theirs = full_precision(teacher.values["map"])
            latent, restored = self.autoencoder(theirs)
            latent = latent.detach()
            refined = self.refiner(pool_to(student.stages[-1], self.size))
            terms["feature"] = self.feature * reduced_hint_loss(refined, latent)
            terms["noise"] = self.noise * self.refiner.noise_loss(latent)
            terms["reconstruction"] = self.reconstruction * F.mse_loss(full_precision(restored), theirs)
        if self.soft:
            refined = self.logit_refiner(as_map(student.logits)).flatten(1)
            terms["soft"] = self.soft * soft_target_loss(refined, teacher.logits, 1.0)
            terms["logit_noise"] = self.noise * self.logit_refiner.noise_loss(as_map(teacher.logits))
        return terms
