"""The Lightning module: one phase of training, with its loss, optimizer, schedule and validation metrics."""

from __future__ import annotations

import json
import warnings
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.utilities.types import LRSchedulerTypeUnion
from torch import Tensor, nn
from torchmetrics import Metric

from tamiz.errors import RunError

from .classifier import Classifier
from .cpu import keep_freed_memory, keep_strided_depthwise_in_float32
from .data import Data
from .data.labels import list_some
from .data.loader import Batch
from .loss import create_loss
from .mixing import create_mix
from .optimization import advance_schedule, create_optimizer, create_schedule, freeze
from .recipe import PhaseSettings, Recipe
from .training_errors import DivergedError
from .validation import monitored_metric, validation_metrics


class ClassifierModule(L.LightningModule):
    """Trains a classifier in one phase of a recipe.

    Each epoch it logs ``train_loss``, ``validation_loss``, and ``validation_accuracy`` (multiclass), or
    ``validation_f1`` (macro, at a threshold of 0.5) and ``validation_map`` (multilabel).

    Args:
        classifier: the classifier; its weights are trained in place.
        recipe: the recipe.
        data: the data set, which defines the labels, the task and the frequencies of the labels.
        phase: the phase of the recipe.
        phase_index: the index of the phase among the recipe's phases, from 0.

    Attributes:
        monitor: the logged name of the metric that selects the best epoch.
        unreadable: one message for each training or validation image that could not be read.
        lr: the learning rate of the last step, including warm-up.
    """

    def __init__(
        self, classifier: Classifier, recipe: Recipe, data: Data, phase: PhaseSettings, phase_index: int
    ) -> None:
        super().__init__()
        self.classifier = classifier
        self.recipe = recipe
        self.phase = phase
        self.phase_index = phase_index
        self.monitor = monitored_metric(recipe.train, data.task)
        self.loss = create_loss(recipe.train, data)
        self.mix = create_mix(recipe.train, len(data.labels))
        self.validation_metrics = nn.ModuleDict(validation_metrics(data))
        self.labels, self.multilabel = len(data.labels), data.task == "multilabel"
        self.unreadable: set[str] = set()
        self.lr = phase.lr
        self._changed = False
        self._plateau: Any = None
        self._plateau_state: dict[str, Any] | None = None
        freeze(classifier, phase.trainable)
        self.train()

    def train(self, mode: bool = True) -> ClassifierModule:
        """Set training or evaluation mode; frozen layers stay in evaluation mode, which freezes batch normalisation."""
        super().train(mode)
        for layer in self.classifier.modules():
            weights = list(layer.parameters(recurse=False))
            if weights and not any(weight.requires_grad for weight in weights):
                layer.eval()
        return self

    def on_fit_start(self) -> None:
        """Apply the settings for CPUs, because the device is known now."""
        if self.device.type == "cpu":
            keep_freed_memory()
            # The precision that is used, because Lightning replaces 16-mixed on a CPU.
            if self.trainer.precision == "bf16-mixed":
                keep_strided_depthwise_in_float32(self.classifier)

    def on_train_start(self) -> None:
        """Start the first epoch; Lightning does not call `on_train_epoch_start` when it resumes from a checkpoint."""
        if self._changed:
            self._apply_changed_rates()
        self.on_train_epoch_start()

    def on_train_epoch_start(self) -> None:
        """Seed the random numbers of the epoch from seed and epoch alone, so that a resumed run draws the same ones."""
        sequence = np.random.SeedSequence(
            [self.recipe.train.seed, self.phase_index, self.current_epoch, self.global_rank]
        )
        torch.manual_seed(int(sequence.generate_state(1)[0]))

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """Compute the loss of a batch.

        Raises:
            DivergedError: the loss is NaN or infinite, in this process or in another one.
            RunError: images cannot be read.
        """
        if not self._has_images(batch):
            raise RunError(f"no image for training can be read: {list_some(batch.unreadable, '; ')}")
        if batch.unreadable and len(batch.targets) == 1:
            # Twice, because batch normalisation can fail on the only image that is left of a batch.
            batch = batch._replace(images=batch.images.repeat(2, 1, 1, 1), targets=torch.cat([batch.targets] * 2))
        images, targets = self.mix(batch.images, batch.targets) if self.mix else (batch.images, batch.targets)
        loss: Tensor = self.loss(self.classifier(images), targets)
        # All processes stop together; otherwise those with a finite loss would wait for the gradients of the others.
        losses = self.all_gather(loss.detach())
        assert isinstance(losses, Tensor)
        diverged = losses[~losses.isfinite()]
        if len(diverged):
            raise DivergedError(f"the training loss is {diverged[0].item()}")
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(targets), sync_dist=True)
        return loss

    def validation_step(self, batch: Batch, _: int) -> None:
        """Compute the loss and the metrics of a batch."""
        readable, size = self._has_images(batch), len(batch.targets)
        if not readable and self.trainer.world_size == 1:
            return
        # Of several processes each logs every metric, because they are averaged over all processes.
        loss = torch.zeros((), device=self.device)
        probabilities = torch.zeros((1, self.labels), device=self.device)
        targets = probabilities.int()
        if readable:
            logits = self.classifier(batch.images)
            loss, targets = self.loss(logits, batch.targets), batch.targets.int()
            probabilities = self.classifier.probabilities(logits)
        self.log("validation_loss", loss, batch_size=size, sync_dist=True)
        for name, metric in self.validation_metrics.items():
            assert isinstance(metric, Metric)
            # An image with no label and no probability changes no multilabel metric.
            if readable or self.multilabel:
                metric.update(probabilities, targets)
            self.log(f"validation_{name}", metric, prog_bar=True, batch_size=size)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, _: int) -> Batch:
        """Move the images and the targets; Lightning's own method cannot move the messages about unreadable images."""
        return batch._replace(images=batch.images.to(device), targets=batch.targets.to(device))

    def configure_optimizers(self) -> Any:
        """Create the optimizer and the schedule of the recipe.

        A schedule that watches a plateau is kept back; `on_train_epoch_end` advances it.
        """
        optimizer = create_optimizer(self.recipe.train.optimizer, self.phase.lr, self.classifier)
        schedule = self._create_schedule(optimizer)
        if schedule is None:
            return optimizer
        if schedule["reduce_on_plateau"]:
            self._plateau = schedule["scheduler"]
            if self._plateau_state is not None:
                self._plateau.load_state_dict(self._plateau_state)
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def _create_schedule(self, optimizer: torch.optim.Optimizer) -> dict[str, Any] | None:
        if self.recipe.train.schedule is None:
            return None
        steps = int(self.trainer.estimated_stepping_batches)
        return create_schedule(
            self.recipe.train.schedule, optimizer, epochs=self.phase.epochs, total_steps=steps, monitor=self.monitor
        )

    def _apply_changed_rates(self) -> None:
        """Continue with the rates that the recipe has now, as if the run had had them from its start.

        Lightning has restored those of the checkpoint. The rest of the optimizer's state, such as momenta, is kept. A
        schedule that watches a plateau starts anew.
        """
        (optimizer,) = self.trainer.optimizers
        fresh = create_optimizer(self.recipe.train.optimizer, self.phase.lr, self.classifier)
        for group, new in zip(optimizer.param_groups, fresh.param_groups, strict=True):
            group.pop("initial_lr", None)
            group.update({name: value for name, value in new.items() if name != "params"})
        schedule = self._create_schedule(optimizer)
        if schedule is None:
            return
        scheduler = schedule["scheduler"]
        if schedule["reduce_on_plateau"]:
            self._plateau = scheduler
            return
        (config,) = self.trainer.lr_scheduler_configs
        config.scheduler = scheduler
        with warnings.catch_warnings():
            # PyTorch advises to call the optimizer first, which was done before the interruption.
            warnings.simplefilter("ignore")
            if not isinstance(scheduler, torch.optim.lr_scheduler.LRScheduler):
                scheduler.step(self.current_epoch)
                return
            for _ in range(self.trainer.global_step if schedule["interval"] == "step" else self.current_epoch):
                scheduler.step()

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        """Carry out one optimizer step, with a fraction of the scheduled learning rate during warm-up."""
        settings = self.recipe.train
        steps = int(self.trainer.estimated_stepping_batches) * settings.warmup_epochs / self.phase.epochs
        fraction = min(1.0, (self.trainer.global_step + 1) / steps) if steps else 1.0
        rates = [group["lr"] for group in optimizer.param_groups]
        # Restored after the step, because schedules compute the next rate from the current one.
        for group in optimizer.param_groups:
            group["lr"] *= fraction
        self.lr = optimizer.param_groups[0]["lr"]
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate

    def lr_scheduler_step(self, scheduler: LRSchedulerTypeUnion, metric: Any) -> None:
        """Advance a schedule; those of timm need the epoch."""
        advance_schedule(scheduler, self.current_epoch + 1, None if metric is None else float(metric))

    def on_train_epoch_end(self) -> None:
        """Advance a plateau schedule; Lightning would do it after saving checkpoints, which would lack this step."""
        if self._plateau is not None:
            self.lr_scheduler_step(self._plateau, self.trainer.callback_metrics.get(self.monitor))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the phase, the settings of the rates, and the state of a plateau schedule, which Lightning lacks."""
        checkpoint["phase"] = self.phase_index
        checkpoint["rates"] = self._rate_settings()
        if self._plateau is not None:
            checkpoint["plateau"] = self._plateau.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the state of a plateau schedule, which is created later, and whether the rates have changed."""
        self._changed = checkpoint.get("rates", self._rate_settings()) != self._rate_settings()
        self._plateau_state = None if self._changed else checkpoint.get("plateau")

    def _rate_settings(self) -> str:
        settings = self.recipe.train
        schedule = settings.schedule and settings.schedule.model_dump(mode="json")
        return json.dumps([self.phase.lr, settings.optimizer.model_dump(mode="json"), schedule])

    def _has_images(self, batch: Batch) -> bool:
        if batch.unreadable and self.recipe.data.on_unreadable == "stop":
            raise RunError(
                f"{list_some(batch.unreadable, '; ')}; set data.on_unreadable to skip to leave such images out"
            )
        self.unreadable.update(batch.unreadable)
        return len(batch.targets) > 0
