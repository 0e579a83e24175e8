"""The public API of the trainer, and what of it can be imported without PyTorch."""

from __future__ import annotations

import pytest
from fresh_python import BLOCK_TORCH, import_public_names, run_python

import tamiz_train

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    "module",
    [
        "tamiz_train",
        "tamiz_train.recipe",
        "tamiz_train.data",
        "tamiz_train.data.check",
        "tamiz_train.metrics",
        "tamiz_train.run",
        "tamiz_train.commands.train",
        "tamiz_train.commands.predict",
        "tamiz_train.commands.explain",
        "tamiz_train.commands.data",
    ],
)
def test_the_module_is_imported_without_pytorch(module: str) -> None:
    run_python(f"{BLOCK_TORCH}\nimport {module}")


def test_a_recipe_is_loaded_and_a_run_is_found_without_pytorch() -> None:
    run_python(
        f"{BLOCK_TORCH}\n"
        "from tamiz import RunError\n"
        "from tamiz_train import Run, load_recipe\n"
        "assert load_recipe('digits').model.name == 'lenet5'\n"
        "try:\n    Run.find('none')\nexcept RunError:\n    pass\n"
    )


def test_every_public_name_is_listed_in_order_and_can_be_imported_in_any_order() -> None:
    assert tamiz_train.__all__ == sorted(tamiz_train.__all__)
    assert dir(tamiz_train) == tamiz_train.__all__
    import_public_names("tamiz_train")


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'tamiz_train' has no attribute 'none'"):
        _ = tamiz_train.none
