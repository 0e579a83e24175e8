"""A first recipe for a data set, with a comment beside each choice."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tamiz.console import printable
from tamiz.spec import Normalisation

from .model_input import model_configuration
from .recipe.data import TEST_FRACTION, CsvData
from .survey import Survey

SMALL_SIDE = 48
"""Images up to this size get a small network that is trained from random weights."""

IMBALANCE = 3.0
"""From this ratio of the most frequent to the rarest label on, labels are weighted in the loss."""

MAX_LABELS = 12
"""The number of labels that a comment counts."""

MIN_FOR_WORKERS = 500
"""The number of training images from which on a process loads them."""

PRETRAINED_MODEL = "mobilenetv2_100"
PRETRAINED_HUB = "timm/mobilenetv2_100.ra_in1k"
SCRATCH_MODEL = "resnet18"


@dataclass(frozen=True)
class _Plan:
    """How a network is trained: ``steps`` in all, but no fewer and no more epochs than the given ones.

    ``lr`` belongs to ``batch_size``.
    """

    model: str
    side: tuple[int, int]
    lr: float
    steps: int
    min_epochs: int
    max_epochs: int
    batch_size: int

    def for_images(self, training: int) -> _Plan:
        """The same plan for a number of training images: an epoch has eight steps or more.

        The rate follows the square root of the batch size, the rule for Adam of Malladi et al., *On the SDEs and
        Scaling Rules for Adaptive Gradient Algorithms* (2022).
        """
        batch_size = min(self.batch_size, 1 << max(2, (training // 8).bit_length() - 1))
        lr = float(f"{self.lr * math.sqrt(batch_size / self.batch_size):.2g}")
        return replace(self, batch_size=batch_size, lr=lr)


@dataclass(frozen=True)
class Weights:
    """Weights to start from.

    Attributes:
        path: the state dict; None means those of timm, which training downloads.
        model: the timm model that they belong to.
        normalisation: the one that the weights were trained with, if timm gives another one for the model.
    """

    path: Path | None = None
    model: str = PRETRAINED_MODEL
    normalisation: Normalisation | None = None

    @classmethod
    def of_file(cls, path: Path) -> Weights:
        """The weights of a file: of `PRETRAINED_MODEL`, unless a ``config.json`` of timm beside the file says more.

        The Hugging Face Hub has such a file beside the weights of each model of timm.
        """
        try:
            document = json.loads((path.parent / "config.json").read_text(encoding="utf-8"))
            model, trained = document["architecture"], document["pretrained_cfg"]
            normalisation = Normalisation(mean=tuple(trained["mean"]), std=tuple(trained["std"]))
        except (OSError, ValueError, KeyError, TypeError):
            return cls(path)
        usual = model_configuration(model) if isinstance(model, str) else None
        if usual is None:
            return cls(path)
        same = (tuple(usual.mean), tuple(usual.std)) == (normalisation.mean, normalisation.std)
        return cls(path, model, None if same else normalisation)


def draft_recipe(found: Survey, weights: Weights | None = None) -> str:
    """The text of a recipe that trains well on a data set.

    Args:
        found: what the data set looks like.
        weights: the weights to start from; None, and timm's for small images, mean random ones.
    """
    small = max(found.height, found.width) <= SMALL_SIDE
    if small and weights and weights.path is None:
        weights = None
    plan = _plan(found, weights).for_images(len(found.data.train))
    return "\n".join(_lines(found, plan, weights)) + "\n"


def pretrained_weights_at_hand() -> bool:
    """Whether timm's weights of `PRETRAINED_MODEL` were downloaded before, so that no network is needed."""
    from huggingface_hub import try_to_load_from_cache

    files = ("model.safetensors", "pytorch_model.bin")
    return any(isinstance(try_to_load_from_cache(PRETRAINED_HUB, file), str) for file in files)


def _plan(found: Survey, weights: Weights | None) -> _Plan:
    longest = max(found.height, found.width)
    if weights:
        configuration = model_configuration(weights.model)
        _, *full = configuration.input_size
        # Smaller images than those of the weights are enlarged only as far as the network needs.
        side = min(*full, max(96, 32 * round(longest / 32)))
        height, width = full if configuration.fixed_input_size else (side, side)
        return _Plan(weights.model, (height, width), 0.001, 800, 5, 30, 32)
    if longest <= SMALL_SIDE:
        return _Plan("cnn", (max(found.height, 8), max(found.width, 8)), 0.005, 3000, 10, 60, 64)
    side = min(128, max(64, 32 * round(longest / 32)))
    return _Plan(SCRATCH_MODEL, (side, side), 0.002, 4000, 15, 80, 32)


