"""``tamiz recipe``: new, list, show and schema."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

Tamiz = Callable[..., subprocess.CompletedProcess[str]]


def test_a_new_recipe_passes_the_check_of_train(tamiz: Tamiz, tmp_path: Path) -> None:
    for number, (split, count) in enumerate((("train", 20), ("validation", 4), ("test", 5))):
        for label, start in (("cat", 0), ("dog", 1000)):
            write_different_images(tmp_path / "data" / split / label, count, start=start + 100 * number)
    written = tamiz("recipe", "new", "data", "-o", "mine.yaml", cwd=tmp_path)
    assert written.returncode == 0, written.stderr
    assert written.stdout.splitlines() == [
        "mine.yaml: multiclass, 2 labels (cat, dog), 40 train, 8 validation, 10 test images; model cnn, 60 epochs",
        "next: tamiz train mine.yaml --check",
    ]
    checked = tamiz("train", "mine.yaml", "--check", cwd=tmp_path)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert "nothing was trained" in checked.stdout


def test_a_new_recipe_says_what_is_wrong_with_the_images(tamiz: Tamiz, tmp_path: Path) -> None:
    write_different_images(tmp_path / "photos" / "cat", 20, start=0)
    write_different_images(tmp_path / "photos" / "dog" / "more", 20, start=20)
    (tmp_path / "photos" / "cat" / "bad.png").write_bytes(b"no image")
    (tmp_path / "photos" / "cat" / "worse.png").write_bytes(b"no image either")
    shutil.copy(tmp_path / "photos" / "cat" / "0.png", tmp_path / "photos" / "cat" / "copy.png")
    written = tamiz("recipe", "new", "photos", cwd=tmp_path)
    assert written.returncode == 0, written.stderr
    assert written.stdout.splitlines()[1:] == [
        "of 43 images, 2 cannot be read, and training leaves them out (data.on_unreadable: skip)",
        "of 43 images, 1 is a copy of another one",
        "warning: label folders whose images are all in folders below them: dog; if those are the labels, name the "
        "folder that holds them",
        "next: tamiz data check photos.yaml",
    ]
    text = (tmp_path / "photos.yaml").read_text()
    assert "# Of 43 images, 1 is a copy of another one: see tamiz data check.\n" in text
    assert "  on_unreadable: skip # of 43 images, 2 cannot be read\n" in text
    checked = tamiz("train", "photos.yaml", "--check", cwd=tmp_path)
    assert checked.returncode == 0, checked.stderr
    assert "2 of 43 images cannot be read and are left out: photos/cat/bad.png: " in checked.stdout
    found = tamiz("data", "check", "photos.yaml", cwd=tmp_path)
    assert "note: 1 image equal to another one with the same label: " in found.stdout
    stopped = tamiz("train", "photos.yaml", "--check", "--set", "data.on_unreadable=stop", cwd=tmp_path)
    assert (stopped.returncode, stopped.stderr.count("\n")) == (1, 1)
    assert stopped.stderr.startswith("error: 2 of 43 images cannot be read: photos/cat/bad.png: ")
    assert stopped.stderr.endswith("; set data.on_unreadable to skip to leave such images out\n")


def write_different_images(folder: Path, count: int, start: int) -> None:
    folder.mkdir(parents=True)
    for index in range(start, start + count):
        pixels = np.random.default_rng(index).integers(0, 256, (8, 8), np.uint8)
        cv2.imwrite(str(folder / f"{index}.png"), pixels)


def test_a_new_recipe_is_named_after_its_images_and_never_replaces_a_file(
    root: Path, tamiz: Tamiz, tmp_path: Path
) -> None:
    assert tamiz("recipe", "new", root, cwd=tmp_path).returncode == 0
    text = (tmp_path / "data.yaml").read_text()
    again = tamiz("recipe", "new", root, cwd=tmp_path)
    assert (again.returncode, again.stderr) == (
        2,
        "error: data.yaml exists; name another file with --out, or remove it\n",
    )
    assert (tmp_path / "data.yaml").read_text() == text


def test_wrong_arguments_of_a_new_recipe_end_in_one_line(root: Path, tamiz: Tamiz, tmp_path: Path) -> None:
    for arguments, message in (
        (["missing"], "there is no folder or manifest missing"),
        ([root, "--weights", "no.pt"], "--weights: there is no file no.pt"),
        ([root, "--weights", "no.pt", "--pretrained"], "give --pretrained or --weights, not both"),
        ([root, "-o", "mine.txt"], "--out mine.txt: name a .yaml file"),
    ):
        failed = tamiz("recipe", "new", *arguments, cwd=tmp_path)
        assert (failed.returncode, failed.stderr) == (2, f"error: {message}\n")
    assert not list(tmp_path.glob("*.yaml"))


def test_the_shipped_recipes_are_listed_and_shown(tamiz: Tamiz, tmp_path: Path) -> None:
    listed = json.loads(tamiz("recipe", "list", "--json", cwd=tmp_path).stdout)
    (description,) = [entry["description"] for entry in listed if entry["name"] == "digits"]
    assert description == "The handwritten digits of scikit-learn: LeNet-5, trained in seconds."
    assert "fashion_mnist_quickstart" in tamiz("recipe", "list", cwd=tmp_path).stdout
    shown = tamiz("recipe", "show", "digits", cwd=tmp_path)
    assert shown.stdout.startswith("# The handwritten digits")
    (tmp_path / "mine.yaml").write_text(shown.stdout)
    assert tamiz("recipe", "show", "mine.yaml", cwd=tmp_path).stdout == shown.stdout
    assert "did you mean 'digits'" in tamiz("recipe", "show", "digit", cwd=tmp_path).stderr


def test_the_schema_is_printed_or_written_with_the_comment_that_names_it(tamiz: Tamiz, tmp_path: Path) -> None:
    printed = json.loads(tamiz("recipe", "schema", cwd=tmp_path).stdout)
    assert printed["title"] == "Tamiz recipe"
    written = tamiz("recipe", "schema", "-o", "recipe.schema.json", cwd=tmp_path)
    assert "# yaml-language-server: $schema=recipe.schema.json" in written.stdout
    assert json.loads((tmp_path / "recipe.schema.json").read_text()) == printed
