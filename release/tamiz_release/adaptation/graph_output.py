"""The output of a foreign graph: whether it is that of a classifier, and which labels its values belong to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tamiz.errors import ExportError, cut, suggest
from tamiz.spec import OUTPUT_NAME, ModelSpec

from .description import InputSettings


def choose_output(outputs: Mapping[str, Any], settings: InputSettings) -> str:
    """The name of the output that has the labels.

    Args:
        outputs: what the graph returns for a batch.
        settings: the description.

    Raises:
        ExportError: the graph has several outputs, and the description names none; or one that does not exist.
    """
    if settings.output is not None:
        if settings.output not in outputs:
            raise ExportError(f"it has no output {settings.output!r}{suggest(settings.output, outputs)}")
        return settings.output
    if len(outputs) > 1 and OUTPUT_NAME not in outputs:
        shown = ", ".join(f"{cut(name, 40)} {_show(value)}" for name, value in [*outputs.items()][:8])
        raise ExportError(
            f"no classifier: it has {len(outputs)} outputs ({shown}), as detectors and segmenters have; if one of them "
            "has one value for each label, name it in the preprocessing file, such as "
            f"output: {cut(next(iter(outputs)), 40)}"
        )
    return OUTPUT_NAME if OUTPUT_NAME in outputs else next(iter(outputs))


def _show(value: Any) -> str:
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__


def count_outputs(name: str, value: Any, images: int) -> int:
    """Number of values for each image, after a check that the output is that of a classifier.

    Args:
        name: name of the output.
        value: what the graph returns.
        images: number of images that it was given.

    Raises:
        ExportError: the output is that of another kind of network.
    """
    shown = f"no classifier: for {images} images, its output {cut(name, 40)} is {_show(value)}"
    if not isinstance(value, np.ndarray) or not np.issubdtype(value.dtype, np.floating):
        raise ExportError(f"{shown}; a classifier returns one number for each label, so export its logits")
    if value.ndim < 2 or value.shape[0] != images:
        raise ExportError(f"{shown}, and a classifier returns [batch, labels]")
    if max(value.shape[1:]) != np.prod(value.shape[1:]):
        kind = "a segmenter, with values for each pixel" if value.ndim == 4 else "a detector, with values for each box"
        raise ExportError(f"{shown}, as of {kind}; a classifier returns [batch, labels]")
    return int(np.prod(value.shape[1:]))


def match_labels(spec: ModelSpec, labels: Sequence[str], outputs: int, settings: InputSettings) -> ModelSpec:
    """The spec with the labels of the outputs that are kept.

    Args:
        spec: the spec with all labels of the description.
        labels: these labels.
        outputs: number of outputs of the graph.
        settings: the description.

    Raises:
        ExportError: the numbers of labels and outputs do not fit.
    """
    background = settings.background
    if background is None:
        if outputs != len(labels):
            hint = "; give the labels of all outputs"
            if outputs == len(labels) + 1:
                hint = "; if one is a background class, say in the preprocessing file which one, such as background: 0"
            raise ExportError(
                f"does not match its description: {len(labels)} labels and 1 image need one output [1, {len(labels)}], "
                f"and the graph returns [1, {outputs}]{hint}"
            )
        return spec
    if background >= outputs:
        raise ExportError(f"background: {background} is no output: the graph has {outputs}, from 0 to {outputs - 1}")
    if len(labels) not in (outputs, outputs - 1):
        raise ExportError(
            f"does not match its description: {outputs} outputs without the background need {outputs - 1} labels, not "
            f"{len(labels)}"
        )
    if len(labels) == outputs - 1:
        return spec
    kept = [index for index in range(outputs) if index != background]
    thresholds = spec.thresholds and tuple(spec.thresholds[index] for index in kept)
    return ModelSpec(**{**dict(spec), "labels": tuple(labels[index] for index in kept), "thresholds": thresholds})
