"""The content hashes of the images of a run, which tell later whether it has seen an image."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from tamiz.errors import RunError, one_line

HASHES_FILE = "images.safetensors"
"""File with the hashes, in the folder of a run, and of a version that was made from it."""


def read_hashes(path: Path, splits: Collection[str]) -> frozenset[bytes] | None:
    """Content hashes of the images that were in some splits of a run.

    Args:
        path: the file ``images.safetensors`` of the run, or of a version that was made from it.
        splits: the names of the splits.

    Returns:
        the hashes; None if there is no such file.

    Raises:
        RunError: the file cannot be read.
    """
    from safetensors.numpy import load_file

    if not path.is_file():
        return None
    try:
        arrays = load_file(path)
        return frozenset(row.tobytes() for split in splits for row in arrays[split])
    except Exception as exc:
        # safetensors has its own exceptions.
        raise RunError(f"{path} cannot be read: {one_line(exc)}") from exc
