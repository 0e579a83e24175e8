"""Loading batches: their content, order and augmentation, and the shards of several processes."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from tamiz import Preprocessing
from tamiz_train.augmentation import create_augmentation
from tamiz_train.data import Split, load_data
from tamiz_train.data.loader import Shard, create_loader, set_epoch
from tamiz_train.recipe import FolderData

SIZE = Preprocessing(height=8, width=8, colour="L")


def test_a_batch_has_pixels_targets_and_indices(root: Path) -> None:
    data = load_data(FolderData(kind="folder", root=root), seed=0)
    (batch,) = create_loader(data.validation, SIZE, batch_size=64)
    assert batch.images.shape == (8, 8, 8, 1)
    assert batch.images[:, 0, 0, 0].tolist() == [0, 1, 2, 3] * 2
    assert batch.targets.tolist() == [0] * 4 + [1] * 4
    assert batch.indices.tolist() == list(range(8))
    assert batch.unreadable == []


def test_each_image_is_loaded_once_per_epoch_in_an_order_that_the_seed_determines(root: Path) -> None:
    split = load_data(FolderData(kind="folder", root=root), seed=0).train

    def order(seed: int) -> list[list[int]]:
        loader = create_loader(split, SIZE, batch_size=7, training=True, shuffle=True, seed=seed)
        orders = []
        for epoch in range(2):
            set_epoch(loader, epoch)
            orders.append([index for batch in loader for index in batch.indices.tolist()])
        return orders

    first, second = order(0)
    assert sorted(first) == sorted(second) == list(range(40))
    assert first != second
    assert order(0) == [first, second]
    assert order(1) != [first, second]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_unreadable_image_is_named_in_its_batch(num_workers: int, root: Path) -> None:
    (root / "validation" / "cat" / "2.png").write_bytes(b"damaged")
    split = load_data(FolderData(kind="folder", root=root), seed=0).validation
    (batch,) = create_loader(split, SIZE, batch_size=64, num_workers=num_workers)
    assert len(batch.targets) == len(batch.images) == 7
    assert 2 not in batch.indices.tolist()
    assert len(batch.unreadable) == 1
    assert "cat/2.png: not an image" in batch.unreadable[0]


def test_a_training_batch_without_readable_images_has_another_image(root: Path) -> None:
    """Several processes that train together need an image each in every step."""
    for number in range(19):
        (root / "train" / "cat" / f"{number}.png").write_bytes(b"damaged")
        (root / "train" / "dog" / f"{number}.png").write_bytes(b"damaged")
    split = load_data(FolderData(kind="folder", root=root), seed=0).train
    readable = {split.images.index(root / "train" / label / "19.png") for label in ("cat", "dog")}
    batches = list(create_loader(split, SIZE, batch_size=4, training=True))
    assert all(0 < len(batch.targets) <= 2 for batch in batches)
    assert {index for batch in batches for index in batch.indices.tolist()} == readable
    assert len({message for batch in batches for message in batch.unreadable}) == 38
    for path in root.rglob("19.png"):
        path.write_bytes(b"damaged")
    assert all(len(batch.targets) == 0 for batch in create_loader(split, SIZE, batch_size=4, training=True))


def test_an_image_on_which_the_augmentation_fails_is_named_in_its_batch(root: Path) -> None:
    cv2.imwrite(str(root / "validation" / "cat" / "2.png"), np.zeros((4, 4), np.uint8))
    split = load_data(FolderData(kind="folder", root=root), seed=0).validation
    augmentation = create_augmentation([{"RandomCrop": {"height": 6, "width": 6}}], 0, SIZE)
    (batch,) = create_loader(split, SIZE, batch_size=64, augmentation=augmentation)
    assert len(batch.targets) == len(batch.images) == 7
    assert re.match(r".*/cat/2\.png: the augmentation fails on this image: .*\(6, 6\)", *batch.unreadable)


def test_the_seed_determines_the_augmentation(root: Path) -> None:
    split = load_data(FolderData(kind="folder", root=root), seed=0).train

    def images(seed: int) -> np.ndarray:
        augmentation = create_augmentation([{"RandomBrightnessContrast": {"p": 1.0}}], seed, SIZE)
        return np.concatenate(
            [
                batch.images.numpy()
                for batch in create_loader(split, SIZE, batch_size=8, augmentation=augmentation, seed=seed)
            ]
        )

    plain = np.concatenate([batch.images.numpy() for batch in create_loader(split, SIZE, batch_size=8)])
    assert not np.array_equal(images(0), plain)
    np.testing.assert_array_equal(images(0), images(0))
    assert not np.array_equal(images(0), images(1))


def split(images: int) -> Split:
    return Split("test", np.zeros((images, 4, 4), np.uint8), np.zeros(images, np.int64))


def load_indices(images: int, batch_size: int, processes: int, training: bool) -> list[list[list[int]]]:
    """The indices of the images in each batch of each process."""
    return [
        [
            batch.indices.tolist()
            for batch in create_loader(
                split(images),
                SIZE,
                batch_size=batch_size,
                training=training,
                shuffle=training,
                shard=Shard(rank, processes),
            )
        ]
        for rank in range(processes)
    ]


@pytest.mark.parametrize("images", [1, 2, 31, 32, 33, 63, 64, 65, 100])
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_evaluation_loads_each_image_once_in_equally_many_batches_per_process(images: int, processes: int) -> None:
    batches = load_indices(images, 16, processes, training=False)
    indices = sorted(index for process in batches for batch in process for index in batch)
    assert indices == list(range(images))
    assert len({len(process) for process in batches}) == 1
    assert max(len(batch) for process in batches for batch in process) <= 16


@pytest.mark.parametrize("images", [31, 32, 33, 100])
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_training_loads_each_image_once_and_repeats_at_most_one_per_process(images: int, processes: int) -> None:
    batches = load_indices(images, 16, processes, training=True)
    indices = Counter(index for process in batches for batch in process for index in batch)
    assert set(indices) == set(range(images))
    assert sum(indices.values()) - images < processes
    assert len({sum(map(len, process)) for process in batches}) == 1


@pytest.mark.parametrize("batch_size", [1, 2, 7, 16, 30, 31, 60, 61, 64, 100])
@pytest.mark.parametrize("processes", [1, 2])
def test_training_has_no_batch_of_one_image_unless_all_are(batch_size: int, processes: int) -> None:
    batches = load_indices(61, batch_size, processes, training=True)
    assert {index for process in batches for batch in process for index in batch} == set(range(61))
    sizes = [[len(batch) for batch in process] for process in batches]
    assert sizes.count(sizes[0]) == processes
    *others, last = sizes[0]
    assert set(others) <= {batch_size}
    assert last <= batch_size + 1
    assert (last == 1) == (batch_size == 1)
    loader = create_loader(split(61), SIZE, batch_size=batch_size, training=True, shard=Shard(0, processes))
    assert len(loader) == len(sizes[0])
