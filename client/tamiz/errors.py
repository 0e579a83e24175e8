"""Every error that Tamiz raises on purpose.

::

    TamizError
    ├─ UsageError                 an argument, an option or a setting is wrong
    │   └─ RecipeError            a recipe is wrong; all of its problems in one message
    ├─ ClosedError                the client was closed
    ├─ InvalidImageError          an image is unreadable, too large or unsupported; it was not sent
    ├─ SpecError                  the spec is missing, malformed, too new, or does not fit the server
    ├─ OutputError                a file cannot be written: disk full, permission denied, another process writes it
    ├─ SharedMemoryError          shared memory is missing on this machine, or full
    ├─ ServerError                .model .version .url .remedy
    │   ├─ UnavailableError       no server answers at the address
    │   ├─ OverloadedError        the server's queue is full
    │   ├─ DeadlineError          no answer within the timeout
    │   ├─ ModelNotFoundError     the server has no such model or version, or it is not ready
    │   ├─ InvalidRequestError    the server rejected the request; a retry cannot help
    │   ├─ AccessError            access denied: a key or a certificate is missing or wrong
    │   └─ InferenceError         the model failed on the server
    ├─ RunError                   a training run is missing, incomplete or failed
    ├─ ExportError                an exported graph does not compute what the trained model computes
    ├─ GateError                  a candidate failed the gate, so it was not published
    ├─ TrackingError              the tracking server or its store cannot be used
    ├─ RepositoryError            a model repository, a model or a version is missing, damaged or not writable
    ├─ TritonError                the embedded Triton cannot be found, started or kept running
    └─ MissingExtraError          an optional part of Tamiz is not installed; the message has the command to type

Each transport (`tamiz.transports`) turns the errors of its library into a ServerError in one place. The command line
prints the message as one line and exits with the code of `tamiz.console.ExitCode`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any

MAX_MESSAGE = 2_000
"""The number of characters of a message: whatever a caller or a server sent, an error stays readable."""

MAX_PROBLEMS = 20_000
"""The same for an error that lists all problems of a document."""

# Control characters other than a line feed, and bytes of file names that are not UTF-8.
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]")

_MAX_NAMES = 12
"""Largest number of names in a message."""

_MAX_LENGTH = 100
"""Largest length of each of several names in a message, in characters."""

_MAX_SUGGESTION = 500
"""Largest length of a suggested name, which may be a path that is copied."""


class TamizError(Exception):
    """Base of every error that Tamiz raises on purpose. Each survives pickling, with its attributes.

    Args:
        message: what failed, why, and what to do. The middle of a very long one is left out, and characters that a
            terminal or a file cannot take, as names of files may hold, are escaped.
    """

    max_message = MAX_MESSAGE

    def __init__(self, message: str = "") -> None:
        # Shortened first, so that a huge message costs no time, and again, because escaping lengthens it.
        escaped = _CONTROL.sub(_escape, shorten(message, self.max_message))
        super().__init__(shorten(escaped, self.max_message))

    def __reduce__(self) -> tuple[Any, ...]:
        # Python would call the class with the message alone, which fails for a class with other arguments; and an
        # error that cannot be unpickled makes a multiprocessing.Pool wait for ever.
        return _restore, (type(self), self.args, vars(self))


class UsageError(TamizError):
    """An argument, an option or a setting is wrong."""


class RecipeError(UsageError):
    """A recipe is wrong; the message holds every problem found in it."""

    max_message = MAX_PROBLEMS


class ClosedError(TamizError):
    """The client was used after it was closed."""


class InvalidImageError(TamizError, ValueError):
    """An image is unreadable, too large or of an unsupported format.

    Attributes:
        position: index of the image among those given to `classify_many`, from 0.
    """

    position: int = 0


class SpecError(TamizError):
    """A model's spec is missing, malformed, too new, or does not fit the server."""


class OutputError(TamizError):
    """A file cannot be written: the disk is full, permission is denied, or another process is writing it."""


class SharedMemoryError(TamizError):
    """Shared memory is missing on this machine, or full."""


