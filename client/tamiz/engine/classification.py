"""Classification: what a call does from the images to their predictions, attempt by attempt.

Read it from `classify` downward. What takes time is a step (`tamiz.engine.steps`) that a client carries out; what is
sent and received is in `exchange`, and what happens after a failure is in `retrier`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

from ..arguments import check_flag, check_seconds, check_whole
from ..errors import InvalidImageError, OverloadedError, ServerError
from ..prediction import Prediction
from ..preprocessing import ImageSource, prepare
from ..served_version import ServedVersion
from ..spec import Preprocessing
from .call import Call
from .concurrency import Limits
from .connections import Connections, Endpoint
from .events import OnEvent
from .exchange import REFRESH_S, Exchange
from .replies import read_predictions
from .reservation import Reservation
from .retrier import Retrier
from .routed import Attempt, Outcome, Prepared, Routed
from .shadow import Shadow
from .stats import Counter
from .steps import Compute, Flow


class Classification:
    """Classifies images for one client.

    Args:
        connections: the servers of the client.
        exchange: sends the requests.
        counter: counts calls, images and retries.
        timeout_s: returns the timeout of a new call in seconds, retries included.
        provenance: whether predictions carry their provenance, unless a call says otherwise.
        clock: a monotonic clock; returns seconds.
        on_event: called with an event for each retry; None disables events.
        forget_regions: called with the URL of a server that has lost its shared-memory regions.
        in_background: calls a function in another thread.

    Attributes:
        latest: the version that was read last, from any server; None before the first.
    """

    def __init__(
        self,
        connections: Connections,
        exchange: Exchange,
        counter: Counter,
        *,
        timeout_s: Callable[[], float],
        provenance: bool,
        clock: Callable[[], float],
        on_event: OnEvent | None,
        forget_regions: Callable[[str], None],
        in_background: Callable[[Callable[[], None]], None],
    ) -> None:
        self.latest: ServedVersion | None = None
        self._connections = connections
        self._exchange = exchange
        self._counter = counter
        self._timeout_s = timeout_s
        self._provenance = provenance
        self._clock = clock
        self._in_background = in_background
        shadow = Shadow(counter, timeout_s=timeout_s, on_event=on_event, in_background=in_background)
        self._routed = Routed(counter, shadow, clock=clock)
        self._retrier = Retrier(
            connections, exchange, counter, clock=clock, on_event=on_event, forget_regions=forget_regions
        )
        self._no_limits = Limits.none()

    def classify(
        self, image: ImageSource, top_k: int, provenance: bool | None = None, timeout_s: float | None = None
    ) -> Flow[Prediction]:
        """Classify one image.

        Raises:
            InvalidImageError: the image cannot be read.
            ServerError: no attempt succeeded.
            UsageError: an argument is wrong.
        """
        check_whole("top_k", top_k)
        if provenance is not None:
            check_flag("provenance", provenance)
        if timeout_s is not None:
            check_seconds("timeout_s", timeout_s)
        call = self._new_call(bulk=False, provenance=provenance, timeout_s=timeout_s)
        (outcome,) = yield from self._classify([image], top_k, call, self._no_limits, 0)
        if isinstance(outcome, InvalidImageError):
            raise outcome
        return outcome

    def classify_batch(
        self,
        images: Sequence[ImageSource],
        top_k: int,
        limits: Limits,
        position: int,
        provenance: bool | None = None,
    ) -> Flow[list[Outcome]]:
        """Classify one batch of `classify_many`.

        Args:
            images: the images of the batch.
            top_k: how many labels `Prediction.top` holds.
            limits: the concurrency limits that the batches share.
            position: position of the first image in the caller's input.
            provenance: whether the predictions carry their provenance; None as the client does.

        Raises:
            ServerError: no attempt succeeded.
        """
        yield from limits.preparing.wait()
        call = self._new_call(bulk=True, provenance=provenance)
        return (yield from self._classify(images, top_k, call, limits, position))

    def refresh(self) -> Flow[ServedVersion]:
        """Read which version is live now.

        Raises:
            ServerError: no attempt succeeded.
            SpecError: the model has no spec that this client understands.
        """
        call = self._new_call(bulk=False)
        while True:
            endpoint = self._connections.pick(call.avoid)
            try:
                served = yield from self._read_version(endpoint, call)
            except ServerError as exc:
                yield from self._retrier.recover(exc, endpoint, call, None)
                continue
            for other in self._connections.endpoints:
                if other is not endpoint:
                    # Its version is read again before its next request.
                    other.served = None
            return served

    def _new_call(self, *, bulk: bool, provenance: bool | None = None, timeout_s: float | None = None) -> Call:
        wanted = self._provenance if provenance is None else provenance
        seconds = self._timeout_s() if timeout_s is None else timeout_s
        return Call(self._clock() + seconds, bulk, wanted)

    def _classify(
        self, images: Sequence[ImageSource], top_k: int, call: Call, limits: Limits, position: int
    ) -> Flow[list[Outcome]]:
        """Attempt after attempt, until one succeeds or must not be followed by another."""
        self._retrier.earn()
        self._counter.count("calls")
        positions = range(position, position + len(images))
        preparing = call.bulk
        prepared: Prepared = []
        prepared_for: Preprocessing | None = None
        try:
            while True:
                endpoint = self._connections.pick(call.avoid)
                served: ServedVersion | None = None
                with Reservation() as attempt:
                    try:
                        served = endpoint.served or (yield from self._read_version(endpoint, call))
                        if prepared_for != served.spec.preprocessing:
                            # From the sources again: an image prepared for one version does not fit another.
                            prepared_for = served.spec.preprocessing
                            prepared = yield Compute(self._prepare, (images, positions, prepared_for, call))
                        waiting_since = self._clock()
                        if waiting_since >= endpoint.refresh_at:
                            self._read_version_again(endpoint, served)
                        yield from limits.in_flight.wait()
                        attempt.add(limits.in_flight.release)
                        if call.bulk:
                            # The timeout of a batch starts when it is first sent, and is paused while it waits.
                            left = self._timeout_s() if preparing else call.deadline - waiting_since
                            call.deadline = self._clock() + left
                            endpoint, served = self._pick_again(endpoint, served, call)
                        if preparing:
                            limits.preparing.release()
                            preparing = False
                        ready = prepared, positions, top_k, call, limits, attempt
                        if served.candidate is None:
                            return (yield from self._infer(endpoint, served, *ready))
                        return (yield from self._infer_routed(endpoint, served, images, *ready))
                    except ServerError as exc:
                        if isinstance(exc, OverloadedError):
                            limits.in_flight.record_overload()
                        # The slot is kept meanwhile: others would take it, and fail in the same way.
                        yield from self._retrier.recover(exc, endpoint, call, served)
                        # The next attempt takes a slot of its own. Requests that hang on one server must not occupy
                        # the slots that the other servers need.
                        attempt.give_back()
        finally:
            if preparing:
                limits.preparing.release()

    def _read_version(self, endpoint: Endpoint, call: Call) -> Flow[ServedVersion]:
        served = yield from self._exchange.read_version(endpoint, call)
        self.latest = served
        return served

    def _read_version_again(self, endpoint: Endpoint, known: ServedVersion) -> None:
        """Find out in the background whether a rollout has begun or changed: it takes no version away."""
        endpoint.refresh_at = self._clock() + REFRESH_S

        def read() -> None:
            served = self._exchange.read_version_again(endpoint, known)
            if served is not None:
                self.latest = served

        # Without a thread left, a later call asks.
        with contextlib.suppress(RuntimeError):
            self._in_background(read)

    def _prepare(
        self, images: Sequence[ImageSource], positions: Sequence[int], preprocessing: Preprocessing, call: Call
    ) -> Prepared:
        if not call.bulk:
            # The deadline may have passed while other calls had the processors.
            self._exchange.time_left(None, call)
        prepared: Prepared = []
        for position, image in zip(positions, images, strict=True):
            # The end of the process closes the client, and does not wait for a whole batch of large images.
            self._exchange.check_open()
            try:
                prepared.append(prepare(image, preprocessing))
            except InvalidImageError as exc:
                exc.position = position
                prepared.append(exc)
        return prepared

    def _pick_again(self, endpoint: Endpoint, served: ServedVersion, call: Call) -> tuple[Endpoint, ServedVersion]:
        """After a wait: another server may have fewer requests in flight by now, and take the same pixels."""
        if self._connections.several:
            other = self._connections.pick(call.avoid)
            # Read once: another thread may forget the version at any time.
            known = other.served
            if known is not None and known.spec.preprocessing == served.spec.preprocessing:
                return other, known
        return endpoint, served

    def _infer_routed(
        self,
        endpoint: Endpoint,
        served: ServedVersion,
        images: Sequence[ImageSource],
        prepared: Prepared,
        positions: Sequence[int],
        top_k: int,
        call: Call,
        limits: Limits,
        attempt: Reservation,
    ) -> Flow[list[Outcome]]:
        """Send the prepared images while a candidate is rolled out beside the live version."""

        def infer(version: ServedVersion, part: Prepared, places: Sequence[int]) -> Flow[list[Outcome]]:
            return self._infer(endpoint, version, part, places, top_k, call, limits, attempt)

        assert served.candidate is not None
        assert served.rollout is not None
        versions = served, served.candidate, served.rollout
        return (
            yield from self._routed.infer(
                Attempt(call, endpoint, *versions, images, positions, prepared, self._prepare, infer)
            )
        )

    def _infer(
        self,
        endpoint: Endpoint,
        served: ServedVersion,
        prepared: Prepared,
        positions: Sequence[int],
        top_k: int,
        call: Call,
        limits: Limits,
        attempt: Reservation,
    ) -> Flow[list[Outcome]]:
        """Send the prepared images in requests of at most ``max_batch_size``; unreadable images keep their error."""
        readable = [
            (position, image)
            for position, image in zip(positions, prepared, strict=True)
            if not isinstance(image, InvalidImageError)
        ]
        predictions: list[Prediction] = []
        for start in range(0, len(readable), served.max_batch_size):
            part = readable[start : start + served.max_batch_size]
            reply = yield from self._exchange.infer(endpoint, served, [image for _, image in part], call, attempt)
            numbers = [position for position, _ in part]
            provenance = self._exchange.provenance(endpoint, served) if call.provenance else None
            predictions += read_predictions(
                reply, served, numbers, top_k=top_k, url=endpoint.url, provenance=provenance
            )
            limits.in_flight.record_reply(len(part))
        self._counter.count("images", len(readable))
        answered = iter(predictions)
        return [image if isinstance(image, InvalidImageError) else next(answered) for image in prepared]
