"""Explanation: a heat map over an image that shows where a run's network sees a label, computed by Grad-CAM.

Grad-CAM (Selvaraju et al., 2017, https://arxiv.org/abs/1610.02391) weights the channels of the last feature map by the
mean gradient of the label's logit. Its resolution is that of the feature map: 7×7 for most networks of timm at
224×224. Warm colours mark regions that are evidence for the label; without such a region the whole map is blue.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.image import show_cam_on_image
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn
from torchvision.ops import Permute

from tamiz.arguments import MAX_SHOWN, check_instance, check_list, check_path, check_type
from tamiz.errors import InvalidImageError, OutputError, RunError, UsageError, os_reason, shorten, suggest
from tamiz.files import write_whole
from tamiz.preprocessing import Pixels, prepare
from tamiz.spec import ModelSpec

from .classifier import Classifier
from .run import Run
from .weights import load_classifier

MIN_SIDE = 224
"""Least length of an overlay's shorter side, in pixels; an image of 28×28 would be too small to look at."""

MAX_STEM_BYTES = 200
"""Largest length of an overlay's name before its suffix: a file name has at most 255 bytes."""


@dataclass(frozen=True)
class Explanation:
    """The heat map of one label over one image.

    Attributes:
        path: path of the overlay, a PNG file.
        label: the explained label.
        score: probability of the label.
        layer: name of the network's module whose feature map the heat map is computed from.
    """

    path: Path
    label: str
    score: float
    layer: str


