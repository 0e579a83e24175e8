"""What a recipe refers to, checked before training."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tamiz import RecipeError
from tamiz_train.recipe import Recipe
from tamiz_train.setup import check


def test_an_image_size_that_the_network_cannot_process_is_a_recipe_error(tiny_recipe: Callable[..., Recipe]) -> None:
    with pytest.raises(
        RecipeError, match=r"cannot process images of 32x32: .*set model.options: {img_size: \[32, 32\]}"
    ):
        check(tiny_recipe("model.name=vit_tiny_patch16_224", "preprocessing.height=32", "preprocessing.width=32"))
    # 28 is no multiple of the patches of 16, so that no option helps.
    with pytest.raises(RecipeError, match="cannot process images of 28x28: .*set preprocessing to another size"):
        check(tiny_recipe("model.name=nest_tiny"))


def test_a_network_with_weights_of_five_dimensions_can_be_built(tiny_recipe: Callable[..., Recipe]) -> None:
    recipe = tiny_recipe("model.name=lambda_resnet26t", "preprocessing.height=256", "preprocessing.width=256")
    assert check(recipe).classifier


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_device_is_a_recipe_error(tiny_recipe: Callable[..., Recipe]) -> None:
    with pytest.raises(RecipeError, match="train.device: cuda: PyTorch finds no GPU"):
        check(tiny_recipe("train.device=cuda"))
