"""Batches of a split: decoded, augmented and resized, in an order that depends on the seed and the epoch alone."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, DistributedSampler, Sampler

from tamiz.errors import InvalidImageError, one_line
from tamiz.preprocessing import ImageSource, decode, prepare, resize
from tamiz.spec import Preprocessing

from .split import Split

if TYPE_CHECKING:
    import albumentations as A


MAX_SUBSTITUTES = 1000
"""The number of images that are tried in place of a batch of which no image can be read."""


class Batch(NamedTuple):
    """A batch of images; those that could not be read or augmented are left out of the arrays.

    Attributes:
        images: the prepared pixels, uint8 ``[batch, height, width, channels]``.
        targets: the targets: multiclass int64 ``[batch]``, multilabel float32 ``[batch, labels]``.
        indices: the index of each image in the split, int64 ``[batch]``.
        unreadable: one message for each image that could not be read or augmented.
    """

    images: Tensor
    targets: Tensor
    indices: Tensor
    unreadable: list[str]


@dataclass(frozen=True)
class Shard:
    """The part of a split that one of several processes loads.

    Attributes:
        rank: the index of the process, from 0.
        count: the number of processes.
    """

    rank: int = 0
    count: int = 1


def create_loader(
    split: Split,
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    augmentation: A.Compose | None = None,
    training: bool = False,
    shuffle: bool = False,
    seed: int = 0,
    num_workers: int = 0,
    shard: Shard = Shard(),
) -> DataLoader[Any]:
    """Create a loader that yields a `Batch` at a time.

    Of a training batch of which no image can be read, another image of the split is used, so that all processes that
    train together carry out the same steps.

    Args:
        split: the images.
        preprocessing: the size and colour mode of the network's input.
        batch_size: the number of images per batch of this process; in training, the last batch can have one more.
        augmentation: the augmentation of training images; None for evaluation.
        training: True gives all processes the same number of images, for which some images can be repeated. False
            loads each image exactly once, and gives all processes the same number of batches.
        shuffle: whether to shuffle the images; for a new order each epoch, call `set_epoch` before it, as Lightning
            does.
        seed: the seed of the order and of the augmentation.
        num_workers: the number of processes that load images; 0 loads them in this process.
        shard: the part of the split that this process loads, if several train or evaluate together.
    """
    images = _Images(split, preprocessing, augmentation, seed, training)
    order: dict[str, Any]
    if training:
        order = {"batch_sampler": _TrainingBatches(_TrainingOrder(images, shuffle, seed, shard), batch_size, False)}
    else:
        order = {"batch_sampler": _EvaluationBatches(len(split), batch_size, shard)}
    return DataLoader(
        images,
        **order,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        collate_fn=_collate,
        # A separate generator, so that creating an iterator does not advance the random numbers of training.
        generator=torch.Generator().manual_seed(seed),
    )


def count_training_batches(images: int, batch_size: int) -> int:
    """The number of batches of an epoch of training; an image that would be left over is in the batch before it."""
    full, rest = divmod(images, batch_size)
    return full + (rest > 1) or 1


def set_epoch(loader: DataLoader[Any], epoch: int) -> None:
    """Set the epoch, from 0, that determines the order and the augmentation of a loader's next batches."""
    if isinstance(loader.batch_sampler, _TrainingBatches):
        loader.batch_sampler.sampler.set_epoch(epoch)


