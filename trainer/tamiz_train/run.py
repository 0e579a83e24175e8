"""A run folder: what training leaves. It is finished when metrics.json is there, which is written last.

::

    runs/<name>/<time>/
        recipe.yaml         the resolved recipe
        data.json           labels, and a fingerprint of each split
        model.safetensors   weights of the best epoch
        spec.json           the ModelSpec that travels with the model
        metrics.json        by epoch, and of the best epoch on validation and test; written last
        mlflow_run_id       of the run in MLflow
        checkpoints/        see `fitting`
        model.onnx          once exported, with parity.json
        evaluation/         reports of `tamiz evaluate`

What needs PyTorch is imported where it is used: to find a run and read its figures takes none of it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tamiz.errors import RunError
from tamiz.files import staged, write_whole
from tamiz.prediction import Prediction
from tamiz.preprocessing import ImageSource
from tamiz.spec import ModelSpec

from .recipe import Recipe, load_recipe

if TYPE_CHECKING:
    from .data import Data
    from .models import Classifier


@dataclass(frozen=True)
class Run:
    """A finished training run on disk."""

    path: Path

    @classmethod
    def find(cls, path: str | os.PathLike[str]) -> Run:
        """The run at a path; or the newest finished one, where the path is a recipe's folder of runs.

        Raises:
            RunError: there is none.
        """
        folder = Path(path)
        if not folder.is_dir():
            raise RunError(f"no run {folder}: there is no such folder; `tamiz train` makes one under runs/")
        if cls(folder).finished:
            return cls(folder)
        finished = [cls(entry) for entry in sorted(folder.iterdir()) if cls(entry).finished]
        if not finished:
            raise RunError(f"no finished run in {folder}: metrics.json, which training writes last, is not there")
        return finished[-1]

    @classmethod
    def find_begun(cls, path: str | os.PathLike[str]) -> Run:
        """The run at a path, finished or not; or the newest one, where the path is a recipe's folder of runs.

        Raises:
            RunError: there is none.
        """
        folder = Path(path)
        newest_first = (folder, *sorted(folder.glob("*"), reverse=True))
        begun = [entry for entry in newest_first if (entry / "recipe.yaml").is_file()]
        if not begun:
            raise RunError(f"no run {folder}: no recipe.yaml, which training writes first, is there")
        return cls(begun[0])

    @classmethod
    def begin(cls, recipe: Recipe) -> Run:
        """Make the folder of a new run and save the recipe in it.

        Raises:
            RunError: the folder cannot be written.
        """
        parent = recipe.runs_dir / recipe.name
        try:
            parent.mkdir(parents=True, exist_ok=True)
            path = parent / datetime.now().strftime("%Y%m%d-%H%M%S-%f")
            path.mkdir()
            write_whole(path / "recipe.yaml", recipe.with_absolute_paths().to_yaml())
        except OSError as exc:
            raise RunError(f"cannot make a run in {parent}: {exc.strerror}; set runs_dir to a folder you own") from exc
        return cls(path)

    def remember(self, data: Data, root: Path) -> None:
        """Save which images below a folder it trains on, so that others are noticed when it goes on or is evaluated."""
        fingerprints = {split.name: split.fingerprint(root) for split in data.splits}
        document = {"labels": data.labels, "fingerprints": fingerprints}
        write_whole(self.path / "data.json", json.dumps(document, indent=2))

    def changed(self, data: Data) -> set[str]:
        """Names of the splits whose images are not those of training any more, as far as the run remembers them.

        Raises:
            RunError: the labels are not.
        """
        root = self.recipe.data.root
        if (self.path / "data.json").is_file():
            known = json.loads(self._read("data.json"))
        elif self.finished:
            # Of before runs remembered their images.
            known = {"labels": list(self.spec.labels), "fingerprints": {}}
        else:
            return set()
        if list(data.labels) != known["labels"]:
            raise RunError(
                f"{root} now has the labels {', '.join(data.labels)}; the run was trained on "
                f"{', '.join(known['labels'])}"
            )
        splits = [split for split in data.splits if split.name in known["fingerprints"]]
        return {split.name for split in splits if split.fingerprint(root) != known["fingerprints"][split.name]}

    def finish(self, classifier: Classifier, spec: ModelSpec, metrics: dict[str, Any]) -> None:
        """Save what training made; the metrics last, since they mark the run as finished."""
        from safetensors.torch import save_file

        weights = {key: value.contiguous() for key, value in classifier.backbone.state_dict().items()}
        with staged(self.path / "model.safetensors") as part:
            save_file(weights, part)
        write_whole(self.path / "spec.json", spec.to_json())
        write_whole(self.path / "metrics.json", json.dumps(metrics, indent=2))

    @property
    def finished(self) -> bool:
        """Whether training ended well."""
        return (self.path / "metrics.json").is_file()

    @cached_property
    def recipe(self) -> Recipe:
        """The resolved recipe."""
        return load_recipe(self.path / "recipe.yaml")

    @cached_property
    def spec(self) -> ModelSpec:
        """The contract of the trained model."""
        return ModelSpec.from_json(self._read("spec.json"), source=str(self.path / "spec.json"))

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """What `finish` was given."""
        metrics: dict[str, Any] = json.loads(self._read("metrics.json"))
        return metrics

    def load_model(self) -> Classifier:
        """The trained network, in evaluation mode.

        Raises:
            RunError: the weights are missing or do not fit.
        """
        from safetensors.torch import load_file

        from .models import create_model

        classifier = create_model(self.recipe.model, self.spec, initial_weights=False)
        try:
            classifier.backbone.load_state_dict(load_file(self.path / "model.safetensors"))
        except Exception as exc:
            # The file's own library, or torch when the tensors do not fit: either way the run is damaged.
            raise RunError(f"{self.path / 'model.safetensors'} cannot be loaded: {exc}") from exc
        return classifier.eval()

    def predict(self, images: Sequence[ImageSource], *, top_k: int = 1) -> list[Prediction | Exception]:
        """Classify images with the trained weights, without a server; see `evaluation.predict`."""
        from .evaluation import predict

        return predict(self, images, top_k=top_k)

    def _read(self, name: str) -> str:
        try:
            return (self.path / name).read_text(encoding="utf-8")
        except OSError as exc:
            raise RunError(f"{self.path / name}: {exc.strerror}; the run is not complete") from exc
