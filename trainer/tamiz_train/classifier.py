"""The classifier: a network with its normalisation, which maps uint8 pixels to logits.

Training, evaluation and export all use it, so that normalisation is implemented in one place.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import timm
import torch
from torch import Tensor, nn

from tamiz.arguments import check_instance, check_type
from tamiz.spec import ModelSpec

from .heads import head_names, is_head_weight


class Classifier(nn.Module):
    """A network with its normalisation.

    Args:
        network: the network, from float32 ``[batch, channels, height, width]`` to logits ``[batch, labels]``.
        spec: the spec of the model. Its normalisation is applied to the pixels; its task defines what the logits mean.

    Attributes:
        network: the network with its heads.
        task: ``multiclass`` or ``multilabel``.
        scale: the factor of the normalisation, float32 ``[1, channels, 1, 1]``.
        shift: the summand of the normalisation, float32 ``[1, channels, 1, 1]``.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, network: nn.Module, spec: ModelSpec) -> None:
        check_type("network", network, nn.Module, "a torch.nn.Module")
        check_instance("spec", spec, ModelSpec)
        super().__init__()
        self.network = network
        self.task = spec.task
        mean = torch.tensor(spec.normalisation.mean)
        std = torch.tensor(spec.normalisation.std)
        # (x / 255 - mean) / std as one multiplication and one addition.
        self.register_buffer("scale", (1 / (255 * std)).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("shift", (-mean / std).view(1, -1, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Compute the logits, float32 ``[batch, labels]``, of uint8 ``[batch, height, width, channels]``."""
        pixels = image.permute(0, 3, 1, 2).float()
        logits: Tensor = self.network(pixels * self.scale + self.shift)
        return logits

    def probabilities(self, logits: Tensor) -> Tensor:
        """Convert logits to probabilities of the labels: by softmax, or by sigmoid if the task is multilabel."""
        return logits.softmax(1) if self.task == "multiclass" else logits.sigmoid()

    @property
    def heads(self) -> list[nn.Module]:
        """The last layers of the network, from the pooled features to the logits; most networks have one head."""
        return [self.network.get_submodule(name) for name in head_names(self.network)]

    def blocks(self) -> list[list[str]]:
        """The names of the weights of the backbone, grouped by block, from the input to the heads.

        A block of a timm model is a stage, as timm groups the layers; a block of `networks` is a layer.
        """
        if (group_matcher := getattr(self.network, "group_matcher", None)) is not None:
            groups = timm.models.group_parameters(self.network, group_matcher(coarse=True))
            named = [groups[index] for index in sorted(groups)]
        else:
            named = [
                [f"{name}.{weight}" for weight, _ in layer.named_parameters()]
                for name, layer in self.network.named_children()
            ]
        blocks = [[name for name in names if not is_head_weight(name, self.network)] for names in named]
        return [names for names in blocks if names]

    def parameter_summary(self) -> str:
        """The numbers of all, of trainable and of frozen parameters, as text."""
        total = sum(weight.numel() for weight in self.parameters())
        trainable = sum(weight.numel() for weight in self.parameters() if weight.requires_grad)
        return f"{total:,} parameters, {trainable:,} trainable, {total - trainable:,} frozen"

    @contextmanager
    def pooled_features(self) -> Iterator[list[Tensor]]:
        """Collect the input of the heads, float32 ``[batch, features]``, of each forward pass in the context.

        If several heads have different inputs, these are concatenated. An input with several positions,
        ``[batch, positions, features]``, is averaged over them.
        """
        collected: list[Tensor] = []
        inputs: list[Tensor] = []

        def collect(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            if not any(arguments[0] is known for known in inputs):
                inputs.append(arguments[0])

        def combine(*_: object) -> None:
            pooled = [each.mean(1) if each.ndim == 3 else each.flatten(1) for each in inputs]
            collected.append(torch.cat(pooled, 1))
            inputs.clear()

        with ExitStack() as hooks:
            for head in self.heads:
                hooks.enter_context(head.register_forward_pre_hook(collect))
            hooks.enter_context(self.network.register_forward_hook(combine))
            yield collected