class ServerError(TamizError):
    """A request to a server failed. If several servers failed, the message names each of them.

    Attributes:
        model: name of the requested model; empty where the request named none.
        version: the requested version; None where the request named none.
        url: URL of the server; of several that failed, of the last one that was tried.
        remedy: the end of the message, which says what to do; empty if nobody knows.
    """

    def __init__(
        self, message: str, *, model: str = "", version: int | None = None, url: str = "", remedy: str = ""
    ) -> None:
        super().__init__(message + remedy)
        self.model = model
        self.version = version
        self.url = url
        self.remedy = remedy


class UnavailableError(ServerError):
    """No server answers at the address, or the server lost the process that runs the model."""


class OverloadedError(ServerError):
    """The server's queue is full."""


class DeadlineError(ServerError, TimeoutError):
    """No answer came within the timeout."""


class ModelNotFoundError(ServerError):
    """The server has no such model or version, or it is not ready."""


class InvalidRequestError(ServerError):
    """The server rejected the request; a retry cannot help."""


class AccessError(ServerError):
    """Access denied: a key or a certificate is missing or wrong."""


class InferenceError(ServerError):
    """The model failed on the server."""


class RunError(TamizError):
    """A training run is missing, incomplete, or failed."""


class ExportError(TamizError):
    """An exported graph does not compute what the trained model computes."""


class GateError(TamizError):
    """A candidate is not what its reference is, or is worse than the live version, so it was not published."""


class TrackingError(TamizError):
    """The tracking server, or the store behind it, cannot be used."""


class RepositoryError(TamizError):
    """A model repository, a model or a version is missing, damaged or not writable."""


class TritonError(TamizError):
    """The embedded Triton cannot be found, started or kept running."""


class MissingExtraError(TamizError):
    """An optional part of Tamiz needs packages that are not installed.

    Args:
        extra: the extras of Tamiz that have the package, such as ``train,cpu``; empty if none has it.
        missing: name of the package.
        command: what to type. Default: the installation of the extras.
    """

    def __init__(self, extra: str, missing: str, *, command: str | None = None) -> None:
        command = command or f'pip install "tamiz[{extra}]"'
        super().__init__(f"{missing} is not installed; type: {command}")
        self.extra = extra
        self.missing = missing


def _restore(kind: type[TamizError], args: tuple[Any, ...], attributes: dict[str, Any]) -> TamizError:
    error = kind.__new__(kind)
    error.args = args
    vars(error).update(attributes)
    return error


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


def shorten(text: str, most: int) -> str:
    """A text of at most ``most`` characters: of a longer one the beginning and the end, which often says what to do."""
    if len(text) <= most:
        return text
    end = (most - 1) // 3
    return f"{text[: most - 1 - end]}…{text[len(text) - end :]}"


def suggest(wrong: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the closest known name, or the first of all known names.

    Case, hyphens and underscores do not count.
    """
    names = sorted(known)
    plain = {_plain(name): name for name in reversed(names)}
    # Of a very long name, the comparison would take minutes.
    close = difflib.get_close_matches(_plain(wrong[:1000]), plain, n=1)
    if close:
        return f"; did you mean {cut(plain[close[0]], _MAX_SUGGESTION)!r}?"
    return f"; known: {list_names(names)}" if names else ""


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


def list_names(names: Sequence[str]) -> str:
    """The first names of a sequence for a message, each cut where it is long, and the number of the others."""
    return list_first([cut(name, _MAX_LENGTH) for name in names[:_MAX_NAMES]], len(names))


def list_first(texts: Sequence[str], total: int, separator: str = ", ") -> str:
    """The first texts of a longer sequence for a message, and the number of the others."""
    more = f" and {total - len(texts)} more" if total > len(texts) else ""
    return separator.join(texts) + more


def cut(text: str, length: int) -> str:
    """The beginning of a text: at most ``length`` characters, and an ellipsis where it is longer."""
    return text if len(text) <= length else f"{text[:length]}…"


def first_line(exc: BaseException) -> str:
    """The first line of an exception's message; the name of its class where the message is empty."""
    return next((line.strip() for line in str(exc).splitlines() if line.strip()), type(exc).__name__)


def one_line(exc: BaseException) -> str:
    """An exception's whole message on one line; the name of its class where the message is empty."""
    return " ".join(str(exc).split()) or type(exc).__name__


def os_reason(exc: BaseException) -> str:
    """Why a call of the operating system failed, such as ``No space left on device``, without the file's name."""
    return getattr(exc, "strerror", None) or one_line(exc)
