"""Shadow: the images of some calls are sent to the candidate of a rollout as well, and the answers compared.

This happens in the background, after the call has its answer, so that it neither delays nor alters it. The number of
such requests in flight is limited: further ones are skipped and counted.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

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
        """Have a call sent to the candidate; return at once. The caller may change the memory of its images then."""
        if not self._free.acquire(blocking=False):
            self._counter.count("shadow_skipped")
            return
        kept = _keep_images(call)
        try:
            self._in_background(lambda: self._run(kept))
        except RuntimeError:
            # No thread can be started. The caller has its answer, and must not lose it.
            self._free.release()
            self._counter.count("shadow_skipped")

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
            both = zip(call.predictions, answers, strict=True)
            agreements = sum(decided(call.live, ours) == decided(call.live, theirs) for ours, theirs in both)
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


def _keep_images(call: ShadowCall) -> ShadowCall:
    """The call with copies of the images, as far as the candidate needs them and their memory is the caller's."""
    if _same_preprocessing(call):
        pairs = zip(call.images, call.sources, strict=True)
        return replace(call, images=[image.copy() if _is_view(image, source) else image for image, source in pairs])
    return replace(call, sources=[_copy(source) for source in call.sources])


def _is_view(image: Pixels, source: ImageSource) -> bool:
    # An array of the size of the model is prepared without a copy.
    return isinstance(source, np.ndarray) and np.may_share_memory(image, source)


def _copy(source: ImageSource) -> ImageSource:
    if isinstance(source, np.ndarray):
        return source.copy()
    return bytes(source) if isinstance(source, bytearray | memoryview) else source


def _prepare_again(call: ShadowCall) -> Sequence[Pixels]:
    """The images, prepared for the candidate."""
    if _same_preprocessing(call):
        return call.images
    return [prepare(source, call.candidate.spec.preprocessing) for source in call.sources]


def _same_preprocessing(call: ShadowCall) -> bool:
    return call.candidate.spec.preprocessing == call.live.spec.preprocessing


def decided(served: ServedVersion, prediction: Prediction) -> frozenset[str] | str:
    """What must be equal for answers to agree: the labels over their thresholds, or the most probable one."""
    if served.spec.task == "multilabel":
        return frozenset(scored.label for scored in prediction.labels)
    return prediction.label
