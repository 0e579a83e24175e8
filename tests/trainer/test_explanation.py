from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from graphs import make_spec
from labels import HOSTILE_LABELS

from tamiz import InvalidImageError, ModelSpec, OutputError, RunError
from tamiz.errors import UsageError
from tamiz_train import explanation as module
from tamiz_train.classifier import Classifier
from tamiz_train.explanation import Explanation, explain, find_layer
from tamiz_train.inference import predict
from tamiz_train.networks import build_classifier
from tamiz_train.recipe import load_recipe
from tamiz_train.run import Run
from tamiz_train.weights import load_classifier

pytestmark = pytest.mark.integration

LIGHT = ["bright", "dark"]
WIDE = make_spec(LIGHT, 32, 64)


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Run]:
    """Makes a run of an untrained network, changed by `change`."""

    def make(
        name: str, spec: ModelSpec, options: str = "{}", change: Callable[[torch.nn.Module], None] | None = None
    ) -> Run:
        overrides = [f"model.name={name}", f"model.options={options}", f"runs_dir={tmp_path / 'runs'}"]
        recipe = load_recipe("digits", overrides)
        torch.manual_seed(0)
        classifier = build_classifier(recipe.model, spec)
        if change:
            change(classifier.network)
        run = Run.create(recipe)
        run.finish(classifier.network.state_dict(), spec, {}, np.empty((0, *spec.preprocessing.shape), np.uint8))
        return run

    return make


@pytest.fixture
def light_run(make_run: Callable[..., Run]) -> Callable[..., Run]:
    """Makes a run of a LeNet-5 whose logits are the mean brightness and the mean darkness of an image."""

    def sense_light(network: torch.nn.Sequential) -> None:
        first, second, hidden, passing, last = (network[place] for place in (0, 3, 7, 9, 11))
        with torch.no_grad():
            for weight in network.parameters():
                weight.zero_()
            # One map holds x and one holds 1 - x; each logit is the mean of one map.
            first.weight[0, 0, 2, 2], first.weight[1, 0, 2, 2], first.bias[1] = 1, -1, 1
            pixels = hidden.in_features // 16
            for label in range(2):
                second.weight[label, label, 2, 2] = 1
                hidden.weight[label, label * pixels : (label + 1) * pixels] = 1 / pixels
                passing.weight[label, label] = last.weight[label, label] = 1

    return lambda spec=WIDE: make_run("lenet5", spec, change=sense_light)


@pytest.fixture
def corner(tmp_path: Path) -> Path:
    """A black image with a bright quarter at the upper right."""
    pixels = np.zeros((32, 64), np.uint8)
    pixels[:16, 32:] = 255
    return write_image(tmp_path / "corner.png", pixels)


def write_image(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)
    return path


def warmth(path: Path) -> np.ndarray:
    """Red minus blue of an overlay of a grey image, which only the heat map adds."""
    overlay = cv2.imread(str(path)).astype(int)
    return overlay[..., 2] - overlay[..., 0]


@pytest.mark.parametrize(
    ("name", "colour", "layer"),
    [
        ("lenet5", "L", "5"),
        ("cnn", "L", "16"),
        ("mobilenetv2_100", "RGB", "bn2"),
        ("resnet18", "RGB", "layer4"),
        ("mobilevit_s", "RGB", "final_conv"),
    ],
)
def test_the_heat_map_is_computed_from_the_last_feature_map(
    name: str, colour: str, layer: str, make_run: Callable[..., Run], tmp_path: Path
) -> None:
    run = make_run(name, make_spec(["a", "b", "c"], 64, 96, colour))
    image = write_image(tmp_path / "noise.jpg", np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8))
    ((path, explanation),) = explain(run, [image], tmp_path / "new" / "out", label="b")
    assert path == image
    assert (explanation.label, explanation.layer) == ("b", layer)
    assert 0 < explanation.score <= 1
    assert explanation.path == tmp_path / "new" / "out" / "noise-b.cam.png"
    overlay = cv2.imread(str(explanation.path), cv2.IMREAD_UNCHANGED)
    # 64×96, enlarged by a whole number until the shorter side has at least 224 pixels.
    assert overlay.shape == (256, 384, 3)
    assert [file.name for file in explanation.path.parent.iterdir()] == ["noise-b.cam.png"]


def test_a_feature_map_of_one_pixel_is_skipped(make_run: Callable[..., Run], tmp_path: Path) -> None:
    spec = make_spec(["a", "b"], 32, 32, "RGB")
    # For an image of 32×32, the output of layer3 is 2×2, and that of layer4 one pixel.
    assert find_layer(load_classifier(make_run("resnet18", spec)), spec) == "layer3"


def test_the_heat_map_is_warm_where_the_label_is(light_run: Callable[..., Run], corner: Path, tmp_path: Path) -> None:
    run = light_run()
    for label, sign in (("bright", 1), ("dark", -1)):
        ((_, explanation),) = explain(run, [corner], tmp_path / "out", label=label)
        warm = sign * warmth(explanation.path)
        assert warm.shape == (224, 448)
        # The middle of each quarter.
        assert warm[56, 336] > 0
        assert max(warm[56, 112], warm[168, 112], warm[168, 336]) < 0


def test_the_top_prediction_is_explained_by_default(run: Run, digits: Path, tmp_path: Path) -> None:
    images = sorted((digits / "test").rglob("*.png"))[::60]
    predictions = predict(run, images)
    assert len({prediction.label for prediction in predictions}) > 1
    for (_, explanation), prediction in zip(explain(run, images, tmp_path / "out"), predictions, strict=True):
        assert explanation.label == prediction.label
        assert explanation.score == pytest.approx(prediction.score, abs=1e-5)


