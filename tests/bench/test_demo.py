from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tamiz_bench.benchmark import run_benchmark
from tamiz_bench.demo import DemoError, demo
from tamiz_server.repository import Repository
from tamiz_train.inference import predict
from tamiz_train.recipe import load_recipe


@dataclass
class FirstDemo:
    """A folder in which the demo ran once.

    Attributes:
        folder: working directory of the command.
        done: the command's exit code and output.
    """

    folder: Path
    done: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def first(
    tamiz: Callable[..., subprocess.CompletedProcess[str]], tmp_path_factory: pytest.TempPathFactory
) -> FirstDemo:
    folder = tmp_path_factory.mktemp("demo")
    return FirstDemo(folder, tamiz("demo", cwd=folder))


def reported_version(folder: Path) -> int:
    return json.loads((folder / "reports" / "digits" / "report.json").read_text())["version"]


def test_the_demo_serves_the_predictions_of_the_trainer(first: FirstDemo) -> None:
    assert first.done.returncode == 0, first.done.stderr
    assert "equal predictions             360 of 360" in first.done.stdout
    assert "digits version 1" in first.done.stdout


def test_a_second_demo_publishes_version_2_and_fails_when_served_predictions_differ(
    first: FirstDemo, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert reported_version(first.folder) == 1
    monkeypatch.chdir(first.folder)
    monkeypatch.setattr("tamiz_bench.demo.predict", lambda run, images: list(reversed(predict(run, images))))
    # As many epochs as the first demo: the gate stops a network that is worse than the live version.
    own = [f"tracking.uri=sqlite:///{first.folder / 'mlflow.db'}"]
    monkeypatch.setattr("tamiz_bench.demo.load_recipe", lambda name: load_recipe(name, own))
    # The first demo measures as long as it does for a user.
    brief = {"duration_s": 0.1, "rounds": 1, "in_flight": (1,)}
    monkeypatch.setattr("tamiz_bench.demo.run_benchmark", lambda *given, **_: run_benchmark(*given, **brief))
    with pytest.raises(DemoError, match="served predictions differ from the trainer's"):
        demo(Path("model_repository"))
    assert Repository(Path("model_repository")).live_version("digits").version == reported_version(first.folder) == 2
