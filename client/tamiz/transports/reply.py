"""Reply: what a request is waited for with, until the reply comes or the caller stops waiting."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from typing import Any, Protocol, TypeVar

from ..errors import DeadlineError, ServerError, UnavailableError
from .requests import Request
from .status import ExpiredError, make_error

R = TypeVar("R")


class Carrier(Protocol):
    """What a reply reports to: the connection that carries its request; see `tamiz.transports.connection`."""

    url: str

    def expired(self, reply: Reply[Any]) -> None:
        """Note that the caller's timeout has passed."""

    def ended(self, reply: Reply[Any], *, answered: bool) -> None:
        """Count the request as ended."""


class Reply(Future[R]):
    """The reply to a request; a future that any thread or event loop may wait for.

    The future ends with the reply or with the error of the request, or earlier, when the caller stops waiting
    (`expire`, `cancel`). The request itself may go on after that: see `tamiz.transports.connection`.

    Args:
        request: the request.
        timeout_s: seconds that the caller will wait.
        connection: the connection that carries the request.
        on_ended: called once, in any thread, when the request itself has ended.

    Attributes:
        request: the request.
        timeout_s: seconds that the caller will wait.
        sent_at: time by the monotonic clock at which the request was made.
        abandon: stops the request if the server is able to stop it; set by the connection.
    """

    def __init__(
        self,
        request: Request[R],
        timeout_s: float,
        connection: Carrier,
        on_ended: Callable[[], None],
    ) -> None:
        super().__init__()
        self.request = request
        self.timeout_s = timeout_s
        self._connection = connection
        self.sent_at = time.monotonic()
        self.abandon: Callable[[], object] = _nothing
        self._on_ended = on_ended

    def wait(self, timeout_s: float) -> R:
        """Wait for the reply and return it.

        Raises:
            DeadlineError: the reply did not come in so many seconds.
            ServerError: the request failed; see the subclasses.
        """
        try:
            return self.result(timeout_s)
        except TimeoutError:
            # Does nothing where the reply itself is a DeadlineError, or has come just now.
            self.expire()
            return self.result()
        except BaseException:
            self.cancel()
            raise

    def expire(self) -> None:
        """Stop waiting because the timeout has passed: the future ends with a DeadlineError."""
        if self.fail(make_error(DeadlineError, "", status="", request=self.request, url=self._connection.url)):
            self._connection.expired(self)
            self.abandon()

    def cancel(self) -> bool:
        """Stop waiting because the caller is no longer interested."""
        cancelled = super().cancel()
        if cancelled:
            self.abandon()
        return cancelled

    def fail(self, error: Exception) -> bool:
        """End the future, but not the request, with an error; return whether the future had not ended already."""
        try:
            self.set_exception(error)
        except InvalidStateError:
            return False
        return True

    def end(self, result: Any = None, error: BaseException | None = None) -> None:
        """End the request, and the future unless it has ended already; the connection calls this once.

        Args:
            result: the reply.
            error: why there is none.
        """
        late = isinstance(error, DeadlineError) and not isinstance(error, ExpiredError)
        if late and not self.done():
            # The connection noticed the timeout before the caller did.
            self._connection.expired(self)
        # An answer of the server, even a refusal, shows that the connection works.
        refused = isinstance(error, ServerError) and not isinstance(error, UnavailableError) and not late
        self._connection.ended(self, answered=error is None or refused)
        self._on_ended()
        with contextlib.suppress(InvalidStateError):
            if error is None:
                self.set_result(result)
            else:
                self.set_exception(error)


def _nothing() -> None:
    """Nothing can be done about a request that was not sent yet."""
