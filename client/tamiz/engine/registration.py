"""Registration of a region of shared memory with a server, before the first request whose images are in it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from ..transports.requests import (
    Request,
    SystemSharedMemoryRegister,
    SystemSharedMemoryStatus,
    SystemSharedMemoryUnregister,
)
from ..transports.shared_memory import PREFIX, Region, is_abandoned
from ..transports.status import RegionRegisteredError
from .steps import Flow


def register(
    url: str, region: Region, regions: Sequence[Region], send: Callable[[Request[Any]], Flow[Any]]
) -> Flow[None]:
    """Register a region with a server, unless it is registered there.

    Args:
        url: URL of the server.
        region: the region.
        regions: all regions of the client.
        send: sends a request to the server.

    Raises:
        ServerError: the server cannot be reached, or cannot open the region.
    """
    if url in region.registered_with:
        return
    if not any(url in other.registered_with for other in regions):
        # First registration with this server: remove what killed clients left there.
        yield from _unregister_abandoned(send)
    # The server already has the region if the reply to an earlier registration was lost. Names are random, so it
    # cannot be another client's region.
    with contextlib.suppress(RegionRegisteredError):
        yield from send(SystemSharedMemoryRegister(region.name, region.size))
    region.registered_with.add(url)


def _unregister_abandoned(send: Callable[[Request[Any]], Flow[Any]]) -> Flow[None]:
    """Unregister the regions of clients that were killed."""
    for name in (yield from send(SystemSharedMemoryStatus())):
        if name.startswith(PREFIX) and is_abandoned(name):
            yield from send(SystemSharedMemoryUnregister(name))
