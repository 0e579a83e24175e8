from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tamiz_bench.demo import DemoError, demo
from tamiz_server.repository import Repository
from tamiz_train.recipe import load_recipe
from tamiz_train.run import Run


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


def test_a_demo_whose_served_predictions_differ_fails_loudly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predict = Run.predict
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Run, "predict", lambda run, images: list(reversed(predict(run, images))))
    short = [f"tracking.uri=sqlite:///{tmp_path / 'mlflow.db'}", "train.epochs=1"]
    monkeypatch.setattr("tamiz_bench.demo.load_recipe", lambda name: load_recipe(name, short))
    with pytest.raises(DemoError, match="served predictions differ from the trainer's"):
        demo(Path("model_repository"))
