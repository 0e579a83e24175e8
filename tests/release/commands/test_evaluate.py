"""``tamiz evaluate`` on labelled images."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Served
from graphs import make_spec, write_grey_graph
from labels import HOSTILE_LABELS

from tamiz_server.repository import Repository
from tamiz_train.run import Run

Tamiz = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def few(digits: Path, tmp_path: Path) -> Path:
    """The test images of two labels."""
    for label in ("3", "8"):
        shutil.copytree(digits / "test" / label, tmp_path / "few" / label)
    return tmp_path / "few"


def test_a_run_is_evaluated_on_a_labelled_folder(run: Run, few: Path, digits: Path, tamiz: Tamiz) -> None:
    (few / "3" / "damaged.png").write_bytes(b"damaged")
    shutil.copy(next((digits / "train" / "8").iterdir()), few / "8" / "renamed.png")
    count = sum(1 for _ in few.rglob("*.png"))
    done = tamiz("evaluate", run.path, "--images", few)
    assert done.returncode == 0, done.stderr
    assert f"few: {count - 1} images; " in done.stdout
    assert "unreadable: " in done.stderr
    assert f"1 of {count} images are among those that the run was trained on" in done.stderr
    assert done.stdout.splitlines()[-1] == f"next: tamiz publish {run.path}"
    report = run.path / "evaluation" / "images-few"
    assert (report / "report.html").is_file()
    with (report / "predictions.csv").open(newline="") as file:
        assert sum(1 for row in csv.DictReader(file) if row["error"]) == 1


def test_a_published_version_and_a_served_model_are_evaluated_on_a_labelled_folder(
    served: Served, even_image: Callable[..., Path], tamiz: Tamiz, tmp_path: Path
) -> None:
    for index in range(10):
        image = even_image(index)
        folder = tmp_path / "greys" / f"grey {index}"
        folder.mkdir(parents=True)
        image.rename(folder / image.name)
    options = ["--images", tmp_path / "greys", "--json"]
    repository = ["--repository", served.repository.path]
    for name in (
        ["grey/1", *repository],
        [f"{served.triton.url}/grey"],
        ["--model", "grey", "--url", served.triton.url],
    ):
        done = tamiz("evaluate", *name, *options, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        document = json.loads(done.stdout)
        assert (document["images"], document["metrics"]["accuracy"]) == (10, 1)
    assert (tmp_path / "evaluation" / "images-greys" / "report.html").is_file()


def test_labels_of_every_kind_are_evaluated_and_printed(
    even_image: Callable[..., Path], tamiz: Tamiz, tmp_path: Path
) -> None:
    # A folder cannot have these names.
    labels = [label for label in HOSTILE_LABELS.values() if "/" not in label and "\0" not in label and len(label) < 256]
    spec = make_spec(labels)
    Repository(tmp_path / "repository").publish("hostile", write_grey_graph(tmp_path / "x.onnx", spec), spec)
    for index, label in enumerate(labels):
        (tmp_path / "images" / label).mkdir(parents=True)
        image = even_image(index, len(labels))
        image.rename(tmp_path / "images" / label / image.name)
    done = tamiz("evaluate", "hostile/1", "--images", "images", "--repository", "repository", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"accuracy +│ 1\.0000", done.stdout)
    assert "\x1b" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model.onnx"], "model.onnx is no run; to evaluate it, give labelled images by --images FOLDER"),
        (["runs/digits", "--images", "few", "--split", "test"], "--split: choose either a split of the run, or other"),
        (["digits/1", "--images", "few", "--model", "digits"], "--model: with --images, name one model"),
        (
            ["runs/digits", "--header", "a=b"],
            "certificates and headers are for the connection to a server, but no served",
        ),
        (["digits/1", "--images", "few", "--ca", "ca.pem"], "certificates and headers are for the connection to a"),
        (["--model", "digits", "--header", "=secret"], "--header =: write name=value"),
        (["digits/1", "--images", "none"], "--images none: no such folder"),
        (["digits/1", "--images", "few"], "no model digits/1: it is neither the folder of a run, nor an .onnx file"),
    ],
)
def test_wrong_arguments_are_one_line(arguments: list[str], message: str, few: Path, tamiz: Tamiz) -> None:
    done = tamiz("evaluate", *arguments, cwd=few.parent)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert message in done.stderr


def test_labels_that_the_model_does_not_have_are_named(run: Run, few: Path, tamiz: Tamiz) -> None:
    (few / "8").rename(few / "eight")
    done = tamiz("evaluate", run.path, "--images", few)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "does not have the labels eight (" in done.stderr
