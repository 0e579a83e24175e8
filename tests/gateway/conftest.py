from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from gateways import Gateway, running

from tamiz_gateway import Settings


@pytest.fixture
def start(served: Any) -> Callable[..., AbstractContextManager[Gateway]]:
    """Starts a gateway to the Triton of the session."""

    def with_settings(**settings: Any) -> AbstractContextManager[Gateway]:
        given = {
            "model": "grey",
            "url": served.triton.url,
            "repository": served.repository.path,
            "triton_key": served.triton.key,
            **settings,
        }
        return running(Settings(**given))

    return with_settings


@pytest.fixture
def gateway(start: Callable[..., AbstractContextManager[Gateway]]) -> Iterator[Gateway]:
    with start() as gateway:
        yield gateway
