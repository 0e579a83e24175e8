"""Shadow: the images of some calls are sent to the candidate of a rollout as well, and the answers compared.

This happens in the background, after the call has its answer, so that it neither delays nor alters it. The number of
such requests in flight is limited: further ones are skipped and counted.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from ..errors import ClosedError
from ..prediction import Prediction
from ..preprocessing import ImageSource, Pixels, prepare
from ..served_version import ServedVersion
from ..transports import Transport
from ..transports.requests import ModelInfer
from .events import OnEvent, ShadowCompared, notify
from .replies import read_predictions
from .stats import Counter

MOST_IN_FLIGHT = 4


@dataclass(frozen=True)
class ShadowCall:
    """A request that the live version has answered, and that the candidate is to answer as well.

    Attributes:
        call: number of the call.
        transport: connection to the server that answered.
        live: the version that answered.
        candidate: the version that is to answer as well.
        sources: the images as the caller gave them.
        images: the same images, prepared for the live version.
        predictions: the answers of the live version.
        live_s: duration of the request to the live version in seconds.
    """

    call: int
    transport: Transport
    live: ServedVersion
    candidate: ServedVersion
    sources: Sequence[ImageSource]
    images: Sequence[Pixels]
    predictions: Sequence[Prediction]
    live_s: float


class Shadow:
    """Sends calls to the candidate of a rollout.

    Args:
        counter: counts requests, agreements and differences.
        timeout_s: returns the timeout of a new request in seconds.
        on_event: called with a `ShadowCompared` for each request; None disables events.
        in_background: calls a function in another thread.
    """

    def __init__(
        self,
        counter: Counter,
        *,
        timeout_s: Callable[[], float],
        on_event: OnEvent | None,
        in_background: Callable[[Callable[[], None]], None],
    ) -> None:
        self._counter = counter
        self._timeout_s = timeout_s
        self._on_event = on_event
        self._in_background = in_background
        self._free = threading.BoundedSemaphore(MOST_IN_FLIGHT)

    def send(self, call: ShadowCall) -> None:
        """Have a call sent to the candidate; return at once."""
        if not self._free.acquire(blocking=False):
            self._counter.count("shadow_skipped")
            return
        self._in_background(lambda: self._run(call))

    def _run(self, call: ShadowCall) -> None:
        try:
            self._compare(call)
        finally:
            self._free.release()

    def _compare(self, call: ShadowCall) -> None:
        self._counter.count("shadow_requests")
        agreements, began, error = 0, time.perf_counter(), None
        try:
            images = _prepare_again(call)
            began = time.perf_counter()
            reply = call.transport.call(ModelInfer(call.candidate, images), self._timeout_s())
            seconds = time.perf_counter() - began
            answers = read_predictions(reply, call.candidate, range(len(images)), top_k=1, url=call.transport.url)
            agreements = sum(map(partial(_agree, call.live), call.predictions, answers))
        except Exception as exc:
            # Whatever it is, it is no concern of the caller.
            seconds, error = time.perf_counter() - began, exc
            if not isinstance(exc, ClosedError):
                self._counter.count("shadow_errors")
        else:
            self._counter.count("shadow_agreements", agreements)
            self._counter.count("shadow_differences", len(images) - agreements)
            self._counter.count("shadow_s", seconds)
            self._counter.count("shadow_live_s", call.live_s)
        if self._on_event is not None:
            event = ShadowCompared(
                call=call.call,
                url=call.transport.url,
                model=call.live.model,
                version=call.candidate.version,
                live_version=call.live.version,
                images=len(call.predictions),
                agreements=agreements,
                seconds=seconds,
                live_seconds=call.live_s,
                error=error,
            )
            notify(self._on_event, event)


def _prepare_again(call: ShadowCall) -> Sequence[Pixels]:
    """The images, prepared for the candidate."""
    preprocessing = call.candidate.spec.preprocessing
    if preprocessing == call.live.spec.preprocessing:
        return call.images
    return [prepare(source, preprocessing) for source in call.sources]


def _agree(served: ServedVersion, live: Prediction, candidate: Prediction) -> bool:
    """Whether two versions give an image the same labels: the most probable one, or all those over their thresholds."""
    if served.spec.task == "multilabel":
        return {scored.label for scored in live.labels} == {scored.label for scored in candidate.labels}
    return live.label == candidate.label
