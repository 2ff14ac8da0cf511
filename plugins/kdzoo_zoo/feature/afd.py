"""AFD: the student's normalised channels match the teacher's, those that matter more by a trained attention."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdzoo import Batch, Outputs, PairError, Paper, Setup, Strategy, Terms, param
from kdzoo_zoo.feature.fitnets import reduce_hint
from kdzoo_zoo.feature.layers import conv_norm, pooled_text
from kdzoo_zoo.tensors import check_same, common_size, full_precision, pool_to


def attention_feature_loss(student_map: Tensor, teacher_map: Tensor, channel_attention: Tensor) -> Tensor:
    """Squared differences of normalised channels, weighted by how much each channel matters.

    Equation, for each channel c of a sample, flattened to x of h w positions::

        f_c = x_c / (||x_c|| + 1e-6)
        loss = mean over b of sum over c of channel_attention_bc x ||f_c(s) - f_c(t)||^2 / (h w)

    The squared length of the difference is ||f||^2 + ||f'||^2 - 2 <f, f'>, so that no normalised map is made.

    Args:
        student_map: B x C x H x W, already brought to the teacher's channels and size.
        teacher_map: B x C x H x W. Not detached: pass it without gradient.
        channel_attention: B x C, at least 0; each row sums to 1.

    Returns:
        A scalar, at least 0 up to rounding: the mean over the batch and positions, weighted over channels; 0 where the
        maps are equal.

    Raises:
        ValueError: the maps' shapes differ, or the attention is not B x C.

    Precision: computed in float32 for half-precision maps, else in the maps' own, under autocast too. Epsilon 1e-6
    added to the lengths.

    Source: Wang, Gao, Zhao, Li, Dou, Xu, "Pay Attention to Features, Transfer Learn Faster CNNs", ICLR 2020,
    https://openreview.net/forum?id=ryxyCeHtPB. No code by the authors. The form is that of
    https://github.com/AberHu/Knowledge-Distillation-Zoo.

    Example:
        >>> maps = torch.tensor([[[[3.0, 4.0]]]]), torch.tensor([[[[4.0, 3.0]]]])
        >>> attention_feature_loss(*maps, channel_attention=torch.ones(1, 1))
        tensor(0.0400)
    """
    check_same("maps", student_map, teacher_map)
    check_same("batch and channels", student_map[:, :, 0, 0], channel_attention, of=("map", "attention"))
    student, teacher = full_precision(student_map).flatten(2), full_precision(teacher_map).flatten(2)
    with torch.autocast(student.device.type, enabled=False):
        own, theirs = (torch.linalg.vector_norm(x, dim=2) for x in (student, teacher))
        both = torch.linalg.vecdot(student, teacher, dim=2)
        ours, others = own + 1e-6, theirs + 1e-6
        apart = (own / ours).square() + (theirs / others).square() - 2 * both / (ours * others)
        weighted: Tensor = (full_precision(channel_attention) * apart).sum()
        return weighted / (len(student) * student.shape[2])


class ChannelAttention(nn.Module):
    """How much each channel of the teacher's map matters: B x C x H x W -> B x C, rows that sum to 1.

    Args:
        channels: of the map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze, self.excite = nn.Linear(channels, channels), nn.Linear(channels, channels)
        for layer in (self.squeeze, self.excite):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """See the class; the map's precision may differ from the weights' own."""
        means = x.mean(dim=(2, 3)).to(self.squeeze.weight.dtype)
        # The logarithm of a sigmoid, so that channels that all hardly matter still sum to 1.
        return F.logsigmoid(full_precision(self.excite(self.squeeze(means).relu()))).softmax(dim=1)


class AttentiveFeatures(Strategy):
    """AFD, attentive feature distillation: the student's channels match the teacher's, above all those that matter.

    Knowledge: the teacher's channels at the deepest paired stage, each on the scale of its own length.

    Loss: CE(student, labels) + beta sum over stages of mean over the batch of sum over c of rho_c / (h w)
    ||f_c(s) - f_c(t)||^2, f_c a channel of the map divided by its length, the larger map average-pooled to the smaller.
    rho is a trained attention: the means of the teacher's channels pass two linear layers (ReLU between) and a sigmoid
    that is divided by its sum.

    Cost: two layers of teacher channels squared weights; an adapter (1x1 convolution with BatchNorm) where channels
    differ. Serves every pair that has a paired stage with more than one position.

    Differs from the paper: it transfers to the same network on other data, with an attention that others found
    unstable. This is the form of AberHu's zoo for distillation: a squeeze-and-excitation block gives the attention.
    Adapter and pooling are kdzoo's. Not the method of Ji et al. 2021, which is called AFD as well.
    """

    name = "afd"
    family = "feature"
    paper = Paper(
        title="Pay Attention to Features, Transfer Learn Faster CNNs",
        authors="Kafeng Wang, Xitong Gao, Yiren Zhao, Xingjian Li, Dejing Dou, Cheng-Zhong Xu",
        year=2020,
        venue="ICLR 2020",
        id="https://openreview.net/forum?id=ryxyCeHtPB",
    )
    signals = ("stages",)
    per_sample = True
    non_negative = True

    beta: float = param(
        500.0,
        "weight of the sum over stages",
        ge=0.0,
        search=(1.0, 1000.0),
        log=True,
        in_paper=False,
        source="https://github.com/AberHu/Knowledge-Distillation-Zoo",
    )
    stages: int = param(
        1, "paired stages, from the deepest", ge=1, in_paper=False, source="AberHu's zoo: the last ones"
    )

    def build(self, setup: Setup) -> None:
        """Choose the stages and make their attention and adapters."""
        shapes = zip(setup.stage_pairs, setup.paired_shapes(), strict=True)
        # A channel of one position is its sign after normalisation.
        usable = [(pair, own, theirs) for pair, (own, theirs) in shapes if common_size(own, theirs) != (1, 1)]
        if not usable:
            raise PairError(
                "afd compares channels over positions, and no paired stage has more than one: choose a larger "
                "--img-size, or a smaller patch_size of a transformer"
            )
        chosen = usable[-self.stages :]
        self.compared = [(*pair, common_size(own, theirs)) for pair, own, theirs in chosen]
        self.attention = nn.ModuleList(ChannelAttention(theirs.channels) for _, _, theirs in chosen)
        self.adapters = nn.ModuleList(
            nn.Identity() if own.channels == theirs.channels else conv_norm(own.channels, theirs.channels)
            for _, own, theirs in chosen
        )

    def reduce(self, teacher: Outputs) -> Outputs:
        """The compared stages, at the sizes at which they are compared."""
        return Outputs({"stages": tuple(reduce_hint(teacher.stages[t], size) for _, t, size in self.compared)})

    def reduction(self) -> dict[str, tuple[str, ...]]:
        """The stages, and the sizes of those that are pooled."""
        return {"stages": tuple(pooled_text(self.setup.teacher, t, size) for _, t, size in self.compared)}

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """One term, ``features``."""
        losses = []
        for place, ((s, _, size), target) in enumerate(zip(self.compared, teacher.stages, strict=True)):
            adapted = pool_to(full_precision(self.adapters[place](student.stages[s])), size)
            losses.append(attention_feature_loss(adapted, target, self.attention[place](target)))
        return {"features": self.beta * torch.stack(losses).sum()}
