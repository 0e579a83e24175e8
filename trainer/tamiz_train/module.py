"""The Lightning module: loss, optimizer, schedule and validation of one phase of a run."""

from __future__ import annotations

from typing import Any

import lightning as L
import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch.utilities.types import LRSchedulerTypeUnion
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy, MultilabelAveragePrecision, MultilabelF1Score
from torchvision.transforms.v2 import CutMix, MixUp, RandomChoice

from tamiz.errors import RecipeError, RunError

from .cpu import keep_freed_memory, keep_strided_depthwise_in_float32
from .data import Batch, Data, Task
from .models import Classifier
from .optimization import create_optimizer, create_schedule, freeze
from .recipe import Recipe
from .settings import PhaseSettings, TrainSettings

MONITORS: dict[Task, tuple[str, ...]] = {"multiclass": ("accuracy", "loss"), "multilabel": ("loss", "f1", "map")}
"""What each task is validated by; the first is the default of ``train.monitor``."""


class ClassifierModule(L.LightningModule):
    """Trains a `Classifier` in one phase of a recipe.

    Logs ``train_loss``, ``validation_loss``, and ``validation_accuracy`` (multiclass) or ``validation_f1`` (macro, at
    0.5) and ``validation_map`` (multilabel) each epoch.

    Args:
        classifier: the network.
        recipe: what to do with it.
        data: its labels, its task and the balance of its classes.
        phase: of the recipe.
        index: which of the recipe's phases it is, from 0.

    Attributes:
        broken: messages of the training and validation images that could not be read.
        lr: the rate of the last step, warm-up included.
    """

    def __init__(self, classifier: Classifier, recipe: Recipe, data: Data, phase: PhaseSettings, index: int) -> None:
        super().__init__()
        self.classifier = classifier
        self.recipe = recipe
        self.phase = phase
        self.index = index
        self.monitor = monitored(recipe.train, data.task)
        self.loss = create_loss(recipe.train, data)
        self.mix = create_mix(recipe.train, len(data.labels))
        self.validation = nn.ModuleDict(_validation_metrics(data))
        self.broken: set[str] = set()
        self.lr = phase.lr
        self._plateau: Any = None
        self._plateau_state: dict[str, Any] | None = None
        freeze(classifier, phase.trainable)
        self.train()

    def train(self, mode: bool = True) -> ClassifierModule:
        """Set the mode; what is frozen stays in evaluation, so that its batch normalisation stays as it is."""
        super().train(mode)
        for layer in self.classifier.modules():
            weights = list(layer.parameters(recurse=False))
            if weights and not any(weight.requires_grad for weight in weights):
                layer.eval()
        return self

    def on_fit_start(self) -> None:
        """Fit memory and precision to the device, which is known now."""
        if self.device.type == "cpu":
            keep_freed_memory()
            if self.recipe.train.precision == "bf16-mixed":
                keep_strided_depthwise_in_float32(self.classifier)

    def on_train_start(self) -> None:
        """As on the start of an epoch, which Lightning does not tell of where it goes on from a checkpoint."""
        self.on_train_epoch_start()

    def on_train_epoch_start(self) -> None:
        """Draw an epoch's random numbers from seed and epoch alone, so that a resumed run draws the same ones."""
        sequence = np.random.SeedSequence([self.recipe.train.seed, self.index, self.current_epoch, self.global_rank])
        torch.manual_seed(int(sequence.generate_state(1)[0]))

    def on_train_epoch_end(self) -> None:
        """Step a schedule that watches a plateau; Lightning does it after checkpoints, which would then lack it."""
        if self._plateau is not None:
            self.lr_scheduler_step(self._plateau, self.trainer.callback_metrics.get(self.monitor))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add which phase it is of, and the schedule that Lightning does not know of."""
        checkpoint["phase"] = self.index
        if self._plateau is not None:
            checkpoint["plateau"] = self._plateau.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the state for the schedule, which is made afterwards."""
        self._plateau_state = checkpoint.get("plateau")

    def training_step(self, batch: Batch, _: int) -> Tensor | None:
        """Loss of a batch; None, which Lightning passes over, where no image of it could be read."""
        if not self._readable(batch):
            return None
        images, targets = self.mix(batch.images, batch.targets) if self.mix else (batch.images, batch.targets)
        loss = self.loss(self.classifier(images), targets)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(targets), sync_dist=True)
        return loss

    def validation_step(self, batch: Batch, _: int) -> None:
        """Loss and figures of a batch."""
        if not self._readable(batch):
            return
        logits, size = self.classifier(batch.images), len(batch.targets)
        probabilities = self.classifier.probabilities(logits)
        self.log("validation_loss", self.loss(logits, batch.targets), batch_size=size, sync_dist=True)
        for name, metric in self.validation.items():
            metric.update(probabilities, batch.targets.int())
            self.log(f"validation_{name}", metric, prog_bar=True, batch_size=size)

    def configure_optimizers(self) -> Any:
        """The recipe's optimizer, with its schedule in Lightning's form where it has one."""
        settings = self.recipe.train
        optimizer = create_optimizer(settings.optimizer, self.phase.lr, self.classifier)
        if settings.schedule is None:
            return optimizer
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = create_schedule(
            settings.schedule, optimizer, epochs=self.phase.epochs, total_steps=steps, monitor=self.monitor
        )
        if schedule["reduce_on_plateau"]:
            self._plateau = schedule["scheduler"]
            if self._plateau_state is not None:
                self._plateau.load_state_dict(self._plateau_state)
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def lr_scheduler_step(self, scheduler: LRSchedulerTypeUnion, metric: Any) -> None:
        """Advance a schedule; timm's are told the epoch."""
        if isinstance(scheduler, torch.optim.lr_scheduler.LRScheduler):
            super().lr_scheduler_step(scheduler, metric)
        else:
            scheduler.step(self.current_epoch + 1, None if metric is None else float(metric))

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        """One step, at a part of the schedule's rate while warming up."""
        settings = self.recipe.train
        steps = int(self.trainer.estimated_stepping_batches) * settings.warmup_epochs / self.phase.epochs
        share = min(1.0, (self.trainer.global_step + 1) / steps) if steps else 1.0
        rates = [group["lr"] for group in optimizer.param_groups]
        # Given back after the step: schedules reckon from the rate that they find.
        for group in optimizer.param_groups:
            group["lr"] *= share
        self.lr = optimizer.param_groups[0]["lr"]
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, _: int) -> Batch:
        """Move the images and targets; what is told of broken images stays."""
        return batch._replace(images=batch.images.to(device), targets=batch.targets.to(device))

    def _readable(self, batch: Batch) -> bool:
        if batch.broken and self.recipe.data.on_broken == "stop":
            raise RunError(f"{'; '.join(batch.broken)} (data.on_broken: skip leaves such images out and goes on)")
        self.broken.update(batch.broken)
        return len(batch.targets) > 0


