"""Networks: any timm model, and three small ones for small images."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import timm
import torch
from torch import nn

from tamiz.errors import RecipeError, one_line, suggest
from tamiz.spec import ModelSpec, Preprocessing

from .classifier import Classifier
from .heads import replace_heads, reset_linear_heads
from .initial_weights import load_initial_weights
from .recipe import ModelSettings


def build_classifier(settings: ModelSettings, spec: ModelSpec, *, initial_weights: bool = True) -> Classifier:
    """Build the classifier of a recipe.

    Args:
        settings: the section ``model`` of the recipe.
        spec: the spec of the model, which defines the size of the input and the labels.
        initial_weights: whether to load the weights that training starts from; False if trained weights are loaded
            afterwards.

    Raises:
        RecipeError: the network or an option is unknown, the input is too small, or the weights do not fit.
    """
    network = _create_network(settings, spec, pretrained=settings.pretrained and initial_weights)
    if settings.head is not None:
        replace_heads(network, settings.head, len(spec.labels))
    if initial_weights and settings.weights:
        if not load_initial_weights(network, settings.weights, settings.name):
            reset_linear_heads(network)
    elif initial_weights and settings.pretrained and _pretrained_classes(network) != len(spec.labels):
        reset_linear_heads(network)
    # Pixels arrive in channels-last order, in which convolutions on CPUs and tensor cores are faster. Weights of
    # three-dimensional convolutions have no such order.
    for weight in network.parameters():
        if weight.dim() == 4:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    return Classifier(network, spec)


def check_name(settings: ModelSettings) -> None:
    """Check that the network of a recipe exists.

    Raises:
        RecipeError: there is no such network; the message suggests the closest name.
    """
    if settings.name not in _SMALL and not timm.is_model(settings.name):
        hint = suggest(settings.name, _similar_names(settings.name) or [*_SMALL, *timm.list_models()])
        raise RecipeError(f"model.name: no model {settings.name!r}{hint}")


def _similar_names(name: str) -> list[str]:
    """The name that begins like a wrong one: of several widths of a network timm's 100, and then the shortest."""

    def plain(text: str) -> str:
        return text.lower().replace("_", "").replace("-", "")

    # Something like vit is the beginning of too many names.
    begin = plain(name) if len(plain(name)) > 4 else None
    names = [known for known in (*_SMALL, *timm.list_models()) if begin and plain(known).startswith(begin)]
    return sorted(names, key=lambda known: (not known.endswith("_100"), len(known)))[:1]


class LeNet5(nn.Sequential):
    """LeNet-5 (LeCun et al., 1998): 6 maps of 5×5, pooling, 16 maps of 5×5, pooling, and layers of 120, 84, labels.

    The first convolution pads by 2, so that images of 28×28 give maps of the size that 32×32 gives in the paper.
    """

    def __init__(self, preprocessing: Preprocessing, labels: int) -> None:
        height, width = ((side // 2 - 4) // 2 for side in (preprocessing.height, preprocessing.width))
        super().__init__(
            nn.Conv2d(preprocessing.channels, 6, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(16 * height * width, 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, labels),
        )


class MLP(nn.Sequential):
    """The network of PyTorch's quickstart tutorial: two hidden layers of 512 with ReLU."""

    def __init__(self, preprocessing: Preprocessing, labels: int) -> None:
        pixels = preprocessing.channels * preprocessing.height * preprocessing.width
        super().__init__(
            nn.Flatten(),
            nn.Linear(pixels, 512),
            nn.ReLU(),
            nn.Linear(512, 512),
            nn.ReLU(),
            nn.Linear(512, labels),
        )


class CNN(nn.Sequential):
    """Five 3×3 convolutions of 32 to 128 maps with batch normalisation, two poolings and a global average pooling."""

    def __init__(self, preprocessing: Preprocessing, labels: int) -> None:
        layers: list[nn.Module] = []
        for index, (maps_in, maps_out) in enumerate(pairwise((preprocessing.channels, 32, 64, 64, 128, 128))):
            layers += [nn.Conv2d(maps_in, maps_out, 3, padding=1, bias=False), nn.BatchNorm2d(maps_out), nn.ReLU()]
            if index in {0, 2}:
                layers.append(nn.MaxPool2d(2))
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(128, labels))


_SMALL = {"cnn": CNN, "lenet5": LeNet5, "mlp": MLP}


def _create_network(settings: ModelSettings, spec: ModelSpec, *, pretrained: bool) -> nn.Module:
    preprocessing, labels = spec.preprocessing, len(spec.labels)
    if settings.name in _SMALL:
        if settings.options or settings.pretrained:
            raise RecipeError(f"model: {settings.name} takes neither options nor pretrained weights")
        if settings.name == "lenet5" and min(preprocessing.height, preprocessing.width) < 12:
            raise RecipeError("model: lenet5 needs preprocessing.height and preprocessing.width of 12 or more")
        return _SMALL[settings.name](preprocessing, labels)
    check_name(settings)
    try:
        network: nn.Module = timm.create_model(
            settings.name,
            pretrained=pretrained,
            num_classes=labels,
            in_chans=preprocessing.channels,
            **settings.options,
        )
    except Exception as exc:
        # The constructor of a model, and the download of its weights, raise errors of many classes.
        raise RecipeError(f"model: timm cannot create {settings.name}: {one_line(exc)}") from exc
    return network


def _pretrained_classes(network: nn.Module) -> int:
    config: Any = network.pretrained_cfg
    return int(config["num_classes"])
