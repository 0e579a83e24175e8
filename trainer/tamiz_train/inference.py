"""Inference in PyTorch: classifying images with the weights of a run, and evaluating a network on a split.

The weights of a run are always evaluated in float32, whatever precision it was trained in, because the exported model
is float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from tamiz.arguments import check_instance, check_list, check_type, check_whole
from tamiz.errors import InvalidImageError
from tamiz.image_bar import ImageBar
from tamiz.prediction import Prediction, interpret
from tamiz.preprocessing import ImageSource, Pixels, prepare
from tamiz.spec import ModelSpec, Preprocessing

from .classifier import Classifier
from .data import Split
from .evaluation import Evaluation, evaluate_function
from .metrics import Probabilities
from .run import Run
from .weights import load_classifier

BATCH_SIZE = 64

Features = npt.NDArray[np.float32]


def predict(
    run: Run,
    images: Sequence[ImageSource],
    *,
    top_k: int = 1,
    features: list[Features | None] | None = None,
) -> list[Prediction | InvalidImageError]:
    """Classify images with the weights of a run, without a server.

    Args:
        run: a finished run.
        images: paths, encoded images as bytes, or pixels as arrays; see `tamiz.prepare`.
        top_k: number of labels in each prediction's ``top``.
        features: a list to which the pooled features of each image are appended, which are the input of the network's
            head: float32 ``[width]``, or None for an image that cannot be read.

    Returns:
        one prediction for each image, in order; for an image that cannot be read, its `InvalidImageError`.

    Raises:
        UsageError: an argument is wrong.
        RunError: the weights are missing or do not fit the network.
    """
    check_list("images", images, "a list of images")
    check_whole("top_k", top_k)
    check_type("features", features, (list, type(None)), "a list, or None")
    classifier = load_classifier(run)
    results: list[Prediction | InvalidImageError] = []
    with ImageBar(run.recipe.name, len(images)) as bar:
        for start in range(0, len(images), BATCH_SIZE):
            prepared = [_prepare(image, run.spec.preprocessing) for image in images[start : start + BATCH_SIZE]]
            pixels = [outcome for outcome in prepared if not isinstance(outcome, InvalidImageError)]
            found, pooled = _classify(classifier, pixels, run, top_k) if pixels else ([], [])
            predictions, rows = iter(found), iter(pooled)
            for outcome in prepared:
                row = None
                if isinstance(outcome, InvalidImageError):
                    results.append(outcome)
                else:
                    results.append(next(predictions))
                    row = next(rows)
                if features is not None:
                    features.append(row)
            bar.advance(len(prepared))
    return results


def evaluate(classifier: Classifier, split: Split, spec: ModelSpec) -> Evaluation:
    """Evaluate a network on a split.

    Args:
        classifier: the network, on any device; it is put into evaluation mode.
        split: the images and their targets.
        spec: spec of the network; its preprocessing is applied to the images.

    Raises:
        UsageError: an argument is wrong.
    """
    check_instance("classifier", classifier, Classifier)
    device = next(classifier.buffers()).device
    classifier.eval()

    def compute(pixels: Pixels) -> Probabilities:
        with torch.inference_mode():
            return classifier.probabilities(classifier(torch.from_numpy(pixels).to(device))).cpu().numpy()

    return evaluate_function(compute, split, spec)


def _prepare(image: ImageSource, preprocessing: Preprocessing) -> Pixels | InvalidImageError:
    try:
        return prepare(image, preprocessing)
    except InvalidImageError as exc:
        return exc


def _classify(
    classifier: Classifier, pixels: Sequence[Pixels], run: Run, top_k: int
) -> tuple[list[Prediction], Sequence[Features]]:
    """Predictions and pooled features of one batch."""
    with torch.inference_mode(), classifier.pooled_features() as pooled:
        logits = classifier(torch.from_numpy(np.stack(pixels)))
        probabilities = classifier.probabilities(logits).numpy()
    return interpret(probabilities, run.spec, top_k=top_k, version=0, model=run.recipe.name), list(pooled[0].numpy())
