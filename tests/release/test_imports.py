"""The public API of the release package, and what of it can be imported without PyTorch."""

from __future__ import annotations

import pytest
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


@pytest.mark.parametrize("module", ["tamiz_release.comparison", "tamiz_release.sources", "tamiz_train.report"])
def test_graphs_are_evaluated_and_compared_without_the_packages_of_training(module: str) -> None:
    run_python(f"{BLOCK_TRAINING}\nimport {module}")


def test_every_public_name_is_listed_in_order_and_can_be_imported_in_any_order() -> None:
    assert tamiz_release.__all__ == sorted(tamiz_release.__all__)
    import_public_names("tamiz_release")
