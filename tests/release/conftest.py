"""Fixtures of the tests of the release package: a store of MLflow."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def empty_mlflow_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of MLflow without runs; to create its tables takes seconds."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def mlflow_uri(empty_mlflow_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """URI of a store that only the test uses; MLflow keeps the files of its runs in the current folder."""
    monkeypatch.chdir(tmp_path)
    return f"sqlite:///{shutil.copyfile(empty_mlflow_database, tmp_path / 'mlflow.db')}"
