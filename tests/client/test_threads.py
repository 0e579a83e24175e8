from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable

import pytest
from fleet import until

from tamiz.threads import Threads


@pytest.fixture
def run() -> Callable[[Threads, int], set[int]]:
    """Run so many functions at the same time, and return the threads that they ran in."""

    def run(threads: Threads, count: int) -> set[int]:
        seen: set[int] = set()
        together = threading.Barrier(count + 1)

        def function() -> None:
            seen.add(threading.get_ident())
            together.wait(10)

        for _ in range(count):
            threads.run(function)
        together.wait(10)
        return seen

    return run


def started() -> int:
    return sum(thread.name == "tamiz-call" for thread in threading.enumerate())


def test_each_function_that_runs_at_the_same_time_has_a_thread_which_is_used_again(
    run: Callable[[Threads, int], set[int]],
) -> None:
    before, threads = started(), Threads()
    assert len(run(threads, 3)) == 3
    for _ in range(20):
        run(threads, 1)
    assert started() - before <= 4
    threads.close()
    until(lambda: started() == before)


def test_further_functions_wait_for_one_of_the_most_threads() -> None:
    before, threads = started(), Threads(2)
    finish, done = threading.Event(), threading.Semaphore(0)

    def function() -> None:
        finish.wait(10)
        done.release()

    for _ in range(5):
        threads.run(function)
    assert started() - before == 2
    finish.set()
    assert all(done.acquire(timeout=10) for _ in range(5))
    threads.close()
    until(lambda: started() == before)


def test_functions_that_were_given_before_closing_are_still_called() -> None:
    threads, called = Threads(1), threading.Semaphore(0)
    for _ in range(3):
        threads.run(called.release)
    threads.close()
    assert all(called.acquire(timeout=10) for _ in range(3))


def test_a_thread_that_could_not_be_started_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    threads, called = Threads(1), threading.Event()

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError):
            threads.run(called.set)
    assert not called.is_set()
    threads.run(called.set)
    assert called.wait(10)
    threads.close()


def test_the_end_of_the_process_does_not_wait_for_functions() -> None:
    code = "import time; from tamiz.threads import Threads; Threads().run(lambda: time.sleep(60))"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_a_process_that_ends_while_images_are_decoded_ends_cleanly() -> None:
    # C++ code that the shutdown of the interpreter interrupts aborts the process.
    code = """
import time, cv2, numpy as np
from tamiz.threads import Threads
image = cv2.imencode(".png", np.random.default_rng(0).integers(0, 255, (300, 300, 3), np.uint8))[1]
threads = Threads()
for _ in range(4):
    threads.run(lambda: [cv2.imdecode(image, cv2.IMREAD_COLOR) for _ in range(20)])
time.sleep(0.01)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
