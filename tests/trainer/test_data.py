from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from datasets_on_disk import write_idx

from tamiz import Preprocessing, RecipeError
from tamiz_train.augmentation import check_augmentation, create_augmentation
from tamiz_train.data import create_loader, load_data
from tamiz_train.settings import FolderData, TorchvisionData

SIZE = Preprocessing(height=8, width=8, colour="L")


def write_images(folder: Path, count: int, grey: int = 0) -> None:
    folder.mkdir(parents=True)
    for index in range(count):
        cv2.imwrite(str(folder / f"{index}.png"), np.full((8, 8), grey + index, np.uint8))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for split, count in (("train", 20), ("validation", 4), ("test", 5)):
        for label in ("cat", "dog"):
            write_images(tmp_path / "data" / split / label, count)
    return tmp_path / "data"


def test_folders_of_the_three_splits_are_taken_as_they_are(root: Path) -> None:
    data = load_data(FolderData(kind="folder", root=root), seed=0)
    assert data.labels == ("cat", "dog")
    assert [len(split) for split in (data.train, data.validation, data.test)] == [40, 8, 10]
    assert {path.parent.name for path in data.test.images[:5]} == {"cat"}
    assert data.test.targets.tolist() == [0] * 5 + [1] * 5


def test_without_splits_shares_of_each_class_are_split_off(tmp_path: Path) -> None:
    for label, count in (("a", 100), ("b", 50)):
        write_images(tmp_path / label, count)
    data = load_data(FolderData(kind="folder", root=tmp_path, validation_share=0.1, test_share=0.2), seed=1)
    splits = (data.train, data.validation, data.test)
    assert [Counter(split.targets.tolist()) for split in splits] == [
        {0: 72, 1: 36},
        {0: 8, 1: 4},
        {0: 20, 1: 10},
    ]
    paths = [path for split in splits for path in split.images]
    assert len(set(paths)) == len(paths) == 150
    again = load_data(FolderData(kind="folder", root=tmp_path, validation_share=0.1, test_share=0.2), seed=1)
    assert again.test.images == data.test.images
    other = load_data(FolderData(kind="folder", root=tmp_path, validation_share=0.1, test_share=0.2), seed=2)
    assert other.test.images != data.test.images


def test_numbers_of_clusters_are_in_the_order_of_numbers(tmp_path: Path) -> None:
    for label in ("10", "9", "0", "other"):
        write_images(tmp_path / label, 10)
    assert load_data(FolderData(kind="folder", root=tmp_path), seed=0).labels == ("0", "9", "10", "other")


def test_a_subset_is_of_the_training_images_alone(root: Path) -> None:
    data = load_data(FolderData(kind="folder", root=root, subset_size=7), seed=0)
    assert [len(split) for split in (data.train, data.validation, data.test)] == [7, 8, 10]
    with pytest.raises(RecipeError, match="subset_size: 41 of 40"):
        load_data(FolderData(kind="folder", root=root, subset_size=41), seed=0)


def test_bad_folders_are_told(root: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="there is no folder"):
        load_data(FolderData(kind="folder", root=tmp_path / "none"), seed=0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecipeError, match="holds 0 class folders"):
        load_data(FolderData(kind="folder", root=tmp_path / "empty"), seed=0)
    (root / "train" / "cow").mkdir()
    (root / "test" / "horse").mkdir()
    with pytest.raises(RecipeError) as caught:
        load_data(FolderData(kind="folder", root=root), seed=0)
    assert "class folder" in str(caught.value)
    assert "cow holds no images" in str(caught.value)
    assert "test has class folders that train has not: horse" in str(caught.value)


def test_too_few_images_to_split_are_told(tmp_path: Path) -> None:
    write_images(tmp_path / "a", 3)
    write_images(tmp_path / "b", 1)
    with pytest.raises(RecipeError, match="too few to split off test"):
        load_data(FolderData(kind="folder", root=tmp_path), seed=0)


def test_batches_hold_pixels_targets_and_places(root: Path) -> None:
    data = load_data(FolderData(kind="folder", root=root), seed=0)
    (batch,) = create_loader(data.validation, SIZE, batch_size=64)
    assert batch.images.shape == (8, 8, 8, 1)
    assert batch.images[:, 0, 0, 0].tolist() == [0, 1, 2, 3] * 2
    assert batch.targets.tolist() == [0] * 4 + [1] * 4
    assert batch.indices.tolist() == list(range(8))
    assert batch.broken == []


