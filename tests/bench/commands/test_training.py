from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Tamiz = Callable[..., subprocess.CompletedProcess[str]]


def test_the_report_compares_the_trainer_with_a_pytorch_loop_and_the_limit(tamiz: Tamiz, tmp_path: Path) -> None:
    options = ["--model", "resnet10t", "--size", 32, "--images", 64, "--rounds", 1, "--workers", 0, "--json"]
    done = tamiz("bench", "training", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    speeds = report["images_per_s"]
    assert {name: len(values) for name, values in speeds.items()} == {"tamiz": 1, "pytorch loop": 1, "limit": 1}
    assert report["tamiz_to_pytorch_loop"] == pytest.approx(speeds["tamiz"][0] / speeds["pytorch loop"][0])
    assert json.loads((tmp_path / "reports" / "training" / "report.json").read_text()) == report


def test_a_contender_that_fails_ends_the_command_with_its_error(tamiz: Tamiz, tmp_path: Path) -> None:
    done = tamiz("bench", "training", "--model", "resnet10x", "--images", 32, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: tamiz could not be measured: ")
    assert "did you mean" in done.stderr
