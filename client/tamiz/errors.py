"""Every error that Tamiz raises on purpose.

::

    TamizError
    ├─ UsageError                 a value given on the command line or in a recipe is wrong
    │   └─ RecipeError            every problem of a recipe, reported together
    ├─ InvalidImageError          unreadable, too large or unsupported; raised before it is sent
    ├─ SpecError                  the spec is missing, malformed, too new, or does not fit the server
    ├─ ServerError                .model .version .url
    │   ├─ UnavailableError       no server there
    │   ├─ OverloadedError        the server's queue is full
    │   ├─ DeadlineError          no answer within the time given
    │   ├─ ModelNotFoundError     no such model or version on that server, or it is not ready
    │   ├─ InvalidRequestError    the server refused the request; sending it again cannot help
    │   ├─ AccessError            a key or a certificate is missing or wrong
    │   └─ InferenceError         the model failed on the server
    ├─ RunError                   a training run is missing, incomplete or failed
    ├─ ExportError                an exported graph does not do what the trained model does
    ├─ RepositoryError            a model repository, model or version is missing, broken or not writable
    ├─ TritonError                the embedded Triton cannot be found, started or kept running
    └─ MissingExtraError          a part of Tamiz that is not installed; says what to type

``tamiz.protocol.error_from_rpc`` makes a ServerError of what gRPC raised. The command line prints
the message as one line: ``UsageError`` ends it with exit status 2, all others with 1.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class TamizError(Exception):
    """Base of every error that Tamiz raises on purpose."""


class UsageError(TamizError):
    """A value given on the command line or in a recipe is wrong."""


class RecipeError(UsageError):
    """A recipe is wrong; the message holds every problem found in it."""


class InvalidImageError(TamizError, ValueError):
    """An image is unreadable, too large or of an unsupported kind.

    Attributes:
        position: of the image among those given to `classify_many`, from 0.
    """

    position: int = 0


class SpecError(TamizError):
    """A model's spec is missing, malformed, too new, or does not fit the server."""


class ServerError(TamizError):
    """A server did not do what it was asked.

    Attributes:
        model: name of the model asked for.
        version: the version asked for; None where the call named none.
        url: the server that was asked.
    """

    def __init__(self, message: str, *, model: str = "", version: int | None = None, url: str = "") -> None:
        super().__init__(message)
        self.model = model
        self.version = version
        self.url = url


class UnavailableError(ServerError):
    """No server answers at the address, or it lost the process that computes."""


class OverloadedError(ServerError):
    """The server's queue is full: it refuses rather than hoards."""


class DeadlineError(ServerError, TimeoutError):
    """No answer came within the time given."""


class ModelNotFoundError(ServerError):
    """The server has no such model or version, or it is not ready."""


class InvalidRequestError(ServerError):
    """The server refused the request; sending it again cannot help."""


class AccessError(ServerError):
    """The server wants a key or a certificate that was not given or is wrong."""


class InferenceError(ServerError):
    """The model failed on the server."""


class RunError(TamizError):
    """A training run is missing, incomplete, or failed."""


class ExportError(TamizError):
    """An exported graph does not do what the trained model does."""


class RepositoryError(TamizError):
    """A model repository, model or version is missing, broken or not writable."""


class TritonError(TamizError):
    """The embedded Triton cannot be found, started or kept running."""


class MissingExtraError(TamizError):
    """A part of Tamiz needs packages that are not installed."""

    def __init__(self, extra: str, missing: str) -> None:
        super().__init__(f'{missing} is not installed; type: pip install "tamiz[{extra}]"')
        self.extra = extra


def nearest(wrong: str, right: Iterable[str]) -> str:
    """The end of a message about a wrong name: the nearest right one, or the right ones when they are few."""
    names = sorted(right)
    close = difflib.get_close_matches(wrong, names, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; there is {', '.join(names)}" if 0 < len(names) <= 12 else ""
