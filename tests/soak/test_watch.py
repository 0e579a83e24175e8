"""Canaries under load on a real Triton: bad ones are rolled back within the watch, good ones never."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import Served
from graphs import even, make_spec, write_grey_graph
from onnx import TensorProto, helper, numpy_helper

from tamiz import CallEvent, Client, ModelSpec
from tamiz.engine.events import OnEvent
from tamiz_release.rollout.watch import WatchReport, watch
from tamiz_server.promotion import rollback
from tamiz_server.rollout import start_rollout

RUNS = 20
WATCH_S = {"good": 10.0, "slow": 90.0}
"""Seconds of the watches; 30 for those that should end sooner."""

BUSY_LOOPS = {"median": 20, "slow": 300}
"""Of the candidate; 300 take about a quarter of a second, longer than the pause between two probes."""

BATCH = 16

PROBES_PER_S = 10.0
CALLS_PER_S = 30
LABELS = [f"grey {index}" for index in range(10)]


def write_failing_graph(path: Path, spec: ModelSpec) -> Path:
    """A grey graph that fails for images whose mean grey is above 200: two of ten."""
    model = onnx.load(write_grey_graph(path, spec))
    graph = model.graph
    mean = next(node for node in graph.node if node.op_type == "ReduceMean").output[0]
    (answer,) = graph.node[-1].input
    graph.node.pop()
    graph.node.extend(
        [
            helper.make_node("ReduceMax", [mean], ["brightest"], keepdims=0),
            helper.make_node("Greater", ["brightest", "most"], ["too_bright"]),
            helper.make_node("Cast", ["too_bright"], ["place"], to=TensorProto.INT64),
            # Out of range for 1.
            helper.make_node("Gather", ["nothing", "place"], ["added"]),
            helper.make_node("Add", [answer, "added"], [graph.output[0].name]),
        ]
    )
    constants = {"most": np.array(200, np.float32), "nothing": np.zeros(1, np.float32)}
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path


@contextmanager
def load(
    served: Served, model: str, on_event: OnEvent | None = None, *, batch: int = 0
) -> Iterator[Callable[[], tuple[int, list[str]]]]:
    """Call a model at a fixed rate until the block ends; yields a function that returns the calls and the failures.

    Single images are read into the same memory each time, as a camera does.
    """
    ended, calls, failures, random = threading.Event(), 0, [], np.random.default_rng(0)
    frame = even(0)

    def classify(client: Client) -> None:
        if batch:
            images = [even(index) for index in range(batch)]
            for image in images:
                # A pixel of its own, so that a sticky canary splits each batch in another way.
                image[0, 0] = random.integers(256)
            list(client.classify_many(images))
        else:
            frame[:] = even(calls)
            client.classify(frame)
            # What a reader does at once.
            frame[:] = 0

    def call() -> None:
        nonlocal calls
        with Client(served.triton.url, model=model, on_event=on_event) as client:
            while not ended.wait(1 / CALLS_PER_S):
                calls += 1
                try:
                    classify(client)
                except Exception as exc:
                    failures.append(repr(exc))

    thread = threading.Thread(target=call)
    thread.start()
    try:
        yield lambda: (calls, failures)
    finally:
        ended.set()
        thread.join()


@pytest.fixture
def run(served: Served) -> Callable[..., list[WatchReport]]:
    def run(kind: str, runs: int, batch: int = 0, **rollout: object) -> list[WatchReport]:
        listeners: list[OnEvent] = []
        rollout = rollout or {"canary": 0.2}

        def on_event(event: CallEvent) -> None:
            for listener in listeners[-1:]:
                listener(event)

        model, spec = served.new_name(), make_spec(LABELS)
        served.publish(model, spec)
        if kind == "errors":
            graph = write_failing_graph(served.folder / f"{model}-failing.onnx", spec)
            served.repository.publish(model, graph, spec)
        elif kind == "agreement":
            served.publish(model, make_spec(LABELS[::-1]))
        else:
            served.publish(model, spec, busy_loops=BUSY_LOOPS.get(kind, 0))
        reports = []
        with load(served, model, on_event, batch=batch) as seen:
            for _ in range(runs):
                start_rollout(served.repository, model, 2, **rollout, control=served.control)
                began = time.monotonic()
                report = watch(
                    served.repository,
                    model,
                    control=served.control,
                    watch_s=WATCH_S.get(kind, 30.0),
                    images=[even(index) for index in range(10)],
                    probes_per_s=PROBES_PER_S,
                    on_start=listeners.append,
                )
                print(f"{kind}: {time.monotonic() - began:.1f} s: {report.text}")
                reports.append(report)
                if report.outcome == "kept":
                    rollback(served.repository, model, control=served.control)
        calls, failures = seen()
        print(f"{kind}: {runs} watches, {calls} calls, {len(failures)} failed")
        # The live version answers for a candidate that fails.
        assert not failures, failures[:3]
        assert calls > 10 * runs
        return reports

    return run


@pytest.mark.soak
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("kind", ["errors", "median", "agreement"])
def test_a_bad_candidate_is_rolled_back_within_the_watch(kind: str, run: Callable[..., list[WatchReport]]) -> None:
    reports = run(kind, RUNS)
    assert [report.outcome for report in reports] == ["rolled back"] * RUNS
    assert {report.breach.measure for report in reports if report.breach} <= {kind, "p99"}


@pytest.mark.soak
@pytest.mark.timeout(1_200)
def test_a_candidate_slower_than_the_rate_of_the_probes_is_rolled_back(run: Callable[..., list[WatchReport]]) -> None:
    reports = run("slow", RUNS // 4)
    assert [report.outcome for report in reports] == ["rolled back"] * (RUNS // 4)


@pytest.mark.soak
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize(
    "options",
    [{"canary": 0.2}, {"canary": 0.9, "sticky": True, "batch": BATCH}, {"shadow": 1.0}],
    ids=["canary", "sticky batches", "shadow"],
)
def test_a_good_candidate_is_never_rolled_back(
    options: dict[str, object], run: Callable[..., list[WatchReport]]
) -> None:
    reports = run("good", RUNS, **options)
    assert [report.outcome for report in reports] == ["kept"] * RUNS
    sources = {finding.source for report in reports for finding in report.findings}
    assert ("shadow answers" if "shadow" in options else "requests of this client") in sources
