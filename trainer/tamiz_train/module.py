"""The Lightning module: loss, optimizer, schedule and validation of one run."""

from __future__ import annotations

import contextlib
import ctypes
import inspect
from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from tamiz.errors import RecipeError, RunError, nearest

from .data import Batch
from .models import Classifier
from .recipe import OptimizerSettings, Recipe, ScheduleSettings


class ClassifierModule(L.LightningModule):
    """Trains a `Classifier` as a recipe says.

    Logs ``train_loss``, ``validation_loss`` and ``validation_accuracy`` (a share) each epoch.

    Args:
        classifier: the network.
        recipe: what to do with it.
        classes: number of labels.

    Attributes:
        broken: messages of the training and validation images that could not be read.
    """

    def __init__(self, classifier: Classifier, recipe: Recipe, classes: int) -> None:
        super().__init__()
        self.classifier = classifier
        self.recipe = recipe
        self.loss = nn.CrossEntropyLoss(label_smoothing=recipe.train.label_smoothing)
        self.validation_accuracy = MulticlassAccuracy(classes, average="micro")
        self.broken: set[str] = set()

    def on_fit_start(self) -> None:
        """Fit memory and precision to the device, which is known now."""
        if self.device.type == "cpu":
            keep_freed_memory()
            if self.recipe.train.precision == "bf16-mixed":
                keep_strided_depthwise_in_float32(self.classifier)

    def training_step(self, batch: Batch, _: int) -> Tensor | None:
        """Loss of a batch; None, which Lightning passes over, where no image of it could be read."""
        if not self._readable(batch):
            return None
        loss = self.loss(self.classifier(batch.images), batch.targets)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(batch.targets))
        return loss

    def validation_step(self, batch: Batch, _: int) -> None:
        """Loss and accuracy of a batch."""
        if not self._readable(batch):
            return
        logits, size = self.classifier(batch.images), len(batch.targets)
        self.validation_accuracy(logits, batch.targets)
        self.log("validation_loss", self.loss(logits, batch.targets), batch_size=size)
        self.log("validation_accuracy", self.validation_accuracy, prog_bar=True, batch_size=size)

    def configure_optimizers(self) -> Any:
        """The recipe's optimizer, with its schedule in Lightning's form where it has one."""
        optimizer = create_optimizer(self.recipe.train.optimizer, self.classifier)
        schedule = self.recipe.train.schedule
        if schedule is None:
            return optimizer
        return {
            "optimizer": optimizer,
            "lr_scheduler": create_schedule(schedule, optimizer, int(self.trainer.estimated_stepping_batches)),
        }

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, _: int) -> Batch:
        """Move the images and targets; what is told of broken images stays."""
        return batch._replace(images=batch.images.to(device), targets=batch.targets.to(device))

    def _readable(self, batch: Batch) -> bool:
        if batch.broken and self.recipe.data.on_broken == "stop":
            raise RunError(f"{'; '.join(batch.broken)} (data.on_broken: skip leaves such images out and goes on)")
        self.broken.update(batch.broken)
        return len(batch.targets) > 0


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, for the next step of training on the CPU to take again.

    glibc gives large blocks back to the kernel at once, which clears every page anew at the next step: 470,000
    page faults a step of a MobileNetV2 (batch 32, 224×224), and a third of the time. See mallopt(3).
    """
    m_trim_threshold, m_mmap_max = -1, -4
    with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(m_mmap_max, 0)
        libc.mallopt(m_trim_threshold, -1)


def keep_strided_depthwise_in_float32(network: nn.Module) -> None:
    """Leave depthwise convolutions of stride 2 out of bfloat16 autocast on the CPU.

    oneDNN's backward pass of these is five times slower in bfloat16 than in float32 (torch 2.15, AMX: 452 ms
    against 89 ms for 96 channels of 112×112, batch 32), which costs a MobileNet a third of its speed.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1 and module.stride != (1, 1):
            module.forward = _in_float32(module.forward)  # type: ignore[method-assign]


def _in_float32(forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def in_float32(pixels: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return forward(pixels.float())

    return in_float32


def create_optimizer(settings: OptimizerSettings, network: nn.Module) -> torch.optim.Optimizer:
    """An optimizer of ``torch.optim`` over all weights that are trained.

    Raises:
        RecipeError: no such optimizer, or an argument that it does not take.
    """
    known = {
        name: kind
        for name, kind in vars(torch.optim).items()
        if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer) and name != "Optimizer"
    }
    kind = _known("train.optimizer", settings.name, settings.options, known)
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    try:
        return kind(weights, lr=settings.lr, **settings.options)
    except (TypeError, ValueError) as exc:
        raise RecipeError(f"train.optimizer: {settings.name}: {exc}") from exc


def create_schedule(settings: ScheduleSettings, optimizer: torch.optim.Optimizer, total_steps: int) -> dict[str, Any]:
    """A schedule of ``torch.optim.lr_scheduler``, in the form that Lightning takes.

    Raises:
        RecipeError: no such schedule, or an argument that it does not take.
    """
    known = {
        name: kind
        for name, kind in vars(torch.optim.lr_scheduler).items()
        if isinstance(kind, type) and hasattr(kind, "step") and not name.startswith("_")
    }
    kind = _known("train.schedule", settings.name, settings.options, known)
    options = dict(settings.options)
    by_step = "total_steps" in inspect.signature(kind).parameters
    if by_step:
        options.setdefault("total_steps", total_steps)
    if settings.name == "ReduceLROnPlateau":
        options.setdefault("mode", "max")
    try:
        scheduler = kind(optimizer, **options)
    except (TypeError, ValueError) as exc:
        raise RecipeError(f"train.schedule: {settings.name}: {exc}") from exc
    return {
        "scheduler": scheduler,
        "interval": "step" if by_step else "epoch",
        "monitor": "validation_accuracy",
    }


def _known(key: str, name: str, options: dict[str, Any], known: dict[str, type[Any]]) -> type[Any]:
    if name not in known:
        raise RecipeError(f"{key}.name: torch has no {name!r}{nearest(name, known)}")
    taken = inspect.signature(known[name]).parameters
    if wrong := [option for option in options if option not in taken]:
        raise RecipeError(f"{key}.options: {name} takes no {wrong[0]!r}{nearest(wrong[0], taken)}")
    return known[name]
