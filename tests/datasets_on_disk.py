"""Small data sets on disk, in the layouts of published data sets."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np


def write_images(folder: Path, count: int) -> None:
    """Write grey PNG files of 8×8 pixels; the grey level of each is its index."""
    folder.mkdir(parents=True)
    for index in range(count):
        cv2.imwrite(str(folder / f"{index}.png"), np.full((8, 8), index, np.uint8))


def write_idx(root: Path, images: np.ndarray, labels: np.ndarray, *, train: int) -> None:
    """Write a data set in the IDX files of MNIST, with the given number of training images and the rest for testing."""
    raw = root / "raw"
    raw.mkdir(parents=True)
    for name, part in (("train", slice(None, train)), ("t10k", slice(train, None))):
        for kind, array in (("images-idx3", images[part]), ("labels-idx1", labels[part])):
            content = struct.pack(f">I{array.ndim}I", 0x800 + array.ndim, *array.shape) + array.tobytes()
            (raw / f"{name}-{kind}-ubyte").write_bytes(content)
            (raw / f"{name}-{kind}-ubyte.gz").write_bytes(gzip.compress(content))


def write_voc(root: Path, sets: Mapping[str, Mapping[str, list[str]]]) -> Path:
    """Write a data set in the layout of PASCAL VOC; a label with a leading ``?`` marks a difficult object."""
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for split, images in sets.items():
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{name}\n" for name in images))
        for index, (name, labels) in enumerate(images.items()):
            cv2.imwrite(str(root / "JPEGImages" / f"{name}.jpg"), np.full((20, 30, 3), 10 * index % 250, np.uint8))
            objects = "".join(
                f"<object><name>{label.lstrip('?')}</name><difficult>{int(label.startswith('?'))}</difficult></object>"
                for label in labels
            )
            (root / "Annotations" / f"{name}.xml").write_text(f"<annotation>{objects}</annotation>")
    return root