class _Images(Dataset[tuple[Any, Any, int]]):
    def __init__(
        self, split: Split, preprocessing: Preprocessing, augmentation: A.Compose | None, seed: int, training: bool
    ) -> None:
        self.split = split
        self.preprocessing = preprocessing
        self.augmentation = augmentation
        self.seed = seed
        self.training = training
        # In shared memory, because worker processes live longer than an epoch.
        self.epoch: Tensor = torch.zeros(1, dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        return len(self.split)

    def __getitems__(self, indices: list[int]) -> list[tuple[Any, Any, int]]:
        """The samples of a batch.

        Their augmentation depends on the seed, the epoch and the indices alone, not on which worker loads the batch.
        """
        if not indices:
            return []
        sequence = np.random.SeedSequence([self.seed, int(self.epoch), indices[0]])
        if self.augmentation is not None:
            self.augmentation.set_random_seed(int(sequence.generate_state(1)[0]))
        samples = [self[index] for index in indices]
        if self.training and not any(map(_readable, samples)):
            others = np.random.default_rng(sequence).permutation(len(self))[:MAX_SUBSTITUTES]
            substitutes = filter(_readable, (self[int(index)] for index in others))
            samples += itertools.islice(substitutes, 1)
        return samples

    def __getitem__(self, index: int) -> tuple[Any, Any, int]:
        """Pixels, target and index; if the image cannot be read, a message, None and the index."""
        image: ImageSource = self.split.images[index]
        target = self.split.targets[index]
        try:
            if self.augmentation is None:
                # The function that clients call.
                return prepare(image, self.preprocessing), target, index
            pixels = decode(image, self.preprocessing.colour, revision=self.preprocessing.revision)
        except InvalidImageError as exc:
            # Not raised, because an exception in a worker process would end the run.
            return str(exc), None, index
        try:
            return resize(self.augmentation(image=pixels)["image"], self.preprocessing), target, index
        except Exception as exc:
            # Albumentations and OpenCV raise errors of many classes.
            return f"{self.split.image_name(index)}: the augmentation fails on this image: {one_line(exc)}", None, index


class _TrainingOrder(DistributedSampler[Any]):
    def __init__(self, images: _Images, shuffle: bool, seed: int, shard: Shard) -> None:
        super().__init__(images, num_replicas=shard.count, rank=shard.rank, shuffle=shuffle, seed=seed)
        self.images = images

    def set_epoch(self, epoch: int) -> None:
        super().set_epoch(epoch)
        self.images.epoch[0] = epoch


class _TrainingBatches(BatchSampler):
    """Batches in the order of training.

    An image that would be a last batch of its own is added to the batch before it, because batch normalisation can fail
    on one image, and its statistics are poor.
    """

    sampler: _TrainingOrder

    def __iter__(self) -> Iterator[list[int]]:
        indices = list(self.sampler)
        last = len(self) - 1
        for batch in range(last):
            yield indices[batch * self.batch_size : (batch + 1) * self.batch_size]
        yield indices[last * self.batch_size :]

    def __len__(self) -> int:
        return count_training_batches(len(self.sampler), self.batch_size)


class _EvaluationBatches(Sampler[list[int]]):
    """Each image once over all processes, in the same number of batches per process, so that none waits for others."""

    def __init__(self, images: int, batch_size: int, shard: Shard) -> None:
        self.indices = np.arange(shard.rank, images, shard.count)
        largest = -(-images // shard.count)
        # At least one batch, which can be empty, so that callers need no special case for an empty split.
        self.batches = max(1, -(-largest // batch_size))

    def __iter__(self) -> Iterator[list[int]]:
        return (part.tolist() for part in np.array_split(self.indices, self.batches))

    def __len__(self) -> int:
        return self.batches


def _readable(sample: tuple[Any, Any, int]) -> bool:
    return sample[1] is not None


def _collate(samples: Sequence[tuple[Any, Any, int]]) -> Batch:
    readable = list(filter(_readable, samples))
    pixels = np.stack([image for image, _, _ in readable]) if readable else np.empty((0, 1, 1, 1), np.uint8)
    targets = np.array([target for _, target, _ in readable]) if readable else np.empty(0, np.int64)
    return Batch(
        torch.from_numpy(pixels),
        torch.from_numpy(targets),
        torch.tensor([index for _, _, index in readable], dtype=torch.int64),
        [message for message, target, _ in samples if target is None],
    )
