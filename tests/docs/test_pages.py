from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from tamiz_reference.commands import all_commands

from tamiz_train import load_recipe

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    {*ROOT.glob("*.md"), *ROOT.glob("examples/*.md"), *ROOT.glob("docs/**/*.md")} - set(ROOT.glob("docs/_build/**"))
)
_FENCE = re.compile(r"^```(?P<language>[^\n]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?!https?:)(?P<target>[^)#\s]+)")

pytestmark = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def blocks(page: Path, *languages: str) -> Iterator[str]:
    for found in _FENCE.finditer(page.read_text(encoding="utf-8")):
        if found["language"].strip() in languages:
            yield found["body"]


def test_every_python_block_compiles(page: Path) -> None:
    for block in blocks(page, "python"):
        ast.parse(block)


def test_every_yaml_recipe_is_valid(page: Path, tmp_path: Path) -> None:
    for block in blocks(page, "yaml"):
        document = yaml.safe_load(block)
        if "name" in document:
            path = tmp_path / "recipe.yaml"
            path.write_text(block, encoding="utf-8")
            assert load_recipe(path).name == document["name"]


def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    for found in _LINK.finditer(page.read_text(encoding="utf-8")):
        assert (page.parent / found["target"]).exists(), found["target"]


def test_every_command_line_is_accepted_by_its_command(page: Path) -> None:
    everything = dict(all_commands())
    commands = {path: command for path, command in everything.items() if not hasattr(command, "list_commands")}
    # A group with a default command is a command too; it comes last, because its name begins those of its commands.
    defaults = {path: group.default for path, group in everything.items() if getattr(group, "default", None)}
    commands |= {path: commands[f"{path} {default}"] for path, default in defaults.items()}
    for block in blocks(page, "", "bash", "console"):
        for line in block.splitlines():
            if line.startswith("tamiz "):
                words = shlex.split(line, comments=True)
                found = [path for path in commands if words[: len(path.split())] == path.split()]
                assert found, line
                # Raises an error for an unknown option and for a missing argument.
                commands[found[0]].make_context(found[0], words[len(found[0].split()) :])
