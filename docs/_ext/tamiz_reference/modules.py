"""The modules of a package, each with the first sentence of its docstring; read from the files, nothing is imported."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path


def modules_reference(package: str) -> str:
    """A table of a package's modules, one row each.

    Args:
        package: name of an importable package.
    """
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise LookupError(f"{package}: no such package")
    home = Path(found.submodule_search_locations[0])
    rows = [f"| `{path.relative_to(home)}` | {_summary(path)} |" for path in _modules(home)]
    return "\n".join([f"### {package}\n", "| module | what it holds |", "|---|---|", *rows, ""])


def _modules(folder: Path) -> Iterator[Path]:
    """The modules of a folder, then those of the folders in it."""
    yield from (path for path in sorted(folder.glob("*.py")) if path.name not in {"__init__.py", "__main__.py"})
    for inner in sorted(path for path in folder.iterdir() if path.is_dir()):
        yield from _modules(inner)


def _summary(path: Path) -> str:
    """The first sentence of a module's docstring."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    paragraph = " ".join(text.partition("\n\n")[0].split()).replace("``", "`").replace("|", r"\|")
    return re.split(r"(?<=[a-z)`])\.(?:\s|$)", paragraph)[0]