def monitored(settings: TrainSettings, task: Task) -> str:
    """Name of the logged figure by which epochs are compared.

    Raises:
        RecipeError: the task has no such figure.
    """
    known = MONITORS[task]
    if settings.monitor is not None and settings.monitor not in known:
        raise RecipeError(f"train.monitor: {settings.monitor} is not of {task} data; take {' or '.join(known)}")
    return f"validation_{settings.monitor or known[0]}"


def create_loss(settings: TrainSettings, data: Data) -> nn.Module:
    """Cross-entropy; binary cross-entropy of each label where images have several.

    Raises:
        RecipeError: label smoothing of multilabel data.
    """
    counts = data.train.counts(len(data.labels)).astype(np.float64)
    if data.task == "multilabel":
        if settings.label_smoothing:
            raise RecipeError("train.label_smoothing: belongs to multiclass data; these are multilabel")
        positives = np.maximum(counts, 1)
        return nn.BCEWithLogitsLoss(pos_weight=_weights(settings, (len(data.train) - counts) / positives))
    balanced = len(data.train) / (len(counts) * np.maximum(counts, 1))
    return nn.CrossEntropyLoss(weight=_weights(settings, balanced), label_smoothing=settings.label_smoothing)


def create_mix(settings: TrainSettings, classes: int) -> Any:
    """Mixup, CutMix, or each of them for half of the batches; None where the recipe has neither."""
    kinds: list[nn.Module] = []
    if settings.mixup:
        kinds.append(MixUp(alpha=settings.mixup, num_classes=classes))
    if settings.cutmix:
        kinds.append(CutMix(alpha=settings.cutmix, num_classes=classes))
    if not kinds:
        return None
    choice = RandomChoice(kinds)

    def mix(images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        # torchvision mixes floats whose last two dimensions are height and width.
        mixed, shares = choice(images.permute(0, 3, 1, 2).float(), targets)
        return mixed.permute(0, 2, 3, 1), shares

    return mix


def _weights(settings: TrainSettings, balanced: npt.NDArray[np.float64]) -> Tensor | None:
    return torch.from_numpy(balanced).float() if settings.class_weights == "balanced" else None


def _validation_metrics(data: Data) -> dict[str, Metric]:
    labels = len(data.labels)
    if data.task == "multiclass":
        return {"accuracy": MulticlassAccuracy(labels, average="micro")}
    return {"f1": MultilabelF1Score(labels), "map": MultilabelAveragePrecision(labels)}
