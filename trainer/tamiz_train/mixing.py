"""Mixup and CutMix: training on mixtures of two images and of their targets."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torchvision.transforms.v2 import CutMix, MixUp, RandomChoice

from .recipe import TrainSettings

Mix = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Maps the images and targets of a batch to mixed images, float32, and mixed targets, float32 ``[batch, labels]``."""


def create_mix(settings: TrainSettings, labels: int) -> Mix | None:
    """Create the function that mixes the images of a batch.

    Args:
        settings: the section ``train`` of the recipe.
        labels: the number of labels.

    Returns:
        mixup or CutMix; if the recipe sets both, one of them at random for each batch; None if it sets neither.
    """
    kinds: list[nn.Module] = []
    if settings.mixup:
        kinds.append(MixUp(alpha=settings.mixup, num_classes=labels))
    if settings.cutmix:
        kinds.append(CutMix(alpha=settings.cutmix, num_classes=labels))
    if not kinds:
        return None
    choice = RandomChoice(kinds)

    def mix(images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        # torchvision mixes float images in channels-first order.
        mixed, mixed_targets = choice(images.permute(0, 3, 1, 2).float(), targets)
        return mixed.permute(0, 2, 3, 1), mixed_targets

    return mix
