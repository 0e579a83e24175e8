"""Probes: images that a watch itself sends to both versions, so that they are compared on the same requests."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from tamiz.engine.replies import read_predictions
from tamiz.engine.shadow import decided
from tamiz.errors import InvalidImageError, ServerError, UsageError
from tamiz.preprocessing import ImageSource, Pixels, prepare
from tamiz.served_version import ServedVersion
from tamiz.spec import Preprocessing
from tamiz.transports import Transport
from tamiz.transports.requests import ModelInfer

from .judge import Answer, Pair

MOST_IMAGES = 256
"""Number of images that probes take turns with; they are held in memory, prepared."""

_SMALL = Preprocessing(height=8, width=8, colour="RGB")

TIMEOUT_S = 5.0
"""A version that does not answer a probe in this time has failed."""


def require_readable(images: Sequence[ImageSource]) -> None:
    """Check that at least one of some images is readable, if there are any: before a candidate gets requests.

    Raises:
        UsageError: none of them is.
    """
    if images:
        _read(images, (_SMALL,), 1)


class Prober:
    """Sends images to both versions of a rollout, one request at a time.

    Args:
        transport: connection to the server.
        live: the live version.
        candidate: the candidate.
        images: images that the model is made for. Without any, random pixels are sent, and answers are not compared,
            since agreement on these says nothing.
        seed: seed of the choice of images, and of which version is asked first.
        clock: a monotonic clock; returns seconds.

    Raises:
        UsageError: none of the images can be read.
    """

    def __init__(
        self,
        transport: Transport,
        live: ServedVersion,
        candidate: ServedVersion,
        images: Sequence[ImageSource] = (),
        *,
        seed: int = 0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._transport = transport
        self._versions = live, candidate
        self._clock = clock
        self._random = np.random.default_rng(seed)
        self._compares = bool(images)
        preprocessings = [served.spec.preprocessing for served in self._versions]
        shuffled = [images[index] for index in self._random.permutation(len(images)).tolist()]
        self._images = _read(shuffled, preprocessings, MOST_IMAGES) if images else self._invent()
        self._turn = 0

    def probe(self) -> Pair:
        """Ask both versions about the next image; in random order, because the second one has warmer caches."""
        images = self._images[self._turn % len(self._images)]
        self._turn += 1
        answers: dict[int, Answer] = {}
        for place in self._random.permutation(2).tolist():
            answers[place] = self._ask(self._versions[place], images[place])
        return Pair(answers[0], answers[1])

    def _ask(self, served: ServedVersion, image: Pixels) -> Answer:
        began = self._clock()
        try:
            reply = self._transport.call(ModelInfer(served, [image]), TIMEOUT_S)
            seconds = self._clock() - began
            (prediction,) = read_predictions(reply, served, range(1), top_k=1, url=self._transport.url)
        except ServerError as exc:
            return Answer(self._clock() - began, error=str(exc))
        return Answer(seconds, decided(served, prediction) if self._compares else None)

    def _invent(self) -> list[list[Pixels]]:
        shapes = [served.spec.preprocessing.shape for served in self._versions]
        return [[self._random.integers(0, 256, shape, np.uint8) for shape in shapes] for _ in range(8)]


def _read(images: Sequence[ImageSource], preprocessings: Sequence[Preprocessing], most: int) -> list[list[Pixels]]:
    """The first readable images, prepared in each way.

    Raises:
        UsageError: none can be read.
    """
    read: list[list[Pixels]] = []
    reason: InvalidImageError | None = None
    for image in images:
        if len(read) == most:
            break
        try:
            read.append([prepare(image, preprocessing) for preprocessing in preprocessings])
        except InvalidImageError as exc:
            reason = exc
    if not read:
        raise UsageError(f"none of the {len(images):,} images for probes can be read: {reason}") from reason
    return read
