"""What is wrong with a data set before it costs an hour of training."""

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

from .split import Data, Split

SHOWN = 5


@dataclass(frozen=True)
class Finding:
    """One kind of fault.

    Attributes:
        what: it is.
        names: of all that have it.
    """

    what: str
    names: tuple[str, ...]

    def __str__(self) -> str:
        more = f" and {len(self.names) - SHOWN} more" if len(self.names) > SHOWN else ""
        return f"{len(self.names)} {self.what}: {', '.join(self.names[:SHOWN])}{more}"


def check_data(data: Data, colour: str) -> Iterator[Finding]:
    """Read every image, and compare the splits.

    Args:
        data: as `load_data` found it.
        colour: that the recipe decodes to.

    Yields:
        images that cannot be read; the same image, by its content, in two splits, or twice in one under two
        labels; labels without an image in a split.
    """
    unreadable: list[str] = []
    places: dict[bytes, list[tuple[str, str, bytes]]] = defaultdict(list)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for split in data.splits:
            # Bounded: an image is read when its turn comes, and what is kept of it is a hash.
            for start in range(0, len(split), 256):
                chunk = range(start, min(start + 256, len(split)))
                images: Sequence[ImageSource] = [split.images[index] for index in chunk]
                for index, outcome in zip(chunk, pool.map(lambda image: _hash(image, colour), images), strict=True):
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
    # Of the pixels: the same picture saved twice has other bytes.
    return hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=16, key=repr(pixels.shape).encode()).digest()


def _name(split: Split, index: int) -> str:
    image = split.images[index]
    return str(image) if isinstance(image, Path) else f"{split.name}[{index}]"
