"""The comparison of an exported graph with its network, on images that the run keeps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from datasets_on_disk import write_images
from graphs import make_spec, write_grey_graph

from tamiz import ExportError, Preprocessing, RunError
from tamiz.preprocessing import prepare
from tamiz_release.run_publication import publish_run
from tamiz_server.repository import Repository
from tamiz_train.classifier import Classifier
from tamiz_train.data import Split, load_data
from tamiz_train.networks import build_classifier
from tamiz_train.onnx_export import export
from tamiz_train.parity import choose_images, compare, parity_images
from tamiz_train.recipe import ModelSettings, Recipe
from tamiz_train.run import Run

SMALL = Preprocessing(height=8, width=8, colour="L")


def without_data(run: Run) -> Run:
    """The same run on a machine that does not have its images."""
    recipe = yaml.safe_load((run.path / "recipe.yaml").read_text())
    recipe["data"]["root"] = "/nowhere/digits"
    (run.path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return Run(run.path)


def test_a_run_is_published_on_a_machine_without_its_images(run: Run, tmp_path: Path) -> None:
    moved = without_data(run)
    repository = Repository(tmp_path / "repository")
    publish_run(moved, repository)
    manifest = repository.live_version("digits").manifest
    assert manifest["parity"]["images"] == manifest["parity"]["agreeing"] == 207
    assert len(manifest["parity_images_sha256"]) == 64


def test_a_run_keeps_validation_images_as_they_are_prepared(trained: Run) -> None:
    split = load_data(trained.recipe.data, trained.recipe.train.seed).validation
    kept = trained.parity_images
    assert len(kept) == len(split) == 207
    for index in (0, 100, 206):
        assert np.array_equal(kept[index], prepare(split.images[index], trained.spec.preprocessing))


def test_a_run_from_before_images_were_kept_is_compared_on_its_data(run: Run) -> None:
    (run.path / "parity.safetensors").unlink()
    assert export(run).parity.images == 207
    with pytest.raises(RunError, match=r"it keeps no validation images, and its data cannot be found .*; export it on"):
        parity_images(without_data(run))


def test_the_chosen_images_are_spread_over_the_split_and_bounded_in_number_and_size(tmp_path: Path) -> None:
    write_images(tmp_path / "images", 255)
    paths = sorted((tmp_path / "images").iterdir(), key=lambda path: int(path.stem))
    split = Split("validation", [*paths, *paths], np.zeros(510, np.int64))
    chosen = choose_images(split, SMALL)
    assert len(chosen) == 256
    assert [int(chosen[0, 0, 0, 0]), int(chosen[-1, 0, 0, 0])] == [0, 254]
    large = Preprocessing(height=2048, width=2048, colour="L")
    assert choose_images(split.take([0, 1, 2, *range(100)]), large).nbytes <= 32 * 2**20
    huge = Preprocessing(height=8192, width=8192, colour="L")
    assert len(choose_images(split.take([0, 1, 2]), huge)) == 2
    damaged = Split("validation", [tmp_path / "missing.png", *paths[:3]], np.zeros(4, np.int64))
    assert choose_images(damaged, SMALL)[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert choose_images(damaged.take([0]), SMALL).shape == (0, 8, 8, 1)


def test_a_graph_cannot_be_compared_without_images_and_another_graph_differs(
    tiny_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    spec = make_spec(["a", "b", "c"])
    classifier: Classifier = build_classifier(ModelSettings(name="lenet5"), spec).eval()
    graph = write_grey_graph(tmp_path / "grey.onnx", spec)
    with pytest.raises(ExportError, match="no validation image could be read"):
        compare(classifier, graph, spec, np.empty((0, 28, 28, 1), np.uint8))
    parity = compare(classifier, graph, spec, np.zeros((9, 28, 28, 1), np.uint8))
    assert (parity.images, parity.holds) == (9, False)
    assert parity.largest_difference > 0.1


def test_a_graph_that_onnx_runtime_cannot_run_is_an_export_error_of_one_line(tmp_path: Path) -> None:
    spec = make_spec(["a", "b", "c"])
    graph = write_grey_graph(tmp_path / "model.onnx", spec)
    model = onnx.load(graph)
    del model.graph.node[0]
    onnx.save(model, graph)
    images = np.zeros((3, *spec.preprocessing.shape), np.uint8)
    with pytest.raises(
        ExportError, match="ONNX Runtime cannot run the exported graph: .*'pixels' is not a graph inp"
    ) as caught:
        compare(build_classifier(ModelSettings(name="mlp"), spec), graph, spec, images)
    assert str(tmp_path) not in str(caught.value)
    assert "\n" not in str(caught.value)
