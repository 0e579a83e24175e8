"""Explanation: the Grad-CAM overlay of an image for the live version, from the run that it was published from."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from tamiz.errors import DeadlineError, suggest
from tamiz.extras import extra_required
from tamiz.files import sha256
from tamiz.preprocessing import prepare
from tamiz_server import Repository, Version
from tamiz_train import Run

from .problems import Problem
from .settings import Settings

if TYPE_CHECKING:
    from tamiz_train.classifier import Classifier

EXTRA = "train,cpu"


@dataclass(frozen=True)
class Overlay:
    """A heat map over an image.

    Attributes:
        content: the overlay, a PNG file.
        label: the explained label.
        score: its probability.
        version: the version whose network was asked.
    """

    content: bytes
    label: str
    score: float
    version: int


class Explainer:
    """Explains images with the networks of versions, one at a time; the network that was used last stays in memory.

    Args:
        settings: the settings of the gateway.
        repository: the model repository.
    """

    def __init__(self, settings: Settings, repository: Repository) -> None:
        self._settings = settings
        self._repository = repository
        self._one_at_a_time = asyncio.Lock()
        self._loaded: tuple[str, Run, Classifier, str] | None = None

    async def explain(self, content: bytes, label: str | None, deadline: float) -> Overlay:
        """Explain an image by the network of the live version.

        Args:
            content: the bytes of the image file, which may be decoded.
            label: the label to explain; None for the most probable one.
            deadline: time by the monotonic clock until which it may wait for other images.

        Raises:
            Problem: 404 if the run of the live version is not here, 422 if the label or the network cannot be
                explained.
            DeadlineError: other images took too long.
            InvalidImageError: the image cannot be read.
            RunError: the run cannot be read.
            MissingExtraError: PyTorch is not installed.
        """
        try:
            async with asyncio.timeout(max(0, deadline - time.monotonic())):
                await self._one_at_a_time.acquire()
        except TimeoutError as exc:
            raise DeadlineError("other images were explained for too long") from exc
        try:
            return await asyncio.to_thread(self._explain, content, label)
        finally:
            self._one_at_a_time.release()

    def _explain(self, content: bytes, label: str | None) -> Overlay:
        version = self._repository.live_version(self._settings.model)
        if label is not None and label not in version.spec.labels:
            raise Problem(422, f"label: the model has no label {label[:100]!r}{suggest(label, version.spec.labels)}")
        pixels = prepare(content, version.spec.preprocessing)
        with extra_required(EXTRA):
            from tamiz_train.explanation import compute_heat, draw_overlay

            classifier, layer = self._load(version)
            chosen = None if label is None else version.spec.labels.index(label)
            heat, probabilities = compute_heat(classifier, layer, pixels, chosen)
        index = int(probabilities.argmax()) if chosen is None else chosen
        overlay = cv2.imencode(".png", draw_overlay(pixels, heat))[1].tobytes()
        return Overlay(overlay, version.spec.labels[index], float(probabilities[index]), version.version)

    def _load(self, version: Version) -> tuple[Classifier, str]:
        """The network of a version, and the module whose feature map explains it."""
        from tamiz_train.explanation import find_layer
        from tamiz_train.weights import load_classifier

        weights = version.manifest.get("weights_sha256")
        if self._loaded is None or self._loaded[0] != weights:
            run = self._find_run(version)
            classifier = load_classifier(run)
            layer = find_layer(classifier, run.spec)
            if layer is None:
                raise Problem(422, f"Grad-CAM cannot explain {run.recipe.model.name}, which has no feature map")
            self._loaded = str(weights), run, classifier, layer
        return self._loaded[2], self._loaded[3]

    def _find_run(self, version: Version) -> Run:
        manifest = version.manifest
        recipe, name, weights = (manifest.get(key) for key in ("recipe", "run", "weights_sha256"))
        if isinstance(recipe, str) and isinstance(name, str) and isinstance(weights, str):
            for path in self._places(Path(recipe, name)):
                # Another run may have the same name.
                if Run(path).finished and sha256(path / "model.safetensors") == weights:
                    return Run(path)
        raise Problem(
            404,
            f"version {version.version} cannot be explained: the run that it was published from is not here",
            error="RunError",
        )

    def _places(self, run: Path) -> Iterator[Path]:
        yield self._settings.runs_dir / run
        yield from self._settings.training.jobs_dir.glob(f"train_*/runs/{run}")
