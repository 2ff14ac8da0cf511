"""Every model family of timm gives stages, embedding and logits through the taps."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
import timm
import torch
from timm.models import is_model_in_modules
from torch import nn

from kdzoo.errors import PairError, UsageError
from kdzoo.models.taps import TappedModel, last_layers
from kdzoo.refs import ModelRef

pytestmark = pytest.mark.exhaustive

SIZE = 64

# The smallest member of each family, made shallower where even that one is large, and brought to the smallest size that
# timm allows where 64 pixels is not one.
SMALLEST = {
    "beit": "beit_base_patch16_224:depth=2",
    "byoanet": "lambda_resnet26t",
    "byobnet": "test_byobnet",
    "cait": "cait_xxs24_224",
    "coat": "coat_tiny",
    "convit": "convit_tiny",
    "convmixer": "convmixer_768_32:img_size=63",
    "convnext": "test_convnext",
    "cpubone": "cpubone_nano",
    "crossvit": "crossvit_tiny_240:img_size=240",
    "csatv2": "csatv2",
    "cspnet": "cs3darknet_focus_s",
    "cspnext": "cspnext_tiny",
    "davit": "davit_tiny",
    "deepseek_vit": "deepseek_vit_412m:depth=2:img_size=56",
    "deit": "deit_tiny_distilled_patch16_224",
    "densenet": "densenet121",
    "dla": "dla46x_c",
    "dpn": "dpn48b",
    "edgenext": "edgenext_xx_small",
    "efficientformer": "efficientformer_l1:img_size=224",
    "efficientformer_v2": "efficientformerv2_s0",
    "efficientnet": "test_efficientnet",
    "efficientvim": "efficientvim_m1",
    "efficientvit_mit": "efficientvit_b0",
    "efficientvit_msra": "efficientvit_m0",
    "eva": "vit_tiny_patch16_dinov3_qkvb",
    "fasternet": "fasternet_t0",
    "fastvit": "fastvit_t8",
    "focalnet": "focalnet_tiny_srf",
    "gcvit": "gcvit_xxtiny",
    "gemma4_vit": "gemma4_vit_167m:depth=2:img_size=96",
    "ghostnet": "ghostnet_050",
    "hardcorenas": "hardcorenas_b",
    "hgnet": "hgnetv2_b0",
    "hiera": "hiera_tiny_224",
    "hieradet_sam2": "sam2_hiera_tiny",
    "hrnet": "hrnet_w18_small",
    "iformer": "iformer_t",
    "inception_next": "inception_next_atto",
    "inception_resnet_v2": "inception_resnet_v2:img_size=75",
    "inception_v3": "inception_v3:img_size=75",
    "inception_v4": "inception_v4:img_size=75",
    "lcnetv2": "lcnetv2_small",
    "levit": "levit_128s",
    "lowformer": "lowformer_b0",
    "mambaout": "test_mambaout",
    "maxxvit": "test_coatnet",
    "metaformer": "poolformerv2_s12",
    "mlp_mixer": "gmlp_ti16_224",
    "mobilenetv3": "lcnet_035",
    "mobilenetv5": "mobilenetv5_base",
    "mobilevit": "mobilevit_xxs",
    "mvitv2": "mvitv2_tiny",
    "naflexvit": "naflexvit_base_patch16_gap:depth=2",
    "nasnet": "nasnetalarge",
    "nest": "nest_tiny",
    "nextvit": "nextvit_small",
    "nfnet": "test_nfnet",
    "pit": "pit_ti_distilled_224",
    "pnasnet": "pnasnet5large",
    "pvt_v2": "pvt_v2_b0",
    "qwen3_vit": "qwen3_vit_88m:depth=2",
    "rdnet": "rdnet_tiny",
    "regnet": "regnetx_002",
    "repghost": "repghostnet_050",
    "repvit": "repvit_m1",
    "res2net": "res2next50",
    "resnest": "resnest14d",
    "resnet": "test_resnet",
    "resnetv2": "resnetv2_18",
    "rexnet": "rexnet_100",
    "selecsls": "selecsls42",
    "senet": "legacy_seresnet18",
    "sequencer": "sequencer2d_s:img_size=63",
    "shvit": "shvit_s1",
    "sknet": "skresnet18",
    "starnet": "starnet_s050",
    "swiftformer": "swiftformer_xs",
    "swin_transformer": "swin_tiny_patch4_window7_224",
    "swin_transformer_v2": "swinv2_tiny_window8_256",
    "swin_transformer_v2_cr": "swinv2_cr_tiny_224",
    "tiny_vit": "tiny_vit_5m_224",
    "tnt": "tnt_s_patch16_224",
    "tresnet": "tresnet_m",
    "twins": "twins_svt_small",
    "vgg": "vgg11",
    "visformer": "visformer_tiny",
    "vision_transformer": "test_vit",
    "vision_transformer_hybrid": "vit_tiny_r_s16_p8_224",
    "vision_transformer_relpos": "test_vit_relpos",
    "vision_transformer_sam": "samvit_base_patch16_224:depth=2",
    "vitamin": "vitamin_small_224",
    "volo": "volo_d1_224",
    "vovnet": "ese_vovnet19b_slim_dw",
    "xception": "legacy_xception",
    "xception_aligned": "xception41p",
    "xcit": "xcit_nano_12_p16_224",
}

# Exceptions with their reasons; one that starts to work fails its test.
NO_CLASSIFIER = {
    "efficientvim": "fuses the heads of its stages with learned weights",
    "volo": "adds the maximum of an auxiliary head over the tokens",
}
NO_GRAY = {"csatv2": "its first layer is a DCT of three colour channels"}


def test_table_names_a_member_of_every_family() -> None:
    # Plugins that other tests load bring models of their own.
    own = {module for module in timm.list_modules() if f"timm.models.{module}" in sys.modules}
    assert set(SMALLEST) == own
    for family, text in SMALLEST.items():
        assert is_model_in_modules(ModelRef.parse(text).name, family), family


@pytest.mark.parametrize("family", sorted(SMALLEST))
def test_family(family: str, make_model: Callable[..., TappedModel]) -> None:
    channels = 3 if family in NO_GRAY else 1
    tapped = make_model(SMALLEST[family], channels, size=SIZE).eval()
    signature = tapped.signature()
    # Some heads start at zero, where every equality of logits would be trivial.
    for layer in last_layers(tapped.model).values():
        nn.init.normal_(layer.weight)
    images = torch.rand(2, channels, *tapped.input_size)
    with torch.no_grad():
        plain = tapped.model((images - 0.4) / 0.2)
        out = tapped(images, {"logits", "stages", "embedding"})

    assert plain.std() > 0
    torch.testing.assert_close(out.logits, plain)
    assert out.logits.shape == (2, 10)
    assert out.embedding.shape == (2, signature.embedding)
    assert [fmap.shape for fmap in out.stages] == [(2, *stage) for stage in signature.stages]
    if signature.head_pools:
        torch.testing.assert_close(out.stages[-1].mean(dim=(2, 3)), out.embedding)
    last_of_reduction = {info["reduction"]: info["num_chs"] for info in tapped.model.feature_info}
    channels_of_stages = [stage.channels for stage in signature.stages]
    if len(last_of_reduction) > 1:
        assert channels_of_stages == list(last_of_reduction.values())
        assert len({stage.height for stage in signature.stages}) > 1
    else:
        assert set(channels_of_stages) == set(last_of_reduction.values())
        assert len({stage.height for stage in signature.stages}) == 1

    if family in NO_CLASSIFIER:
        with pytest.raises(PairError, match="no single last linear layer"):
            tapped.classifier()
    else:
        weight, bias = tapped.classifier()
        linear = out.embedding @ weight.T + (0 if bias is None else bias)
        torch.testing.assert_close(linear, plain, rtol=1e-4, atol=1e-4 * plain.abs().max().item())


@pytest.mark.parametrize("family", sorted(NO_GRAY))
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_families_that_refuse_one_channel(family: str, make_model: Callable[..., TappedModel]) -> None:
    with pytest.raises(UsageError, match="for 1 x 64 x 64 images"):
        make_model(SMALLEST[family], 1, size=SIZE)
