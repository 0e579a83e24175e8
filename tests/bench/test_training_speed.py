from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest


def test_the_contenders_are_measured_in_turns_and_compared(
    tamiz: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    options = ["--model", "resnet10t", "--size", 32, "--images", 64, "--rounds", 1, "--workers", 0, "--json"]
    done = tamiz("bench-train", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    speeds = report["images_per_s"]
    assert {name: len(values) for name, values in speeds.items()} == {"tamiz": 1, "plain": 1, "limit": 1}
    assert report["tamiz_to_plain"] == pytest.approx(speeds["tamiz"][0] / speeds["plain"][0])
    assert json.loads((tmp_path / "reports" / "training" / "report.json").read_text()) == report


def test_a_contender_that_fails_is_told(tamiz: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    done = tamiz("bench-train", "--model", "resnet10x", "--images", 32, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: tamiz could not be measured: ")
    assert "did you mean" in done.stderr
