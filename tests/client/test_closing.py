"""Clients that are closed while others use them: every call ends, with a result or a TamizError."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import Served
from fleet import stalled, until
from graphs import even

from tamiz import AsyncClient, Client, Prediction, errors


@pytest.fixture(params=["grpc", "http", "shared memory"])
def address(request: pytest.FixtureRequest, served: Served) -> dict[str, object]:
    """The arguments of a client."""
    if request.param == "http":
        return {"url": f"http://127.0.0.1:{served.triton.ports.http}", "model": "grey"}
    memory = {"key": served.triton.key, "shared_memory": True} if request.param == "shared memory" else {}
    return {"url": served.triton.url, "model": "grey", **memory}


@pytest.mark.parametrize("delay_s", [0.0, 0.01, 0.03, 0.1])
async def test_every_task_gets_a_result_or_a_closed_error(
    address: dict[str, object],
    delay_s: float,
    recwarn: pytest.WarningsRecorder,
    caplog: pytest.LogCaptureFixture,
) -> None:
    outcomes: Counter[type] = Counter()
    client = AsyncClient(**address)
    await client.refresh()

    async def call() -> None:
        try:
            outcomes[type(await client.classify(even(3)))] += 1
        except errors.TamizError as exc:
            outcomes[type(exc)] += 1

    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        for _ in range(120):
            tasks.create_task(call())
        await asyncio.sleep(delay_s)
        await client.close()
    assert sum(outcomes.values()) == 120
    assert set(outcomes) <= {Prediction, errors.ClosedError}
    gc.collect()
    assert not [str(warning.message) for warning in recwarn if "never awaited" in str(warning.message)]
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]


async def test_a_task_that_is_itself_cancelled_is_cancelled(address: dict[str, object], served: Served) -> None:
    client = AsyncClient(**address)
    await client.refresh()
    with stalled(served.triton):
        task = asyncio.create_task(client.classify(even(3)))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await client.close()


@pytest.mark.parametrize("in_flight", [None, 1])
async def test_streams_of_an_async_client_end_with_a_closed_error(
    address: dict[str, object], in_flight: int | None, served: Served
) -> None:
    client = AsyncClient(**address)
    await client.refresh()

    async def stream() -> int:
        images = (even(index % 10) for index in itertools.count())
        return len([0 async for _ in client.classify_many(images, in_flight=in_flight, batch_size=2)])

    streams = [asyncio.create_task(stream()) for _ in range(3)]
    await asyncio.sleep(0.2)
    with stalled(served.triton):
        await asyncio.sleep(0.1)
        began = time.monotonic()
        await client.close()
        for each in streams:
            with pytest.raises(errors.ClosedError):
                await asyncio.wait_for(each, 5)
        assert time.monotonic() - began < 3


@pytest.mark.parametrize("in_flight", [None, 1])
def test_threads_in_single_calls_and_streams_end_with_a_closed_error(
    address: dict[str, object], in_flight: int | None, served: Served
) -> None:
    client = Client(**address, timeout_s=60)
    client.refresh()

    def stream() -> int:
        images = (even(index % 10) for index in itertools.count())
        return len(list(client.classify_many(images, in_flight=in_flight, batch_size=2)))

    with ThreadPoolExecutor(8) as pool:
        streams = [pool.submit(stream) for _ in range(3)]
        time.sleep(0.3)
        with stalled(served.triton):
            # Its threads do not stop at once.
            time.sleep(0.1)
            calls = [pool.submit(client.classify, even(2)) for _ in range(4)]
            time.sleep(0.2)
            began = time.monotonic()
            client.close()
            for call in streams + calls:
                with pytest.raises(errors.ClosedError, match="the client of model grey is closed"):
                    call.result(timeout=5)
            assert time.monotonic() - began < 3


def test_nothing_is_left_when_the_server_has_ended_the_calls_of_a_closed_client(
    address: dict[str, object], served: Served
) -> None:
    gc.collect()
    before = threading.active_count()
    with ThreadPoolExecutor(4) as pool:
        client = Client(**address, timeout_s=60)
        client.refresh()
        with stalled(served.triton):
            # Its threads do not stop at once.
            time.sleep(0.1)
            calls = [pool.submit(client.classify, even(2)) for _ in range(4)]
            time.sleep(0.2)
            client.close()
            assert {type(call.exception(timeout=5)) for call in calls} == {errors.ClosedError}
    until(lambda: threading.active_count() <= before)
    until(lambda: client.endpoints[0].in_flight == 0)
    with served.client("grey") as other:
        assert other.classify(even(4)).index == 4


INTERRUPTED = """
from tamiz import Client
client = Client(sys.argv[1], model="grey", timeout_s=60)
outcomes = client.classify_many((even(index % 10) for index in range(100_000)), batch_size=1)
next(outcomes)
print("started", flush=True)
list(outcomes)
"""

INTERRUPTED_BETWEEN = """
import time
from tamiz import Client
client = Client(sys.argv[1], model="grey", timeout_s=60)
outcomes = client.classify_many((even(index % 10) for index in range(100_000)), batch_size=1)
next(outcomes)
print("started", flush=True)
time.sleep(60)
"""

INTERRUPTED_ASYNC = """
import asyncio
from tamiz import AsyncClient
async def main():
    client = AsyncClient(sys.argv[1], model="grey", timeout_s=60)
    async for outcome in client.classify_many((even(index % 10) for index in range(100_000)), batch_size=1):
        print("started", flush=True)
