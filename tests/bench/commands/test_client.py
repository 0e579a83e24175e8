from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path


def test_the_report_compares_all_contenders_with_the_limit(
    tamiz: Callable[..., subprocess.CompletedProcess[str]], published: Path
) -> None:
    options = ["--model", "digits", "--seconds", 0.1, "--rounds", 1, "--json"]
    done = tamiz("bench", "client", published / "digits" / "test", *options, cwd=published)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    contenders = {
        "tamiz",
        "tamiz, shared memory",
        "tritonclient script",
        "tritonclient script, 16 threads",
        "limit",
    }
    assert set(report["images_per_s"]) == set(report["to_limit"]) == contenders
    assert all(len(speeds) == 1 and speeds[0] > 0 for speeds in report["images_per_s"].values())
    assert report["compared_labels"] == 100
    assert report["differing_labels"] < 5
    assert json.loads((published / "reports" / "digits-client" / "report.json").read_text()) == report
