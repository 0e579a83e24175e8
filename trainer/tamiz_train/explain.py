"""Explanation: where in an image a run's network saw a label, as a Grad-CAM heat map over the image.

Grad-CAM (Selvaraju et al., 2017) weights the channels of the last feature map by the mean gradient of the label's
logit, so it tells regions as coarse as that map: 7×7 for most networks of timm at 224×224. Only what speaks for the
label is warm; where nothing does, all is blue.
"""

from __future__ import annotations

import re
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

from tamiz.errors import InvalidImageError, RunError, UsageError, suggest
from tamiz.files import write_whole
from tamiz.preprocessing import Pixels, prepare
from tamiz.spec import ModelSpec

from .models import Classifier
from .run import Run

SMALLEST_SIDE = 224
"""Pixels of an overlay's shorter side, at least; an image of 28×28 is too small to look at."""


@dataclass(frozen=True)
class Explanation:
    """What a network saw of one label in one image.

    Attributes:
        path: of the overlay, a PNG.
        label: the label explained.
        score: its probability.
        layer: name of the backbone's module whose feature map the heat comes from.
    """

    path: Path
    label: str
    score: float
    layer: str


def explain(
    run: Run, images: Sequence[Path], out: Path, *, label: str | None = None
) -> Iterator[tuple[Path, Explanation | InvalidImageError]]:
    """Write an overlay for each image, when it is asked for: ``<stem>-<label>.cam.png``.

    Images of the same stem get overlays of their own, numbered; those of an earlier call are replaced.

    Args:
        run: a finished run of a network that has feature maps.
        images: image files.
        out: the folder for overlays; made where it is not there.
        label: the label to explain; each image's most probable one where None.

    Returns:
        each image with its explanation, in order; an `InvalidImageError` in the place of one that cannot be read.

    Raises:
        UsageError: the run has no such label.
        RunError: the network has no feature map, or the folder cannot be made.
        UsageError: an overlay cannot be written.
    """
    if label is not None and label not in run.spec.labels:
        raise UsageError(f"{run.path} has no label {label!r}{suggest(label, run.spec.labels)}")
    classifier = run.load_model()
    layer = find_layer(classifier, run.spec)
    if layer is None:
        raise RunError(
            f"{run.path}: {run.recipe.model.name} gives its head no feature map [channels, height, width], which "
            "Grad-CAM needs; explain a run of a convolutional network or of a MobileViT"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise RunError(f"cannot make the folder {out}: {exc.strerror}; name one that you can write") from exc

    def walk() -> Iterator[tuple[Path, Explanation | InvalidImageError]]:
        taken: set[Path] = set()
        for image in images:
            try:
                pixels = prepare(image, run.spec.preprocessing)
            except InvalidImageError as exc:
                yield image, exc
                continue
            index = None if label is None else run.spec.labels.index(label)
            heat, probabilities = compute_heat(classifier, layer, pixels, index)
            index = int(probabilities.argmax()) if index is None else index
            shown = run.spec.labels[index]
            path = _name_overlay(out, image, shown, taken)
            write_whole(path, cv2.imencode(".png", draw_overlay(pixels, heat))[1].tobytes())
            yield image, Explanation(path, shown, float(probabilities[index]), layer)

    return walk()


def find_layer(classifier: Classifier, spec: ModelSpec) -> str | None:
    """Name of the backbone's module that ends last with a feature map ``[batch, channels, height > 1, width > 1]``.

    None where tokens or channels-last maps follow it, or there is none: Grad-CAM would weight what are no channels.
    """
    # timm's mark of the networks that keep channels last, as Swin does.
    if getattr(classifier.backbone, "output_fmt", "NCHW") != "NCHW":
        return None
    outputs: list[tuple[str, torch.Size]] = []

    def record(name: str, module: nn.Module, arguments: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.is_floating_point():
            outputs.append((name, output.shape))

    with ExitStack() as hooks, torch.no_grad():
        for name, module in classifier.backbone.named_modules():
            hooks.enter_context(module.register_forward_hook(partial(record, name)))
        classifier(torch.zeros((1, *spec.preprocessing.shape), dtype=torch.uint8))
    names = [name for name, _ in outputs]
    for name, shape in reversed(outputs):
        if len(shape) == 3 and shape[1] > 1:
            return None
        # Of a module that ran several times, grad-cam would take the first map.
        if len(shape) == 4 and min(shape[2:]) > 1 and names.count(name) == 1:
            return name
    return None


def compute_heat(
    classifier: Classifier, layer: str, pixels: Pixels, index: int | None
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Grad-CAM of one image.

    Args:
        classifier: in evaluation mode.
        layer: as `find_layer` gives it.
        pixels: uint8 ``[height, width, channels]``.
        index: of the label to explain; the most probable one's where None.

    Returns:
        heat from 0 to 1 ``[height, width]``, and the probability of each label ``[classes]``.
    """
    # grad-cam reads the size of its heat off the last two axes of the input.
    network = nn.Sequential(Permute([0, 2, 3, 1]), classifier)
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    targets = None if index is None else [ClassifierOutputTarget(index)]
    with GradCAM(network, [classifier.backbone.get_submodule(layer)]) as cam:
        (heat,) = cam(image, targets)
        (probabilities,) = classifier.probabilities(cam.outputs.detach()).numpy()
        return heat, probabilities


def draw_overlay(pixels: Pixels, heat: npt.NDArray[np.float32]) -> Pixels:
    """The image under its heat, from blue to red: uint8 ``[height, width, 3]`` BGR, enlarged where it is small."""
    bgr = cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR if pixels.shape[2] == 1 else cv2.COLOR_RGB2BGR)
    factor = max(1, -(-SMALLEST_SIDE // min(heat.shape)))
    bgr = cv2.resize(bgr, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST)
    heat = cv2.resize(heat, bgr.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return show_cam_on_image(np.float32(bgr) / 255, heat)


def _name_overlay(out: Path, image: Path, label: str, taken: set[Path]) -> Path:
    # A label may hold what a file name may not. The suffix keeps an overlay off the images, should they lie in `out`.
    stem = image.stem + "-" + re.sub(r"[^\w.-]+", "_", label)
    path, number = out / f"{stem}.cam.png", 1
    while path in taken:
        number += 1
        path = out / f"{stem}-{number}.cam.png"
    taken.add(path)
    return path
