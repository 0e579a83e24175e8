"""Checking a data set for problems before it is trained on: unreadable, repeated, contradicting and missing images."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tamiz.errors import InvalidImageError
from tamiz.preprocessing import ImageSource, decode

from .labels import list_some
from .split import Data, Split

CHUNK_SIZE = 256
"""The number of images that are read at a time, so that memory is bounded; of each image only a hash is kept."""


@dataclass(frozen=True)
class Finding:
    """One kind of problem in a data set.

    Attributes:
        what: a description of the problem, such as ``images that cannot be read``.
        names: the images or labels that have the problem.
    """

    what: str
    names: tuple[str, ...]

    def __str__(self) -> str:
        return f"{len(self.names)} {self.what}: {list_some(self.names)}"


def check_data(data: Data, colour: str) -> Iterator[Finding]:
    """Read all images, and compare their content between and within the splits.

    Args:
        data: the data set, as `load_data` returns it.
        colour: the colour mode that images are decoded to, ``RGB`` or ``L``.

    Yields:
        images that cannot be read; images whose content is in more than one split; images that are in one split twice
        with different labels; labels without an image in a split.
    """
    unreadable: list[str] = []
    places: dict[bytes, list[tuple[str, str, bytes]]] = defaultdict(list)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for split in data.splits:
            for start in range(0, len(split), CHUNK_SIZE):
                chunk = range(start, min(start + CHUNK_SIZE, len(split)))
                images: Sequence[ImageSource] = [split.images[index] for index in chunk]
                outcomes = pool.map(lambda image: _hash(image, colour), images)
                for index, outcome in zip(chunk, outcomes, strict=True):
                    if isinstance(outcome, InvalidImageError):
                        unreadable.append(str(outcome))
                    else:
                        places[outcome].append((split.name, _name(split, index), split.targets[index].tobytes()))
    if unreadable:
        yield Finding("images that cannot be read", tuple(unreadable))
    across, contradicting = [], []
    for same in places.values():
        names = " = ".join(name for _, name, _ in same)
        if len({split for split, _, _ in same}) > 1:
            across.append(names)
        elif len({target for _, _, target in same}) > 1:
            contradicting.append(names)
    if across:
        yield Finding("images that are in more than one split", tuple(across))
    if contradicting:
        yield Finding("images that have two different labels", tuple(contradicting))
    for split in data.splits:
        counts = split.counts(len(data.labels))
        if missing := tuple(label for label, count in zip(data.labels, counts, strict=True) if count == 0):
            yield Finding(f"labels without an image in {split.name}", missing)


def _hash(image: ImageSource, colour: str) -> bytes | InvalidImageError:
    try:
        pixels = decode(image, colour)
    except InvalidImageError as exc:
        return exc
    # Hash the pixels, because the same picture saved twice gives different files.
    return hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=16, key=repr(pixels.shape).encode()).digest()


def _name(split: Split, index: int) -> str:
    image = split.images[index]
    return str(image) if isinstance(image, Path) else f"{split.name}[{index}]"
