"""Networks: any model of timm, and three small ones for small images.

Every network is wrapped in a `Classifier`, which takes the same uint8 pixels in training, evaluation and
export, so that normalisation exists in one place.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from tamiz.errors import RecipeError, suggest
from tamiz.spec import ModelSpec, Preprocessing

from .settings import HeadSettings, ModelSettings


class Classifier(nn.Module):
    """A network that takes uint8 pixels and gives logits.

    Args:
        backbone: takes float32 ``[batch, channels, height, width]``, gives logits ``[batch, classes]``.
        spec: its normalisation is applied to the pixels first, its task says what the logits mean.
    """

    def __init__(self, backbone: nn.Module, spec: ModelSpec) -> None:
        super().__init__()
        self.backbone = backbone
        self.task = spec.task
        mean = torch.tensor(spec.normalisation.mean)
        std = torch.tensor(spec.normalisation.std)
        # (x / 255 - mean) / std as one multiplication and one addition.
        self.register_buffer("scale", (1 / (255 * std)).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("shift", (-mean / std).view(1, -1, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Logits ``[batch, classes]`` of uint8 ``[batch, height, width, channels]``."""
        pixels = image.permute(0, 3, 1, 2).float()
        return self.backbone(pixels * self.scale + self.shift)

    def probabilities(self, logits: Tensor) -> Tensor:
        """What the logits say of each label: softmax, or for multilabel sigmoid."""
        return logits.softmax(1) if self.task == "multiclass" else logits.sigmoid()

    @property
    def head(self) -> nn.Module:
        """The layers that tell the classes, behind the pooled features."""
        return self.backbone.get_submodule(_head_name(self.backbone))

    def blocks(self) -> list[list[str]]:
        """Names of the backbone's weights before its head, by block, from the input to the head.

        A block is what timm groups as one (a stage), or a layer of the models that are our own.
        """
        head = _head_name(self.backbone) + "."
        if hasattr(self.backbone, "group_matcher"):
            groups = timm.models.group_parameters(self.backbone, self.backbone.group_matcher(coarse=True))
            named = [groups[place] for place in sorted(groups)]
        else:
            named = [
                [f"{name}.{weight}" for weight, _ in layer.named_parameters()]
                for name, layer in self.backbone.named_children()
            ]
        blocks = [[name for name in names if not name.startswith(head)] for names in named]
        return [names for names in blocks if names]

    @contextmanager
    def pooled_features(self) -> Iterator[list[Tensor]]:
        """Collects, while it is open, the features ``[batch, width]`` that each forward pass gives to the head."""
        seen: list[Tensor] = []
        handle = self.head.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].flatten(1)))
        try:
            yield seen
        finally:
            handle.remove()


class LeNet5(nn.Sequential):
    """LeNet-5 (LeCun et al., 1998): 6 maps of 5×5, pool, 16 of 5×5, pool, 120, 84, classes.

    The first convolution pads by 2, so that 28×28 digits give the maps that the paper's 32×32 ones gave.
    """

    def __init__(self, preprocessing: Preprocessing, classes: int) -> None:
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
            nn.Linear(84, classes),
        )


class MLP(nn.Sequential):
    """Pixels, 512, 512, classes with ReLU between: the network of PyTorch's quickstart."""

    def __init__(self, preprocessing: Preprocessing, classes: int) -> None:
        pixels = preprocessing.channels * preprocessing.height * preprocessing.width
        super().__init__(
            nn.Flatten(),
            nn.Linear(pixels, 512),
            nn.ReLU(),
            nn.Linear(512, 512),
            nn.ReLU(),
            nn.Linear(512, classes),
        )


class CNN(nn.Sequential):
    """Five 3×3 convolutions of 32 to 128 maps with batch normalisation, pooled twice, averaged: for small images."""

    def __init__(self, preprocessing: Preprocessing, classes: int) -> None:
        layers: list[nn.Module] = []
        for place, (maps_in, maps) in enumerate(pairwise((preprocessing.channels, 32, 64, 64, 128, 128))):
            layers += [nn.Conv2d(maps_in, maps, 3, padding=1, bias=False), nn.BatchNorm2d(maps), nn.ReLU()]
            if place in {0, 2}:
                layers.append(nn.MaxPool2d(2))
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(128, classes))


_OWN = {"cnn": CNN, "lenet5": LeNet5, "mlp": MLP}


def check_name(settings: ModelSettings) -> None:
    """Refuse a model that is not there.

    Raises:
        RecipeError: with the nearest name.
    """
    if settings.name not in _OWN and not timm.is_model(settings.name):
        hint = suggest(settings.name, [*_OWN, *timm.list_models()])
        raise RecipeError(f"model.name: no model {settings.name!r}{hint}")


