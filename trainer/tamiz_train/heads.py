"""The head of a network: the last layers, which map the pooled features to the logits."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from tamiz.errors import RecipeError

from .recipe import HeadSettings


def head_name(network: nn.Module) -> str:
    """The name of the submodule that is the head."""
    config = getattr(network, "pretrained_cfg", None) or {}
    head = config.get("classifier")
    if isinstance(head, str):
        return head
    # The networks of `networks` end with their head, a single layer or a Sequential.
    return [name for name, _ in network.named_children()][-1]


def replace_head(network: nn.Module, settings: HeadSettings, labels: int) -> None:
    """Replace the head by a deeper one.

    Args:
        network: the network; it is changed in place.
        settings: the layers of the new head.
        labels: the number of labels.

    Raises:
        RecipeError: the network's own head is not a linear layer.
    """
    name = head_name(network)
    own = network.get_submodule(name)
    if not isinstance(own, nn.Linear):
        raise RecipeError(
            f"model.head: cannot replace the head, because it is {type(own).__name__}, not a linear layer"
        )
    layers: list[nn.Module] = []
    widths = (own.in_features, *settings.hidden, labels)
    for (width_in, width_out), dropout in zip(pairwise(widths), settings.dropout, strict=True):
        linear = nn.Linear(width_in, width_out)
        if settings.init == "xavier":
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)
        layers += [nn.Dropout(dropout), linear, nn.ReLU()]
    network.set_submodule(name, nn.Sequential(*layers[:-1]))


def reset_linear_head(network: nn.Module) -> None:
    """Initialise a linear head, for which no weights were loaded, so that its logits are near 0.

    timm draws the initial weights of an EfficientNet's or MobileNet's head from a range that depends only on the number
    of classes. With few classes the first logits, and so the first gradients, are large enough to destroy the loaded
    weights of the backbone. PyTorch's own initialisation does not have this problem.
    """
    head = network.get_submodule(head_name(network))
    if isinstance(head, nn.Linear):
        head.reset_parameters()
