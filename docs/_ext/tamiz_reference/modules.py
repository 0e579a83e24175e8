"""The modules of a package, each with the first sentence of its docstring; read from the files, nothing is imported."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path


def modules_reference(package: str) -> str:
    """A tree of a package's modules, one line each.

    Args:
        package: name of an importable package.
    """
    found = importlib.util.find_spec(package)
    assert found is not None
    assert found.submodule_search_locations is not None
    home = Path(found.submodule_search_locations[0])
    lines = list(_tree(home, depth=1))
    width = max(len(name) for name, _ in lines) + 2
    listed = "\n".join(f"{name:{width}}{summary}".rstrip() for name, summary in lines)
    return f"```text\n{package}/\n{listed}\n```\n"


def _tree(folder: Path, depth: int) -> Iterator[tuple[str, str]]:
    indent = "    " * depth
    for path in sorted(folder.glob("*.py")):
        if path.name != "__init__.py":
            yield f"{indent}{path.name}", _summary(path)
    for inner in sorted(path for path in folder.iterdir() if any(path.rglob("*.py")) and path.name != "__pycache__"):
        yield f"{indent}{inner.name}/", _summary(inner / "__init__.py")
        yield from _tree(inner, depth + 1)


def _summary(path: Path) -> str:
    """What a module is: the first paragraph of its docstring up to the first full stop or colon after a name."""
    if not path.is_file():
        return ""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    paragraph = " ".join(text.partition("\n\n")[0].split())
    return re.split(r"(?<=[a-z)`])[.;](?:\s|$)", paragraph.replace("``", ""))[0].replace("`", "")
