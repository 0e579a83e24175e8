"""A first look at a data set: its labels, splits, image sizes and colours, on which a new recipe depends."""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tamiz.errors import InvalidImageError, UsageError
from tamiz.preprocessing import decode

from .data import Data, load_data
from .data.content import content_hashes
from .data.folders import nested_labels
from .data.labels import list_some
from .data.manifest import is_manifest
from .recipe.data import CsvData, DataSettings, FolderData, VocData

MAX_COMPARED = 5000
"""The number of images that are compared with each other; of larger data sets, evenly spaced ones."""

MAX_DECODED = 200
"""The number of images that are decoded for their sizes and colours."""


@dataclass(frozen=True)
class Survey:
    """What a data set looks like.

    Attributes:
        settings: the section ``data`` of a recipe that reads the data set.
        data: the data set, with the splits that this section gives.
        height: the median height of the images in pixels.
        width: the median width of the images in pixels.
        grey: whether no image has colours.
        decoded: the number of images that were decoded.
        unreadable: the decoded images that cannot be read.
        compared: the number of images that were compared with each other.
        repeated: how many of them are copies of another one, as files.
        nested: the labels whose images are all in folders below the label's own folder.
    """

    settings: DataSettings
    data: Data
    height: int
    width: int
    grey: bool
    decoded: int
    unreadable: tuple[Path, ...]
    compared: int
    repeated: int
    nested: tuple[str, ...] = ()

    @property
    def imbalance(self) -> float:
        """How many times as many training images the most frequent label has as the rarest one that has any."""
        counts = self.data.train.counts(len(self.data.labels))
        return float(counts.max() / counts[counts > 0].min()) if counts.any() else 1.0

    @property
    def copies(self) -> str:
        """How many images are copies, as text; empty if none are."""
        if not self.repeated:
            return ""
        copies = "1 is a copy" if self.repeated == 1 else f"{self.repeated:,} are copies"
        return f"of {self.compared:,} images, {copies} of another one"

    @property
    def remarks(self) -> list[str]:
        """What is unusual about the images, one sentence each."""
        remarks = []
        if self.unreadable:
            left_out = "it" if len(self.unreadable) == 1 else "them"
            remarks.append(
                f"of {self.decoded:,} images, {len(self.unreadable):,} cannot be read, and training leaves {left_out} "
                "out (data.on_unreadable: skip)"
            )
        if self.copies:
            remarks.append(self.copies)
        if self.nested:
            remarks.append(
                f"warning: label folders whose images are all in folders below them: {list_some(self.nested)}; if "
                "those are the labels, name the folder that holds them"
            )
        return remarks


def survey(path: Path) -> Survey:
    """Look at the images of a folder or of a manifest.

    Args:
        path: a folder with a folder for each label, a folder in the layout of PASCAL VOC, a folder with a manifest
            (``labels.csv``, or the only ``.csv`` file with the columns of a manifest), or a ``.csv`` manifest.

    Raises:
        RecipeError: the images or their labels cannot be found, or are inconsistent.
        UsageError: there is nothing at the path that holds labelled images, several manifests are in the folder, or no
            image can be read.
    """
    settings = _settings(path)
    data = load_data(settings, seed=0)
    images = [image for split in data.splits for image in split.images if isinstance(image, Path)]
    hashes = [found for found in content_hashes(_spread(images, MAX_COMPARED)) if found]
    sizes, unreadable, grey = [], [], True
    decoded = _spread(images, MAX_DECODED)
    for image in decoded:
        try:
            pixels = decode(image, "RGB")
        except InvalidImageError:
            unreadable.append(image)
            continue
        sizes.append(pixels.shape[:2])
        grey = grey and bool((pixels == pixels[..., :1]).all())
    if not sizes:
        raise UsageError(f"{path}: none of the {len(decoded)} images can be read")
    height, width = (round(statistics.median(sides)) for sides in zip(*sizes, strict=True))
    repeated = sum(count - 1 for count in Counter(hashes).values())
    nested = nested_labels(settings.root, data) if isinstance(settings, FolderData) else ()
    return Survey(settings, data, height, width, grey, len(decoded), tuple(unreadable), len(hashes), repeated, nested)


def _settings(path: Path) -> DataSettings:
    if path.is_file():
        if path.suffix.lower() != ".csv":
            raise UsageError(f"{path} is neither a folder nor a .csv manifest; see the recipe reference, section data")
        return CsvData(kind="csv", root=path.parent, manifest=Path(path.name))
    if not path.is_dir():
        raise UsageError(f"there is no folder or manifest {path}")
    if (path / "labels.csv").is_file():
        return CsvData(kind="csv", root=path)
    if (path / "ImageSets").is_dir() and (path / "Annotations").is_dir():
        return VocData(kind="voc", root=path)
    if manifest := _find_manifest(path):
        return CsvData(kind="csv", root=path, manifest=manifest)
    return FolderData(kind="folder", root=path)


def _find_manifest(folder: Path) -> Path | None:
    """The name of the only manifest in a folder."""
    files = sorted(folder.iterdir())
    tables = [file for file in files if file.suffix.lower() == ".csv" and file.is_file()]
    manifests = [file for file in tables if is_manifest(file)]
    if len(manifests) > 1:
        names = list_some([file.name for file in manifests])
        raise UsageError(
            f"{folder} has {len(manifests)} manifests: {names}; name the one to use, such as {manifests[0]}, or join "
            "them in one, whose column split tells the parts apart"
        )
    if not manifests and not any(file.is_dir() for file in files):
        # There are no class folders either, so reading a table as a manifest gives the reason why it is none.
        manifests = tables
    return Path(manifests[0].name) if manifests else None


def _spread(images: list[Path], count: int) -> list[Path]:
    """At most ``count`` of the images, evenly spaced."""
    return [images[i] for i in np.linspace(0, len(images) - 1, min(count, len(images))).astype(int).tolist()]
