"""What several callers do at once; in a module of its own, which a spawned process can import."""

from __future__ import annotations

import os

from graphs import even

from tamiz import Client

client: Client | None = None


def wrong_single(client: Client, caller: int, calls: int = 100) -> int:
    """How many answers to single calls are not those of the caller's own images."""
    wanted = [caller * 3 + number * 7 for number in range(calls)]
    return sum(client.classify(even(index)).index != index % 10 for index in wanted)


def wrong_many(client: Client, caller: int, images: int = 300) -> int:
    wanted = [caller * 3 + number * 7 for number in range(images)]
    outcomes = client.classify_many(map(even, wanted), batch_size=4)
    return sum(outcome.index != index % 10 for outcome, index in zip(outcomes, wanted, strict=True))


def connect(url: str) -> None:
    global client
    client = Client(url, model="grey")


def work(caller: int) -> tuple[int, int]:
    """The process, and how many answers were wrong in it."""
    assert client is not None
    return os.getpid(), wrong_single(client, caller) + wrong_many(client, caller)


def classify() -> None:
    assert client is not None
    assert client.classify(even(4)).index == 4


def classify_near(url: str, key: str) -> None:
    """As `classify`, with a client of its own that is never closed."""
    global client
    client = Client(url, model="grey", key=key, shared_memory=True)
    classify()
