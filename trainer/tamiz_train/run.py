"""A run: the folder that training writes. It is finished when it has metrics.json, which is written last.

::

    runs/<recipe>/<time>/
        recipe.yaml         the resolved recipe
        data.json           the labels, and fingerprints of the images of each split
        images.safetensors  a hash of the content of each image, by split
        model.safetensors   the weights of the best epoch
        spec.json           the ModelSpec that travels with the model
        parity.safetensors  prepared validation images, on which the exported graph is compared with the network
        metrics.json        metrics of each epoch, and of the best epoch on validation and test; written last
        mlflow_run_id       the id of the run in MLflow, when it is tracked there
        checkpoints/        what `tamiz train --resume` continues from
        model.onnx          the exported graph, with parity.json, after `tamiz export`
        evaluation/         the reports of `tamiz evaluate`

Finding a run and reading its recipe, spec and metrics does not import PyTorch.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tamiz.arguments import check_path, check_type, show_path
from tamiz.errors import OutputError, RunError, list_names, one_line, os_reason, suggest
from tamiz.files import staged, write_whole
from tamiz.json_text import to_json
from tamiz.preprocessing import Pixels
from tamiz.spec import ModelSpec

from .image_hashes import HASHES_FILE, read_hashes
from .recipe import Recipe, load_recipe

if TYPE_CHECKING:
    from torch import Tensor

PARITY_FILE = "parity.safetensors"


@dataclass(frozen=True)
class Run:
    """A training run on disk.

    Attributes:
        path: the folder of the run.
    """

    path: Path

    def __post_init__(self) -> None:
        check_type("path", self.path, Path, "a pathlib.Path, or call Run.find")

    @classmethod
    def find(cls, path: str | os.PathLike[str]) -> Run:
        """Find a finished run.

        Args:
            path: the folder of a run; or the folder of a recipe's runs, of which the newest finished one is taken.

        Raises:
            RunError: there is no finished run.
        """
        check_path("path", path, "the folder of a run")
        folder = Path(path)
        if not folder.is_dir():
            hint = suggest(str(folder), known_runs(folder)) or "; `tamiz train` creates runs below runs/"
            raise RunError(f"no run {show_path(folder)}: there is no such folder{hint}")
        if cls(folder).finished:
            return cls(folder)
        finished = [cls(entry) for entry in sorted(folder.iterdir()) if cls(entry).finished]
        if not finished:
            hint = _name_a_recipe(folder, "metrics.json")
            raise RunError(f"no finished run in {folder}: metrics.json, which training writes last, is missing{hint}")
        return finished[-1]

    @classmethod
    def find_unfinished(cls, path: str | os.PathLike[str]) -> Run:
        """Find a run that may not be finished, in order to resume it.

        Args:
            path: the folder of a run; or the folder of a recipe's runs, of which the newest one is taken.

        Raises:
            RunError: there is no run.
        """
        check_path("path", path, "the folder of a run")
        folder = Path(path)
        newest_first = (folder, *sorted(folder.glob("*"), reverse=True))
        started = [entry for entry in newest_first if (entry / "recipe.yaml").is_file()]
        if not started:
            hint = (
                _name_a_recipe(folder, "recipe.yaml") if folder.is_dir() else suggest(str(folder), known_runs(folder))
            )
            raise RunError(f"no run {show_path(folder)}: recipe.yaml, which training writes first, is missing{hint}")
        return cls(started[0])

    @classmethod
    def create(cls, recipe: Recipe) -> Run:
        """Create the folder of a new run, and save the recipe in it.

        Raises:
            OutputError: the folder cannot be created or written.
        """
        parent = recipe.runs_dir / recipe.name
        path = parent / datetime.now().strftime("%Y%m%d-%H%M%S-%f")
        try:
            parent.mkdir(parents=True, exist_ok=True)
            path.mkdir()
        except OSError as exc:
            raise OutputError(
                f"cannot create a run in {parent}: {os_reason(exc)}; set runs_dir to a folder that you can write"
            ) from exc
        write_whole(path / "recipe.yaml", recipe.with_absolute_paths().to_yaml())
        return cls(path)

    def finish(
        self, weights: Mapping[str, Tensor], spec: ModelSpec, metrics: Mapping[str, Any], parity_images: Pixels
    ) -> None:
        """Save the results of training.

        Args:
            weights: the state dict of the trained network.
            spec: the spec of the model.
            metrics: the content of metrics.json, which is written last and marks the run as finished. Figures that
                are NaN become null.
            parity_images: prepared validation images, uint8 ``[images, height, width, channels]``; see
                `tamiz_train.parity.choose_images`.

        Raises:
            OutputError: a file cannot be written.
        """
        from safetensors import numpy, torch

        with staged(self.path / "model.safetensors") as part:
            torch.save_file({name: weight.contiguous() for name, weight in weights.items()}, part)
        with staged(self.path / PARITY_FILE) as part:
            numpy.save_file({"images": np.ascontiguousarray(parity_images)}, part)
        write_whole(self.path / "spec.json", spec.to_json())
        finished = datetime.now(UTC).isoformat(timespec="seconds")
        write_whole(self.path / "metrics.json", to_json({"finished": finished, **metrics}, indent=2))

    @property
    def finished(self) -> bool:
        """Whether training completed."""
        return (self.path / "metrics.json").is_file()

    @property
    def finished_at(self) -> datetime:
        """When training completed; for a run from before this was recorded, when its file was written.

        Raises:
            RunError: the run is not complete.
        """
        if (recorded := self.metrics.get("finished")) is not None:
            return datetime.fromisoformat(recorded).astimezone()
        return datetime.fromtimestamp((self.path / "metrics.json").stat().st_mtime).astimezone()

    @cached_property
    def recipe(self) -> Recipe:
        """The resolved recipe."""
        return load_recipe(self.path / "recipe.yaml")

    @cached_property
    def spec(self) -> ModelSpec:
        """The spec of the trained model.

        Raises:
            RunError: the run is not complete.
            SpecError: spec.json cannot be read.
        """
        return ModelSpec.from_json(self._read("spec.json"), source=str(self.path / "spec.json"))

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """The content of metrics.json: what was passed to `finish`, and when; None is a figure without a value.

        Raises:
            RunError: the run is not complete.
        """
        metrics: dict[str, Any] = json.loads(self._read("metrics.json"))
        return metrics

    @property
    def fitted_images(self) -> frozenset[bytes] | None:
        """Content hashes of the images that the run was fitted to: the training and the validation images.

        The validation images count, because they select the best epoch. None for a run from before hashes were saved.

        Raises:
            RunError: the file cannot be read.
        """
        return self.recorded_images({"train", "validation"})

    def recorded_images(self, splits: Collection[str]) -> frozenset[bytes] | None:
        """Content hashes of the images that were in some splits of the run.

        Args:
            splits: the names of the splits.

        Returns:
            the hashes; None for a run from before hashes were saved.

        Raises:
            RunError: the file cannot be read.
        """
        return read_hashes(self.path / HASHES_FILE, splits)

    @property
    def parity_images(self) -> Pixels | None:
        """The prepared validation images, uint8 ``[images, height, width, channels]``; None if the run keeps none.

        Raises:
            RunError: the file cannot be read, or its images do not fit the spec.
        """
        from safetensors.numpy import load_file

        path = self.path / PARITY_FILE
        if not path.is_file():
            return None
        try:
            images: Pixels = load_file(path)["images"]
        except Exception as exc:
            # safetensors has its own exceptions.
            raise RunError(f"{path} cannot be read: {one_line(exc)}") from exc
        if images.dtype != np.uint8 or images.shape[1:] != self.spec.preprocessing.shape:
            raise RunError(f"{path} does not fit the run: it has {images.dtype} {list(images.shape)}")
        return images

    @property
    def contents(self) -> dict[str, str]:
        """For each split by its name, a hash of its images and labels, whatever the paths of the images.

        Empty for a run from before they were recorded.
        """
        contents: dict[str, str] = self.recorded_data.get("contents", {})
        return contents

    @property
    def recorded_data(self) -> dict[str, Any]:
        """The content of data.json: ``labels``, ``fingerprints`` and ``contents``; without the file, no splits."""
        if not (self.path / "data.json").is_file():
            return {"labels": [], "fingerprints": {}}
        document: dict[str, Any] = json.loads(self._read("data.json"))
        return document

    def _read(self, name: str) -> str:
        try:
            return (self.path / name).read_text(encoding="utf-8")
        except OSError as exc:
            raise RunError(f"{self.path / name}: {os_reason(exc)}; the run is not complete") from exc


def holds_runs(folder: Path) -> bool:
    """Whether a folder is a run, or the folder of a recipe's runs; the runs need not be finished."""
    return (folder / "recipe.yaml").is_file() or any(folder.glob("*/recipe.yaml"))


def _name_a_recipe(folder: Path, file: str) -> str:
    """The end of a message about a folder that holds folders of runs, of which one must be named."""
    recipes = sorted({str(path.parent.parent) for path in folder.glob(f"*/*/{file}")})
    return f"; it holds the runs of several recipes; name one: {list_names(recipes)}" if recipes else ""


def known_runs(path: Path) -> list[str]:
    """The folders of runs and of recipes with runs that a wrong path may mean: those beside it, and those of ``runs``.

    Args:
        path: a path that is no run.
    """
    folders = set()
    for parent in {path.parent, Path("runs")}:
        folders |= {recipe.parent for recipe in parent.glob("*/recipe.yaml")}
        folders |= {recipe.parent.parent for recipe in parent.glob("*/*/recipe.yaml")}
    return sorted(map(str, folders))
