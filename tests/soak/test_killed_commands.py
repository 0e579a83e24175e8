"""Changes of a repository that are killed at random moments, under a running Triton."""

from __future__ import annotations

import multiprocessing
import random
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest
from conftest import Served
from fleet import until
from graphs import even, make_spec, write_grey_graph

from tamiz_server.control import Control
from tamiz_server.promotion import promote, rollback
from tamiz_server.repository import Repository
from tamiz_server.rollout import start_rollout

pytestmark = pytest.mark.soak

KILLS = 100
SPEC = make_spec([f"grey {index}" for index in range(10)])


def publish_version(repository: Repository, model: str, control: Control) -> None:
    graph = repository.path.parent / f"{model}.onnx"
    repository.publish(model, graph, SPEC)


def promote_other(repository: Repository, model: str, control: Control) -> None:
    promote(repository, model, 3 - repository.live_version(model).version, control=control)


def roll_back(repository: Repository, model: str, control: Control) -> None:
    rollback(repository, model, control=control)


def start_canary(repository: Repository, model: str, control: Control) -> None:
    start_rollout(repository, model, 3 - repository.live_version(model).version, canary=0.5, control=control)


Change = Callable[[Repository, str, Control], None]


def run_change(change: Change, repository: Path, model: str, url: str, key: str, started: Connection) -> None:
    """What a command does, in a process of its own, after it has read its arguments."""
    with Control(url, key) as control:
        started.send(None)
        change(Repository(repository), model, control)
        started.send(None)


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """Starts processes that have imported everything, so that a kill meets the change and not an import."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "tamiz_server.rollout"])
    return context


@pytest.mark.parametrize("change", [publish_version, promote_other, roll_back, start_canary])
def test_the_previous_or_the_new_version_is_served_after_a_change_is_killed_at_any_of_100_moments(
    change: Change, served: Served, processes: ForkServerContext
) -> None:
    model = served.new_name()
    served.publish(model, SPEC)
    served.publish(model, SPEC)
    write_grey_graph(served.repository.path.parent / f"{model}.onnx", SPEC)
    moments = random.Random(0)
    ended: Counter[str] = Counter()
    longest = 0.0
    for kill in range(KILLS + 5):
        if change is roll_back:
            promote(served.repository, model, 2, control=served.control)
        elif change is start_canary:
            promote(served.repository, model, 1 + kill % 2, control=served.control)
        before = served.repository.live_version(model).version
        receiver, sender = processes.Pipe(duplex=False)
        arguments = (change, served.repository.path, model, served.triton.url, served.triton.key, sender)
        process = processes.Process(target=run_change, args=arguments)
        process.start()
        sender.close()
        receiver.recv()
        began = time.perf_counter()
        if kill < 5:
            # The first changes are not killed; they show how long a change takes.
            receiver.recv()
            longest = max(longest, time.perf_counter() - began)
        elif not receiver.poll(moments.uniform(0, longest)):
            process.kill()
        process.join()
        ended["killed" if process.exitcode else "finished"] += 1
        process.close()
        receiver.close()
        check_served(served, model, before)
    print(f"\n{change.__name__}: {dict(ended)}; a change takes up to {longest * 1000:.0f} ms")
    assert ended["killed"] > KILLS / 4, "the moments must meet the change"


def check_served(served: Served, model: str, before: int) -> None:
    """Check that calls are answered at once, and that the repository is whole and can be loaded again."""
    assert served.repository.versions(model)
    with served.client(model, timeout_s=10) as client:
        answer = client.classify(even(3))
        assert answer.label == "grey 3"
        assert answer.version in {before, 3 - before}
    served.control.load(model)
    loaded = set(served.repository.loaded_numbers(model))
    assert set(served.repository.live_numbers(model)) <= loaded

    def is_followed() -> bool:
        states = served.control.models()
        return {state.version for state in states if (state.model, state.state) == (model, "READY")} == loaded

    # Triton unloads a version after it has answered the load.
    until(is_followed)
    with served.client(model, timeout_s=10) as client:
        assert client.classify(even(7)).label == "grey 7"
    served.repository.history(model)
