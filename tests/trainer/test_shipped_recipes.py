"""Each shipped recipe on a few real images: trained, evaluated, published, and served."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import Served
from datasets_on_disk import write_idx, write_voc
from sklearn.datasets import load_digits, load_sample_images

from tamiz import Client
from tamiz_release import PublicationOptions
from tamiz_release.run_publication import publish_run
from tamiz_train.evaluation import evaluate_served
from tamiz_train.inference import evaluate
from tamiz_train.recipe import load_recipe, shipped_recipes
from tamiz_train.run_data import load_run_data
from tamiz_train.training import train
from tamiz_train.weights import load_classifier


def photographs(count: int, size: int = 96) -> list[np.ndarray]:
    """Random crops of the two photographs of scikit-learn, a temple and a flower, alternating."""
    random = np.random.default_rng(0)
    parts = []
    for index in range(count):
        image = load_sample_images().images[index % 2]
        top, left = random.integers(0, image.shape[0] - size), random.integers(0, image.shape[1] - size)
        parts.append(cv2.cvtColor(image[top : top + size, left : left + size], cv2.COLOR_RGB2BGR))
    return parts


def write_photographs(root: Path, count: int) -> list[Path]:
    root.mkdir(parents=True)
    paths = [root / f"{index:03}.jpg" for index in range(count)]
    for path, image in zip(paths, photographs(count), strict=True):
        cv2.imwrite(str(path), image)
    return paths


def write_folders(root: Path) -> list[str]:
    for split, count in (("train", 16), ("validation", 8), ("test", 8)):
        for index, path in enumerate(write_photographs(root / split, count)):
            folder = root / split / ("temple", "flower")[index % 2]
            folder.mkdir(exist_ok=True)
            path.rename(folder / path.name)
    return [f"data.root={root}"]


def write_manifest(root: Path) -> list[str]:
    paths = write_photographs(root, 40)
    labels = ("Cedula_Identidad", "Ficha_Residencia", "Pasaporte")
    with (root / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "label"], *([path.name, labels[i % 3]] for i, path in enumerate(paths))])
    return [f"data.root={root}"]


def write_voc_photographs(root: Path) -> list[str]:
    kinds = [["temple", "sky"], ["flower"], ["flower", "leaf"], []]
    names = iter(range(999))
    sets = {
        split: {f"{next(names):06}": kinds[index % 4] for index in range(count)}
        # In validation no image has a leaf.
        for split, count in (("train", 32), ("val", 2), ("test", 8))
    }
    write_voc(root, sets)
    for path, image in zip(sorted((root / "JPEGImages").iterdir()), photographs(42), strict=True):
        cv2.imwrite(str(path), image)
    return [f"data.root={root}"]


def write_cifar(root: Path) -> list[str]:
    folders = write_folders(root)[0].partition("=")[2]
    shutil.rmtree(root / "validation")
    data = f"{{kind: folder, root: {folders}, validation_from: test, validation_fraction: 0.5, subset_size: 8}}"
    return [f"data={data}", "augmentation=[{HorizontalFlip: {p: 0.5}}]"]


def write_mnist(name: str) -> Callable[[Path], list[str]]:
    def write(root: Path) -> list[str]:
        digits = load_digits()
        images = [cv2.resize((image * 15).astype(np.uint8), (28, 28)) for image in digits.images[:300]]
        write_idx(root / name, np.stack(images), digits.target[:300].astype(np.uint8), train=200)
        return [f"data.root={root}", "data.validation_fraction=0.2"]

    return write


# For each recipe, the function that writes its images, and overrides that make training short.
SMALL: dict[str, tuple[Callable[[Path], list[str]], list[str]]] = {
    "cifar10": (write_cifar, ["preprocessing.height=64", "preprocessing.width=64", "train.batch_size=4"]),
    "clothing": (write_folders, ["preprocessing.height=64", "preprocessing.width=64", "train.batch_size=8"]),
    "digits": (write_mnist("MNIST"), ["data={kind: torchvision, name: MNIST, root: null}"]),
    "documents": (write_manifest, ["preprocessing.height=64", "preprocessing.width=64", "tracking.log_model=false"]),
    "fashion_mnist": (write_mnist("FashionMNIST"), ["train.batch_size=80"]),
    "fashion_mnist_quickstart": (write_mnist("FashionMNIST"), ["train.batch_size=80"]),
    "mnist_lenet": (write_mnist("MNIST"), ["train.batch_size=80"]),
    "voc2007": (
        write_voc_photographs,
        ["preprocessing.height=64", "preprocessing.width=64", "train.batch_size=16", "thresholds=tuned"],
    ),
}


def test_every_shipped_recipe_is_tested() -> None:
    assert sorted(SMALL) == shipped_recipes()


@pytest.mark.parametrize("name", sorted(SMALL))
def test_the_served_model_of_a_recipe_predicts_what_the_run_predicts(name: str, served: Served, tmp_path: Path) -> None:
    write, options = SMALL[name]
    epochs = (
        "train.phases=[{epochs: 1, lr: 0.0005, trainable: head}, {epochs: 1, lr: 0.00005, trainable: 2}]"
        if name == "voc2007"
        else "train.epochs=1"
    )
    weights = ["model.pretrained=false", "model.weights=null"]
    common = [epochs, *weights, "tracking.uri=null", f"runs_dir={tmp_path / 'runs'}"]
    common += ["train.precision=32-true", "serving.instances=1"]
    run = train(load_recipe(name, [*options, *write(tmp_path / "data"), *common]))
    assert run.recipe.name == name
    data = load_run_data(run)
    measured = evaluate(load_classifier(run), data.test, run.spec)
    assert measured.images == len(data.test)
    assert measured.metrics == pytest.approx(run.metrics["test"], rel=1e-4, abs=1e-4)
    assert run.spec.task == ("multilabel" if name == "voc2007" else "multiclass")

    model = served.new_name()
    publish_run(run, served.repository, options=PublicationOptions(control=served.control), model=model)
    with Client(served.triton.url, model=model, timeout_s=30) as client:
        answered = evaluate_served(client, data.test, run.spec)
        prediction = client.classify(data.test.images[0])
    assert answered.differences(measured) == 0
    np.testing.assert_allclose(answered.probabilities, measured.probabilities, atol=1e-4)
    if run.spec.thresholds is not None:
        pairs = zip(run.spec.labels, measured.probabilities[0], run.spec.thresholds, strict=True)
        over = {label for label, probability, threshold in pairs if probability >= threshold}
        assert {scored.label for scored in prediction.labels} == over
