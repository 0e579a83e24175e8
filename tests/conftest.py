"""Fixtures: one real Triton for the session, images with known labels, and the ``tamiz`` command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from commands import run_tamiz
from graphs import grey_level, make_spec, write_grey_graph

from tamiz import Client, ModelSpec
from tamiz_server.config import ServingSettings
from tamiz_server.control import Control
from tamiz_server.repository import Repository
from tamiz_server.triton import Triton

pytest_plugins = ["scripted_servers", "trained_runs"]

TAMIZ = Path(sys.executable).with_name("tamiz")

INTEGRATION_FIXTURES = {"served", "fleet", "slow", "tamiz", "tiny_recipe", "published"}
"""Fixtures that start a Triton, train a network, or run a command in a process of its own."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests for `make unit`: those without such a fixture, and without a marker of longer tests."""
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        markers = {marker.name for marker in item.iter_markers()}
        if not fixtures & INTEGRATION_FIXTURES and not markers & {"integration", "soak", "acceptance"}:
            item.add_marker(pytest.mark.unit)


@dataclass
class Served:
    """A running Triton, to which tests may add models."""

    triton: Triton
    folder: Path
    control: Control
    _count: int = field(default=0)

    @property
    def repository(self) -> Repository:
        return self.triton.repository

    def new_name(self) -> str:
        self._count += 1
        return f"model{self._count}"

    def publish(
        self,
        model: str,
        spec: ModelSpec,
        *,
        busy_loops: int = 0,
        settings: ServingSettings = ServingSettings(),
    ) -> int:
        """Publish a version that classifies images by mean grey, and load it if it is the first one."""
        graph = write_grey_graph(self.folder / f"{model}.onnx", spec, busy_loops=busy_loops)
        version = self.repository.publish(model, graph, spec, settings=settings)
        if version == 1:
            self.control.load(model)
        return version

    def client(self, model: str, **options: float) -> Client:
        return Client(self.triton.url, model=model, **options)


@pytest.fixture(scope="session", autouse=True)
def temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep temporary files in pytest's folder, which pytest removes: some libraries and killed processes do not."""
    with pytest.MonkeyPatch.context() as patch:
        folder = str(tmp_path_factory.mktemp("tmp"))
        patch.setenv("TMPDIR", folder)
        patch.setattr(tempfile, "tempdir", folder)
        yield


@pytest.fixture(autouse=True)
def no_mlflow_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow sets variables of the process to the store that was used last, which the next test must not find."""
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session", autouse=True)
def interruptible_programs() -> Iterator[None]:
    """Let programs that tests start take SIGINT, which background jobs of a shell, as tests can be, ignore.

    A ``preexec_fn`` for that would run the fork handlers of gRPC, which may abort the child.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    repository = Repository(folder / "model_repository")
    spec = make_spec([f"grey {index}" for index in range(10)])
    repository.publish("grey", write_grey_graph(folder / "grey.onnx", spec), spec)
    with (
        Triton(repository.path, log=folder / "triton.log") as triton,
        Control(triton.url, triton.key) as control,
    ):
        yield Served(triton, folder, control)


@pytest.fixture
def even_image(tmp_path: Path) -> Callable[..., Path]:
    """Write a PNG whose label, under a grey graph with so many classes, has the given index."""

    def write(index: int, classes: int = 10, name: str | None = None) -> Path:
        path = tmp_path / (name or f"{index}-of-{classes}.png")
        cv2.imwrite(str(path), np.full((40, 30), grey_level(index, classes), np.uint8))
        return path

    return write


@pytest.fixture(scope="session")
def tamiz(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run ``tamiz`` commands, each in a separate process."""
    home = tmp_path_factory.mktemp("cwd")

    def run(*arguments: object, cwd: Path = home, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        return run_tamiz([*map(str, arguments)], cwd, timeout)

    return run
