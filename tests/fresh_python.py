"""Programs that a fresh Python runs, to find out what an import needs."""

from __future__ import annotations

import subprocess
import sys


def block(*packages: str) -> str:
    """A program's first lines, after which an import of one of the packages fails as if it were not installed."""
    return f"""
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {packages!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked())
"""


TRAINING_ONLY = (
    *("torch", "torchvision", "torchmetrics", "lightning", "timm", "albumentations", "pytorch_grad_cam"),
    *("mlflow", "onnxscript", "safetensors", "tensorboard"),
)
"""The packages that the extra `train` has and the extra `release` does not."""

BLOCK_TORCH = block("torch", "lightning", "timm", "mlflow", "onnx", "onnxruntime", "torchvision")
BLOCK_TRAINING = block(*TRAINING_ONLY)


def run_python(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def import_public_names(package: str) -> None:
    """Import every public name of a package twice: a submodule with the name of a function hides it the second time."""
    run_python(
        f"import {package}, types\n"
        "for _ in range(2):\n"
        f"    for name in {package}.__all__:\n"
        f"        assert not isinstance(getattr({package}, name), types.ModuleType), name\n"
    )
