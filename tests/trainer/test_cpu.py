"""Settings that make training on a CPU faster."""

from __future__ import annotations

import torch
from graphs import make_spec

from tamiz_train.cpu import keep_strided_depthwise_in_float32
from tamiz_train.networks import build_classifier
from tamiz_train.recipe import ModelSettings


def test_strided_depthwise_convolutions_are_excluded_from_autocast() -> None:
    network = build_classifier(ModelSettings(name="mobilenetv2_100"), make_spec(["a", "b"], 64, 64, "RGB")).eval()
    plain, fixed = torch.nn.Conv2d(8, 8, 3, groups=8), torch.nn.Conv2d(8, 8, 3, stride=2, groups=8)
    keep_strided_depthwise_in_float32(torch.nn.Sequential(plain, fixed))
    pixels = torch.rand(1, 8, 9, 9)
    with torch.autocast("cpu", torch.bfloat16):
        assert plain(pixels).dtype == torch.bfloat16
        assert fixed(pixels).dtype == torch.float32
    image = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    before = network(image)
    keep_strided_depthwise_in_float32(network)
    torch.testing.assert_close(network(image), before)
