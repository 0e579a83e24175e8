"""The live version of a model, beside which a candidate is measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.json_format import MessageToDict

from tamiz.errors import RepositoryError, RunError, TamizError
from tamiz.spec import ModelSpec
from tamiz_server.repository import Repository
from tamiz_server.version import GRAPH_FILE
from tamiz_train.evaluation import Evaluation, evaluate_function
from tamiz_train.image_hashes import HASHES_FILE, read_hashes

from ..comparison import Comparison
from .images import GateImages
from .latency import Latency
from .served_graph import ServedGraph

FITTED_SPLITS = ("train", "validation")


@dataclass(frozen=True)
class LiveModel:
    """A live version, as far as the gate needs it.

    Attributes:
        version: number of the version.
        graph: path of its ONNX file.
        spec: labels, preprocessing and thresholds.
        config: ``config.pbtxt`` of the model as JSON.
        fitted: content hashes of the images that it was fitted to; None if they are unknown.
        test_images: a hash of the test images of its run; None if it is unknown.
    """

    version: int
    graph: Path
    spec: ModelSpec
    config: Mapping[str, Any]
    fitted: frozenset[bytes] | None = None
    test_images: str | None = None


def find_live(repository: Repository, model: str, notes: list[str]) -> LiveModel | None:
    """The live version of a model; None if there is none that can be read.

    Args:
        repository: the model repository; it may not exist yet.
        model: name of the model; there may be no such model yet.
        notes: gets a line if there is a model, and no live version that can be read.
    """
    try:
        if not repository.path.is_dir() or model not in repository.models():
            return None
        version = repository.live_version(model)
        config: dict[str, Any] = MessageToDict(repository.config(model), preserving_proto_field_name=True)
    except RepositoryError as exc:
        # Publishing itself gives the reason if it must fail.
        notes.append(f"not compared with a live version: {exc}")
        return None
    folder = repository.path / model / str(version.version)
    if not (folder / GRAPH_FILE).is_file():
        notes.append(f"not compared with the live version {version.version}: no {folder / GRAPH_FILE}")
        return None
    try:
        fitted = read_hashes(folder / HASHES_FILE, FITTED_SPLITS)
    except RunError:
        fitted = None
    contents = version.manifest.get("contents")
    test_images = contents.get("test") if isinstance(contents, dict) else None
    return LiveModel(version.version, folder / GRAPH_FILE, version.spec, config, fitted, test_images)


@dataclass(frozen=True)
class LiveFigures:
    """A candidate beside the live version.

    Attributes:
        version: number of the live version.
        comparison: both on the same images, the live version first; None if they were not compared.
        reason: why they were not compared; empty if they were.
        latency: latency of the live version; None if it was not measured.
        size: size of its graph in bytes.
    """

    version: int
    comparison: Comparison | None
    reason: str
    latency: Latency | None
    size: int

    def to_dict(self) -> dict[str, Any]:
        """The figures as gate.json has them."""
        compared: dict[str, Any] = {"reason": self.reason}
        if self.comparison is not None:
            document = self.comparison.to_dict()
            compared = {"candidate": document["second"], "live": document["first"]} | {
                name: document[name] for name in ("images", "metric", "difference", "interval", "p_value", "right")
            }
            # In the words of a gate, the live version is not the first model.
            compared["right"] = {
                name.replace("first", "live").replace("second", "candidate"): count
                for name, count in document["right"].items()
            }
        return {
            "version": self.version,
            "comparison": compared,
            "latency": None if self.latency is None else self.latency.to_dict(),
            "size": self.size,
        }


def measure_live(
    live: LiveModel,
    served: ServedGraph | None,
    images: GateImages,
    candidate: Evaluation,
    fitted: frozenset[bytes] | None,
    notes: list[str],
) -> tuple[Comparison | None, str]:
    """Compare a candidate with the live version on images that neither was fitted to.

    Args:
        live: the live version.
        served: its graph in its session; None if it cannot be loaded.
        images: the images.
        candidate: evaluation of the candidate on these images.
        fitted: content hashes of the images that the candidate was fitted to; None if they are unknown.
        notes: gets a line for what limits the meaning of the comparison.

    Returns:
        the comparison, the live version first; and why there is none.
    """
    if served is None:
        return None, "the live version cannot be loaded on this machine"
    if not images.labelled:
        return None, "the labels of the images are unknown"
    own_test = images.contents is not None and images.contents == live.test_images
    if live.fitted is None and not own_test:
        notes.append(
            f"the images that the live version {live.version} was trained on are unknown; it may have seen these"
        )
    unseen = images.unseen((fitted or frozenset()) | (live.fitted or frozenset()))
    if not unseen:
        return None, "each image was used to train one of the two; give others by --images"
    if left_out := len(images) - len(unseen):
        notes.append(f"not compared with the live version on {left_out:,} images that one of the two was trained on")
    try:
        part = evaluate_function(served.probabilities, images.take(unseen).to_split(live.spec), live.spec)
        indices = np.array(unseen, np.int64)[part.indices]
        evaluation = replace(part, split=images.to_split(live.spec), indices=indices)
        comparison = Comparison(images.images, evaluation, candidate)
        # Computed here, so that a model that cannot be compared is found here.
        comparison.to_dict()
    except TamizError as exc:
        return None, str(exc)
    return comparison, ""
