"""Client: classify images with a model that Triton serves, in the calling thread or in worker threads.

`engine.classification` has what a call does; here each of its steps is carried out.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, overload

from .base_client import BaseClient, OnError
from .engine import pipeline
from .engine.routed import Outcome
from .engine.steps import Compute, Flow, Send, Sleep, Step, Wait
from .prediction import Prediction
from .preprocessing import ImageSource

T = TypeVar("T")

_MAX_THREADS = 512
"""Threads of one `classify_many`: more than the concurrency limits ask for, so that only those limit it."""


class Client(BaseClient):
    """Classifies images with one model on one or several Triton servers. Threads may share a client.

    After a fork, the child process opens new connections; iterators started before the fork remain with the parent.

    Args:
        url: ``grpc://host:port``; ``grpcs://`` for TLS; several servers of the same model as ``grpc://a:8001,b:8001``,
            of which each call uses the ready one with the fewest requests in flight; ``dns:///name:8001`` for all
            addresses of a name, in turn; ``http://host:8000`` and ``https://`` if gRPC is blocked (extra ``http``).
        model: name of the model in the servers' repositories.
        timeout_s: timeout of a whole call in seconds, retries included. One of several servers that does not answer in
            half of the time left, or that has never answered and does not within a second, is abandoned in favour of
            another server. In `classify_many` the timeout applies to each request, not counting the time it waits for
            other requests.
        headers: headers sent with every request, such as an API key; or a function that returns them for each request,
            as tracing needs.
        tls: certificates for ``grpcs``, ``https`` and ``dns``.
        key: key of the server's restricted protocols, which only ``shared_memory`` needs.
        shared_memory: pass images to a server on the same machine through shared memory. `tamiz serve` protects this
            with its key, because anyone who can register memory can make the server read any memory it has access to.
        on_event: called with each event of a call (`RequestSent`, `RequestAnswered`, `RequestFailed`, `CallRetried`),
            in the thread that carries out the call, and with a `ShadowCompared` for each request to a shadow.
        version: send all requests to this version, which servers must have loaded, and follow no promotion, canary or
            shadow. Default: the version that is live.
        provenance: whether each `Prediction` carries the hashes of the version that answered, the server and the time.

    Raises:
        UsageError: an argument is wrong. Nothing is sent before the first call or the ``with`` block.

    Example::

        with tamiz.Client(model="clothing") as client:
            print(client.classify("coat.jpg").label)
    """

    def refresh(self) -> None:
        """Read from the server which version is live now, and use it from now on.

        Raises:
            ServerError: no server answered; see the subclasses.
            SpecError: the model has no spec that this client understands.
            ClosedError: the client is closed.
        """
        self._run(self._engine.classification.refresh())

    def classify(
        self, image: ImageSource, *, top_k: int = 1, provenance: bool | None = None, timeout_s: float | None = None
    ) -> Prediction:
        """Classify one image.

        Args:
            image: a path, the bytes of an image file, or uint8 pixels ``[height, width, 3]`` RGB or ``[height, width]``
                grey.
            top_k: how many labels `Prediction.top` holds.
            provenance: whether `Prediction.provenance` is filled; None as the client was created.
            timeout_s: timeout of this call in seconds, retries included; None as the client was created.

        Raises:
            InvalidImageError: the image cannot be read; it was not sent.
            ServerError: the call failed; see the subclasses.
            SpecError: the model has no spec that this client understands.
            UsageError: an argument is wrong.
            ClosedError: the client is closed.
        """
        return self._run(self._engine.classification.classify(image, top_k, provenance, timeout_s))

    @overload
    def classify_many(
        self,
        images: Iterable[ImageSource],
        *,
        top_k: int = 1,
        on_error: Literal["raise"] = "raise",
        ordered: bool = True,
        in_flight: int | None = None,
        batch_size: int | None = None,
        provenance: bool | None = None,
    ) -> Iterator[Prediction]: ...

    @overload
    def classify_many(
        self,
        images: Iterable[ImageSource],
        *,
        top_k: int = 1,
        on_error: OnError,
        ordered: bool = True,
        in_flight: int | None = None,
        batch_size: int | None = None,
        provenance: bool | None = None,
    ) -> Iterator[Outcome]: ...

    def classify_many(
        self,
        images: Iterable[ImageSource],
        *,
        top_k: int = 1,
        on_error: OnError = "raise",
        ordered: bool = True,
        in_flight: int | None = None,
        batch_size: int | None = None,
        provenance: bool | None = None,
    ) -> Iterator[Outcome]:
        """Classify images lazily, in memory that does not grow with their number.

        A request that a full queue refuses is retried with increasing delays until ``timeout_s`` has passed, and fewer
        requests are kept in flight. (`classify` gives up earlier, to spare the server.)

        Args:
            images: images as for `classify`; taken as they are needed.
            top_k: how many labels each `Prediction.top` holds.
            on_error: ``raise`` the `InvalidImageError` of an image that cannot be read, or ``return`` it in place of
                the image's prediction.
            ordered: yield outcomes in the order of the images. Otherwise they are yielded as soon as they arrive, and
                the ``position`` of each is the position of its image in ``images``.
            in_flight: number of requests in flight at a time, at most 1,024; None finds the best number.
            batch_size: number of images in a request, at most 65,536; None takes the server's ``max_batch_size``, and
                more than that are sent in several requests.
            provenance: whether `Prediction.provenance` is filled; None as the client was created.

        Yields:
            one outcome for each image.

        Raises:
            InvalidImageError: an image cannot be read, with ``on_error="raise"``.
            ServerError: a request failed; see the subclasses.
            SpecError: the model has no spec that this client understands.
            UsageError: an argument is wrong.
            ClosedError: the client is closed.
            Exception: one that ``images`` raises, after the outcomes of the images before it.
        """
        pipeline.check(
            images,
            top_k=top_k,
            on_error=on_error,
            ordered=ordered,
            in_flight=in_flight,
            batch_size=batch_size,
            provenance=provenance,
            asynchronous=False,
        )
        return self._outcomes(images, top_k, on_error, ordered, in_flight, batch_size, provenance)

    def close(self) -> None:
        """Close the connections; the client cannot be used afterwards."""
        self._engine.close()

    def __enter__(self) -> Self:
        try:
            self.refresh()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _outcomes(
        self,
        images: Iterable[ImageSource],
        top_k: int,
        on_error: OnError,
        ordered: bool,
        in_flight: int | None,
        batch_size: int | None,
        provenance: bool | None,
    ) -> Iterator[Outcome]:
        if self._engine.classification.latest is None:
            self.refresh()
        limits = self._engine.limits_for(in_flight)
        stopped = threading.Event()

        def classify_batch(batch: tuple[int, list[ImageSource]]) -> list[Outcome]:
            position, images = batch
            return self._run(
                self._engine.classification.classify_batch(images, top_k, limits, position, provenance), stopped
            )

        source = pipeline.Source(images)
        batches = pipeline.batched(source, batch_size or self.max_batch_size)
        threads = max(_MAX_THREADS, in_flight or 0)
        try:
            for batch in pipeline.map_threads(classify_batch, batches, limits.ahead, most=threads, ordered=ordered):
                yield from pipeline.raise_or_return(batch, on_error)
            source.check()
        finally:
            # Batches that still wait for a slot must not be sent any more.
            stopped.set()

    def _run(self, flow: Flow[T], stopped: threading.Event | None = None) -> T:
        """Carry out the steps of a flow one after another, and return what it returns."""
        self._engine.check_open()
        try:
            step = next(flow)
            while True:
                if stopped is not None and stopped.is_set():
                    raise CancelledError
                try:
                    result = _carry_out(step)
                except Exception as exc:
                    step = flow.throw(exc)
                else:
                    step = flow.send(result)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        finally:
            flow.close()


def _carry_out(step: Step) -> Any:
    match step:
        case Send(transport, request, timeout_s, on_sent, on_ended):
            on_sent()
            return transport.call(request, timeout_s, on_ended)
        case Compute(function, args):
            return function(*args)
        case Wait(future):
            return future.result()
        case Sleep(seconds):
            return time.sleep(seconds)
