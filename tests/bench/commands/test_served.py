from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from conftest import TAMIZ, Served
from leftovers import have_ended, leftovers

from tamiz_server.repository import Repository

Tamiz = Callable[..., subprocess.CompletedProcess[str]]


def test_the_report_compares_the_served_model_with_the_limit(
    served: Served, even_image: Callable[..., Path], tamiz: Tamiz, tmp_path: Path
) -> None:
    images = [even_image(index) for index in range(10)]
    server = ["--model", "grey", "--repository", served.repository.path, "--url", served.triton.url]
    short = ["--seconds", 0.1, "--rounds", 2, "--in-flight", 1, "--in-flight", 2, "--out", tmp_path / "report"]
    done = tamiz("bench", "served", images[0].parent, *server, *short, "--json")
    assert done.returncode == 0, done.stderr
    assert "served ÷ limit = " in done.stdout
    document = json.loads(done.stdout.splitlines()[-1])
    assert document == json.loads((tmp_path / "report" / "report.json").read_text())
    assert [(row["in_flight"], row["batch_size"]) for row in document["sweep"]] == [(1, 1), (2, 1), (1, 16), (2, 16)]
    pairs = zip(document["images_per_s"]["served"], document["images_per_s"]["limit"], strict=True)
    ratios = [served_speed / limit for served_speed, limit in pairs]
    assert len(ratios) == 2
    assert min(ratios) <= document["served_to_limit"] <= max(ratios)
    assert (tmp_path / "report" / "report.png").stat().st_size > 10_000


def test_the_command_can_start_a_server_itself(
    served: Served, even_image: Callable[..., Path], tamiz: Tamiz, tmp_path: Path
) -> None:
    repository = tmp_path / "models"
    graph = served.repository.path / "grey" / "1" / "model.onnx"
    Repository(repository).publish("grey", graph, served.repository.live_version("grey").spec)
    short = ["--seconds", 0.1, "--rounds", 1, "--in-flight", 1, "--out", tmp_path / "report"]
    done = tamiz("bench", "served", even_image(0), "--model", "grey", "--repository", repository, "--serve", *short)
    assert done.returncode == 0, done.stderr


def test_a_benchmark_that_is_terminated_leaves_nothing_behind(
    served: Served, even_image: Callable[..., Path], tmp_path: Path
) -> None:
    before = leftovers()
    options = ["--model", "grey", "--repository", served.repository.path, "--serve", "--seconds", "60"]
    command = [TAMIZ, "bench", "served", even_image(0), *options]
    process = subprocess.Popen([*map(str, command)], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not leftovers() - before:
        time.sleep(0.01)
    pids = [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))]
    process.terminate()
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130, error
    assert have_ended(pids)
    assert not leftovers() - before


def test_a_repository_that_the_server_does_not_serve_is_a_usage_error(
    served: Served, even_image: Callable[..., Path], tamiz: Tamiz, tmp_path: Path
) -> None:
    other = Repository(tmp_path / "models")
    graph, spec = served.repository.path / "grey" / "1" / "model.onnx", served.repository.live_version("grey").spec
    other.publish("grey", graph, spec.model_copy(update={"labels": tuple(f"other {index}" for index in range(10))}))
    server = ["--model", "grey", "--repository", other.path, "--url", served.triton.url]
    done = tamiz("bench", "served", even_image(0), *server, "--out", tmp_path / "report")
    assert done.returncode == 2
    assert "name the repository that the server serves" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.png", "--model", "grey"], "none.png: no such file"),
        (["EMPTY", "--model", "grey"], "no images in"),
        (["EMPTY", "--model", "grey", "--seconds", "0"], "--seconds"),
        (["none.png", "--model", "grey", "--serve", "--header", "a=b"], "--serve starts a server that needs neither"),
    ],
    ids=["missing image", "empty folder", "duration of 0", "headers for its own server"],
)
def test_invalid_input_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, tamiz: Tamiz, tmp_path: Path
) -> None:
    done = tamiz("bench", "served", *[str(tmp_path) if argument == "EMPTY" else argument for argument in arguments])
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
