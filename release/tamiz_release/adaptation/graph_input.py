"""The input of a foreign graph: its layout, size and type, and the spec that follows from them and the description."""

from __future__ import annotations

from typing import Literal, NamedTuple

from onnx import ModelProto, TensorProto, ValueInfoProto

from tamiz.errors import ExportError, cut
from tamiz.spec import ModelSpec, Normalisation, Preprocessing
from tamiz_train.recipe.input import NORMALISATIONS

from .description import InputSettings

Layout = Literal["NCHW", "NHWC"]
Type = Literal["uint8", "float16", "float32", "float64"]

_TYPES: dict[int, Type] = {
    TensorProto.UINT8: "uint8",
    TensorProto.FLOAT16: "float16",
    TensorProto.FLOAT: "float32",
    TensorProto.DOUBLE: "float64",
}


class GraphInput(NamedTuple):
    """The input of a graph that takes images.

    Attributes:
        name: its name.
        layout: ``NCHW`` or ``NHWC``.
        dtype: the type of its values.
        channels: 1 or 3.
        height: height of the images in pixels; 0 if the graph takes any.
        width: their width.
        batch: the fixed batch size; None if it is not fixed.
    """

    name: str
    layout: Layout
    dtype: Type
    channels: int
    height: int
    width: int
    batch: int | None


def find_input(model: ModelProto, settings: InputSettings) -> GraphInput:
    """Find the input of a graph, and which of its dimensions are the channels.

    Raises:
        ExportError: the graph does not take images alone, does not match its description, or its layout is not clear.
    """
    given = _only_input(model)
    tensor = given.type.tensor_type
    layout, channels, (height, width) = _find_layout(given, settings)
    batch = tensor.shape.dim[0].dim_value or None
    return GraphInput(given.name, layout, _TYPES[tensor.elem_type], channels, height, width, batch)


def make_spec(labels: tuple[str, ...], settings: InputSettings, found: GraphInput) -> ModelSpec:
    """The spec of a graph with the given input.

    Raises:
        ExportError: the description does not match the graph, or leaves out what the graph does not say.
        UsageError: the description contradicts itself.
    """
    thresholds = settings.thresholds
    if settings.task == "multilabel" and not isinstance(thresholds, tuple):
        thresholds = (0.5 if thresholds is None else thresholds,) * len(labels)
    return ModelSpec(
        labels=labels,
        task=settings.task,
        thresholds=thresholds,
        preprocessing=_find_preprocessing(settings, found.channels, (found.height, found.width)),
        normalisation=_find_normalisation(settings, found.dtype, found.channels),
    )


def _only_input(model: ModelProto) -> ValueInfoProto:
    constants = {each.name for each in model.graph.initializer}
    inputs = [each for each in model.graph.input if each.name not in constants]
    if len(inputs) != 1:
        names = ", ".join(cut(each.name, 40) for each in inputs[:8]) or "none"
        raise ExportError(f"no classifier of images: it has {len(inputs)} inputs ({names}); it must take images alone")
    given: ValueInfoProto = inputs[0]
    tensor = given.type.tensor_type
    dimensions = _show_dimensions(given)
    if not given.type.HasField("tensor_type") or not tensor.HasField("shape") or len(tensor.shape.dim) != 4:
        raise ExportError(
            f"no classifier of images: its input {cut(given.name, 40)} is {dimensions}; images are [batch, height, "
            "width, channels] or [batch, channels, height, width]"
        )
    if tensor.elem_type not in _TYPES:
        name = TensorProto.DataType.Name(tensor.elem_type).lower()
        raise ExportError(f"cannot be run: its input {cut(given.name, 40)} is {name}; use {', '.join(_TYPES.values())}")
    return given


def _show_dimensions(value: ValueInfoProto) -> str:
    shape = value.type.tensor_type.shape.dim
    return f"[{', '.join(str(each.dim_value or cut(each.dim_param, 20) or '?') for each in shape)}]"


def _find_layout(given: ValueInfoProto, settings: InputSettings) -> tuple[Layout, int, tuple[int, int]]:
    """The layout of the input, its number of channels, and its height and width, 0 where they may be any."""
    sizes = [each.dim_value for each in given.type.tensor_type.shape.dim]
    wanted = {"RGB": {3}, "L": {1}}[settings.preprocessing.colour] if _sets(settings, "colour") else {1, 3}
    possible: list[Layout] = []
    if sizes[1] in wanted:
        possible.append("NCHW")
    if sizes[3] in wanted:
        possible.append("NHWC")
    layout = settings.layout or (possible[0] if len(possible) == 1 else None)
    shown = _show_dimensions(given)
    if layout is None:
        if not possible and all(sizes[index] for index in (1, 3)):
            channels = " or ".join(map(str, sorted(wanted)))
            raise ExportError(
                f"does not match its description: it takes {cut(given.name, 40)} {shown}; an image must be [batch, "
                f"height, width, {channels}] or [batch, {channels}, height, width]"
            )
        raise ExportError(
            f"its input {cut(given.name, 40)} {shown} may have its channels first or last; say in the preprocessing "
            "file: layout: NCHW, or layout: NHWC"
        )
    channels, size = (sizes[1], (sizes[2], sizes[3])) if layout == "NCHW" else (sizes[3], (sizes[1], sizes[2]))
    if (channels or settings.preprocessing.channels) not in wanted:
        raise ExportError(f"does not match its description: {layout} of {shown} is not {settings.preprocessing.colour}")
    return layout, channels or settings.preprocessing.channels, size


def _sets(settings: InputSettings, key: str) -> bool:
    return key in settings.preprocessing.model_fields_set


def _find_preprocessing(settings: InputSettings, channels: int, size: tuple[int, int]) -> Preprocessing:
    given = settings.preprocessing
    height, width = given.height or size[0], given.width or size[1]
    if not height or not width:
        raise ExportError("it takes images of any size; say in the preprocessing file: preprocessing: 224")
    if any(own and own != other for own, other in zip(size, (height, width), strict=True)):
        raise ExportError(
            f"does not match its description: it takes images of {size[0]}×{size[1]} (height×width), and the "
            f"description says {height}×{width}"
        )
    colour = "L" if channels == 1 else "RGB"
    return Preprocessing(**{**given.model_dump(), "height": height, "width": width, "colour": colour})


def _find_normalisation(settings: InputSettings, dtype: str, channels: int) -> Normalisation:
    """Mean and standard deviation of values between 0 and 1, in the order RGB."""
    given = settings.normalisation
    if given is None:
        if dtype != "uint8":
            raise ExportError(
                f"its input is {dtype}, so images must be normalised; say in the preprocessing file: normalisation: "
                f"{', '.join(NORMALISATIONS)}, or the mean and std of each channel; and scale: 255 if it takes values "
                "from 0 to 255"
            )
        given = "none"
    named = NORMALISATIONS[given] if isinstance(given, str) else given
    mean, std = list(named.mean), list(named.std)
    if isinstance(given, str) and channels == 1:
        mean, std = [sum(mean) / len(mean)], [sum(std) / len(std)]
    if not len(mean) == len(std) == channels:
        raise ExportError(
            f"does not match its description: normalisation has {len(mean)} means and {len(std)} standard deviations, "
            f"and images have {channels} channels"
        )
    scale = settings.scale or (255 if max(map(abs, (*mean, *std))) > 1 else 1)
    if settings.channel_order == "BGR":
        mean, std = mean[::-1], std[::-1]
    return Normalisation(mean=tuple(each / scale for each in mean), std=tuple(each / scale for each in std))
