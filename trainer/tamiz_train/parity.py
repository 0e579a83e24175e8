"""Parity: whether an exported graph computes what the trained network computes, on prepared validation images.

A run keeps these images, so that it can be exported and published on a machine that does not have its data.
"""

from __future__ import annotations

import textwrap
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tamiz.errors import ExportError, InvalidImageError, RecipeError, RunError, first_line
from tamiz.preprocessing import Pixels, prepare
from tamiz.spec import ModelSpec, Preprocessing

from .classifier import Classifier
from .data import Split, load_data
from .graph import Graph
from .metrics import predict_labels
from .run import Run

TOLERANCE = 1e-4
"""Largest allowed difference of two probabilities; float32 sums in another order differ by less."""

MAX_IMAGES = 256
"""Largest number of validation images on which the graph is compared with the network."""

CHECK_IMAGES = 15
"""Largest number of images on which an untrained network is compared with its graph: a batch of 1 and two of 7."""

MAX_BYTES = 32 * 2**20
"""Largest size of these images, in bytes of pixels, of which a run keeps a copy: 222 images of 224×224."""


@dataclass(frozen=True)
class Parity:
    """How far an exported graph is from the trained network, on validation images.

    Attributes:
        images: number of compared images.
        largest_difference: largest difference of two probabilities.
        agreeing: number of images with the same predicted label; multilabel: with the same predicted labels.
        tolerance: largest allowed difference of two probabilities.
    """

    images: int
    largest_difference: float
    agreeing: int
    tolerance: float

    @property
    def holds(self) -> bool:
        """Whether the graph computes what the network computes."""
        return self.largest_difference <= self.tolerance and self.agreeing == self.images

    def to_dict(self) -> dict[str, Any]:
        """The content of parity.json."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"the predicted labels agree on {self.agreeing} of {self.images} validation images; the largest difference "
            f"of two probabilities is {self.largest_difference:.1e} (allowed: {self.tolerance:.0e})"
        )


def choose_images(split: Split, preprocessing: Preprocessing, most: int = MAX_IMAGES) -> Pixels:
    """Choose the images on which a graph is compared with its network, and prepare them.

    Args:
        split: the validation images. Those that cannot be read are left out.
        preprocessing: size and colour mode of the network's input.
        most: the largest number of images.

    Returns:
        uint8 ``[images, height, width, channels]`` of about `MAX_BYTES` bytes at most.
    """
    # At least two, because one batch of one image and one of several are compared.
    most = min(len(split), most, max(2, MAX_BYTES // int(np.prod(preprocessing.shape))))
    prepared = []
    # Spread over the split, because images in folders are ordered by class.
    for index in np.linspace(0, len(split) - 1, most).astype(int).tolist():
        try:
            prepared.append(prepare(split.images[index], preprocessing))
        except InvalidImageError:
            continue
    return np.stack(prepared) if prepared else np.empty((0, *preprocessing.shape), np.uint8)


def parity_images(run: Run) -> Pixels:
    """The images on which the graph of a run is compared with its network.

    They are those that the run keeps; for a run from before runs kept them, they are chosen from its data.

    Returns:
        uint8 ``[images, height, width, channels]``.

    Raises:
        RunError: the run keeps no images, and its data cannot be found.
    """
    if (kept := run.parity_images) is not None:
        return kept
    try:
        data = load_data(run.recipe.data, run.recipe.train.seed)
    except RecipeError as exc:
        raise RunError(
            f"{run.path} cannot be compared with its graph: it keeps no validation images, and its data cannot be "
            f"found ({exc}); export it on the machine that has its data, or restore the data"
        ) from exc
    return choose_images(data.validation, run.spec.preprocessing)


def compare(classifier: Classifier, graph: Path, spec: ModelSpec, images: Pixels) -> Parity:
    """Run the same images through a network and through a graph.

    Args:
        classifier: the network, in evaluation mode.
        graph: path of the ONNX file.
        spec: spec of both.
        images: uint8 ``[images, height, width, channels]``; the first one is a batch of one, the others are batches of
            7, which shows a batch dimension that became a constant.

    Raises:
        ExportError: there are no images; or ONNX Runtime cannot load or run the graph.
    """
    if not len(images):
        raise ExportError("the exported graph cannot be checked: no validation image could be read")
    batches = [images[:1], *(images[start : start + 7] for start in range(1, len(images), 7))]
    largest, agreeing = 0.0, 0
    for pixels, actual in zip(batches, _run_graph(graph, batches), strict=True):
        with torch.inference_mode():
            expected = classifier.probabilities(classifier(torch.from_numpy(pixels))).numpy()
        difference = np.abs(actual - expected).max()
        # NaN counts as infinitely far.
        largest = max(largest, float(difference) if np.isfinite(difference) else np.inf)
        agreeing += sum(map(np.array_equal, predict_labels(actual, spec), predict_labels(expected, spec)))
    return Parity(len(images), largest, agreeing, TOLERANCE)


def _run_graph(path: Path, batches: list[Pixels]) -> list[npt.NDArray[np.float32]]:
    try:
        graph = Graph(path)
        return [graph.probabilities(pixels) for pixels in batches]
    except Exception as exc:
        # ONNX Runtime has an error class for each way in which a graph can be wrong.
        reason = first_line(exc).rpartition(f"{path} failed:")[-1]
        raise ExportError(
            f"ONNX Runtime cannot run the exported graph: {textwrap.shorten(reason, 300)}; set model.name to another "
            "network"
        ) from exc
