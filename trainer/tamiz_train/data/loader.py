"""Loading: batches of a split, decoded, augmented and resized, in an order that follows from seed and epoch alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import albumentations as A
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Sampler

from tamiz.errors import InvalidImageError
from tamiz.preprocessing import ImageSource, decode, prepare, resize
from tamiz.spec import Preprocessing

from .split import Split


class Batch(NamedTuple):
    """Images that could be read, with their places in the split, and the names of those that could not.

    Attributes:
        images: uint8 ``[batch, height, width, channels]``.
        targets: int64 ``[batch]``; multilabel: float32 ``[batch, labels]``.
        indices: int64 ``[batch]``.
        broken: one message for each image that could not be read.
    """

    images: Tensor
    targets: Tensor
    indices: Tensor
    broken: list[str]


class Share(NamedTuple):
    """Which of several processes this is, each of which takes its share of the images."""

    rank: int = 0
    processes: int = 1


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
    share: Share = Share(),
) -> DataLoader[Batch]:
    """Batches of a split.

    Args:
        split: the images.
        preprocessing: the size and colour of the model's input.
        batch_size: images a batch, of this process.
        augmentation: for training; evaluation has none.
        training: give each process as many images, where some are given twice to make it even; in evaluation none
            is, and each process has as many batches.
        shuffle: new order each epoch; call ``loader.sampler.set_epoch(epoch)`` before each, as Lightning does.
        seed: of the order and of the augmentation.
        num_workers: processes that load images.
        share: of several processes that train or evaluate together.
    """
    images = _Images(split, preprocessing, augmentation, seed)
    order: dict[str, Any]
    if training:
        order = {"sampler": _TrainingOrder(images, shuffle, seed, share), "batch_size": batch_size}
    else:
        order = {"batch_sampler": _EvaluationBatches(len(split), batch_size, share)}
    return DataLoader(
        images,
        **order,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        collate_fn=_collate,
        # Its own, so that making an iterator draws nothing from the random numbers of training.
        generator=torch.Generator().manual_seed(seed),
    )


class _Images(Dataset[tuple[Any, Any, int]]):
    def __init__(self, split: Split, preprocessing: Preprocessing, augmentation: A.Compose | None, seed: int) -> None:
        self.split = split
        self.preprocessing = preprocessing
        self.augmentation = augmentation
        self.seed = seed
        # Shared with the worker processes, which outlive an epoch.
        self.epoch = torch.zeros(1, dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        return len(self.split)

    def __getitems__(self, indices: list[int]) -> list[tuple[Any, Any, int]]:
        """The samples of a batch; augmented by its place alone, whichever worker loads it and after whatever else."""
        if self.augmentation is not None and indices:
            sequence = np.random.SeedSequence([self.seed, int(self.epoch), indices[0]])
            self.augmentation.set_random_seed(int(sequence.generate_state(1)[0]))
        return [self[index] for index in indices]

    def __getitem__(self, index: int) -> tuple[Any, Any, int]:
        image: ImageSource = self.split.images[index]
        target = self.split.targets[index]
        try:
            if self.augmentation is None:
                # By the very function that a client calls.
                return prepare(image, self.preprocessing), target, index
            pixels = decode(image, self.preprocessing.colour)
        except InvalidImageError as exc:
            # Told in the batch, not raised: an exception in a worker process would end the run.
            return str(exc), None, index
        return resize(self.augmentation(image=pixels)["image"], self.preprocessing), target, index


class _TrainingOrder(DistributedSampler[Any]):
    def __init__(self, images: _Images, shuffle: bool, seed: int, share: Share) -> None:
        super().__init__(images, num_replicas=share.processes, rank=share.rank, shuffle=shuffle, seed=seed)

    def set_epoch(self, epoch: int) -> None:
        super().set_epoch(epoch)
        self.dataset.epoch[0] = epoch


class _EvaluationBatches(Sampler[list[int]]):
    """Each image once over all processes, in as many batches for each of them, so that none waits for another."""

    def __init__(self, images: int, batch_size: int, share: Share) -> None:
        self.indices = np.arange(share.rank, images, share.processes)
        largest = -(-images // share.processes)
        # One at least, also of nothing: who evaluates need not know.
        self.batches = max(1, -(-largest // batch_size))

    def __iter__(self) -> Iterator[list[int]]:
        return (part.tolist() for part in np.array_split(self.indices, self.batches))

    def __len__(self) -> int:
        return self.batches


def _collate(samples: list[tuple[Any, Any, int]]) -> Batch:
    good = [sample for sample in samples if sample[1] is not None]
    pixels = np.stack([image for image, _, _ in good]) if good else np.empty((0, 1, 1, 1), np.uint8)
    targets = np.array([target for _, target, _ in good]) if good else np.empty(0, np.int64)
    return Batch(
        torch.from_numpy(pixels),
        torch.from_numpy(targets),
        torch.tensor([index for _, _, index in good], dtype=torch.int64),
        [message for message, target, _ in samples if target is None],
    )
