"""Pretrained models of timm, with local weights instead of a download."""

from __future__ import annotations

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from tamiz import ExportError, UsageError
from tamiz_release.candidate import timm_candidate
from tamiz_release.sources import open_source
from tamiz_release.sources.timm_model import TimmSource
from tamiz_train.data import Split
from tamiz_train.graph import Graph, read_spec

pytestmark = pytest.mark.integration

NAME = "test_resnet.r160_in1k"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("timm") / "weights.safetensors"
    save_file(timm.create_model(NAME).state_dict(), path)
    return path


def test_the_spec_has_the_labels_and_the_preprocessing_of_timm(weights: Path) -> None:
    source = TimmSource(NAME, weights)
    labels = source.spec.labels
    assert (len(labels), labels[0]) == (1000, "tench, Tinca tinca")
    assert {"crane (n02012849)", "crane (n03126707)"} <= set(labels)
    found = source.spec.preprocessing
    assert (found.shape, found.resize, found.crop_fraction) == ((160, 160, 3), "crop", 0.95)
    assert source.spec.normalisation.mean == (0.5, 0.5, 0.5)
    assert "timm resizes with bilinear interpolation" in source.notes[0]


def test_the_exported_graph_computes_what_timm_computes(weights: Path, tmp_path: Path) -> None:
    source = TimmSource(NAME, weights)
    candidate = timm_candidate(source, tmp_path)
    assert read_spec(candidate.graph) == source.spec
    assert candidate.manifest["source"]["timm"] == NAME
    images = np.random.default_rng(0).integers(0, 256, (3, 160, 160, 3), np.uint8)
    network = timm.create_model(NAME)
    network.load_state_dict(timm.models.load_state_dict(str(weights)))
    with torch.inference_mode():
        normalised = (torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5
        expected = network.eval()(normalised).softmax(1).numpy()
    np.testing.assert_allclose(Graph(candidate.graph).probabilities(images), expected, atol=1e-5)
    # The reference of the gate: images of that size, cropped as timm crops them.
    paths = []
    for index in range(2):
        paths.append(tmp_path / f"{index}.png")
        cv2.imwrite(str(paths[-1]), images[index])
    measured = source.evaluate(Split("images", paths, np.array([0, 1])))
    assert measured.probabilities.shape == (2, 1000)


def test_a_download_that_fails_says_how_to_do_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with (
        pytest.raises(ExportError, match=f"timm:{NAME}: its weights cannot be downloaded: .*; give them by --weights"),
        open_source(f"timm:{NAME}", Path("none")),
    ):
        pass


def test_wrong_names_weights_and_labels_are_errors_that_say_why(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"timm:resnet5: timm has no such model; did you mean 'resnet"):
        TimmSource("resnet5")
    other = tmp_path / "other.safetensors"
    save_file({"x": torch.zeros(1)}, other)
    with pytest.raises(UsageError, match=f"--weights {other} lacks"):
        TimmSource(NAME, other)
    save_file(timm.create_model(NAME, num_classes=10).state_dict(), other)
    with pytest.raises(UsageError, match="the head is missing, or is for another number of labels"):
        TimmSource(NAME, other)
    with pytest.raises(UsageError, match="--labels: 2 labels, and .* has 1000 outputs"):
        TimmSource(NAME, weights, ["a", "b"])


def test_a_pickle_in_place_of_safetensors_is_refused_and_not_run(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "ran",)

    path = tmp_path / "weights.safetensors"
    for content in (pickle.dumps(Hostile()), b"PK\x03\x04 an archive of torch.save"):
        path.write_bytes(content)
        with pytest.raises(UsageError, match="it is a file of torch.save, not of safetensors"):
            TimmSource(NAME, path)
    path.with_suffix(".pt").write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(UsageError, match="not a state dict that can be loaded safely"):
        TimmSource(NAME, path.with_suffix(".pt"))
    path.write_bytes((2**62).to_bytes(8, "little") + b"{}")
    with pytest.raises(UsageError, match="--weights .*header"):
        TimmSource(NAME, path)
    assert not (tmp_path / "ran").exists()
