"""Networks: any model of timm, and the two small ones of the published examples.

Every network is wrapped in a `Classifier`, which takes the same uint8 pixels in training, evaluation and
export, so that normalisation exists in one place.
"""

from __future__ import annotations

from pathlib import Path

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from tamiz.errors import RecipeError, nearest
from tamiz.spec import ModelSpec, Preprocessing

from .recipe import ModelSettings


class Classifier(nn.Module):
    """A network that takes uint8 pixels and gives logits.

    Args:
        backbone: takes float32 ``[batch, channels, height, width]``, gives logits ``[batch, classes]``.
        spec: its normalisation is applied to the pixels first.
    """

    def __init__(self, backbone: nn.Module, spec: ModelSpec) -> None:
        super().__init__()
        self.backbone = backbone
        mean = torch.tensor(spec.normalisation.mean)
        std = torch.tensor(spec.normalisation.std)
        # (x / 255 - mean) / std as one multiplication and one addition.
        self.register_buffer("scale", (1 / (255 * std)).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("shift", (-mean / std).view(1, -1, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Logits ``[batch, classes]`` of uint8 ``[batch, height, width, channels]``."""
        pixels = image.permute(0, 3, 1, 2).float()
        return self.backbone(pixels * self.scale + self.shift)


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


_OWN = {"lenet5": LeNet5, "mlp": MLP}


def check_name(settings: ModelSettings) -> None:
    """Refuse a model that is not there.

    Raises:
        RecipeError: with the nearest name.
    """
    if settings.name not in _OWN and not timm.is_model(settings.name):
        hint = nearest(settings.name, [*_OWN, *timm.list_models()])
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
    head = {key for key in own if key.rpartition(".")[0] == _head_name(backbone)}
    weights = {key: value for key, value in weights.items() if key not in head or value.shape == own[key].shape}
    missing = [key for key in own if key not in weights and key not in head]
    unknown = [key for key in weights if key not in own]
    unfit = [key for key in weights if key in own and weights[key].shape != own[key].shape]
    for problem, keys in (("lacks", missing), ("has unknown", unknown), ("has other shapes for", unfit)):
        if keys:
            raise RecipeError(f"model.weights: {path} {problem} {len(keys)} tensors of {name}, first {keys[0]}")
    backbone.load_state_dict(weights, strict=False)
    return head <= weights.keys()


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
    return [name for name, module in backbone.named_modules() if isinstance(module, nn.Linear)][-1]
