"""The networks: their parameters, their sizes, and the normalisation of their input."""

from __future__ import annotations

import pytest
import torch
from graphs import make_spec

from tamiz import RecipeError
from tamiz_train.networks import build_classifier
from tamiz_train.recipe import ModelSettings

TEN = [str(index) for index in range(10)]
SPEC = make_spec(TEN)


def count_parameters(name: str) -> int:
    return sum(weight.numel() for weight in build_classifier(ModelSettings(name=name), SPEC).parameters())


def test_lenet5_has_as_many_parameters_as_in_the_paper() -> None:
    # 6·(25+1) + 16·(6·25+1) + (400+1)·120 + (120+1)·84 + (84+1)·10
    assert count_parameters("lenet5") == 156 + 2416 + 48120 + 10164 + 850


def test_the_mlp_has_as_many_parameters_as_in_the_quickstart() -> None:
    assert count_parameters("mlp") == (784 + 1) * 512 + (512 + 1) * 512 + (512 + 1) * 10


@pytest.mark.parametrize(("name", "size"), [("lenet5", (32, 48)), ("mlp", (20, 30)), ("mobilenetv2_100", (32, 32))])
def test_logits_are_computed_for_any_size_and_number_of_labels(name: str, size: tuple[int, int]) -> None:
    spec = make_spec(["a", "b", "c"], *size, "RGB")
    images = torch.zeros((2, *spec.preprocessing.shape), dtype=torch.uint8)
    assert build_classifier(ModelSettings(name=name), spec).eval()(images).shape == (2, 3)


def test_pixels_are_normalised_as_the_spec_defines() -> None:
    spec = SPEC.model_copy(
        update={"normalisation": SPEC.normalisation.model_copy(update={"mean": (0.5,), "std": (0.25,)})}
    )
    network = build_classifier(ModelSettings(name="mlp"), spec)
    network.network = torch.nn.Identity()
    seen = network(torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 1, 3, 1)).flatten()
    torch.testing.assert_close(seen, (torch.tensor([0.0, 0.2, 1.0]) - 0.5) / 0.25)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "lenet"}, "no model 'lenet'; did you mean 'lenet5'"),
        ({"name": "mobilenetv2_10"}, "did you mean 'mobilenetv2_100'"),
        ({"name": "mobilenet_v2"}, "did you mean 'mobilenetv2_100'"),
        ({"name": "EfficientNet-B0"}, "did you mean 'efficientnet_b0'"),
        ({"name": "ResNet_50"}, "did you mean 'resnet50'"),
        ({"name": "lenet5", "options": {"x": 1}}, "takes neither options"),
        (
            {"name": "mobilenetv2_100", "options": {"nonsense": 1}},
            "timm cannot create mobilenetv2_100: .*nonsense",
        ),
    ],
)
def test_an_unknown_network_or_option_is_a_recipe_error(settings: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build_classifier(ModelSettings(**settings), SPEC)


def test_lenet5_needs_images_of_at_least_12_by_12_pixels() -> None:
    with pytest.raises(RecipeError, match="12 or more"):
        build_classifier(ModelSettings(name="lenet5"), make_spec(TEN, 11, 28))
    assert build_classifier(ModelSettings(name="lenet5"), make_spec(TEN, 12, 12))
