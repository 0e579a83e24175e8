"""The weights that training starts from, read from a local state dict."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from tamiz.errors import RecipeError, os_reason

from .data.location import located
from .heads import is_head_weight


def load_initial_weights(network: nn.Module, path: Path, name: str) -> bool:
    """Load a state dict into a network.

    Args:
        network: the network; it is changed in place.
        path: the state dict: ``.safetensors``, or a file of ``torch.save``, which is loaded with ``weights_only=True``.
        name: the name of the network, for messages.

    Returns:
        whether the heads were loaded too; they are not if the state dict lacks one of them or has it for other labels.

    Raises:
        RecipeError: the file cannot be read, or its tensors do not fit the network.
    """
    own = network.state_dict()
    weights = _read(path)
    heads = {key for key in own if is_head_weight(key, network)}
    if not all(key in weights and weights[key].shape == own[key].shape for key in heads):
        # All heads or none: a network that combines a loaded head with a random one predicts noise.
        weights = {key: value for key, value in weights.items() if not is_head_weight(key, network)}
    missing = [key for key in own if key not in weights and key not in heads]
    unknown = [key for key in weights if key not in own]
    unfit = [key for key in weights if key in own and weights[key].shape != own[key].shape]
    for problem, keys in (("lacks", missing), ("has unknown", unknown), ("has other shapes for", unfit)):
        if keys:
            raise RecipeError(f"model.weights: {path} {problem} {len(keys)} tensors of {name}; the first is {keys[0]}")
    network.load_state_dict(weights, strict=False)
    return heads <= weights.keys()


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            _refuse_pickle(path)
            weights = load_file(path)
        else:
            weights = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError) as exc:
        raise RecipeError(f"model.weights: {located(path)}: {os_reason(exc)}") from exc
    except RecipeError:
        raise
    except Exception as exc:
        raise RecipeError(f"model.weights: {path}: not a state dict that can be loaded safely: {exc}") from exc
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise RecipeError(f"model.weights: {path}: not a state dict")
    return weights


def _refuse_pickle(path: Path) -> None:
    with path.open("rb") as file:
        beginning = file.read(9)
    # A safetensors file begins with the length of its header in 8 bytes, of which any can be that of a pickle, and "{".
    if beginning[8:] != b"{" and beginning.startswith((b"PK\x03\x04", b"\x80")):
        raise RecipeError(
            f"model.weights: {path}: it is a file of torch.save, not of safetensors; it is loaded only under a name "
            "that ends in .pt, and without running the programs that a pickle can contain"
        )
