"""Watches over candidates on a real Triton."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import Served
from graphs import even, make_spec, write_grey_graph

from tamiz import Client, errors
from tamiz.engine.events import OnEvent
from tamiz.served_version import read_served_version
from tamiz_release.rollout.judge import WatchLimits
from tamiz_release.rollout.probes import Prober
from tamiz_release.rollout.watch import WatchReport, _roll_back, watch
from tamiz_server.control import Control
from tamiz_server.promotion import RolloutEnded, promote, rollback
from tamiz_server.repository import Repository
from tamiz_server.rollout import start_rollout

LABELS = [f"grey {index}" for index in range(10)]
IMAGES = [even(index) for index in range(10)]
# The machine of these tests may be busy, and latencies are the subject of the tests in memory.
LIMITS = WatchLimits(latency=1_000.0)


@pytest.fixture
def roll_out(served: Served) -> Callable[..., str]:
    """Publish two versions of a model with these labels, and start a canary with the second one."""

    def start(candidate: list[str] = LABELS, canary: float = 0.5) -> str:
        model = served.new_name()
        served.publish(model, make_spec(LABELS))
        served.publish(model, make_spec(candidate))
        start_rollout(served.repository, model, 2, canary=canary, control=served.control)
        return model

    return start


@pytest.fixture
def run_watch(served: Served) -> Callable[..., WatchReport]:
    def run(model: str, watch_s: float = 4.0, **options: object) -> WatchReport:
        options = {"limits": LIMITS, "images": IMAGES, "probes_per_s": 40.0, **options}
        return watch(served.repository, model, control=served.control, watch_s=watch_s, **options)

    return run


def live(served: Served, model: str) -> list[int]:
    return sorted(each.version for each in served.control.models() if (each.model, each.state) == (model, "READY"))


def test_a_candidate_with_swapped_labels_is_rolled_back_and_the_history_says_why(
    served: Served, roll_out: Callable[..., str], run_watch: Callable[..., WatchReport]
) -> None:
    model = roll_out(LABELS[::-1])
    report = run_watch(model, 60.0)
    assert report.outcome == "rolled back"
    assert report.seconds < 30
    assert report.breach is not None
    assert report.breach.measure == "agreement"
    assert f"version 2 of {model} was rolled back after" in report.text
    assert live(served, model) == [1]
    assert served.repository.rollout(model) is None
    last = served.repository.history(model)[-1]
    assert (last.what, last.before, last.after) == ("automatic rollback", 2, 1)
    assert last.why.startswith("agreement with the live version 0.00% of")


def test_a_good_candidate_stays_a_canary_and_is_promoted_if_asked(
    served: Served, roll_out: Callable[..., str], run_watch: Callable[..., WatchReport]
) -> None:
    model = roll_out()
    lines: list[str] = []
    report = run_watch(model, 2.0, on_progress=lines.append)
    assert (report.outcome, report.breach) == ("kept", None)
    assert {finding.measure for finding in report.findings} == {"errors", "p99", "median", "agreement"}
    assert live(served, model) == [1, 2]
    assert lines == [f"watching version 2 of {model} beside version 1 for 2 s"]
    hardly_seen = run_watch(model, 0.5, probes_per_s=2.0, then_promote=True)
    assert hardly_seen.outcome == "kept"
    assert "was not promoted: only" in hardly_seen.text
    assert live(served, model) == [1, 2]
    promoted = run_watch(model, 6.0, then_promote=True)
    assert promoted.outcome == "promoted"
    assert live(served, model) == [2]
    assert served.repository.history(model)[-1].why == promoted.text.removesuffix("; it is live now")


def test_a_promotion_that_somebody_makes_during_the_watch_is_left_alone(
    served: Served, roll_out: Callable[..., str], run_watch: Callable[..., WatchReport]
) -> None:
    model = roll_out()
    timer = threading.Timer(1.0, lambda: promote(served.repository, model, 2, control=served.control))
    timer.start()
    report = run_watch(model, 20.0)
    timer.join()
    assert report.outcome == "ended"
    assert report.seconds < 20
    assert live(served, model) == [2]
    assert served.repository.history(model)[-1].what == "promote"


def test_a_canary_that_somebody_ends_just_before_its_promotion_does_not_go_live(
    served: Served, roll_out: Callable[..., str], run_watch: Callable[..., WatchReport]
) -> None:
    model = roll_out()
    report = run_watch(
        model,
        6.0,
        then_promote=True,
        on_promote=lambda text: rollback(served.repository, model, control=served.control),
    )
    assert report.outcome == "ended"
    assert live(served, model) == [1]
    assert served.repository.history(model)[-1].what == "rollback"


def test_a_rollback_that_is_tried_again_does_not_undo_a_promotion_made_in_the_meantime(tmp_path: Path) -> None:
    repository, spec = Repository(tmp_path / "models"), make_spec(LABELS)
    graph = write_grey_graph(tmp_path / "grey.onnx", spec)
    for _ in range(3):
        repository.publish("grey", graph, spec)
    promote(repository, "grey", 2)
    start_rollout(repository, "grey", 3, canary=0.1)
    timer = threading.Timer(0.5, lambda: promote(repository, "grey", 3))
    timer.start()
    # Nothing listens there.
    with Control("grpc://127.0.0.1:9") as control, pytest.raises(RolloutEnded):
        _roll_back(repository, "grey", 3, control, "too slow")
    timer.join()
    assert repository.live_numbers("grey") == [3]


def test_the_requests_of_a_client_in_this_process_are_compared_too(
    served: Served, roll_out: Callable[..., str], run_watch: Callable[..., WatchReport]
) -> None:
    model = roll_out()
    with calls(served, model) as start:
        report = run_watch(model, 2.0, on_start=start, probes_per_s=0.0)
    assert "requests of this client" in {finding.source for finding in report.findings}
    assert "requests of all clients" in {finding.source for finding in report.findings}


@contextmanager
def calls(served: Served, model: str) -> Iterator[Callable[[OnEvent], None]]:
    """Yield a function that starts to call a model in another thread, until the block ends."""
    ended, threads = threading.Event(), []

    def call(on_event: OnEvent) -> None:
        with Client(served.triton.url, model=model, on_event=on_event) as client:
            while not ended.wait(0.02):
                client.classify(even(3))

    def start(on_event: OnEvent) -> None:
        threads.append(threading.Thread(target=call, args=(on_event,)))
        threads[-1].start()

    try:
        yield start
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def test_an_interrupted_watch_leaves_the_candidate_as_it_is_and_says_so(
    served: Served, roll_out: Callable[..., str], run_watch: Callable[..., WatchReport]
) -> None:
    model = roll_out()
    lines: list[str] = []

    def interrupt_soon(on_event: OnEvent) -> None:
        threading.Timer(1.0, lambda: signal.raise_signal(signal.SIGINT)).start()

    with pytest.raises(KeyboardInterrupt):
        run_watch(model, 20.0, on_start=interrupt_soon, on_progress=lines.append)
    assert f"the watch was interrupted, and version 2 of {model} is left as it is" in lines[-1]
    assert live(served, model) == [1, 2]


def test_a_model_without_a_rollout_cannot_be_watched(served: Served, run_watch: Callable[..., WatchReport]) -> None:
    with pytest.raises(errors.RepositoryError, match="model grey has no canary or shadow on .*`tamiz promote grey"):
        run_watch("grey")


def test_images_that_cannot_be_read_are_an_error(
    roll_out: Callable[..., str], run_watch: Callable[..., WatchReport]
) -> None:
    with pytest.raises(errors.UsageError, match="none of the 1 images for probes can be read"):
        run_watch(roll_out(), images=[b"no image"])


def test_a_version_that_is_not_loaded_fails_its_probes(served: Served) -> None:
    served_version = read_served_version(served.control.config("grey"))
    prober = Prober(served.control.transport, served_version, replace(served_version, version=7), IMAGES)
    pair = prober.probe()
    assert pair.live.labels in LABELS
    assert "7" in pair.candidate.error
