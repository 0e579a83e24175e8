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

from tamiz import ModelSpec
from tamiz_release.rollout.watch import WatchReport, watch
from tamiz_server.promotion import rollback
from tamiz_server.rollout import start_rollout

RUNS = 20
WATCH_S = {"good": 10.0}
"""Seconds of the watches; 30 for those that should end sooner."""

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
def load(served: Served, model: str) -> Iterator[Callable[[], tuple[int, list[str]]]]:
    """Call a model at a fixed rate until the block ends; yields a function that returns the calls and the failures."""
    ended, calls, failures = threading.Event(), 0, []

    def call() -> None:
        nonlocal calls
        with served.client(model) as client:
            while not ended.wait(1 / CALLS_PER_S):
                calls += 1
                try:
                    client.classify(even(calls))
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
def run(served: Served) -> Callable[[str, int], list[WatchReport]]:
    def run(kind: str, runs: int) -> list[WatchReport]:
        model, spec = served.new_name(), make_spec(LABELS)
        served.publish(model, spec)
        if kind == "errors":
            graph = write_failing_graph(served.folder / f"{model}-failing.onnx", spec)
            served.repository.publish(model, graph, spec)
        elif kind == "agreement":
            served.publish(model, make_spec(LABELS[::-1]))
        else:
            served.publish(model, spec, busy_loops=20 if kind == "median" else 0)
        reports = []
        with load(served, model) as seen:
            for _ in range(runs):
                start_rollout(served.repository, model, 2, canary=0.2, control=served.control)
                began = time.monotonic()
                report = watch(
                    served.repository,
                    model,
                    control=served.control,
                    watch_s=WATCH_S.get(kind, 30.0),
                    images=[even(index) for index in range(10)],
                    probes_per_s=PROBES_PER_S,
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
def test_a_bad_candidate_is_rolled_back_within_the_watch(
    kind: str, run: Callable[[str, int], list[WatchReport]]
) -> None:
    reports = run(kind, RUNS)
    assert [report.outcome for report in reports] == ["rolled back"] * RUNS
    assert {report.breach.measure for report in reports if report.breach} <= {kind, "p99"}


@pytest.mark.soak
@pytest.mark.timeout(1_200)
def test_a_good_candidate_is_never_rolled_back(run: Callable[[str, int], list[WatchReport]]) -> None:
    assert [report.outcome for report in run("good", RUNS)] == ["kept"] * RUNS
