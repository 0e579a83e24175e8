"""A Triton that is killed again and again under load: it comes back, and no call and no image of a job is lost."""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from conftest import TAMIZ
from fleet import MODEL, publish_slow, until
from graphs import even
from leftovers import have_ended, leftovers

from tamiz import Client
from tamiz_server.config import ServingSettings
from tamiz_server.repository import Repository
from tamiz_server.triton import Triton

KILLS = 10
IMAGES = [even(index) for index in range(10)]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    repository = Repository(tmp_path / "model_repository")
    labels = [f"grey {index}" for index in range(10)]
    publish_slow(repository, MODEL, labels, seconds=0.002, settings=ServingSettings())
    return repository.path


@pytest.mark.soak
def test_nothing_is_lost_while_triton_is_killed_ten_times_under_a_bulk_job_and_single_calls(repository: Path) -> None:
    before = leftovers()
    ended = threading.Event()
    lines: list[str] = []
    failures: list[str] = []
    answered: list[float] = []
    got: list[int | None] = []

    def images() -> Iterator[object]:
        for number in itertools.count():
            if ended.is_set():
                return
            yield IMAGES[number % 10]

    def call() -> None:
        for number in itertools.count():
            if ended.is_set():
                return
            began = time.perf_counter()
            try:
                right = client.classify(IMAGES[number % 10]).index == number % 10
            except Exception as exc:
                failures.append(repr(exc))
                continue
            answered.append(time.perf_counter() - began)
            if not right:
                failures.append("wrong label")

    def run_job() -> None:
        try:
            got.extend(outcome.index for outcome in job.classify_many(images(), batch_size=4))
        except Exception as exc:
            failures.append(f"job: {exc!r}")

    with (
        Triton(repository, restarts=KILLS, on_progress=lines.append) as triton,
        Client(triton.url, model=MODEL, timeout_s=10) as client,
        Client(triton.url, model=MODEL, timeout_s=60) as job,
    ):
        threads = [threading.Thread(target=target) for target in (call, call, call, call, run_job)]
        for thread in threads:
            thread.start()
        try:
            for number in range(KILLS):
                time.sleep(2)
                os.kill(triton.pid, signal.SIGKILL)
                until(lambda number=number: len(lines) == 2 * number + 2, 60)
            time.sleep(2)
        finally:
            ended.set()
            for thread in threads:
                thread.join()
    back = [line for line in lines if "ready again" in line]
    print(
        f"{KILLS} kills; {len(answered)} single calls answered, the slowest after {max(answered):.1f} s; "
        f"{len(got)} images of the job; {failures[:3]}; {back}"
    )
    assert not failures
    assert got == [number % 10 for number in range(len(got))]
    assert len(back) == KILLS
    assert len(got) > 1000
    assert not leftovers() - before


@pytest.mark.soak
def test_the_command_gives_a_server_up_that_is_killed_a_sixth_time(repository: Path, tmp_path: Path) -> None:
    before = leftovers()
    log = tmp_path / "triton.log"
    ports = ["--grpc-port", "0", "--http-port", "0", "--metrics-port", "0"]
    command = [TAMIZ, "serve", "--repository", repository, "--log", log, *ports]
    process = subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(4):
        process.stdout.readline()
    pids: list[int] = []
    for number in range(6):
        [server] = [c for c in psutil.Process(process.pid).children() if "--id=" in " ".join(c.cmdline())]
        pids += [server.pid, *(child.pid for child in server.children(recursive=True))]
        server.kill()
        if number < 5:
            assert re.fullmatch(r"Triton crashed \(SIGKILL\) after .*; restarting\n", process.stdout.readline())
            assert process.stdout.readline().startswith("Triton is ready again after ")
    rest, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert re.fullmatch(r"Triton crashed \(SIGKILL\) after .*; given up\n", rest)
    assert re.fullmatch(
        r"error: Triton crashed \(SIGKILL\) after .*; it is restarted at most 5 times .*triton\.log\n", errors
    )
    assert have_ended(pids)
    assert not leftovers() - before
