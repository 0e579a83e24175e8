"""Classification with the weights of a run, without a server."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tamiz.preprocessing import decode
from tamiz_train.data import load_data
from tamiz_train.inference import evaluate, predict
from tamiz_train.run import Run
from tamiz_train.weights import load_classifier


def test_features_are_the_input_of_the_head(trained: Run, digits: Path, tmp_path: Path) -> None:
    (tmp_path / "damaged.png").write_bytes(b"damaged")
    images = [*sorted((digits / "test" / "0").iterdir())[:3], tmp_path / "damaged.png"]
    features: list[np.ndarray | None] = []
    outcomes = predict(trained, images, features=features)
    assert [None if row is None else row.shape for row in features] == [(84,), (84,), (84,), None]
    head = load_classifier(trained).heads[0]
    logits = np.stack(features[:3]) @ head.weight.detach().numpy().T + head.bias.detach().numpy()
    assert [outcome.index for outcome in outcomes[:3]] == logits.argmax(1).tolist()


def test_predictions_of_several_batches_are_in_the_order_of_the_images(trained: Run, digits: Path) -> None:
    images = sorted((digits / "test").rglob("*.png"))[::3]
    mixed = [b"damaged", *images, b"damaged"]
    assert len(images) > 64
    first, *predictions, last = predict(trained, mixed)
    assert isinstance(first, ValueError)
    assert isinstance(last, ValueError)
    for image, prediction in zip(images[::10], predictions[::10], strict=True):
        (alone,) = predict(trained, [image])
        assert (alone.label, alone.score) == (prediction.label, pytest.approx(prediction.score, abs=1e-5))
    assert predict(trained, [b"damaged"] * 70 + images[:1])[-1].label == predictions[0].label


def test_predictions_agree_with_the_evaluation(trained: Run) -> None:
    split = load_data(trained.recipe.data, trained.recipe.train.seed).test
    measured = evaluate(load_classifier(trained), split, trained.spec)
    predictions = predict(trained, list(split.images), top_k=2)
    assert [p.index for p in predictions] == measured.probabilities.argmax(1).tolist()
    correct = sum(p.index == target for p, target in zip(predictions, split.targets, strict=True))
    assert correct / len(split) == pytest.approx(measured.metrics["accuracy"])
    assert trained.metrics["test"]["accuracy"] == pytest.approx(measured.metrics["accuracy"])
    assert len(predictions[0].top) == 2


def test_paths_bytes_and_pixels_are_predicted_and_errors_keep_their_position(trained: Run, digits: Path) -> None:
    path = next((digits / "test" / "4").iterdir())
    one, two, unreadable, three = predict(trained, [path, path.read_bytes(), b"damaged", decode(path, "L")])
    assert one == two == three
    assert isinstance(unreadable, ValueError)
