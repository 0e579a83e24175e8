"""ModelSpec: all that a client must know about one version of a model.

It is made once, when training ends, and travels unchanged with the version: beside the weights, in the
ONNX file's metadata and in Triton's model configuration, from where any client reads it.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from .errors import SpecError

SCHEMA_VERSION = 1
PREPROCESSING_REVISION = 2
"""The newest revision, which new models get; `tamiz.preprocessing` defines each."""

INPUT_NAME = "image"
"""Name of the graph's input, uint8 ``[batch, height, width, channels]``."""

OUTPUT_NAME = "probabilities"
"""Name of the graph's output, float32 ``[batch, classes]``."""

SPEC_PARAMETER = "tamiz.spec."
"""Key of a version's spec among the ``parameters`` of config.pbtxt, followed by the version number."""

SPEC_METADATA = "tamiz.spec"
"""Key of the spec in the ``metadata_props`` of an ONNX file."""

Side = Annotated[int, Field(ge=1, le=16_384)]


class Preprocessing(BaseModel):
    """How an image becomes the model's uint8 input; carried out by `tamiz.preprocessing.prepare`.

    Attributes:
        revision: which pixel-exact definition of these settings holds.
        height: pixels of the model's input.
        width: pixels of the model's input.
        colour: ``RGB`` (3 channels) or ``L`` (1 channel, luma).
        resize: ``squash`` to the size; ``crop`` the largest centred box of the size's aspect ratio; ``pad``
            the whole image with black to the size's aspect ratio.
        crop_fraction: share of the largest box's sides that ``crop`` keeps.
        interpolation: ``linear`` takes the four nearest pixels, without antialiasing. ``area`` averages all
            covered pixels when it shrinks (antialiased, and several times slower); enlarging, it is linear.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    revision: Annotated[int, Field(ge=1, le=PREPROCESSING_REVISION)] = PREPROCESSING_REVISION
    height: Side
    width: Side
    colour: Literal["RGB", "L"] = "RGB"
    resize: Literal["squash", "crop", "pad"] = "squash"
    crop_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    interpolation: Literal["linear", "area"] = "linear"

    @property
    def channels(self) -> int:
        """3 for RGB, 1 for L."""
        return 3 if self.colour == "RGB" else 1

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one prepared image: (height, width, channels)."""
        return self.height, self.width, self.channels


class Normalisation(BaseModel):
    """``(x / 255 - mean) / std`` for each channel. Informative for a client: the graph itself applies it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: tuple[float, ...]
    std: tuple[Annotated[float, Field(gt=0)], ...]


class ModelSpec(BaseModel):
    """The contract between one trained version and all who use it.

    Attributes:
        schema_version: of this document; a reader refuses a newer one.
        task: ``multiclass`` (one label an image, softmax) or ``multilabel`` (any number, sigmoid).
        labels: in the order of the model's outputs.
        thresholds: multilabel only, one probability a label: a label holds at or above its threshold.
        preprocessing: how an image becomes the input.
        normalisation: what the graph does to the input first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

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
            raise ValueError("thresholds belong to multilabel, and only there")
        if self.thresholds is not None and len(self.thresholds) != len(self.labels):
            raise ValueError(f"{len(self.thresholds)} thresholds for {len(self.labels)} labels")
        channels = self.preprocessing.channels
        if not len(self.normalisation.mean) == len(self.normalisation.std) == channels:
            raise ValueError(f"normalisation must give {channels} means and standard deviations")
        return self

    def to_json(self) -> str:
        """One line of JSON that `from_json` reads back to an equal spec."""
        return self.model_dump_json()

    @classmethod
    def from_json(cls, text: str | bytes, *, source: str = "spec") -> ModelSpec:
        """Read a spec.

        Args:
            text: the JSON document.
            source: where it came from, for the message.

        Raises:
            SpecError: it is not JSON, lacks or misplaces something, has a newer schema, or names a
                preprocessing revision that this version of Tamiz does not know.
        """
        try:
            document = json.loads(text)
        except ValueError as exc:
            raise SpecError(f"{source}: not JSON: {exc}") from exc
        if not isinstance(document, dict):
            raise SpecError(f"{source}: not a JSON object")
        _refuse_newer(document, source)
        try:
            return cls.model_validate(document)
        except ValidationError as exc:
            raise SpecError(f"{source}: {describe(exc)}") from exc


def describe(exc: ValidationError) -> str:
    """All problems of a pydantic validation in one line, each with its place and value."""
    problems = []
    for error in exc.errors(include_url=False):
        place = ".".join(str(part) for part in error["loc"])
        message = error["msg"].removeprefix("Value error, ")
        problems.append(f"{place}: {message}" if place else message)
    return "; ".join(problems)


def _refuse_newer(document: dict[str, Any], source: str) -> None:
    schema = document.get("schema_version", SCHEMA_VERSION)
    if isinstance(schema, int) and schema > SCHEMA_VERSION:
        raise SpecError(
            f"{source}: schema {schema} is newer than {SCHEMA_VERSION}, the newest this Tamiz reads; upgrade tamiz"
        )
    preprocessing = document.get("preprocessing")
    if isinstance(preprocessing, dict):
        revision = preprocessing.get("revision")
        if isinstance(revision, int) and not 1 <= revision <= PREPROCESSING_REVISION:
            raise SpecError(
                f"{source}: preprocessing revision {revision} is unknown; this Tamiz knows 1 to "
                f"{PREPROCESSING_REVISION}; upgrade tamiz"
            )
