"""The sections ``preprocessing`` and ``normalisation``: what the network gets to see of an image."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from tamiz.spec import PREPROCESSING_REVISION, Normalisation, Side

from .section import Section

NORMALISATIONS: dict[str, Normalisation] = {
    "imagenet": Normalisation(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    "inception": Normalisation(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
    "clip": Normalisation(mean=(0.48145466, 0.4578275, 0.40821073), std=(0.26862954, 0.26130258, 0.27577711)),
    "none": Normalisation(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
}
"""The normalisations that a recipe can name; the values are those of ``timm.data.constants``."""

NormalisationName = Literal["imagenet", "inception", "clip", "none"]


class PreprocessingSettings(Section):
    """How each image is brought to the size of the network's input.

    It is published with each version of the model, so that clients prepare images in the same way. A number is short
    for a square input: ``preprocessing: 224`` means ``preprocessing: {height: 224, width: 224}``.

    Attributes:
        revision: The number of the pixel-exact definition of these settings. Default: the newest one.
        height: The height of the network's input in pixels. Default: null, the size that timm gives for the model; for
            the networks of Tamiz 28.
        width: The width of the network's input in pixels; set it together with the height. Default: null.
        colour: ``RGB`` (3 channels, the default) or ``L`` (1 channel, luma).
        resize: How the aspect ratio of an image becomes that of the input. ``squash`` (the default) distorts the image;
            ``crop`` cuts out the largest centred box of the input's aspect ratio; ``pad`` adds black bars to the whole
            image.
        crop_fraction: The fraction of the sides of the largest box that ``crop`` keeps, above 0 and at most 1. Default:
            1.
        interpolation: ``linear`` (the default) interpolates between the four nearest pixels, without antialiasing.
            ``area`` averages all covered pixels when it shrinks an image, which antialiases and is several times
            slower; it is the same as ``linear`` when it enlarges.
    """

    revision: Annotated[int, Field(ge=1, le=PREPROCESSING_REVISION)] = PREPROCESSING_REVISION
    height: Side | None = None
    width: Side | None = None
    colour: Literal["RGB", "L"] = "RGB"
    resize: Literal["squash", "crop", "pad"] = "squash"
    crop_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    interpolation: Literal["linear", "area"] = "linear"

    @property
    def channels(self) -> int:
        """The number of channels: 3 for RGB, 1 for L."""
        return 3 if self.colour == "RGB" else 1

    @model_validator(mode="after")
    def _height_and_width(self) -> PreprocessingSettings:
        if (self.height is None) != (self.width is None):
            raise ValueError("set both height and width, or neither, which takes the size from the model")
        return self


def _from_size(value: Any) -> Any:
    # A bool is an int in Python, and no size.
    return {"height": value, "width": value} if isinstance(value, int) and not isinstance(value, bool) else value


PreprocessingKey = Annotated[
    PreprocessingSettings, BeforeValidator(_from_size, json_schema_input_type=Side | PreprocessingSettings)
]
"""The section ``preprocessing``, or a number that is short for it."""
