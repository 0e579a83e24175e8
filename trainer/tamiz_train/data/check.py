"""Checking a data set for problems before it is trained on: unreadable, blank, repeated and contradicting images."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from tamiz.errors import InvalidImageError
from tamiz.preprocessing import ImageSource, Pixels, decode
from tamiz.spec import Preprocessing

from ..recipe.input import PreprocessingSettings
from .labels import list_some
from .split import Data, Split

T = TypeVar("T")

BLANK_RANGE = 3
"""The largest difference between the values of an image, which are 0 to 255, that is taken for blank."""

CHUNK_SIZE = 256
"""The number of images that are read at a time, so that memory is bounded; of each image only a hash is kept."""


@dataclass(frozen=True)
class Finding:
    """What a check of a data set found, of one kind.

    Attributes:
        what: a description that begins with a noun in the plural, such as ``images that cannot be read``.
        names: the images or labels that it is about.
        severity: ``problem``; ``warning`` if the data can be right all the same; ``note`` if it only informs.
    """

    what: str
    names: tuple[str, ...]
    severity: Literal["problem", "warning", "note"] = "problem"

    def __str__(self) -> str:
        prefix = "" if self.severity == "problem" else f"{self.severity}: "
        noun, rest = self.what.split(" ", 1)
        counted = f"{len(self.names):,} {noun if len(self.names) != 1 else noun.removesuffix('s')}"
        return f"{prefix}{counted} {rest}: {list_some(self.names)}"


def check_data(data: Data, preprocessing: Preprocessing | PreprocessingSettings) -> Iterator[Finding]:
    """Read all images, and compare their content between and within the splits.

    Args:
        data: the data set, as `load_data` returns it.
        preprocessing: the colour mode and the revision by which images are decoded.

    Yields:
        images that cannot be read; images of almost one value; images whose content is in more than one split; images
        that are in one split twice with different labels, or with the same ones; labels without an image in a split.
    """
    unreadable: list[str] = []
    blank: list[str] = []
    places: dict[bytes, list[tuple[str, str, bytes]]] = defaultdict(list)
    for split in data.splits:
        for index, outcome in _map_pixels(_summarise_pixels, split, preprocessing):
            if isinstance(outcome, InvalidImageError):
                unreadable.append(str(outcome))
                continue
            content, value_range = outcome
            name = split.image_name(index)
            places[content].append((split.name, name, split.targets[index].tobytes()))
            if value_range <= BLANK_RANGE:
                blank.append(name)
    if unreadable:
        yield Finding("images that cannot be read", tuple(unreadable))
    if blank:
        yield Finding(
            "images with almost the same value everywhere (16 bits per value are reduced to the upper 8: stretch the "
            "values of dark images first)",
            tuple(blank),
            severity="warning",
        )
    across, contradicting, copies = [], [], []
    for same in places.values():
        names = " = ".join(name for _, name, _ in same)
        if len({split for split, _, _ in same}) > 1:
            across.append(names)
        elif len({target for _, _, target in same}) > 1:
            contradicting.append(names)
        else:
            (_, first, _), *others = same
            copies += [f"{name} = {first}" for _, name, _ in others]
    if across:
        yield Finding("images that are in more than one split", tuple(across))
    if contradicting:
        yield Finding("images that have two different labels", tuple(contradicting))
    if copies:
        yield Finding("images equal to another one with the same label", tuple(copies), severity="note")
    # Data without test images is trained on as well.
    for split in filter(len, data.splits):
        counts = split.counts(len(data.labels))
        if missing := tuple(label for label, count in zip(data.labels, counts, strict=True) if count == 0):
            yield Finding(f"labels without an image in {split.name}", missing)


def find_unreadable(split: Split, preprocessing: Preprocessing | PreprocessingSettings) -> list[str]:
    """Decode all images of a split.

    Returns:
        one message for each image that cannot be read.
    """
    outcomes = _map_pixels(lambda pixels: None, split, preprocessing)
    return [str(outcome) for _, outcome in outcomes if isinstance(outcome, InvalidImageError)]


def _map_pixels(
    function: Callable[[Pixels], T], split: Split, preprocessing: Preprocessing | PreprocessingSettings
) -> Iterator[tuple[int, T | InvalidImageError]]:
    """Apply a function to the pixels of each image, in several threads."""

    def apply(image: ImageSource) -> T | InvalidImageError:
        try:
            return function(decode(image, preprocessing.colour, revision=preprocessing.revision))
        except InvalidImageError as exc:
            return exc

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(split), CHUNK_SIZE):
            chunk = range(start, min(start + CHUNK_SIZE, len(split)))
            yield from zip(chunk, pool.map(apply, [split.images[index] for index in chunk]), strict=True)


def _summarise_pixels(pixels: Pixels) -> tuple[bytes, int]:
    """A hash of the pixels, because the same picture saved twice gives different files; and the range of the values."""
    content = hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=16, key=repr(pixels.shape).encode())
    return content.digest(), int(pixels.max()) - int(pixels.min())
