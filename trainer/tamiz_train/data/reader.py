"""Batches of a split for evaluation: every image once, in order, prepared as clients prepare it. Needs no PyTorch."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tamiz.errors import InvalidImageError
from tamiz.preprocessing import Pixels, prepare
from tamiz.spec import Preprocessing

from .split import Split


class ReadBatch(NamedTuple):
    """A batch of images; those that cannot be read are left out of the arrays.

    Attributes:
        images: the prepared pixels, uint8 ``[batch, height, width, channels]``.
        indices: the index of each image in the split, int64 ``[batch]``.
        unreadable: one message for each image that cannot be read.
    """

    images: Pixels
    indices: npt.NDArray[np.int64]
    unreadable: list[str]


def read_batches(split: Split, preprocessing: Preprocessing, batch_size: int) -> Iterator[ReadBatch]:
    """Read and prepare the images of a split, in threads, while the caller works on the batch before.

    Args:
        split: the images.
        preprocessing: the size and colour mode of the model's input.
        batch_size: the largest number of images in a batch.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:

        def start(first: int) -> list[Future[Pixels | str]]:
            chosen = range(first, min(first + batch_size, len(split)))
            return [pool.submit(_prepare, split, index, preprocessing) for index in chosen]

        starts = iter(range(0, len(split), batch_size))
        # Two batches ahead, so that the memory is bounded.
        waiting = deque((first, start(first)) for first in islice(starts, 2))
        while waiting:
            first, futures = waiting.popleft()
            outcomes = [future.result() for future in futures]
            waiting.extend((following, start(following)) for following in islice(starts, 1))
            yield _collect(first, outcomes, preprocessing)


def _prepare(split: Split, index: int, preprocessing: Preprocessing) -> Pixels | str:
    try:
        return prepare(split.images[index], preprocessing)
    except InvalidImageError as exc:
        return str(exc)


def _collect(first: int, outcomes: list[Pixels | str], preprocessing: Preprocessing) -> ReadBatch:
    images = [outcome for outcome in outcomes if not isinstance(outcome, str)]
    indices = [first + place for place, outcome in enumerate(outcomes) if not isinstance(outcome, str)]
    return ReadBatch(
        np.stack(images) if images else np.empty((0, *preprocessing.shape), np.uint8),
        np.array(indices, np.int64),
        [outcome for outcome in outcomes if isinstance(outcome, str)],
    )
