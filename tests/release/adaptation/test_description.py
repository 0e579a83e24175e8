"""Labels files and preprocessing files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tamiz import UsageError
from tamiz_release.adaptation import InputSettings, read_description
from tamiz_release.adaptation.description import read_labels, read_settings


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels.txt", "tench\n goldfish \r\nÆgir\n\n"),
        ("labels.txt", b"\xef\xbb\xbftench\ngoldfish\n\xc3\x86gir"),
        ("labels.json", json.dumps(["tench", "goldfish", "Ægir"])),
        ("labels.json", json.dumps({"0": "tench", "2": "Ægir", "1": "goldfish"})),
        ("config.json", json.dumps({"id2label": {"0": "tench", "1": "goldfish", "2": "Ægir"}, "model_type": "resnet"})),
    ],
)
def test_labels_are_read(name: str, content: str | bytes, tmp_path: Path) -> None:
    assert read_labels(write(tmp_path / name, content)) == ("tench", "goldfish", "Ægir")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("labels.csv", "a\nb", r"labels.csv: unsupported format; use .txt with one label per line, or .json"),
        ("labels.txt", "", "the file has no labels"),
        ("labels.txt", "a\n\nb\n", "label 2 is empty; give each output a label"),
        ("labels.txt", "crane\ncoast\ncrane\n", "labels 1 and 3 are both 'crane'; give each output a label of its own"),
        ("labels.txt", b"\xff\xfe", "can't decode"),
        ("labels.json", "{", "not JSON"),
        ("labels.json", "[" * 100_000, "not JSON"),
        ("labels.json", "[1, 2]", "not a list of labels"),
        ("labels.json", '{"0": "a", "2": "b"}', "the keys of an object must be the indices 0, 1, 2"),
    ],
)
def test_wrong_labels_are_an_error_that_names_them(
    name: str, content: str | bytes, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        read_labels(write(tmp_path / name, content))


def test_a_preprocessing_file_has_the_keys_of_a_recipe_in_yaml_or_json(tmp_path: Path) -> None:
    yaml = write(tmp_path / "p.yaml", "preprocessing: 224\nnormalisation: imagenet\nbackground: 0\n")
    found = read_settings(yaml)
    assert (found.preprocessing.height, found.normalisation, found.background) == (224, "imagenet", 0)
    content = {"preprocessing": {"height": 224, "width": 224}, "normalisation": "imagenet", "background": 0}
    assert read_settings(write(tmp_path / "p.json", json.dumps(content))) == found
    assert read_settings(write(tmp_path / "empty.yaml", "")) == InputSettings()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.toml", "", "unsupported format; use .yaml, .yml or .json"),
        ("p.yaml", "- a", "not a mapping of keys to values"),
        ("p.yaml", "a: [", "not valid YAML"),
        ("p.yaml", "a: !!python/object/apply:os.system [true]", "not valid YAML: could not determine a constructor"),
        ("p.yaml", "[" * 100_000, "not valid YAML"),
        ("p.yaml", "normalization: imagenet", "normalization: Extra inputs .*did you mean 'normalisation'"),
        ("p.yaml", "layout: CHW\nscale: 2", "scale: 2 .*layout: 'CHW'"),
        ("p.yaml", "preprocessing: {height: 5}", "set both height and width"),
    ],
)
def test_a_wrong_preprocessing_file_is_an_error(name: str, content: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        read_settings(write(tmp_path / name, content))


def test_files_beside_the_graph_are_found(tmp_path: Path) -> None:
    graph = tmp_path / "model.onnx"
    assert read_description(graph) is None
    write(tmp_path / "model.labels.json", '["a", "b"]')
    assert read_description(graph).labels == ("a", "b")
    write(tmp_path / "model.preprocessing.yml", "preprocessing: 32")
    assert read_description(graph).settings.preprocessing.height == 32
    other = write(tmp_path / "other.txt", "c\nd\n")
    assert read_description(graph, other).labels == ("c", "d")


def test_a_preprocessing_file_without_labels_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--labels: give the labels of the model too"):
        read_description(tmp_path / "model.onnx", None, write(tmp_path / "p.yaml", ""))
