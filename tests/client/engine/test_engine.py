from __future__ import annotations

import gc
import os
import threading
import weakref
from collections.abc import Iterator
from decimal import Decimal

import numpy as np
import pytest
from graphs import make_spec

from tamiz import AsyncClient, Client, UsageError
from tamiz.engine.engine import Engine
from tamiz.engine.settings import Settings
from tamiz.served_version import ServedVersion
from tamiz.transports.shared_memory import FOLDER, PREFIX

TWO = "grpc://127.0.0.1:9,127.0.0.1:10"


def make_engine(url: str = TWO, *, shared_memory: bool = False) -> Engine:
    return Engine(Settings(url, "grey", 1.0, None, None, None, shared_memory, None))


def probes() -> int:
    return sum(thread.name == "tamiz-probe" for thread in threading.enumerate())


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Without the garbage collector, only what nothing refers to is freed."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
def test_an_engine_that_is_dropped_is_freed_at_once() -> None:
    before = {path.name for path in FOLDER.glob(f"{PREFIX}*")}
    engine = make_engine(shared_memory=True)
    assert engine.memory is not None
    engine.memory.give_back(engine.memory.lease(100))
    dropped, probe = weakref.ref(engine), engine.connections
    closed = weakref.ref(probe)
    del engine, probe
    assert dropped() is None
    assert closed() is None
    assert {path.name for path in FOLDER.glob(f"{PREFIX}*")} == before


@pytest.mark.usefixtures("no_collector")
def test_a_forked_process_opens_connections_only_for_clients_that_are_in_use_and_frees_them() -> None:
    for _ in range(3):
        make_engine()
    used = make_engine()
    used.classification.latest = ServedVersion("grey", 7, make_spec(["a", "b"]), 8)
    if (child := os.fork()) == 0:
        status = 1
        try:
            latest = used.classification.latest
            kept = weakref.ref(used)
            threads = probes()
            del used
            status = 0 if (threads == 1 and latest is not None and latest.version == 7 and kept() is None) else 2
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    used.close()


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize("timeout_s", [10**400, np.array([1, 2]), Decimal("sNaN"), Decimal("NaN"), float("inf")])
def test_a_timeout_that_is_no_finite_number_is_refused(kind: type[Client], timeout_s: object) -> None:
    with pytest.raises(UsageError, match="timeout_s"):
        kind(model="grey", timeout_s=timeout_s)
    client = kind(model="grey")
    with pytest.raises(UsageError, match="timeout_s"):
        client.timeout_s = timeout_s


@pytest.mark.parametrize("options", [{"url": None}, {"key": 5}, {"key": "a\n"}, {"on_event": 1}])
def test_arguments_of_the_wrong_type_are_refused_when_the_client_is_created(options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Client(**{"model": "grey", **options})