asyncio.run(main())
"""


@pytest.mark.parametrize("scheme", ["grpc", "http"])
@pytest.mark.parametrize(
    "code",
    [
        pytest.param(INTERRUPTED, id="while it waits for outcomes"),
        pytest.param(INTERRUPTED_BETWEEN, id="between outcomes"),
        pytest.param(INTERRUPTED_ASYNC, id="of an async client"),
    ],
)
def test_a_program_interrupted_during_classify_many_ends_within_a_second_although_the_server_is_stalled(
    served: Served, scheme: str, code: str
) -> None:
    url = served.triton.url if scheme == "grpc" else f"http://127.0.0.1:{served.triton.ports.http}"
    with program(code, url) as process:
        assert process.stdout.readline() == "started\n"
        with stalled(served.triton):
            time.sleep(0.5)
            process.send_signal(signal.SIGINT)
            began = time.monotonic()
            _, messages = process.communicate(timeout=30)
            assert time.monotonic() - began < 1.5, "a second, and the end of the interpreter"
    assert messages.splitlines()[-1] == "KeyboardInterrupt"
    assert process.returncode == -signal.SIGINT


INTERRUPTED_DECODING = """
import threading, cv2, numpy
from tamiz import Client
image = cv2.imencode(".png", numpy.random.default_rng(0).integers(0, 255, (1000, 1000, 3), numpy.uint8))[1].tobytes()
client = Client(sys.argv[1], model="grey")
threading.Timer(0.5, lambda: print("started", flush=True)).start()
list(client.classify_many((image for _ in range(10_000)), batch_size=1_000))
"""


def test_a_program_interrupted_while_it_decodes_large_images_ends_within_a_second(served: Served) -> None:
    with program(INTERRUPTED_DECODING, served.triton.url) as process:
        assert process.stdout.readline() == "started\n"
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        _, messages = process.communicate(timeout=60)
        assert time.monotonic() - began < 1.5, "a second, and the end of the interpreter"
    assert messages.splitlines()[-1] == "KeyboardInterrupt"
    assert process.returncode == -signal.SIGINT


TIMED_OUT = """
from tamiz import Client, DeadlineError
client = Client(sys.argv[1], model="grey", timeout_s=0.5)
client.refresh()
print("started", flush=True)
sys.stdin.readline()
try:
    client.classify(even(1))
except DeadlineError:
    print("timed out", flush=True)
"""


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_a_program_ends_at_once_although_the_server_has_not_ended_its_calls(served: Served, scheme: str) -> None:
    url = served.triton.url if scheme == "grpc" else f"http://127.0.0.1:{served.triton.ports.http}"
    with program(TIMED_OUT, url) as process:
        assert process.stdout.readline() == "started\n"
        with stalled(served.triton):
            time.sleep(0.1)
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "timed out\n"
            began = time.monotonic()
            _, messages = process.communicate(timeout=30)
            assert time.monotonic() - began < 1.5
    assert (process.returncode, messages) == (0, "")


def program(code: str, url: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", f"import sys\nfrom graphs import even\n{code}", url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        text=True,
    )
