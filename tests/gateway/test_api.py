from __future__ import annotations

import subprocess
import sys

from fresh_python import import_public_names

import tamiz_gateway


def test_every_public_name_can_be_imported_and_the_list_is_sorted() -> None:
    assert tamiz_gateway.__all__ == sorted(tamiz_gateway.__all__)
    import_public_names("tamiz_gateway")
    for name in tamiz_gateway.__all__:
        assert getattr(tamiz_gateway, name).__doc__, name


def test_the_application_needs_neither_pytorch_nor_the_packages_of_training() -> None:
    heavy = ("torch", "lightning", "mlflow", "timm", "onnxruntime", "matplotlib")
    code = (
        "import sys; from tamiz_gateway import Settings, create_app; create_app(Settings(model='pets'));"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