def _lines(found: Survey, plan: _Plan, weights: Weights | None) -> Iterator[str]:
    data = found.data
    multilabel = data.task == "multilabel"
    height, width = plan.side
    training = len(data.train)
    images = f"{sum(map(len, data.splits)):,} images of about {found.width}×{found.height} pixels"
    yield f"# {data.task}, {len(data.labels)} labels, {images}, {'all grey' if found.grey else 'in colour'}."
    yield f"# Training images by label: {_counts(found)}."
    if found.copies:
        yield f"# {found.copies.capitalize()}: see tamiz data check."
    yield "#"
    yield "# Only data and model are required. The documentation's recipe reference describes every key."
    yield "data:"
    yield f"  kind: {found.settings.kind}"
    yield f"  root: {_text(str(found.settings.root))}"
    if isinstance(found.settings, CsvData):
        yield f"  manifest: {_text(str(found.settings.manifest))}"
    for name, fraction in (("validation", found.settings.validation_fraction), ("test", TEST_FRACTION)):
        count = f"{len(data.split(name)):,} images"
        if not len(data.split(name)):
            yield f"  # {name}_fraction: {fraction} # splits off images for {name}; the data has none"
        elif name not in data.drawn:
            yield f"  # The data has {count} for {name}."
        elif hasattr(found.settings, f"{name}_fraction"):
            yield f"  {name}_fraction: {fraction} # {count}, drawn by their content"
    if found.unreadable:
        yield f"  on_unreadable: skip # of {found.decoded:,} images, {len(found.unreadable):,} cannot be read"
    grey_input = found.grey and weights is None
    yield "preprocessing:"
    yield f"  height: {height}"
    yield f"  width: {width}"
    if grey_input:
        yield "  colour: L # all images are grey"
    elif found.grey:
        yield "  colour: RGB # the weights were trained on colour images; grey ones get three equal channels"
    if weights and weights.normalisation:
        mean, std = (list(values) for values in (weights.normalisation.mean, weights.normalisation.std))
        yield f"normalisation: {{mean: {mean}, std: {std}}} # that of config.json beside the weights"
    elif weights and weights.path:
        yield f"# The normalisation is that of timm's weights of {plan.model}. For weights that were trained on values"
        yield "# from -1 to 1, add: normalisation: inception"
    yield "augmentation: # transforms of Albumentations; see tamiz data show"
    if plan.model == "cnn":
        yield "  - Affine: {translate_percent: [-0.1, 0.1], scale: [0.9, 1.1], rotate: [-10, 10], p: 0.8}"
        yield "  # - HorizontalFlip: {p: 0.5} # helps unless left and right matter, as in text and digits"
    else:
        yield "  - RandomResizedCrop: {scale: [0.5, 1.0]} # to the size of preprocessing"
        yield "  - HorizontalFlip: {p: 0.5} # remove it if left and right matter, as in text"
    yield "model:"
    yield from _model(plan, weights)
    batch_size = plan.batch_size
    epochs = min(plan.max_epochs, max(plan.min_epochs, math.ceil(plan.steps * batch_size / training)))
    yield "train:"
    yield f"  epochs: {epochs} # about {epochs * math.ceil(training / batch_size):,} steps on {training:,} images"
    yield f"  batch_size: {batch_size}"
    yield "  optimizer:"
    yield f"    lr: {plan.lr} # the highest rate; change it with the square root of batch_size"
    if not multilabel and found.imbalance >= IMBALANCE:
        yield f"  class_weights: balanced # the most frequent label has {found.imbalance:.0f} times the rarest's images"
    if not multilabel and plan.model != "cnn":
        yield "  label_smoothing: 0.1"
    # Starting a process in each epoch costs more than it saves on a few images.
    if plan.model != "cnn" and training >= MIN_FOR_WORKERS:
        yield "  num_workers: 1 # processes that load images; more on a machine with more cores"
    if multilabel:
        yield "thresholds: tuned # one per label, found on the validation images"


def _model(plan: _Plan, weights: Weights | None) -> Iterator[str]:
    yield f"  name: {plan.model}"
    if weights and weights.path:
        yield f"  weights: {_text(str(weights.path))}"
    elif weights:
        yield "  pretrained: true # downloads timm's weights; without a network: weights: FILE.safetensors"
    elif plan.model != "cnn":
        yield "  # Trained from random weights. Pretrained ones need far fewer images: tamiz recipe new --pretrained,"
        yield "  # or without a network tamiz recipe new --weights FILE."


def _counts(found: Survey) -> str:
    labels, counts = found.data.labels, found.data.train.counts(len(found.data.labels)).tolist()
    named = [f"{printable(label)[:40]} {count:,}" for label, count in zip(labels, counts, strict=True)]
    if len(named) > MAX_LABELS:
        return f"{min(counts):,} to {max(counts):,}"
    return ", ".join(name.replace("\n", " ") for name in named)


def _text(value: str) -> str:
    """A text as YAML reads it whatever it contains: JSON, which is YAML."""
    return json.dumps(value, ensure_ascii=False)
