"""The command `tamiz release`, in processes of its own."""

from __future__ import annotations

import json
import signal
import statistics
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from conftest import TAMIZ, Served

from tamiz_release import PublicationOptions
from tamiz_release.run_publication import publish_run
from tamiz_server.repository import Repository
from tamiz_train.run import Run

Tamiz = Callable[..., subprocess.CompletedProcess[str]]

# The machine of these tests may be busy, so latencies are not judged.
FP32 = ["--precision", "fp32"]
WATCH = ["--canary", "30%", "--watch", "4s", "--probes", 40, "--max-latency", 1000]


def place(served: Served, model: str) -> list[object]:
    return [
        *("--model", model, "--repository", served.repository.path),
        *("--url", served.triton.url, "--key", served.triton.key),
    ]


def test_a_dry_run_shows_the_plan_and_changes_nothing_and_the_release_does_what_it_said(
    run: Run, served: Served, tamiz: Tamiz
) -> None:
    name = served.new_name()
    publish_run(run, served.repository, options=PublicationOptions(control=served.control), model=name)
    command = ["release", run.path, *place(served, name), *WATCH, *FP32, "--reason", "weekly", "--json"]
    dry = tamiz(*command, "--dry-run")
    assert dry.returncode == 0, dry.stderr
    planned = json.loads(dry.stdout.splitlines()[-1])
    assert (planned["version"], planned["live"], planned["canary"]["share"]) == (2, 1, 0.3)
    assert served.repository.version_numbers(name) == [1]

    done = tamiz(*command)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"[1/6] export: {run.path} to model.onnx, fp32")
    report = json.loads(lines[-1])
    assert {name: report[name] for name in ("version", "live", "canary", "limits")} == {
        name: planned[name] for name in ("version", "live", "canary", "limits")
    }
    assert report["outcome"] == "live"
    assert [step["name"] for step in report["steps"]] == [step["name"] for step in planned["steps"]]
    assert served.repository.live_version(name).version == 2


def test_auto_is_searched_once_also_if_the_release_is_interrupted_and_goes_live_as_it_was_chosen(
    run: Run, served: Served, tamiz: Tamiz
) -> None:
    name = served.new_name()
    publish_run(run, served.repository, options=PublicationOptions(control=served.control), model=name)
    command = ["release", run.path, *place(served, name), *WATCH, "--budget", "10", "--json"]
    lines = interrupt([*command], "[2/6] gate: ")
    assert lines[0].startswith(f"[1/6] export: {run.path}, auto: the fastest precision that passes, in onnxruntime; ")
    assert lines[0].endswith("decided at export, within 10 s")
    assert any(line.startswith("INT8 of all operators: ") for line in lines)
    (chosen,) = (line for line in lines if line.startswith("fastest on this machine: "))
    assert served.repository.version_numbers(name) == [1]

    # One of the 360 test images is more than half of a limit of half a point.
    done = tamiz(*command, "--limit", "accuracy_drop=0.05")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert chosen in lines
    assert not any(line.startswith("INT8 of all operators: ") for line in lines), "it is not searched again"
    report = json.loads(lines[-1])
    assert chosen == f"fastest on this machine: {report['precision']} in onnxruntime"
    assert (report["outcome"], report["gate"]["precision"]) == ("live", report["precision"])
    live = served.repository.live_version(name)
    assert (live.version, live.manifest["precision"]) == (2, report["precision"])
    options = {each["precision"]: each for each in live.manifest["precision_choice"]["options"]}
    speeds = options[report["precision"]]["speed_ratios"].values()
    assert report["precision"] == "fp32" or statistics.geometric_mean(speeds) > 1


def interrupt(command: Sequence[object], at: str) -> list[str]:
    """Run a command, press Ctrl-C when it prints a line that begins so, and return its lines."""
    process = subprocess.Popen(
        [str(TAMIZ), *map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line.rstrip("\n"))
            if line.startswith(at):
                process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    finally:
        process.kill()
        process.communicate()
    return lines


def test_without_a_server_the_command_says_that_there_is_no_canary(run: Run, tamiz: Tamiz, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    publish_run(run, Repository(repository))
    dry = tamiz("release", run.path, "--repository", repository, "--budget", "20", "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert dry.stdout.startswith("no canary: no running server was given, so the version goes live on disk without")
    assert [word for word in ("export", "gate", "publish", "promote") if word not in dry.stdout] == []
    assert "auto: the fastest precision that passes" in " ".join(dry.stdout.split())
    assert Repository(repository).version_numbers("digits") == [1]


def test_a_failed_gate_ends_with_1_and_the_document_says_that_nothing_was_published(
    run: Run, tamiz: Tamiz, tmp_path: Path
) -> None:
    repository = tmp_path / "repository"
    limit = ["--limit", "probability_difference=0"]
    failed = tamiz("release", run.path, "--repository", repository, *FP32, *limit, "--json")
    assert failed.returncode == 1
    assert "nothing was published: the gate failed" in failed.stderr
    report = json.loads(failed.stdout.splitlines()[-1])
    assert (report["outcome"], report["state"]) == ("failed", "digits: nothing was published")
    assert [step["state"] for step in report["steps"]] == ["done", "failed", "waiting"]
    assert not repository.exists()


def test_ctrl_c_in_the_watch_leaves_the_canary_and_says_how_to_end_it(run: Run, served: Served) -> None:
    name = served.new_name()
    publish_run(run, served.repository, options=PublicationOptions(control=served.control), model=name)
    command = ["release", run.path, *place(served, name), *FP32, "--watch", "10m", "--max-latency", 1000]
    lines = interrupt(command, "watching version 2")
    assert lines[-1].startswith(f"{name}: version 1 is live, and version 2 is a canary; end it with `tamiz rollback")
    rollout = served.repository.rollout(name)
    assert rollout is not None
    assert rollout.version == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--canary", "10%"], "--canary is for a running server; give its --url"),
        (["--watch", "10m"], "--watch is for a running server; give its --url"),
        (["--url", "grpc://localhost:1", "--canary", "10%", "--no-canary"], "--canary and --no-canary contradict"),
        (["--url", "grpc://localhost:1", "--watch", "soon"], "--watch soon: give a time"),
        (["--url", "grpc://localhost:1", "--canary", "110%"], "--canary 110%: give a share"),
        (["--url", "grpc://localhost:1", "--canary", ""], "--canary : give a share"),
        (["--url", "grpc://localhost:1", "--watch", ""], "--watch : give a time"),
        (["--probes", "-1"], "probes_per_s: -1.0"),
        (["--max-latency", "0.5"], "latency: 0.5"),
        (["--min-agreement", "most"], "--min-agreement most: give a share"),
        (["--limit", "speed=1"], "--limit speed=1: there is no limit 'speed'"),
        (["--force", " "], "--force: say why"),
    ],
    ids=str,
)
def test_a_wrong_option_ends_with_2_and_changes_nothing(
    options: Sequence[str], message: str, trained: Run, tamiz: Tamiz, tmp_path: Path
) -> None:
    done = tamiz("release", trained.path, "--repository", tmp_path / "repository", *options)
    assert done.returncode == 2
    assert message in done.stderr
    assert not (tmp_path / "repository").exists()
