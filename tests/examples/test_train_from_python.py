from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from tamiz_server import Repository
from tamiz_train.digits import write_digits

pytestmark = pytest.mark.integration


def test_the_script_trains_evaluates_and_publishes(
    example: Callable[[str], ModuleType], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_digits(tmp_path / "digits")
    overrides = [
        f"data.root={tmp_path / 'digits'}",
        f"runs_dir={tmp_path / 'runs'}",
        "tracking.uri=null",
        "train.epochs=1",
    ]
    run, version = example("train_from_python").train_and_publish(tmp_path / "models", *overrides)
    assert version == Repository(tmp_path / "models").live_version("digits").version == 1
    printed = capsys.readouterr().out
    assert str(run.metrics["test"]["accuracy"]) in printed
    assert printed.count("Prediction(") == 3
