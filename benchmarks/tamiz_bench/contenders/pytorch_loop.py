"""A training loop as a PyTorch tutorial writes it, for comparison with the trainer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import albumentations as A
import cv2
import timm
import torch
from torch.utils.data import DataLoader, Dataset


class Images(Dataset[tuple[torch.Tensor, int]]):
    """JPEG files as augmented, normalised float32 tensors ``[3, size, size]``, each with a label from 0 to 9."""

    def __init__(self, paths: Sequence[Path], size: int) -> None:
        self.paths = paths
        self.transform = A.Compose(
            [
                A.RandomResizedCrop(size=(size, size), scale=(0.5, 1.0)),
                A.HorizontalFlip(p=0.5),
                A.Normalize(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
                A.ToTensorV2(),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = cv2.cvtColor(cv2.imread(str(self.paths[index])), cv2.COLOR_BGR2RGB)
        return self.transform(image=image)["image"], index % 10


def train(paths: Sequence[Path], model: str, size: int, batch_size: int, workers: int, bfloat16: bool) -> float:
    """Train for two epochs; returns the images per second of the second one."""
    loader = DataLoader(
        Images(paths, size), batch_size, shuffle=True, num_workers=workers, persistent_workers=workers > 0
    )
    network = timm.create_model(model, num_classes=10).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    for _ in range(2):
        began = time.perf_counter()
        for images, targets in loader:
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                loss = torch.nn.functional.cross_entropy(network(images), targets)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        seconds = time.perf_counter() - began
    return len(paths) / seconds
