"""Training augmentation by the names of Albumentations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from tamiz import Preprocessing, RecipeError
from tamiz_train.augmentation import check_augmentation, create_augmentation
from tamiz_train.recipe import Recipe
from tamiz_train.setup import check

SIZE = Preprocessing(height=16, width=24)


@pytest.mark.parametrize(
    ("transforms", "message"),
    [
        (
            [{"HorizontalFlop": {}}],
            "augmentation.0: no transform 'HorizontalFlop'; did you mean 'HorizontalFlip'",
        ),
        ([{"random_resized_crop": {}}], "no transform 'random_resized_crop'; did you mean 'RandomResizedCrop'"),
        ([{"HorizontalFlip": {"q": 1}}], "augmentation.0: HorizontalFlip: .*q"),
        ([{"GaussNoise": {"var_limit": [10, 50]}}], "GaussNoise: .*var_limit"),
        ([{"HorizontalFlip": {"p": 2}}], "HorizontalFlip: .*less than or equal to 1"),
        ([{"A": {}, "B": {}}], "one transform per list entry"),
        ([{"Blur": {"x": 1}}, {"Nope": {}}], "augmentation.0: .*augmentation.1: "),
    ],
)
def test_unknown_transforms_and_arguments_are_recipe_errors(
    transforms: list[dict[str, dict[str, object]]], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        create_augmentation(transforms, 0, SIZE)


def test_transforms_can_contain_transforms() -> None:
    flips = [{"HorizontalFlip": {"p": 1}}, {"Sequential": {"transforms": [{"VerticalFlip": {"p": 1}}], "p": 1}}]
    augmentation = create_augmentation([{"OneOf": {"transforms": flips, "p": 1}}], 0, SIZE)
    image = np.arange(12, dtype=np.uint8).reshape(3, 4)
    seen = {augmentation(image=image)["image"].tobytes() for _ in range(30)}
    assert seen == {image[:, ::-1].tobytes(), image[::-1].tobytes()}
    with pytest.raises(RecipeError, match=r"augmentation.0: no transform 'HorizontalFlop'; did you mean"):
        create_augmentation([{"OneOf": {"transforms": [{"HorizontalFlop": {}}]}}], 0, SIZE)


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        ({"Normalize": {}}, "must return uint8 pixels"),
        ({"RandomCrop": {"height": 99, "width": 99, "p": 0.01}}, "fails on an image"),
    ],
)
def test_an_augmentation_that_fails_on_an_image_or_returns_no_pixels_is_a_recipe_error(
    transform: dict[str, dict[str, object]], message: str
) -> None:
    with pytest.raises(RecipeError, match=f"augmentation: .*{message}"):
        check_augmentation(create_augmentation([transform], 0, SIZE), np.zeros((8, 8, 3), np.uint8), SIZE)


@pytest.mark.parametrize(
    "transform",
    [
        {"RandomResizedCrop": {}},
        {"RandomCrop": {}},
        {"Resize": {}},
        {"OneOf": {"transforms": [{"RandomSizedCrop": {"min_max_height": [10, 20]}}, {"Resize": {}}], "p": 1}},
    ],
)
def test_a_transform_that_needs_a_size_gets_that_of_the_preprocessing(transform: dict[str, dict[str, object]]) -> None:
    augmentation = create_augmentation([transform], 0, SIZE)
    assert augmentation(image=np.zeros((40, 50, 3), np.uint8))["image"].shape == (16, 24, 3)


@pytest.mark.parametrize(
    "transforms",
    [
        [{"RandomResizedCrop": {"size": [224, 224]}}],
        [{"HorizontalFlip": {}}, {"RandomCrop": {"height": 20, "width": 20, "p": 0.1}}],
        [{"OneOf": {"transforms": [{"Resize": {"height": 20, "width": 20}}]}}],
        # The network's input with height and width exchanged.
        [{"RandomResizedCrop": {"size": [24, 16]}}],
    ],
)
@pytest.mark.parametrize("image", [(40, 50, 3), (224, 224), (20, 20)])
def test_an_augmentation_to_another_size_than_that_of_the_preprocessing_is_a_recipe_error(
    transforms: list[dict[str, dict[str, object]]], image: tuple[int, ...]
) -> None:
    with pytest.raises(
        RecipeError, match=r"returns images of \d+x\d+, .* resized again to the 16x24 of preprocessing; leave the size"
    ):
        check_augmentation(create_augmentation(transforms, 0, SIZE), np.zeros(image, np.uint8), SIZE)


@pytest.mark.parametrize(
    "transform",
    [
        {"HorizontalFlip": {}},
        {"Transpose": {}},
        {"RandomScale": {"scale_limit": [0.5, 0.5]}},
        {"LongestMaxSize": {"max_size": 30}},
        {"SmallestMaxSize": {"max_size": 30}},
        {"CropAndPad": {"px": 5, "keep_size": False}},
        {"RandomResizedCrop": {"size": [16, 24]}},
    ],
)
def test_an_image_may_have_any_size_that_the_augmentation_does_not_set(transform: dict[str, dict[str, object]]) -> None:
    check_augmentation(create_augmentation([transform], 0, SIZE), np.zeros((40, 40, 3), np.uint8), SIZE)


def test_a_size_of_the_augmentation_that_is_not_that_of_the_network_stops_before_training(
    tiny_recipe: Callable[..., Recipe],
) -> None:
    augmentation = "augmentation=[{RandomResizedCrop: {size: [28, 28]}}]"
    assert check(tiny_recipe(augmentation))
    with pytest.raises(RecipeError, match="augmentation: returns images of 28x28, .* the 20x20 of preprocessing"):
        check(tiny_recipe(augmentation, "preprocessing.height=20", "preprocessing.width=20"))


def test_training_starts_although_the_augmentation_fails_on_the_first_image_if_such_images_are_left_out(
    root: Path, tiny_recipe: Callable[..., Recipe]
) -> None:
    cv2.imwrite(str(root / "train" / "cat" / "0.png"), np.zeros((4, 4), np.uint8))
    options = [f"data.root={root}", "augmentation=[{RandomCrop: {height: 6, width: 6}}, {Resize: {}}]"]
    with pytest.raises(RecipeError, match=r"train/cat/0\.png: augmentation: fails on an image of \[4, 4\]"):
        check(tiny_recipe(*options))
    assert len(check(tiny_recipe(*options, "data.on_unreadable=skip")).data.train) == 40
    options[1] = options[1].replace("6", "60")
    with pytest.raises(RecipeError, match="augmentation: fails on an image"):
        check(tiny_recipe(*options, "data.on_unreadable=skip"))
