"""The section ``model``: the network, its head, and the weights that training starts from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from .section import PositiveInt, Section


class HeadSettings(Section):
    """A head of several linear layers with ReLU between them, which replaces the network's own head.

    Attributes:
        hidden: The width of each hidden layer.
        dropout: The dropout probability before each linear layer, from 0 to below 1. There is one value more than there
            are hidden layers, because the last linear layer has dropout too; 0 means no dropout.
        init: How the weights are initialised: ``torch`` (the default) uses PyTorch's own initialisation, ``xavier``
            uses a uniform Xavier distribution and biases of 0.
    """

    hidden: tuple[PositiveInt, ...]
    dropout: tuple[Annotated[float, Field(ge=0, lt=1)], ...]
    init: Literal["torch", "xavier"] = "torch"

    @model_validator(mode="after")
    def _one_dropout_per_layer(self) -> HeadSettings:
        if len(self.dropout) != len(self.hidden) + 1:
            raise ValueError(
                f"{len(self.hidden)} hidden layers and the last layer need {len(self.hidden) + 1} values of dropout, "
                f"not {len(self.dropout)}; use 0 for no dropout"
            )
        return self


class ModelSettings(Section):
    """The network to train, and the weights that training starts from.

    Attributes:
        name: ``lenet5``, ``mlp``, ``cnn``, or the name of any timm model.
        pretrained: Whether to start from timm's pretrained weights, which are downloaded. Default: false.
        weights: The path of a local state dict to start from: ``.safetensors``, or ``.pt`` (loaded with
            ``weights_only=True``). A head for a different number of classes is not loaded. A relative path begins at
            the working directory. Default: null.
        head: A deeper head; see `HeadSettings`. Default: null, which keeps the network's own head, one linear layer.
        options: Further arguments of ``timm.create_model``. Default: none.
    """

    name: str
    pretrained: bool = False
    weights: Path | None = None
    head: HeadSettings | None = None
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_source_of_weights(self) -> ModelSettings:
        if self.pretrained and self.weights:
            raise ValueError("set pretrained or weights, not both")
        return self