@pytest.mark.parametrize(
    ("options", "score"),
    [({}, 1 / (1 + np.e)), ({"task": "multilabel", "thresholds": (0.5, 0.5)}, 0.5)],
    ids=["multiclass", "multilabel"],
)
def test_the_score_is_the_probability_of_the_label(
    options: dict[str, object], score: float, light_run: Callable[..., Run], tmp_path: Path
) -> None:
    run = light_run(make_spec(LIGHT, 32, 64, **options))
    # The logits are 0 (bright) and 1 (dark).
    black = write_image(tmp_path / "black.png", np.zeros((32, 64), np.uint8))
    ((_, explanation),) = explain(run, [black], tmp_path, label="bright")
    assert explanation.score == pytest.approx(score, abs=1e-6)


def test_images_are_read_one_by_one_and_an_unreadable_image_gives_its_error(
    light_run: Callable[..., Run], corner: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(b"damaged")
    out = tmp_path / "out"
    outcomes = explain(light_run(), [corner, damaged, tmp_path / "none.png", corner], out)
    assert list(out.iterdir()) == []
    assert isinstance(next(outcomes)[1], Explanation)
    assert len(list(out.iterdir())) == 1
    (first, error), (second, missing), (_, last) = outcomes
    assert (first, second) == (damaged, tmp_path / "none.png")
    assert isinstance(error, InvalidImageError)
    assert isinstance(missing, InvalidImageError)
    assert "not an image" in str(error)
    assert isinstance(last, Explanation)


def test_overlays_of_images_with_the_same_stem_are_numbered(light_run: Callable[..., Run], tmp_path: Path) -> None:
    run = light_run(make_spec(["in/doors", "../out"], 32, 64))
    levels = (0, 100, 200)
    images = [write_image(tmp_path / str(level) / "x.png", np.full((32, 64), level, np.uint8)) for level in levels]
    out = tmp_path / "out"
    for _ in range(2):
        paths = [explanation.path for _, explanation in explain(run, images, out, label="in/doors")]
        assert [path.name for path in paths] == ["x-in_doors.cam.png", "x-in_doors-2.cam.png", "x-in_doors-3.cam.png"]
        assert sorted(out.iterdir()) == sorted(paths)
    means = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE).mean() for path in paths]
    assert means == sorted(set(means))
    ((_, explanation),) = explain(run, images[:1], out, label="../out")
    assert explanation.path.resolve().parent == out.resolve()


def test_an_image_and_a_label_of_any_name_have_an_overlay(light_run: Callable[..., Run], tmp_path: Path) -> None:
    labels = list(HOSTILE_LABELS.values())
    run = light_run(make_spec(labels, 32, 64))
    image = write_image(tmp_path / ("中" * 80 + ".png"), np.zeros((32, 64), np.uint8))
    short = Path(shutil.copy(image, tmp_path / "x.png"))
    for label in labels:
        for _, explanation in explain(run, [image, short], tmp_path / "out", label=label):
            assert explanation.label == label
            assert explanation.path.parent == tmp_path / "out"
            assert explanation.path.is_file()
    # As a file name of macOS has it.
    ((_, explanation),) = explain(run, [short], tmp_path / "out", label="cafe\u0301")
    assert explanation.label == "café"


def test_an_unknown_label_is_an_error_that_suggests_the_closest_one(
    light_run: Callable[..., Run], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="has no label 'brigt'; did you mean 'bright'?"):
        explain(light_run(), [], tmp_path / "out", label="brigt")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "size", "options"),
    [
        ("mlp", 28, "{}"),
        ("vit_tiny_patch16_224", 32, "{img_size: 32, patch_size: 8, embed_dim: 32, depth: 1, num_heads: 2}"),
        (
            "swin_tiny_patch4_window7_224",
            56,
            "{img_size: 56, embed_dim: 16, depths: [1, 1], num_heads: [1, 1]}",
        ),
    ],
)
def test_a_network_without_feature_maps_cannot_be_explained(
    name: str, size: int, options: str, make_run: Callable[..., Run], tmp_path: Path
) -> None:
    run = make_run(name, make_spec(LIGHT, size, size, "RGB"), options)
    with pytest.raises(RunError, match=f"Grad-CAM needs a feature map .*, which {name} does not have") as caught:
        explain(run, [], tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_a_layer_that_runs_twice_is_skipped() -> None:
    class Shared(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = torch.nn.Conv2d(1, 4, 3), torch.nn.Conv2d(4, 2, 3)
            self.act = torch.nn.ReLU()

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return self.act(self.second(self.act(self.first(pixels)))).mean((2, 3))

    assert find_layer(Classifier(Shared(), WIDE), WIDE) == "second"


def test_no_hook_remains_on_the_network(
    light_run: Callable[..., Run], corner: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = light_run()
    model = load_classifier(run)
    monkeypatch.setattr(module, "load_classifier", lambda run: model)
    outcomes = explain(run, [corner, corner], tmp_path / "out")
    for _ in range(3):
        assert not any(module._forward_hooks or module._backward_hooks for module in model.modules())
        next(outcomes, None)


def test_a_folder_or_an_overlay_that_cannot_be_written_is_an_output_error(
    light_run: Callable[..., Run], corner: Path, tmp_path: Path
) -> None:
    run = light_run()
    with pytest.raises(OutputError, match="cannot create the folder .*corner.png/out: Not a directory"):
        explain(run, [corner], corner / "out")
    taken = tmp_path / "out" / "corner-dark.cam.png"
    taken.mkdir(parents=True)
    with pytest.raises(OutputError, match="corner-dark.cam.png: cannot be written: Is a directory"):
        list(explain(run, [corner], tmp_path / "out", label="dark"))
    assert list((tmp_path / "out").iterdir()) == [taken]
