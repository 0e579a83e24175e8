"""The description of a model that was not trained with Tamiz: its labels, and how its images are prepared.

Two files say it. The labels file has one label per line (``.txt``), or is a JSON list, or a JSON object from index to
label. The preprocessing file is YAML or JSON with the keys of `InputSettings`; these are the keys of a recipe for the
input, and those that say what cannot be found out from the graph::

    preprocessing: {height: 224, width: 224, resize: crop, crop_fraction: 0.875, interpolation: area}
    normalisation: imagenet
    background: 0

They are named on the command line, or are beside the graph: ``model.labels.txt`` and ``model.preprocessing.yaml`` for
``model.onnx``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError

from tamiz.arguments import check_instance, check_path, show_path
from tamiz.document import Document, describe
from tamiz.errors import UsageError, cut, one_line, os_reason, suggest
from tamiz.spec import ModelSpec, Normalisation
from tamiz_train.recipe import PreprocessingSettings
from tamiz_train.recipe.document import parse
from tamiz_train.recipe.input import NormalisationName, PreprocessingKey
from tamiz_train.recipe.section import Probability

MAX_FILE_BYTES = 16 * 2**20
"""The largest labels or preprocessing file."""

LABEL_SUFFIXES = (".txt", ".json")
PREPROCESSING_SUFFIXES = (".yaml", ".yml", ".json")


class InputSettings(Document):
    """The content of a preprocessing file. What a key leaves out is found out from the graph where that is possible.

    Attributes:
        preprocessing: How an image becomes the input, as in a recipe; a number is short for a square of that size.
            Default: the size of the graph's input, and ``resize: squash``.
        normalisation: ``{mean: […], std: […]}``, or ``imagenet``, ``inception``, ``clip`` or ``none``, as in a recipe.
            Required unless the graph takes uint8, and so normalises the pixels itself.
        scale: The value of a white pixel before normalisation: 1 or 255. Default: 255 if a mean or a standard
            deviation is above 1, otherwise 1.
        channel_order: ``RGB`` (the default) or ``BGR``, as OpenCV and Caffe have it; the mean and the standard
            deviation have the same order.
        layout: ``NCHW`` (channels first) or ``NHWC`` (channels last). Default: where the graph has 3 channels, or 1.
        task: ``multiclass`` (one label per image, the default) or ``multilabel``.
        thresholds: Multilabel: the probability from which a label is predicted, for all labels or a list of one for
            each. Default: 0.5.
        activation: What makes probabilities of the outputs: ``softmax``, ``sigmoid``, or ``none`` if they are
            probabilities. Default: ``none`` if the outputs for test images are probabilities, otherwise what belongs
            to the task.
        background: Index of an output that stands for no label and is dropped, such as 0 in TensorFlow's networks of
            1001 classes. The labels file may leave it out. Default: null.
        output: Name of the output that has the labels; required if the graph has several.
    """

    preprocessing: PreprocessingKey = PreprocessingSettings()
    normalisation: Normalisation | NormalisationName | None = None
    scale: Literal[1, 255] | None = None
    channel_order: Literal["RGB", "BGR"] = "RGB"
    layout: Literal["NCHW", "NHWC"] | None = None
    task: Literal["multiclass", "multilabel"] = "multiclass"
    thresholds: Probability | tuple[Probability, ...] | None = None
    activation: Literal["none", "softmax", "sigmoid"] | None = None
    background: Annotated[int, Field(ge=0)] | None = None
    output: str | None = None


class Description(Document):
    """What a graph does not say about itself.

    Attributes:
        labels: the labels, in the order of the outputs.
        settings: how images are prepared, and what the outputs mean.
    """

    labels: tuple[str, ...]
    settings: InputSettings = InputSettings()

    @classmethod
    def from_spec(cls, spec: ModelSpec) -> Description:
        """The description that a spec contains."""
        check_instance("spec", spec, ModelSpec)
        settings = {
            "preprocessing": PreprocessingSettings(**spec.preprocessing.model_dump()),
            "normalisation": spec.normalisation,
            "scale": 1,
            "task": spec.task,
            "thresholds": spec.thresholds,
        }
        return cls(labels=spec.labels, settings=InputSettings(**settings))


def read_description(graph: Path, labels: Path | None = None, preprocessing: Path | None = None) -> Description | None:
    """Read the description of a graph from the given files, or from the files beside it.

    Args:
        graph: path of the graph, such as ``model.onnx``.
        labels: the labels file. Default: ``model.labels.txt`` or ``model.labels.json``, if there is one.
        preprocessing: the preprocessing file. Default: ``model.preprocessing.yaml``, ``.yml`` or ``.json``, if there is
            one.

    Returns:
        None if there are no labels, and none are asked for.

    Raises:
        UsageError: a file cannot be read, or is wrong; or a preprocessing file is given without labels.
    """
    check_path("graph", graph, "the path of an ONNX file")
    for name, path in (("labels", labels), ("preprocessing", preprocessing)):
        if path is not None:
            check_path(name, path, "the path of a file, or None")
    graph, given = Path(graph), preprocessing
    labels = labels or _find(graph, "labels", LABEL_SUFFIXES)
    preprocessing = preprocessing or _find(graph, "preprocessing", PREPROCESSING_SUFFIXES)
    if labels is None:
        if given is not None:
            raise UsageError("--labels: give the labels of the model too: a file with one label per line")
        return None
    settings = InputSettings() if preprocessing is None else read_settings(Path(preprocessing))
    return Description(labels=read_labels(Path(labels)), settings=settings)


def _find(graph: Path, kind: str, suffixes: tuple[str, ...]) -> Path | None:
    names = (graph.with_suffix(f".{kind}{suffix}") for suffix in suffixes)
    return next((path for path in names if path.is_file()), None)


def read_labels(path: Path) -> tuple[str, ...]:
    """Read a labels file.

    Raises:
        UsageError: the file cannot be read, or its labels are not unique or are empty.
    """
    if path.suffix not in LABEL_SUFFIXES:
        raise UsageError(f"--labels {show_path(path)}: unsupported format; use .txt with one label per line, or .json")
    text = _read(path, "--labels")
    labels = _labels_of_json(path, text) if path.suffix == ".json" else text.rstrip().splitlines()
    labels = [label.strip() for label in labels]
    if not any(labels):
        raise UsageError(f"--labels {path}: the file has no labels")
    seen: dict[str, int] = {}
    for number, label in enumerate(labels, 1):
        if not label:
            raise UsageError(f"--labels {path}: label {number} is empty; give each output a label")
        if label in seen:
            raise UsageError(
                f"--labels {path}: labels {seen[label]} and {number} are both {cut(label, 80)!r}; give each output a "
                "label of its own"
            )
        seen[label] = number
    return tuple(labels)


def _labels_of_json(path: Path, text: str) -> list[str]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise UsageError(f"--labels {path}: not JSON: {cut(one_line(exc), 200)}") from exc
    if isinstance(document, dict):
        # {"0": "tench", "1": "goldfish"}, as in id2label of Hugging Face.
        document = document.get("id2label", document)
        if not isinstance(document, dict) or set(document) != {str(index) for index in range(len(document))}:
            raise UsageError(f"--labels {path}: the keys of an object must be the indices 0, 1, 2 and so on")
        document = [document[str(index)] for index in range(len(document))]
    if not isinstance(document, list) or not all(isinstance(label, str) for label in document):
        raise UsageError(f"--labels {path}: not a list of labels, nor an object from index to label")
    return document


def read_settings(path: Path) -> InputSettings:
    """Read a preprocessing file.

    Raises:
        UsageError: the file cannot be read, or is wrong; the message has all problems.
    """
    if path.suffix not in PREPROCESSING_SUFFIXES:
        raise UsageError(f"--preprocessing {path}: unsupported format; use .yaml, .yml or .json")
    text = _read(path, "--preprocessing")
    try:
        # JSON is YAML.
        document: Any = parse(text)
        if document is not None and not isinstance(document, dict):
            raise UsageError(f"--preprocessing {path}: not a mapping of keys to values")
        return InputSettings.model_validate(document or {})
    except (yaml.YAMLError, RecursionError) as exc:
        raise UsageError(f"--preprocessing {path}: not valid YAML: {cut(one_line(exc), 300)}") from exc
    except ValidationError as exc:
        unknown = [error["loc"][-1] for error in exc.errors() if error["type"] == "extra_forbidden"]
        hint = suggest(str(unknown[0]), InputSettings.model_fields) if unknown else ""
        raise UsageError(f"--preprocessing {path}: {describe(exc)}{hint}") from exc


def _read(path: Path, option: str) -> str:
    try:
        if not path.is_file():
            raise UsageError(f"{option} {path}: no such file")
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise UsageError(f"{option} {path}: larger than {MAX_FILE_BYTES // 2**20} MiB")
        return content.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(f"{option} {path}: {os_reason(exc)}") from exc
