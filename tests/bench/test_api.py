from __future__ import annotations

import subprocess
import sys

import tamiz_bench


def test_every_public_name_can_be_imported_and_the_list_is_sorted() -> None:
    assert tamiz_bench.__all__ == sorted(tamiz_bench.__all__)
    for name in tamiz_bench.__all__:
        assert getattr(tamiz_bench, name).__doc__, name


def test_import_loads_no_other_package() -> None:
    heavy = ("numpy", "onnxruntime", "matplotlib", "torch", "tritonclient", "psutil")
    code = f"import sys, tamiz_bench; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
