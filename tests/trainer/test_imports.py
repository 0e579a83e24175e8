"""The public API of the trainer, and what of it can be imported without PyTorch."""

from __future__ import annotations

import subprocess
import sys

import pytest

import tamiz_train

pytestmark = pytest.mark.integration

HEAVY = ("torch", "lightning", "timm", "mlflow", "onnx", "onnxruntime", "torchvision")
BLOCK = f"""
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HEAVY}:
            raise ModuleNotFoundError(f"{{name}} is blocked")

sys.meta_path.insert(0, Blocked())
"""


def run_python(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


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
        "tamiz_train.commands.evaluate",
        "tamiz_train.commands.predict",
        "tamiz_train.commands.explain",
        "tamiz_train.commands.export",
        "tamiz_train.commands.publish",
        "tamiz_train.commands.data",
    ],
)
def test_the_module_is_imported_without_pytorch(module: str) -> None:
    run_python(f"{BLOCK}\nimport {module}")


def test_a_recipe_is_loaded_and_a_run_is_found_without_pytorch() -> None:
    run_python(
        f"{BLOCK}\n"
        "from tamiz import RunError\n"
        "from tamiz_train import Run, load_recipe\n"
        "assert load_recipe('digits').model.name == 'lenet5'\n"
        "try:\n    Run.find('none')\nexcept RunError:\n    pass\n"
    )


def test_every_public_name_is_listed_in_order_and_can_be_imported_in_any_order() -> None:
    assert tamiz_train.__all__ == sorted(tamiz_train.__all__)
    assert dir(tamiz_train) == tamiz_train.__all__
    # A submodule with the name of a function would hide the function once it is imported.
    run_python(
        "import tamiz_train, types\n"
        "for _ in range(2):\n"
        "    for name in tamiz_train.__all__:\n"
        "        assert not isinstance(getattr(tamiz_train, name), types.ModuleType), name\n"
    )


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'tamiz_train' has no attribute 'none'"):
        _ = tamiz_train.none
