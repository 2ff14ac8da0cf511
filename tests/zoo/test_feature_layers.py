from __future__ import annotations

import pytest
import torch

from kdzoo_zoo.feature.layers import BatchNorm, conv_norm, draw_by_width


@pytest.mark.parametrize("training", [True, False])
def test_a_single_value_per_channel_is_normalised_by_the_running_statistics(training):
    norm = BatchNorm(3).train(training)
    with torch.no_grad():
        norm.running_mean.fill_(2.0)
    x = torch.randn(1, 3, 1, 1)
    torch.testing.assert_close(norm(x), (x - 2) / (1 + norm.eps) ** 0.5)
    assert norm.num_batches_tracked == 0
    batch = torch.randn(4, 3, 1, 1)
    torch.testing.assert_close(norm(batch), torch.nn.BatchNorm2d.forward(norm, batch))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_gradient_behind_an_adapter_has_the_layout_of_its_map(layout):
    adapter = conv_norm(4, 6, activated=True)
    out = adapter(torch.randn(2, 4, 5, 5).contiguous(memory_format=layout))
    seen = []
    # What comes next in the backward pass gets what the adapter's own hook leaves.
    out.grad_fn.register_prehook(lambda slopes: seen.append(slopes[0].stride()))
    (out.flatten(2).mean(dim=2) ** 2).sum().backward()
    assert seen == [out.stride()]


def test_maps_of_half_precision_meet_weights_of_float32():
    assert conv_norm(4, 6, 3)(torch.randn(2, 4, 5, 5).bfloat16()).shape == (2, 6, 5, 5)


def test_weights_start_at_the_scale_of_the_width():
    conv = torch.nn.Conv2d(64, 200, 3)
    draw_by_width(conv.weight)
    assert conv.weight.std().item() == pytest.approx((2 / (9 * 200)) ** 0.5, rel=0.02)
