"""Mixup and CutMix."""

from __future__ import annotations

import torch

from tamiz_train.mixing import create_mix
from tamiz_train.recipe import OptimizerSettings, TrainSettings


def test_images_and_targets_are_mixed_in_the_same_proportion() -> None:
    settings = TrainSettings(epochs=1, batch_size=4, optimizer=OptimizerSettings(lr=1), mixup=1.0)
    images = torch.tensor([0, 100, 200, 50], dtype=torch.uint8).view(4, 1, 1, 1).expand(4, 8, 8, 3).contiguous()
    mixed, shares = create_mix(settings, 4)(images, torch.arange(4))
    assert mixed.shape == (4, 8, 8, 3)
    torch.testing.assert_close(shares.sum(1), torch.ones(4))
    torch.testing.assert_close(shares @ images[:, 0, 0, 0].float(), mixed[:, 0, 0, 0])
    cut, shares = create_mix(settings.model_copy(update={"mixup": 0.0, "cutmix": 1.0}), 4)(images, torch.arange(4))
    torch.testing.assert_close(cut.mean((1, 2, 3)), shares @ images[:, 0, 0, 0].float())
    assert create_mix(settings.model_copy(update={"mixup": 0.0}), 4) is None
