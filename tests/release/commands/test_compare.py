"""``tamiz compare``."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Served
from graphs import make_spec, write_grey_graph

from tamiz_server.repository import Repository
from tamiz_train.recipe import Recipe
from tamiz_train.run import Run
from tamiz_train.training import train

Tamiz = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def poor(tiny_recipe: Callable[..., Recipe], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of 20 images."""
    runs = tmp_path_factory.mktemp("poor")
    return train(tiny_recipe("train.epochs=1", "data.subset_size=20", f"runs_dir={runs}"))


def test_the_better_run_is_named_with_the_images_that_differ(
    trained: Run, poor: Run, tamiz: Tamiz, tmp_path: Path
) -> None:
    done = tamiz("compare", poor.path, trained.path, "--out", tmp_path / "changed.csv")
    assert done.returncode == 0, done.stderr
    assert f"A: digits, {poor.path.name}: accuracy {poor.metrics['test']['accuracy']:.4f} on 360 images" in done.stdout
    assert f"accuracy {trained.metrics['test']['accuracy']:.4f} on 360 images" in done.stdout
    assert "B is better: B - A = +" in done.stdout
    with (tmp_path / "changed.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["first"] != rows[0]["second"]
    assert all(Path(row["path"]).parent.name == row["true"] for row in rows)
    document = json.loads(tamiz("compare", trained.path, poor.path, "--json").stdout)
    assert (document["better"], len(document["differences"])) == ("first", len(rows))
    assert document["left_out"] == {"fitted": 0, "unreadable": 0}


def test_images_that_a_run_was_trained_on_are_left_out(
    trained: Run, poor: Run, digits: Path, tamiz: Tamiz, tmp_path: Path
) -> None:
    mixed = tmp_path / "mixed"
    shutil.copytree(digits / "test", mixed)
    kept = sum(1 for _ in mixed.rglob("*.png"))
    for index, path in enumerate(sorted((digits / "train" / "3").iterdir())[:25]):
        shutil.copy(path, mixed / "3" / f"renamed-{index}.png")
    done = tamiz("compare", poor.path, trained.path, "--images", mixed)
    assert done.returncode == 0, done.stderr
    assert f"left out: 25 of {kept + 25} images that digits, {trained.path.name} was trained on" in done.stderr
    assert f"on {kept} images" in done.stdout
    nothing = tamiz("compare", poor.path, trained.path, "--images", digits / "train")
    assert nothing.returncode == 2
    assert "each image was used to train one of the models" in nothing.stderr


def test_a_version_with_a_new_label_is_compared_with_the_version_before(
    tamiz: Tamiz, served: Served, digits: Path, tmp_path: Path
) -> None:
    repository = Repository(tmp_path / "repository")
    for labels in (["3", "8"], ["3", "8", "5"]):
        spec = make_spec(labels)
        repository.publish("light", write_grey_graph(tmp_path / "light.onnx", spec), spec)
    images = tmp_path / "images"
    for label in ("3", "5", "8"):
        shutil.copytree(digits / "test" / label, images / label)
    (images / "3" / "damaged.png").write_bytes(b"damaged")
    (images / "3" / "notes.txt").write_text("")
    done = tamiz("compare", "light/1", "light/2", "--images", images, "--repository", repository.path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    count = len(list((digits / "test" / "5").iterdir()))
    assert f"A has no label 5: its {count} images count as wrong for A" in done.stderr
    assert "light version 1: the images that it was trained on are unknown" in done.stderr
    assert "left out: .txt files (1)" in done.stderr
    assert "damaged.png" in done.stderr
    # The same for a model of a running server.
    where = ["--images", images, "--repository", repository.path]
    shutil.rmtree(images / "5")
    other = tamiz("compare", "light/1", f"{served.triton.url}/grey", *where, "--json")
    assert other.returncode == 0, other.stderr
    assert json.loads(other.stdout)["models"] == ["light version 1", f"grey version 1 at {served.triton.url}"]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["none", "nothing"], 2, "no model none: it is neither the folder of a run, nor an .onnx file, nor a model in"),
        (["a.onnx", "b.onnx"], 2, "a.onnx: no such file"),
        (["a", "b", "--out", "x.json"], 2, "--out x.json: unsupported format; write a .csv file"),
        (
            ["a", "b", "--header", "a=b"],
            2,
            "certificates and headers are for the connection to a server, but no served",
        ),
        (
            ["grpc://localhost:1/a", "b", "--ca", "none"],
            2,
            "is not encrypted, but certificates are given; write grpcs://",
        ),
        (["a"], 2, "Missing argument 'B'"),
    ],
)
def test_wrong_arguments_are_one_line(
    arguments: list[str], status: int, message: str, tamiz: Tamiz, tmp_path: Path
) -> None:
    done = tamiz("compare", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (status, 1), done.stderr
    assert message in done.stderr
