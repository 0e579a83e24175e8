"""The heads of a network: the last layers, which map the pooled features to the logits.

Most networks have one head. Some have several, whose logits they combine: distilled networks have one for the labels
and one for the teacher's predictions, and others have one per branch or depth.
"""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from tamiz.errors import RecipeError

from .recipe import HeadSettings


def head_names(network: nn.Module) -> tuple[str, ...]:
    """The names of the submodules that are the heads; the main head, for the labels, comes first."""
    config = getattr(network, "pretrained_cfg", None) or {}
    heads = config.get("classifier")
    if isinstance(heads, str):
        heads = (heads,)
    # The networks of `networks` end with their head, a single layer or a Sequential.
    return tuple(heads or [name for name, _ in network.named_children()][-1:])


def is_head_weight(name: str, network: nn.Module) -> bool:
    """Whether a weight, by its name in the state dict, belongs to a head of the network."""
    return name.startswith(tuple(f"{head}." for head in head_names(network)))


def replace_heads(network: nn.Module, settings: HeadSettings, labels: int) -> None:
    """Replace each head by a deeper one.

    Args:
        network: the network; it is changed in place.
        settings: the layers of the new heads.
        labels: the number of labels.

    Raises:
        RecipeError: a head of the network is not a linear layer.
    """
    for name in head_names(network):
        own = network.get_submodule(name)
        if not isinstance(own, nn.Linear):
            raise RecipeError(
                f"model.head: cannot replace the head {name}, because it is {type(own).__name__}, not a linear layer; "
                "leave model.head out"
            )
        network.set_submodule(name, _deeper_head(own.in_features, settings, labels))


def _deeper_head(features: int, settings: HeadSettings, labels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    widths = (features, *settings.hidden, labels)
    for (width_in, width_out), dropout in zip(pairwise(widths), settings.dropout, strict=True):
        linear = nn.Linear(width_in, width_out)
        if settings.init == "xavier":
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)
        layers += [nn.Dropout(dropout), linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def reset_linear_heads(network: nn.Module) -> None:
    """Initialise linear heads, for which no weights were loaded, so that their logits are near 0.

    timm draws the initial weights of an EfficientNet's or MobileNet's head from a range that depends only on the number
    of classes. With few classes the first logits, and so the first gradients, are large enough to destroy the loaded
    weights of the backbone. PyTorch's own initialisation does not have this problem.
    """
    for name in head_names(network):
        head = network.get_submodule(name)
        if isinstance(head, nn.Linear):
            head.reset_parameters()
