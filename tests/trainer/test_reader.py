"""Batches of a split for evaluation."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from tamiz import InvalidImageError, Preprocessing, prepare
from tamiz_train.data import Split
from tamiz_train.data.reader import read_batches

PREPROCESSING = Preprocessing(height=6, width=5)


def make_split(count: int) -> Split:
    images = np.random.default_rng(0).integers(0, 256, (count, 9, 8, 3), np.uint8)
    return Split("test", images, np.zeros(count, np.int64))


@pytest.mark.parametrize("count", [0, 1, 4, 5, 17])
def test_every_image_is_read_once_in_order_and_prepared_as_clients_prepare_it(count: int) -> None:
    split = make_split(count)
    batches = list(read_batches(split, PREPROCESSING, 4))
    assert [len(batch.images) for batch in batches] == [4] * (count // 4) + [count % 4] * (count % 4 > 0)
    assert [index for batch in batches for index in batch.indices] == list(range(count))
    for batch in batches:
        for index, pixels in zip(batch.indices, batch.images, strict=True):
            np.testing.assert_array_equal(pixels, prepare(split.images[index], PREPROCESSING))


def test_an_image_that_cannot_be_read_is_left_out_with_its_message(tmp_path: Path) -> None:
    paths = [tmp_path / f"{index}.png" for index in range(3)]
    for index in (0, 2):
        cv2.imwrite(str(paths[index]), np.full((4, 4), index, np.uint8))
    paths[1].write_bytes(b"no image")
    (batch,) = read_batches(Split("test", paths, np.zeros(3, np.int64)), PREPROCESSING, 4)
    assert (batch.indices.tolist(), batch.images.shape) == ([0, 2], (2, 6, 5, 3))
    with pytest.raises(InvalidImageError) as caught:
        prepare(paths[1], PREPROCESSING)
    assert batch.unreadable == [str(caught.value)]
