"""Where a file or a folder of a recipe was looked for."""

from __future__ import annotations

from pathlib import Path


def located(path: Path) -> str:
    """A path for a message that it is missing: a relative one with the absolute path that it means.

    A relative path of a recipe begins at the working directory, which need not be the folder of the recipe.
    """
    return str(path) if path.is_absolute() else f"{path} ({path.absolute()})"
