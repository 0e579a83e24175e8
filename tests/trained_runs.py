"""Fixtures of the tests of training and release: digits on disk, a short recipe, and a run trained once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from datasets_on_disk import write_images

from tamiz_train.recipe import Recipe, load_recipe
from tamiz_train.run import Run


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tamiz_train.digits import write_digits

    root = tmp_path_factory.mktemp("data") / "digits"
    write_digits(root)
    return root


@pytest.fixture(scope="session")
def tiny_recipe(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Recipe]:
    """Loads the recipe `digits` with two epochs, without tracking, and with runs in a temporary folder."""
    runs = tmp_path_factory.mktemp("runs")

    def make(*overrides: str) -> Recipe:
        short = [f"data.root={digits}", f"runs_dir={runs}", "train.epochs=2", "tracking.uri=null"]
        return load_recipe("digits", [*short, *overrides])

    return make


@pytest.fixture(scope="session")
def trained(tiny_recipe: Callable[..., Recipe]) -> Run:
    """A finished run that tests must not change."""
    # Imported here, because it needs PyTorch, which most tests do not.
    from tamiz_train.training import train

    return train(tiny_recipe())


@pytest.fixture
def run(trained: Run, tmp_path: Path) -> Run:
    """A finished run that the test may change."""
    return Run(Path(shutil.copytree(trained.path, tmp_path / "run")))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Folders of images of two labels, for training, validation and test."""
    for split, count in (("train", 20), ("validation", 4), ("test", 5)):
        for label in ("cat", "dog"):
            write_images(tmp_path / "data" / split / label, count)
    return tmp_path / "data"
