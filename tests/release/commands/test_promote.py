from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence

import cv2
import pytest
from conftest import Served
from graphs import even, make_spec

from tamiz import UsageError
from tamiz_release.commands.arguments import parse_duration

LABELS = [f"grey {index}" for index in range(10)]


def test_a_canary_that_answers_otherwise_is_rolled_back_by_the_command_that_started_it(
    served: Served, tamiz: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    name = served.new_name()
    for labels in (LABELS, LABELS[::-1]):
        served.publish(name, make_spec(labels))
    images = served.folder / f"{name}-images"
    images.mkdir()
    for index in range(10):
        cv2.imwrite(str(images / f"{index}.png"), even(index))
    server = ["--repository", served.repository.path, "--url", served.triton.url, "--key", served.triton.key]
    watch = ["--canary", "20%", "--watch", "2m", "--then-promote", "--images", images, "--probes", 20]
    done = tamiz("promote", name, 2, *server, *watch, "--max-latency", 1000)
    assert done.returncode == 1, done.stderr
    started, watching, ended = done.stdout.splitlines()
    assert "version 2 as a canary answers 0.2 of the calls" in started
    assert watching == f"watching version 2 of {name} beside version 1 for 120 s"
    assert ended.startswith(f"version 2 of {name} was rolled back after ")
    assert "agreement with the live version 0.00%" in ended
    assert served.repository.rollout(name) is None
    assert served.repository.history(name)[-1].what == "automatic rollback"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--canary", ""], "--canary : give a share of the calls"),
        (["--shadow", ""], "--shadow : give a share of the calls"),
        (["--canary", "10%", "--then-promote"], "--then-promote is for a watch; give --watch"),
        (["--canary", "10%", "--max-errors", "2%"], "--max-errors is for a watch; give --watch"),
        (["--watch", "10m"], "--watch is for a canary or shadow; give --canary"),
        (["--watch", "10m", "--canary", "10%"], "--watch is for a running server; give its --url"),
    ],
    ids=str,
)
def test_options_of_a_watch_without_what_they_need_change_nothing(
    options: Sequence[str], message: str, served: Served, tamiz: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = tamiz("promote", "grey", 1, "--repository", served.repository.path, *options)
    assert done.returncode == 2
    assert message in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--watch", "soon"], "--watch soon: give a time"),
        (["--probes", "-1"], "--probes: -1.0 (float); give a number from 0 to 1,000"),
        (["--max-latency", "0.5"], "latency: 0.5 (float); give a ratio of 1 or more"),
        (["--min-agreement", "100%"], "agreement: 1.0 (float); give a share above 0 and below 1"),
        (["--images", "/nowhere"], "/nowhere"),
    ],
    ids=str,
)
def test_a_wrong_option_of_a_watch_starts_no_canary(
    options: Sequence[str], message: str, served: Served, tamiz: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    place = ["--repository", served.repository.path, "--url", served.triton.url, "--key", served.triton.key]
    done = tamiz("promote", "grey", 1, "--canary", "10%", "--watch", "10m", *place, *options)
    assert done.returncode == 2
    assert message in done.stderr
    assert served.repository.rollout("grey") is None


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("10m", 600), ("1h", 3600), ("1.5m", 90), (" 2s ", 2)])
def test_a_duration_is_a_number_and_a_unit(text: str, seconds: float) -> None:
    assert parse_duration("watch", text) == seconds


@pytest.mark.parametrize("text", ["", "10", "m", "-1m", "0s", "1e3s", "8d", "200h", "1" * 400 + "s", "nan", "1m2s"])
def test_another_duration_is_rejected(text: str) -> None:
    with pytest.raises(UsageError, match="--watch .*: give a time above 0"):
        parse_duration("watch", text)
