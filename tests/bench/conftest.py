"""Fixtures of the benchmarks' tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tamiz_server.repository import Repository
from tamiz_train.digits import write_digits
from tamiz_train.onnx_export import export
from tamiz_train.recipe import load_recipe
from tamiz_train.training import train


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the images ``digits`` and a ``model_repository`` with a model of one epoch, named digits."""
    folder = tmp_path_factory.mktemp("published")
    write_digits(folder / "digits")
    settings = [f"data.root={folder / 'digits'}", f"runs_dir={folder / 'runs'}", "train.epochs=1", "tracking.uri=null"]
    run = train(load_recipe("digits", settings))
    Repository(folder / "model_repository").publish("digits", export(run).path, run.spec)
    return folder
