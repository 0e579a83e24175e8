"""Programs that a fresh Python runs, to find out what an import needs."""

from __future__ import annotations

import subprocess
import sys

BLOCK_TORCH = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "lightning", "timm", "mlflow", "onnx", "onnxruntime", "torchvision"):
            raise ModuleNotFoundError(f"{name} is blocked")

sys.meta_path.insert(0, Blocked())
"""


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
