"""ModelSpec: everything that a client must know about one version of a model.

The spec is written once, when training ends, and is copied unchanged with the version: beside the weights, to the
metadata of the ONNX file, and to Triton's model configuration, where every client reads it.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from .arguments import check_type, wrong
from .document import Document, describe
from .errors import SpecError

SCHEMA_VERSION = 1
PREPROCESSING_REVISION = 3
"""The newest revision, which new models use; `tamiz.preprocessing` defines every revision."""

INPUT_NAME = "image"
"""Name of the graph's input, uint8 ``[batch, height, width, channels]``."""

OUTPUT_NAME = "probabilities"
"""Name of the graph's output, float32 ``[batch, classes]``."""

SPEC_PARAMETER = "tamiz.spec."
"""Key of a version's spec among the ``parameters`` of config.pbtxt, followed by the version number."""

SUMMARY_PARAMETER = "tamiz.summary."
"""Key of a version's summary among the ``parameters`` of config.pbtxt, followed by the version number. It is JSON: the
hashes of the version's files, and what `tamiz_server.version.summarize` returns."""

SPEC_METADATA = "tamiz.spec"
"""Key of the spec in the ``metadata_props`` of an ONNX file."""

Side = Annotated[int, Field(ge=1, le=16_384)]


class Preprocessing(Document):
    """How an image becomes the uint8 input of a model; `tamiz.preprocessing.prepare` does it.

    Attributes:
        revision: number of the pixel-exact definition of these settings.
        height: height of the model's input in pixels.
        width: width of the model's input in pixels.
        colour: ``RGB`` (3 channels) or ``L`` (1 channel, luma).
        resize: how the aspect ratio of an image becomes that of the input. ``squash`` distorts the image; ``crop``
            cuts out the largest centred box of the input's aspect ratio; ``pad`` adds black bars to the whole image.
        crop_fraction: fraction of the sides of the largest box that ``crop`` keeps, above 0 and at most 1.
        interpolation: ``linear`` interpolates between the four nearest pixels, without antialiasing. ``area``
            averages all covered pixels when it shrinks an image, which antialiases and is several times slower; it is
            the same as ``linear`` when it enlarges.
    """

    revision: Annotated[int, Field(ge=1, le=PREPROCESSING_REVISION)] = PREPROCESSING_REVISION
    height: Side
    width: Side
    colour: Literal["RGB", "L"] = "RGB"
    resize: Literal["squash", "crop", "pad"] = "squash"
    crop_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    interpolation: Literal["linear", "area"] = "linear"

    @property
    def channels(self) -> int:
        """Number of channels: 3 for RGB, 1 for L."""
        return 3 if self.colour == "RGB" else 1

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one prepared image, (height, width, channels)."""
        return self.height, self.width, self.channels


class Normalisation(Document):
    """Normalisation of each channel, ``(x / 255 - mean) / std``.

    The graph applies it, so a client must not; the spec has it for information.

    Attributes:
        mean: mean of each channel, of values between 0 and 1.
        std: standard deviation of each channel, of values between 0 and 1.
    """

    mean: tuple[float, ...]
    std: tuple[Annotated[float, Field(gt=0)], ...]


class ModelSpec(Document):
    """The contract between one trained version of a model and the programs that use it.

    Attributes:
        schema_version: version of this document's format; a reader rejects a newer one.
        task: ``multiclass`` (exactly one label for each image, softmax) or ``multilabel`` (any number of labels,
            sigmoid).
        labels: names of the labels, in the order of the model's outputs.
        thresholds: probability from which each label is predicted; None for ``multiclass``.
        preprocessing: how an image becomes the input.
        normalisation: normalisation that the graph applies to the input.
    """

    schema_version: Annotated[int, Field(ge=1, le=SCHEMA_VERSION)] = SCHEMA_VERSION
    task: Literal["multiclass", "multilabel"] = "multiclass"
    labels: tuple[Annotated[str, Field(min_length=1)], ...]
    thresholds: tuple[Annotated[float, Field(ge=0, le=1)], ...] | None = None
    preprocessing: Preprocessing
    normalisation: Normalisation

    @model_validator(mode="after")
    def _fits_together(self) -> ModelSpec:
        if len(self.labels) < (2 if self.task == "multiclass" else 1):
            raise ValueError(f"{len(self.labels)} labels are too few for {self.task}")
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("labels are not unique")
        if (self.thresholds is not None) != (self.task == "multilabel"):
            raise ValueError("multilabel requires thresholds, and multiclass must have none")
        if self.thresholds is not None and len(self.thresholds) != len(self.labels):
            raise ValueError(f"{len(self.thresholds)} thresholds for {len(self.labels)} labels")
        channels = self.preprocessing.channels
        if not len(self.normalisation.mean) == len(self.normalisation.std) == channels:
            raise ValueError(f"normalisation must give {channels} means and standard deviations")
        return self

    def to_json(self) -> str:
        """The spec as one line of JSON, from which `from_json` makes an equal spec."""
        return self.model_dump_json()

    @classmethod
    def from_json(cls, text: str | bytes, *, source: str = "spec") -> ModelSpec:
        """Read a spec from JSON.

        Args:
            text: the JSON document.
            source: name of the file or model that the text comes from, for error messages.

        Raises:
            UsageError: ``text`` is neither a string nor bytes.
            SpecError: the text is not JSON, a value is missing or wrong, or the schema or the preprocessing revision
                is newer than this version of Tamiz supports.
        """
        # Any text, because a path may contain any characters.
        if not isinstance(source, str) or not source:
            raise wrong("source", source, "the name of a file or model")
        check_type("text", text, (str, bytes, bytearray), "the JSON document as a string or bytes")
        try:
            document = json.loads(text)
        except ValueError as exc:
            raise SpecError(f"{source}: not JSON: {exc}") from exc
        except RecursionError as exc:
            raise SpecError(f"{source}: the JSON document is nested too deeply") from exc
        if not isinstance(document, dict):
            raise SpecError(f"{source}: not a JSON object")
        _check_supported(document, source)
        try:
            return cls.model_validate(document)
        except ValidationError as exc:
            raise SpecError(f"{source}: {describe(exc)}") from exc


def _check_supported(document: dict[str, Any], source: str) -> None:
    schema = document.get("schema_version", SCHEMA_VERSION)
    if isinstance(schema, int) and schema > SCHEMA_VERSION:
        raise SpecError(
            f"{source}: schema {schema} is newer than {SCHEMA_VERSION}, the newest supported schema; upgrade tamiz"
        )
    preprocessing = document.get("preprocessing")
    if isinstance(preprocessing, dict):
        revision = preprocessing.get("revision")
        if isinstance(revision, int) and not 1 <= revision <= PREPROCESSING_REVISION:
            raise SpecError(
                f"{source}: preprocessing revision {revision} is unknown; supported: 1 to {PREPROCESSING_REVISION}; "
                "upgrade tamiz"
            )
