"""Routed calls: which version gets which images of a call while a candidate is rolled out beside the live version."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ..errors import InvalidImageError
from ..prediction import Prediction
from ..preprocessing import ImageSource, Pixels
from ..routing import Rollout, choose
from ..served_version import ServedVersion
from ..spec import Preprocessing
from .call import Call
from .connections import Endpoint
from .shadow import Shadow, ShadowCall
from .stats import Counter
from .steps import Compute, Flow

Outcome: TypeAlias = Prediction | InvalidImageError
"""What becomes of one image: its prediction, or the reason why it cannot be read."""

Prepared: TypeAlias = list[Pixels | InvalidImageError]


@dataclass(frozen=True)
class Attempt:
    """One attempt of a call during a rollout.

    Attributes:
        call: the state of the call.
        endpoint: the server.
        live: the live version.
        candidate: the version that is rolled out beside it.
        rollout: what the candidate is sent.
        images: the images as the caller gave them.
        positions: positions of the images in the caller's input.
        prepared: the images, prepared for the live version.
        prepare: prepares images with these positions in another way.
        infer: sends prepared images with these positions to a version.
    """

    call: Call
    endpoint: Endpoint
    live: ServedVersion
    candidate: ServedVersion
    rollout: Rollout
    images: Sequence[ImageSource]
    positions: Sequence[int]
    prepared: Prepared
    prepare: Callable[[Sequence[ImageSource], Sequence[int], Preprocessing, Call], Prepared]
    infer: Callable[[ServedVersion, Prepared, Sequence[int]], Flow[list[Outcome]]]


class Routed:
    """Sends the images of a call to the live version or to the candidate beside it, or some to each.

    Args:
        counter: counts the images that a candidate answers.
        shadow: sends calls to a candidate in the background.
        clock: a monotonic clock; returns seconds.
        draw: returns a random number from 0 to below 1.
    """

    def __init__(
        self,
        counter: Counter,
        shadow: Shadow,
        *,
        clock: Callable[[], float],
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._counter = counter
        self._shadow = shadow
        self._clock = clock
        self._draw = draw

    def infer(self, attempt: Attempt) -> Flow[list[Outcome]]:
        """Send the images of a call; return their outcomes in the same order."""
        call, places = attempt.call, range(len(attempt.images))
        if call.draw is None:
            # Drawn once, so that retries of a call do not move the shares.
            call.draw = self._draw()
        chosen = (
            [False] * len(places) if call.candidate_failed else choose(attempt.rollout, attempt.prepared, call.draw)
        )
        to_candidate = [place for place in places if chosen[place]]
        to_live = [place for place in places if not chosen[place]]
        outcomes: dict[int, Outcome] = {}
        # The candidate first: if it fails, the live version answers all images at the next attempt.
        if to_candidate:
            outcomes.update(zip(to_candidate, (yield from self._to_candidate(attempt, to_candidate)), strict=True))
        if to_live:
            outcomes.update(zip(to_live, (yield from self._to_live(attempt, to_live)), strict=True))
        return [outcomes[place] for place in places]

    def _to_candidate(self, attempt: Attempt, places: Sequence[int]) -> Flow[list[Outcome]]:
        prepared, positions = [attempt.prepared[place] for place in places], [attempt.positions[p] for p in places]
        preprocessing = attempt.candidate.spec.preprocessing
        if preprocessing != attempt.live.spec.preprocessing:
            images = [attempt.images[place] for place in places]
            prepared = yield Compute(attempt.prepare, (images, positions, preprocessing, attempt.call))
        attempt.call.asks_candidate = True
        try:
            outcomes = yield from attempt.infer(attempt.candidate, prepared, positions)
        finally:
            attempt.call.asks_candidate = False
        self._counter.count("candidate_images", sum(isinstance(outcome, Prediction) for outcome in outcomes))
        return outcomes

    def _to_live(self, attempt: Attempt, places: Sequence[int]) -> Flow[list[Outcome]]:
        prepared, positions = [attempt.prepared[place] for place in places], [attempt.positions[p] for p in places]
        began = self._clock()
        outcomes = yield from attempt.infer(attempt.live, prepared, positions)
        seconds = self._clock() - began
        if attempt.rollout.shadow and not attempt.call.candidate_failed and self._draw() < attempt.rollout.shadow:
            self._send_to_shadow(attempt, places, outcomes, seconds)
        return outcomes

    def _send_to_shadow(
        self, attempt: Attempt, places: Sequence[int], outcomes: Sequence[Outcome], seconds: float
    ) -> None:
        answered = [
            (attempt.images[place], image, outcome)
            for place, outcome in zip(places, outcomes, strict=True)
            if not isinstance(outcome, InvalidImageError)
            and not isinstance(image := attempt.prepared[place], InvalidImageError)
        ]
        # One request, however many the call needed.
        answered = answered[: attempt.candidate.max_batch_size]
        if answered:
            images, prepared, predictions = zip(*answered, strict=True)
            call = attempt.call.number, attempt.endpoint.transport, attempt.live, attempt.candidate
            self._shadow.send(ShadowCall(*call, images, prepared, predictions, seconds))
