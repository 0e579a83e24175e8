from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

from tamiz_server.repository import Repository


def test_the_demo_ends_with_all_predictions_equal_and_a_second_one_is_version_2(
    tamiz: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    for version in (1, 2):
        done = tamiz("demo", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "predictions that agree        360 of 360" in done.stdout
        assert f"digits version {version}" in done.stdout
    assert Repository(tmp_path / "model_repository").live("digits").version == 2
    report = json.loads((tmp_path / "reports" / "digits" / "report.json").read_text())
    assert report["version"] == 2


def test_a_demo_whose_served_predictions_differ_fails_loudly(
    tamiz: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    code = (
        "import sys; from tamiz_train.run import Run; from tamiz.cli import main\n"
        "predict = Run.predict\n"
        "Run.predict = lambda self, images: list(reversed(predict(self, images)))\n"
        "sys.argv = ['tamiz', 'demo']; main()"
    )
    import sys

    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 1
    assert "served predictions differ from the trainer's" in done.stderr