def explain(
    run: Run, images: Sequence[Path], out: Path, *, label: str | None = None
) -> Iterator[tuple[Path, Explanation | InvalidImageError]]:
    """Write a heat map over each image to ``<stem>-<label>.cam.png``.

    Each image is read when the iterator reaches it. Overlays of images with the same stem are numbered; overlays of
    an earlier call are replaced.

    Args:
        run: a finished run of a network that has feature maps.
        images: image files.
        out: the folder of the overlays; it is created when it does not exist.
        label: the label to explain. Default: the top prediction of each image.

    Returns:
        each image with its explanation, in order; for an image that cannot be read, its `InvalidImageError`.

    Raises:
        UsageError: an argument is wrong, or the run has no such label.
        RunError: the network has no feature map, or the weights cannot be loaded.
        OutputError: the folder or an overlay cannot be written.
    """
    check_instance("run", run, Run)
    check_list("images", images, "a list of image files")
    for index, image in enumerate(images):
        check_path(f"images[{index}]", image, "the path of an image file")
    check_path("out", out, "the path of a folder")
    check_type("label", label, (str, type(None)), "the name of a label, or None")
    if label is not None and label not in run.spec.labels:
        # Training stores labels in this form; a terminal of macOS may give another.
        label = unicodedata.normalize("NFC", label)
    if label is not None and label not in run.spec.labels:
        raise UsageError(f"{run.path} has no label {shorten(label, MAX_SHOWN)!r}{suggest(label, run.spec.labels)}")
    classifier = load_classifier(run)
    layer = find_layer(classifier, run.spec)
    if layer is None:
        raise RunError(
            f"{run.path}: Grad-CAM needs a feature map [channels, height, width] before the head, which "
            f"{run.recipe.model.name} does not have; explain a run of a convolutional network or of a MobileViT"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise OutputError(f"cannot create the folder {out}: {os_reason(exc)}; choose one that you can write") from exc
    # A separate generator function, so that the checks above run when `explain` is called and not at the first image.
    return _explain_each(run, classifier, layer, images, out, label)


def find_layer(classifier: Classifier, spec: ModelSpec) -> str | None:
    """Name of the last module whose output is a feature map ``[batch, channels, height > 1, width > 1]``.

    None when there is no such module, or when tokens or channels-last maps follow it: Grad-CAM would take something
    else for the channels.
    """
    # Set by timm for networks that keep channels last, such as Swin.
    if getattr(classifier.network, "output_fmt", "NCHW") != "NCHW":
        return None
    outputs: list[tuple[str, torch.Size]] = []

    def record(name: str, module: nn.Module, arguments: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.is_floating_point():
            outputs.append((name, output.shape))

    with ExitStack() as hooks, torch.no_grad():
        for name, module in classifier.network.named_modules():
            hooks.enter_context(module.register_forward_hook(partial(record, name)))
        classifier(torch.zeros((1, *spec.preprocessing.shape), dtype=torch.uint8))
    names = [name for name, _ in outputs]
    for name, shape in reversed(outputs):
        if len(shape) == 3 and shape[1] > 1:
            return None
        # Of a module that ran several times, Grad-CAM would take the output of the first run.
        if len(shape) == 4 and min(shape[2:]) > 1 and names.count(name) == 1:
            return name
    return None


def _explain_each(
    run: Run, classifier: Classifier, layer: str, images: Sequence[Path], out: Path, label: str | None
) -> Iterator[tuple[Path, Explanation | InvalidImageError]]:
    labels = run.spec.labels
    taken: set[Path] = set()
    for image in images:
        try:
            pixels = prepare(image, run.spec.preprocessing)
        except InvalidImageError as exc:
            yield image, exc
            continue
        chosen = None if label is None else labels.index(label)
        heat, probabilities = compute_heat(classifier, layer, pixels, chosen)
        index = int(probabilities.argmax()) if chosen is None else chosen
        path = _overlay_path(out, image, labels[index], taken)
        write_whole(path, cv2.imencode(".png", draw_overlay(pixels, heat))[1].tobytes())
        yield image, Explanation(path, labels[index], float(probabilities[index]), layer)


def compute_heat(
    classifier: Classifier, layer: str, pixels: Pixels, index: int | None
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Compute Grad-CAM for one image.

    Args:
        classifier: the network, in evaluation mode.
        layer: name of a module, as `find_layer` returns it.
        pixels: uint8 ``[height, width, channels]``.
        index: index of the label to explain; None for the most probable one.

    Returns:
        the heat, float32 from 0 to 1 ``[height, width]``, and the probability of each label, float32 ``[classes]``.
    """
    # grad-cam takes the size of its heat map from the last two axes of the input.
    channels_first = nn.Sequential(Permute([0, 2, 3, 1]), classifier)
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    targets = None if index is None else [ClassifierOutputTarget(index)]
    with GradCAM(channels_first, [classifier.network.get_submodule(layer)]) as cam:
        (heat,) = cam(image, targets)
        (probabilities,) = classifier.probabilities(cam.outputs.detach()).numpy()
        return heat, probabilities


def draw_overlay(pixels: Pixels, heat: npt.NDArray[np.float32]) -> Pixels:
    """Draw a heat map over an image, from blue to red.

    Args:
        pixels: uint8 ``[height, width, channels]``.
        heat: float32 from 0 to 1 ``[height, width]``.

    Returns:
        uint8 BGR ``[height, width, 3]``, enlarged by a whole number until the shorter side has `MIN_SIDE` pixels.
    """
    image = cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR if pixels.shape[2] == 1 else cv2.COLOR_RGB2BGR)
    factor = max(1, -(-MIN_SIDE // min(heat.shape)))
    image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST)
    enlarged = cv2.resize(heat, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    overlay: Pixels = show_cam_on_image(np.float32(image) / 255, enlarged)
    return overlay


def _overlay_path(out: Path, image: Path, label: str, taken: set[Path]) -> Path:
    """A unique path for each image of a call; the suffix distinguishes it from images in the same folder."""
    # A label may contain characters that a file name may not.
    stem = image.stem + "-" + re.sub(r"[^\w.-]+", "_", label)
    if len(encoded := os.fsencode(stem)) > MAX_STEM_BYTES:
        stem = encoded[:MAX_STEM_BYTES].decode(errors="ignore")
    path, number = out / f"{stem}.cam.png", 1
    while path in taken:
        number += 1
        path = out / f"{stem}-{number}.cam.png"
    taken.add(path)
    return path
