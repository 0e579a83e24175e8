"""Changes of a repository that are killed at random moments, under a running Triton."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import statistics
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
from tamiz_server.promotion import RolloutEnded, promote, rollback
from tamiz_server.pruning import prune
from tamiz_server.repository import Repository
from tamiz_server.rollout import start_rollout
from tamiz_server.verification import verify

pytestmark = pytest.mark.soak

KILLS = int(os.environ.get("KILLS", "100"))
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


def end_canary(repository: Repository, model: str, control: Control) -> None:
    rollback(repository, model, candidate=3 - repository.live_version(model).version, control=control)


def prune_versions(repository: Repository, model: str, control: Control) -> None:
    prune(repository, model, 0, control=control)


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


CHANGES = [publish_version, promote_other, roll_back, start_canary, end_canary, prune_versions]


@pytest.mark.parametrize("change", CHANGES)
def test_the_previous_or_the_new_version_is_served_after_a_change_is_killed_at_any_of_100_moments(
    change: Change, served: Served, processes: ForkServerContext
) -> None:
    model = served.new_name()
    served.publish(model, SPEC)
    served.publish(model, SPEC)
    write_grey_graph(served.repository.path.parent / f"{model}.onnx", SPEC)
    moments = random.Random(0)
    ended: Counter[str] = Counter()
    durations: list[float] = []
    # A change that ends before its moment is not counted as killed.
    while ended["killed"] < KILLS and ended.total() < 5 + 5 * KILLS:
        prepare(change, served, model, ended.total())
        before = served.repository.live_version(model).version
        numbers = served.repository.version_numbers(model)
        receiver, sender = processes.Pipe(duplex=False)
        arguments = (change, served.repository.path, model, served.triton.url, served.triton.key, sender)
        process = processes.Process(target=run_change, args=arguments)
        process.start()
        sender.close()
        receiver.recv()
        began = time.perf_counter()
        if len(durations) < 5:
            # The first changes are not killed; they show how long a change takes.
            receiver.recv()
            durations.append(time.perf_counter() - began)
        elif not receiver.poll(moments.uniform(0, statistics.median(durations))):
            process.kill()
        process.join()
        ended["killed" if process.exitcode else "finished"] += 1
        process.close()
        receiver.close()
        check_served(served, model, before)
        check_what_is_left(change, served, model, before, numbers)
    print(f"\n{change.__name__}: {dict(ended)}; a change takes {statistics.median(durations) * 1000:.0f} ms")
    assert ended["killed"] == KILLS, "the moments must meet the change"
    promote(served.repository, model, served.publish(model, SPEC), control=served.control)
    assert verify(served.repository, model).findings == ()
    # No change of the live version is missing from the history, so each begins where the one before ended.
    live = [entry for entry in served.repository.history(model) if entry.what in ("promote", "rollback")]
    if change is not end_canary:
        assert [entry.before for entry in live[1:]] == [entry.after for entry in live[:-1]]
    assert live[-1].after == served.repository.live_version(model).version


def prepare(change: Change, served: Served, model: str, kill: int) -> None:
    """Bring a model into the state in which the change has something to do."""
    repository, control = served.repository, served.control
    if change is roll_back:
        promote(repository, model, 2, control=control)
    elif change is start_canary:
        promote(repository, model, 1 + kill % 2, control=control)
    elif change is end_canary:
        start_rollout(repository, model, 2, canary=0.5, control=control)
    elif change is prune_versions:
        for _ in range(3):
            publish_version(repository, model, control)


def check_what_is_left(change: Change, served: Served, model: str, before: int, numbers: list[int]) -> None:
    """Check that the repository can be changed as if the process had not been killed."""
    repository, control = served.repository, served.control
    if change is publish_version:
        for version in sorted(set(repository.version_numbers(model)) - set(numbers)):
            promote(repository, model, version, control=control)
            with served.client(model, timeout_s=10) as client:
                answer = client.classify(even(5))
            assert (answer.label, answer.version) == ("grey 5", version)
            promote(repository, model, before, control=control)
    elif change is end_canary:
        with contextlib.suppress(RolloutEnded):
            end_canary(repository, model, control)
        assert (repository.live_numbers(model), repository.rollout(model)) == ([before], None)
    elif change is prune_versions:
        prune_versions(repository, model, control)
        assert repository.version_numbers(model) == [before]
        assert verify(repository, model).findings == ()


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
