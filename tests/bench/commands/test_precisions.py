from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

from tamiz_train.run import Run


def test_the_precisions_of_a_run_are_compared_and_the_report_is_written(
    run: Run, tamiz: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = tamiz("bench", "precisions", run.path, "--budget", 30, "--rounds", 1, "--out", tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout.splitlines()[-1])
    assert json.loads((tmp_path / "report.json").read_text()) == document
    assert document["network"] == "digits"
    precisions = document["precisions"]
    assert set(precisions) == {"fp32", "int8", "fp16"}
    assert precisions["fp32"]["speed_ratios"] == {"1": 1.0, "8": 1.0}
    assert precisions["fp16"]["bytes"] < precisions["fp32"]["bytes"]
    assert precisions["int8"]["accuracy"]["loss_points"] <= 0.5


def test_a_network_of_random_weights_needs_photographs(
    tamiz: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = tamiz("bench", "precisions", "resnet18", "--out", tmp_path)
    assert done.returncode == 2
    assert "--images: give a folder with two images or more" in done.stderr


def test_an_unknown_network_is_a_usage_error(
    tamiz: Callable[..., subprocess.CompletedProcess[str]], even_image: Callable[..., Path], tmp_path: Path
) -> None:
    even_image(3)
    folder = even_image(5).parent
    done = tamiz("bench", "precisions", "resnet17x", "--images", folder, "--out", tmp_path / "report")
    assert done.returncode == 2
    assert "resnet17x: neither the folder of a run nor a network of timm" in done.stderr
