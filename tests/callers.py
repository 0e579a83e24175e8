"""The work of concurrent callers; in a separate module, because a spawned process must be able to import it."""

from __future__ import annotations

import os

from graphs import even

from tamiz import Client

client: Client | None = None


def wrong_single(client: Client, caller: int, calls: int = 100) -> int:
    """Count the answers to single calls that are wrong for the caller's images."""
    expected = [caller * 3 + number * 7 for number in range(calls)]
    return sum(client.classify(even(index)).index != index % 10 for index in expected)


def wrong_many(client: Client, caller: int, images: int = 300) -> int:
    """Count the answers of `classify_many` that are wrong for the caller's images."""
    expected = [caller * 3 + number * 7 for number in range(images)]
    outcomes = client.classify_many(map(even, expected), batch_size=4)
    return sum(outcome.index != index % 10 for outcome, index in zip(outcomes, expected, strict=True))


def connect(url: str) -> None:
    global client
    client = Client(url, model="grey")


def work(caller: int) -> tuple[int, int]:
    """Return the id of this process and the number of wrong answers in it."""
    assert client is not None
    return os.getpid(), wrong_single(client, caller) + wrong_many(client, caller)


def classify() -> None:
    assert client is not None
    assert client.classify(even(4)).index == 4


def classify_through_shared_memory(url: str, key: str) -> None:
    """Do the same as `classify` with a new client, which is never closed."""
    global client
    client = Client(url, model="grey", key=key, shared_memory=True)
    classify()
