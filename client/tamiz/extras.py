"""Extras: the optional parts of the distribution, and the error when one is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .errors import MissingExtraError


@contextmanager
def extra_required(extra: str) -> Iterator[None]:
    """Name the extra to install if the block imports a package that is not installed.

    Args:
        extra: the extras that the block needs, such as ``train,cpu``; empty if it needs none.

    Raises:
        MissingExtraError: a package is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as exc:
        if not extra or exc.name is None or exc.name.partition(".")[0].startswith("tamiz"):
            raise
        raise MissingExtraError(extra, exc.name) from exc