def create_model(settings: ModelSettings, spec: ModelSpec, *, initial_weights: bool = True) -> Classifier:
    """Build the network of a recipe.

    Args:
        settings: which network, and from which weights.
        spec: its input and labels.
        initial_weights: load the weights that training begins with; False where trained ones follow.

    Raises:
        RecipeError: unknown model or option, input too small, or weights that do not fit.
    """
    backbone = _create_backbone(settings, spec, pretrained=settings.pretrained and initial_weights)
    if settings.head is not None:
        _replace_head(backbone, settings.head, len(spec.labels))
    if initial_weights and settings.weights:
        if not _load_weights(backbone, settings.weights, settings.name):
            _begin_head_small(backbone)
    elif initial_weights and settings.pretrained and backbone.pretrained_cfg["num_classes"] != len(spec.labels):
        _begin_head_small(backbone)
    # Convolutions on CPUs and tensor cores are faster on channels-last, which is how the pixels arrive.
    return Classifier(backbone, spec).to(memory_format=torch.channels_last)


def _create_backbone(settings: ModelSettings, spec: ModelSpec, *, pretrained: bool) -> nn.Module:
    preprocessing, classes = spec.preprocessing, len(spec.labels)
    if settings.name in _OWN:
        if settings.options or settings.pretrained:
            raise RecipeError(f"model: {settings.name} takes neither options nor pretrained weights")
        if settings.name == "lenet5" and min(preprocessing.height, preprocessing.width) < 12:
            raise RecipeError("model: lenet5 needs preprocessing.height and width of 12 or more")
        return _OWN[settings.name](preprocessing, classes)
    check_name(settings)
    try:
        return timm.create_model(
            settings.name,
            pretrained=pretrained,
            num_classes=classes,
            in_chans=preprocessing.channels,
            **settings.options,
        )
    except Exception as exc:
        # Whatever a model's builder or the weights' download throws: the recipe asked for it.
        raise RecipeError(f"model: timm cannot create {settings.name}: {' '.join(str(exc).split())}") from exc


def _load_weights(backbone: nn.Module, path: Path, name: str) -> bool:
    """Load a state dict; false where its head is of other classes and was left out."""
    try:
        if path.suffix == ".safetensors":
            weights = load_file(path)
        else:
            weights = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
            raise RecipeError(f"model.weights: {path}: not a state dict")
    except RecipeError:
        raise
    except (OSError, SafetensorError) as exc:
        raise RecipeError(f"model.weights: {path}: {getattr(exc, 'strerror', None) or exc}") from exc
    except Exception as exc:
        raise RecipeError(f"model.weights: {path}: not a state dict that can be read safely: {exc}") from exc
    own = backbone.state_dict()
    prefix = _head_name(backbone) + "."
    head = {key for key in own if key.startswith(prefix)}
    weights = {
        key: value
        for key, value in weights.items()
        if not key.startswith(prefix) or (key in own and value.shape == own[key].shape)
    }
    missing = [key for key in own if key not in weights and key not in head]
    unknown = [key for key in weights if key not in own]
    unfit = [key for key in weights if key in own and weights[key].shape != own[key].shape]
    for problem, keys in (("lacks", missing), ("has unknown", unknown), ("has other shapes for", unfit)):
        if keys:
            raise RecipeError(f"model.weights: {path} {problem} {len(keys)} tensors of {name}, first {keys[0]}")
    backbone.load_state_dict(weights, strict=False)
    return head <= weights.keys()


def _replace_head(backbone: nn.Module, settings: HeadSettings, classes: int) -> None:
    name = _head_name(backbone)
    own = backbone.get_submodule(name)
    if not isinstance(own, nn.Linear):
        raise RecipeError(f"model.head: the model's own head is no linear layer but {type(own).__name__}")
    layers: list[nn.Module] = []
    widths = (own.in_features, *settings.hidden, classes)
    for (width_in, width), dropout in zip(pairwise(widths), settings.dropout, strict=True):
        linear = nn.Linear(width_in, width)
        if settings.init == "xavier":
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)
        layers += [nn.Dropout(dropout), linear, nn.ReLU()]
    backbone.set_submodule(name, nn.Sequential(*layers[:-1]))


def _begin_head_small(backbone: nn.Module) -> None:
    """Initialise a head that no weights came for as torch does, with logits near 0.

    timm draws the head of an EfficientNet or MobileNet from a range that only its number of classes sets. With few
    classes the first logits, and so the first gradients, are large enough to undo the features that were loaded.
    """
    head = backbone.get_submodule(_head_name(backbone))
    if isinstance(head, nn.Linear):
        head.reset_parameters()


def _head_name(backbone: nn.Module) -> str:
    config = getattr(backbone, "pretrained_cfg", None) or {}
    head = config.get("classifier")
    if isinstance(head, str):
        return head
    # Ours end with it, be it one layer or a Sequential of several.
    return [name for name, _ in backbone.named_children()][-1]
