"""The public API of the release package, and what of it can be imported without PyTorch."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from foreign_graphs import write_foreign
from fresh_python import BLOCK_TORCH, BLOCK_TRAINING, import_public_names, run_python

import tamiz_release

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    "module",
    [
        "tamiz_release",
        "tamiz_release.commands.compare",
        "tamiz_release.commands.evaluate",
        "tamiz_release.commands.export",
        "tamiz_release.commands.promote",
        "tamiz_release.commands.publish",
        "tamiz_release.commands.replay",
        "tamiz_release.commands.rollback",
        "tamiz_release.replayed_version",
    ],
)
def test_the_module_is_imported_without_pytorch(module: str) -> None:
    run_python(f"{BLOCK_TORCH}\nimport {module}")


def test_a_canary_is_watched_where_only_the_server_is_installed() -> None:
    run_python(f"{BLOCK_TRAINING}\nimport tamiz_release.commands.promote, tamiz_release.rollout.watch")


@pytest.mark.parametrize(
    "module",
    ["tamiz_release.adaptation", "tamiz_release.comparison", "tamiz_release.sources.opening", "tamiz_train.report"],
)
def test_graphs_are_evaluated_and_compared_without_the_packages_of_training(module: str) -> None:
    run_python(f"{BLOCK_TRAINING}\nimport {module}")


def test_a_classifier_of_another_tool_is_published_evaluated_and_compared_without_the_packages_of_training(
    tmp_path: Path,
) -> None:
    path = write_foreign(tmp_path / "model.onnx", shape=(1, 3, 4, 6))
    (tmp_path / "model.labels.txt").write_text("a\nb\nc\n")
    (tmp_path / "model.preprocessing.yaml").write_text("normalisation: imagenet\n")
    for label in "abc":
        (tmp_path / "images" / label).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "images" / label / "1.png"), np.full((9, 9, 3), ord(label), np.uint8))
    folder, images = ["--repository", str(tmp_path / "repository")], ["--images", str(tmp_path / "images")]
    commands = [
        ["publish", str(path), "--model", "foreign", *folder, *images],
        ["evaluate", str(path), *images, "--out", str(tmp_path / "reports")],
        ["compare", str(path), "foreign/1", *images, *folder],
    ]
    run_python(
        f"{BLOCK_TRAINING}\n"
        "from tamiz.cli import main\n"
        f"for command in {commands!r}:\n"
        "    try:\n        main(command)\n"
        "    except SystemExit as exc:\n        assert exc.code == 0, command\n"
    )
    gate = json.loads((tmp_path / "repository" / "foreign" / "1" / "gate.json").read_text())
    assert (gate["passed"], gate["images"]) == (True, 3)
    # Compared with the graph as it was.
    assert gate["reference"].startswith(str(path))
    assert (gate["agreement"]["images"], gate["agreement"]["label_agreement"]) == (3, 1)
    assert (tmp_path / "reports").is_dir()


def test_what_needs_pytorch_says_which_extra_to_install(tmp_path: Path) -> None:
    run_python(
        f"{BLOCK_TRAINING}\n"
        "from tamiz import MissingExtraError\n"
        "from tamiz_release import open_source\n"
        "from pathlib import Path\n"
        "try:\n    open_source('timm:resnet50', Path('none')).__enter__()\n"
        "except MissingExtraError as exc:\n    assert exc.extra == 'train,cpu'\n"
        "else:\n    raise AssertionError\n"
    )


def test_every_public_name_is_listed_in_order_and_can_be_imported_in_any_order() -> None:
    assert tamiz_release.__all__ == sorted(tamiz_release.__all__)
    import_public_names("tamiz_release")
