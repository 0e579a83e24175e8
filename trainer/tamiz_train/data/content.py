"""Content hashes: images that are the same file content, wherever the files are."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

HASH_BYTES = 16
"""Length of a content hash."""


def content_hashes(images: Sequence[Path | npt.NDArray[np.uint8]] | npt.NDArray[np.uint8]) -> list[bytes]:
    """A hash of the content of each image: of the bytes of its file, or of its pixels.

    A copy of a file has the same hash; the same picture in another file format has another. The hash of a file that
    cannot be read is empty.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(_content_hash, images))


def content_fingerprint(hashes: Sequence[bytes], labels: Sequence[tuple[str, ...]]) -> str:
    """A hash of images with their labels, which depends neither on the paths nor on the order of the images.

    Args:
        hashes: the content hash of each image; one that is empty is left out with its labels.
        labels: the labels of each image.
    """
    rows = sorted((content.hex(), sorted(named)) for content, named in zip(hashes, labels, strict=True) if content)
    return hashlib.blake2b(repr(rows).encode(), digest_size=HASH_BYTES).hexdigest()


def _content_hash(image: Path | npt.NDArray[np.uint8]) -> bytes:
    try:
        content = image.tobytes() if isinstance(image, np.ndarray) else image.read_bytes()
    except (OSError, ValueError):
        return b""
    return hashlib.blake2b(content, digest_size=HASH_BYTES).digest()
