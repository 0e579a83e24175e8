from __future__ import annotations

import subprocess
import sys

import tamiz

BLOCKED = [
    "torch",
    "torchvision",
    "lightning",
    "timm",
    "mlflow",
    "onnx",
    "onnxruntime",
    "pytriton",
    "albumentations",
    "yaml",
]


def run(code: str) -> subprocess.CompletedProcess[str]:
    block = f"import sys; sys.modules.update(dict.fromkeys({BLOCKED!r}))\n"
    return subprocess.run([sys.executable, "-c", block + code], capture_output=True, text=True)


def test_the_client_works_without_the_extras() -> None:
    code = "import tamiz; [getattr(tamiz, name) for name in tamiz.__all__]; tamiz.Client(model='x').close()"
    done = run(code)
    assert done.returncode == 0, done.stderr


def test_every_command_is_listed_and_one_without_its_extra_explains_how_to_install_it() -> None:
    main = "from tamiz.cli import main; sys.argv = ['tamiz', *{}]; main()"
    listed = run(main.format(["--help"]))
    assert listed.returncode == 0, listed.stderr
    assert "train" in listed.stdout
    assert "serve" in listed.stdout
    missing = run(main.format(["train", "digits"]))
    assert missing.returncode == 1
    assert missing.stderr.count("\n") == 1
    assert 'pip install "tamiz[train,cpu]"' in missing.stderr


def test_the_exported_names_are_sorted_complete_and_available() -> None:
    assert list(tamiz.__all__) == sorted(tamiz.__all__)
    assert set(tamiz.__all__) == {name for name in dir(tamiz) if name != "__version__"}
    public = {
        name
        for name, value in vars(tamiz.errors).items()
        if isinstance(value, type) and value.__module__ == "tamiz.errors"
    }
    assert public <= set(tamiz.__all__)
