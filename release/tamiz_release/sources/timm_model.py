"""A pretrained model of timm as a source: its weights, labels and preprocessing as timm's configuration says them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import timm
from timm.data import ImageNetInfo, infer_imagenet_subset, resolve_data_config
from torch import nn

from tamiz.arguments import check_list, check_path, check_text
from tamiz.errors import ExportError, RecipeError, UsageError, cut, one_line, suggest
from tamiz.spec import ModelSpec, Normalisation, Preprocessing
from tamiz_train.classifier import Classifier
from tamiz_train.data import Split
from tamiz_train.evaluation import Evaluation
from tamiz_train.inference import evaluate
from tamiz_train.initial_weights import load_initial_weights
from tamiz_train.onnx_export import write_graph

from .base import TIMM, ModelSource

_RESIZE: dict[str, Literal["crop", "squash", "pad"]] = {"center": "crop", "squash": "squash", "border": "pad"}
"""The preprocessing of Tamiz for timm's crop modes."""


class TimmSource(ModelSource):
    """A model of timm with its pretrained weights.

    Args:
        name: name of the model, with or without the tag of its weights, such as ``resnet50`` or ``resnet50.a1_in1k``.
        weights: a local state dict; None downloads timm's weights.
        labels: the labels. Default: those of the ImageNet subset that the model has, as timm names them.

    Raises:
        UsageError: there is no such model, it has no pretrained weights, its labels are unknown, or the local weights
            do not fit.
        ExportError: the weights cannot be downloaded, or timm cannot create the model.

    Attributes:
        name: name of the model.
        weights: the local state dict, if it is used.
        notes: how the preprocessing differs from that of timm.
    """

    def __init__(self, name: str, weights: Path | None = None, labels: Sequence[str] | None = None) -> None:
        check_text("name", name, "the name of a model of timm")
        if weights is not None:
            check_path("weights", weights, "the path of a file with weights, or None")
            weights = Path(weights)
        if labels is not None:
            check_list("labels", labels, "a list of labels, or None")
        if not timm.is_model(name):
            raise UsageError(f"{TIMM}{name}: timm has no such model{suggest(name, timm.list_models(pretrained=True))}")
        configuration = timm.get_pretrained_cfg(name, allow_unregistered=False)
        if weights is None and (configuration is None or not configuration.has_weights):
            raise UsageError(f"{TIMM}{name}: timm has no weights of it; give them by --weights FILE")
        self.name, self.weights = name, weights
        network = _create(name, weights)
        self.title = f"timm's {name}" + ("" if weights is None else f" with the weights of {weights}")
        data: dict[str, Any] = resolve_data_config(model=network)  # type: ignore[no-untyped-call]
        self.spec = ModelSpec(
            labels=_labels(name, network, labels),
            preprocessing=_preprocessing(data),
            normalisation=Normalisation(mean=data["mean"], std=data["std"]),
        )
        self.notes = [
            f"timm resizes with {data['interpolation']} interpolation; Tamiz averages the covered pixels (area), which "
            "antialiases too but is not the same to the pixel"
        ]
        self._classifier = Classifier(network, self.spec).eval()

    def evaluate(self, split: Split) -> Evaluation:
        """Evaluate the network in PyTorch, in float32."""
        return evaluate(self._classifier, split, self.spec)

    def write_graph(self, path: Path) -> None:
        """Export the network to an ONNX file.

        Raises:
            ExportError: PyTorch cannot export it.
        """
        write_graph(self._classifier, self.spec, path)


def _create(name: str, weights: Path | None) -> nn.Module:
    try:
        network: nn.Module = timm.create_model(name, pretrained=weights is None)
    except Exception as exc:
        # The download raises errors of several libraries.
        what = "its weights cannot be downloaded" if weights is None else "timm cannot create it"
        hint = "; give them by --weights FILE" if weights is None else ""
        raise ExportError(f"{TIMM}{name}: {what}: {cut(one_line(exc), 300)}{hint}") from exc
    if weights is not None:
        try:
            complete = load_initial_weights(network, weights, name)
        except RecipeError as exc:
            raise UsageError(str(exc).replace("model.weights: ", "--weights ")) from exc
        if not complete:
            raise UsageError(f"--weights {weights}: the head is missing, or is for another number of labels")
    return network


def _labels(name: str, network: nn.Module, given: Sequence[str] | None) -> tuple[str, ...]:
    configuration: Any = network.pretrained_cfg
    count = int(configuration["num_classes"])
    if given is not None:
        if len(given) != count:
            raise UsageError(f"--labels: {len(given)} labels, and {name} has {count} outputs")
        return tuple(given)
    subset = infer_imagenet_subset(network)
    if not subset:
        raise UsageError(f"{TIMM}{name}: timm does not know its {count} labels; give them by --labels FILE")
    known = ImageNetInfo(subset)
    labels = [known.index_to_description(index) for index in range(count)]
    # Two labels of ImageNet are called crane, and two maillot.
    counts = Counter(labels)
    return tuple(
        label if counts[label] == 1 else f"{label} ({known.index_to_label_name(index)})"
        for index, label in enumerate(labels)
    )


def _preprocessing(data: dict[str, Any]) -> Preprocessing:
    channels, height, width = data["input_size"]
    resize = _RESIZE[data["crop_mode"]]
    return Preprocessing(
        height=height,
        width=width,
        colour="L" if channels == 1 else "RGB",
        resize=resize,
        crop_fraction=data["crop_pct"] if resize == "crop" else 1.0,
        interpolation="area",
    )
