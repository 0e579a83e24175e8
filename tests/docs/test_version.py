from __future__ import annotations

import tomllib
from importlib import metadata
from pathlib import Path

import tamiz

ROOT = Path(__file__).parents[2]


def test_the_version_is_written_in_one_place() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" not in project["project"]
    assert project["project"]["dynamic"] == ["version"]
    source = ROOT / project["tool"]["hatch"]["version"]["path"]
    assert source == ROOT / "client" / "tamiz" / "__init__.py"
    assert source.read_text(encoding="utf-8").count(f'__version__ = "{tamiz.__version__}"') == 1


def test_the_installed_distribution_has_the_version_of_the_package() -> None:
    assert metadata.version("tamiz") == tamiz.__version__


def test_the_changelog_has_a_section_for_what_is_not_released() -> None:
    headings = [line for line in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines() if line[:3] == "## "]
    assert headings[0] == "## [Unreleased]"
    assert all(line.startswith("## [") for line in headings)
