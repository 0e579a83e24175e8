"""Several servers of which none answers: whatever was called, the error names each of them and says what to do."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from fleet import until
from graphs import even

from tamiz import AsyncClient, Client, DeadlineError, ServerError, UnavailableError

ADDRESSES = ("127.0.0.1:9", "127.0.0.1:10")
URLS = {"grpc": "grpc://127.0.0.1:9,127.0.0.1:10", "http": "http://127.0.0.1:9,127.0.0.1:10"}


def read_the_model(url: str) -> None:
    with Client(url, model="grey"):
        pass


def classify(url: str) -> None:
    with contextlib.closing(Client(url, model="grey")) as client:
        client.classify(even(1))


def classify_many(url: str) -> None:
    with contextlib.closing(Client(url, model="grey")) as client:
        list(client.classify_many([even(1)] * 3))


async def read_the_model_async(client: AsyncClient) -> None:
    async with client:
        pass


async def classify_async(client: AsyncClient) -> None:
    await client.classify(even(1))


async def classify_many_async(client: AsyncClient) -> None:
    async for _ in client.classify_many([even(1)] * 3):
        pass


def check_names_both(error: ServerError, addresses: tuple[str, ...] = ADDRESSES) -> None:
    message = str(error)
    assert "2 servers failed: " in message
    assert all(f"{address}" in message for address in addresses)
    assert message.count("start one with `tamiz serve") == 1
    assert message.endswith(error.remedy)


@pytest.mark.parametrize("url", URLS.values(), ids=URLS)
@pytest.mark.parametrize("call", [read_the_model, classify, classify_many])
def test_the_error_names_every_server_and_what_to_do(call: Callable[[str], None], url: str) -> None:
    with pytest.raises(UnavailableError) as caught:
        call(url)
    check_names_both(caught.value)


@pytest.mark.parametrize("url", URLS.values(), ids=URLS)
@pytest.mark.parametrize("call", [read_the_model_async, classify_async, classify_many_async])
async def test_the_async_client_names_every_server_too(
    call: Callable[[AsyncClient], Awaitable[None]], url: str
) -> None:
    client = AsyncClient(url, model="grey")
    with pytest.raises(UnavailableError) as caught:
        await call(client)
    check_names_both(caught.value)
    await client.close()


def test_a_server_that_the_client_already_knows_to_be_down_is_named_too() -> None:
    with contextlib.closing(Client(URLS["grpc"], model="grey")) as client:
        until(lambda: not any(endpoint.ready for endpoint in client.endpoints))
        # One attempt: to ask the other server, which has just failed a probe, would not help.
        with pytest.raises(UnavailableError) as caught:
            client.classify(even(1))
        check_names_both(caught.value)
        assert client.stats.requests == 1


def test_a_server_that_hangs_and_one_that_is_missing_are_both_named_in_time() -> None:
    # The kernel accepts the connection, but no server ever answers.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        with (
            contextlib.closing(Client(f"grpc://{address},127.0.0.1:9", model="grey", timeout_s=2)) as client,
            pytest.raises((UnavailableError, DeadlineError)) as caught,
        ):
            client.classify(even(1))
        assert time.monotonic() - began < 5
    check_names_both(caught.value, (address, "127.0.0.1:9"))


@pytest.mark.parametrize("url", URLS.values(), ids=URLS)
@pytest.mark.parametrize("out", [[], ["--out", "out.jsonl"]], ids=["table", "file"])
def test_the_command_line_names_every_server_in_one_line(
    url: str, out: list[str], tamiz: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    (tmp_path / "image.png").write_bytes(b"not read")
    done = tamiz("classify", tmp_path / "image.png", "--model", "grey", "--url", url, *out, cwd=tmp_path)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: 2 servers failed: ")
    assert all(address in line for address in ADDRESSES)