def test_each_image_is_seen_once_an_epoch_in_an_order_given_by_the_seed(root: Path) -> None:
    split = load_data(FolderData(kind="folder", root=root), seed=0).train

    def order(seed: int) -> list[list[int]]:
        loader = create_loader(split, SIZE, batch_size=7, training=True, shuffle=True, seed=seed)
        orders = []
        for epoch in range(2):
            loader.sampler.set_epoch(epoch)
            orders.append([index for batch in loader for index in batch.indices.tolist()])
        return orders

    first, second = order(0)
    assert sorted(first) == sorted(second) == list(range(40))
    assert first != second
    assert order(0) == [first, second]
    assert order(1) != [first, second]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_broken_image_is_named_in_its_batch(num_workers: int, root: Path) -> None:
    (root / "validation" / "cat" / "2.png").write_bytes(b"broken")
    split = load_data(FolderData(kind="folder", root=root), seed=0).validation
    (batch,) = create_loader(split, SIZE, batch_size=64, num_workers=num_workers)
    assert len(batch.targets) == len(batch.images) == 7
    assert 2 not in batch.indices.tolist()
    assert len(batch.broken) == 1
    assert "cat/2.png: not an image" in batch.broken[0]


def test_augmentation_changes_training_images_by_its_seed(root: Path) -> None:
    split = load_data(FolderData(kind="folder", root=root), seed=0).train

    def images(seed: int) -> np.ndarray:
        augmentation = create_augmentation([{"RandomBrightnessContrast": {"p": 1.0}}], seed)
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


@pytest.mark.parametrize(
    ("transforms", "message"),
    [
        (
            [{"HorizontalFlop": {}}],
            "augmentation.0: no transform 'HorizontalFlop'; did you mean 'HorizontalFlip'",
        ),
        ([{"HorizontalFlip": {"q": 1}}], "augmentation.0: HorizontalFlip: .*q"),
        ([{"GaussNoise": {"var_limit": [10, 50]}}], "GaussNoise: .*var_limit"),
        ([{"HorizontalFlip": {"p": 2}}], "HorizontalFlip: .*less than or equal to 1"),
        ([{"A": {}, "B": {}}], "one transform an entry"),
        ([{"Blur": {"x": 1}}, {"Nope": {}}], "augmentation.0: .*augmentation.1: "),
    ],
)
def test_an_augmentation_that_albumentations_does_not_know_is_an_error(
    transforms: list[dict[str, dict[str, object]]], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        create_augmentation(transforms, 0)


def test_transforms_that_hold_others_are_written_as_albumentations_has_them() -> None:
    flips = [{"HorizontalFlip": {"p": 1}}, {"Sequential": {"transforms": [{"VerticalFlip": {"p": 1}}], "p": 1}}]
    augmentation = create_augmentation([{"OneOf": {"transforms": flips, "p": 1}}], 0)
    image = np.arange(12, dtype=np.uint8).reshape(3, 4)
    seen = {augmentation(image=image)["image"].tobytes() for _ in range(30)}
    assert seen == {image[:, ::-1].tobytes(), image[::-1].tobytes()}
    with pytest.raises(RecipeError, match=r"augmentation.0: no transform 'HorizontalFlop'; did you mean"):
        create_augmentation([{"OneOf": {"transforms": [{"HorizontalFlop": {}}]}}], 0)


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        ({"Normalize": {}}, "must give uint8 pixels"),
        ({"RandomCrop": {"height": 99, "width": 99, "p": 0.01}}, "fails on an image"),
    ],
)
def test_an_augmentation_that_images_cannot_go_through_is_told(
    transform: dict[str, dict[str, object]], message: str
) -> None:
    with pytest.raises(RecipeError, match=f"augmentation: .*{message}"):
        check_augmentation(create_augmentation([transform], 0), np.zeros((8, 8, 3), np.uint8))


def test_a_torchvision_data_set_that_is_there_is_not_downloaded(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (300, 28, 28), np.uint8)
    write_idx(tmp_path / "FashionMNIST", images, (np.arange(300) % 10).astype(np.uint8), train=200)
    settings = TorchvisionData(kind="torchvision", name="FashionMNIST", root=tmp_path, validation_share=0.1)
    data = load_data(settings, seed=0)
    assert data.labels[0] == "T-shirt/top"
    assert [len(split) for split in (data.train, data.validation, data.test)] == [180, 20, 100]
    assert next(iter(create_loader(data.train, SIZE, batch_size=4))).images.shape == (4, 8, 8, 1)


def test_a_torchvision_data_set_that_cannot_be_had_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    settings = TorchvisionData(kind="torchvision", name="MNIST", root=tmp_path)
    with pytest.raises(RecipeError, match="data.root: MNIST is not in .* and cannot be had"):
        load_data(settings, seed=0)
