"""Data sets that torchvision provides and downloads."""

from __future__ import annotations

import numpy as np

from tamiz.errors import RecipeError, one_line

from ..recipe.data import TorchvisionData
from .split import Source, Split


def read_torchvision(settings: TorchvisionData) -> Source:
    """Read a data set of torchvision, and download it if it is not in ``data.root``.

    Raises:
        RecipeError: the data set is not there and cannot be downloaded.
    """
    # Imported here, because it imports PyTorch, which other kinds of data do not need.
    from torchvision import datasets

    kind = getattr(datasets, settings.name)
    try:
        settings.root.mkdir(parents=True, exist_ok=True)
        parts = {name: kind(settings.root, train=name == "train", download=True) for name in ("train", "test")}
    except Exception as exc:
        # torchvision passes on whatever error the download or the file system raised.
        raise RecipeError(
            f"data.root: {settings.name} is not in {settings.root} and cannot be downloaded: {one_line(exc)}"
        ) from exc
    splits = {
        name: Split(name, np.asarray(part.data), np.asarray(part.targets, np.int64)) for name, part in parts.items()
    }
    return Source(tuple(parts["train"].classes), "multiclass", splits)
