"""The section ``train``: the optimizer, the schedule, the phases, and how each step is computed."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from .section import Fraction, NonNegativeFloat, PositiveFloat, PositiveInt, Section

DEFAULT_EPOCHS = 10


class OptimizerSettings(Section):
    """The optimizer.

    Attributes:
        name: The name of a class in ``torch.optim``, such as ``AdamW`` (the default), or of an optimizer of timm, such
            as ``adamw`` or ``lamb``.
        lr: The learning rate, above 0. Default: 0.001.
        options: Further arguments of the optimizer. Default: none.
    """

    name: str = "AdamW"
    lr: PositiveFloat = 0.001
    options: dict[str, Any] = Field(default_factory=dict)


class ScheduleSettings(Section):
    """The learning rate schedule.

    A schedule that takes ``total_steps``, such as ``OneCycleLR``, gets the number of steps of the phase and is advanced
    at each step. All others are advanced at each epoch. ``ReduceLROnPlateau`` watches the metric that ``train.monitor``
    names.

    Attributes:
        name: The name of a class in ``torch.optim.lr_scheduler``, or of a schedule of timm: ``cosine``, ``tanh``,
            ``step``, ``multistep`` or ``poly``. Default: ``OneCycleLR``.
        options: Further arguments of the schedule. Default: none. ``max_lr`` of ``OneCycleLR``, its highest rate, is
            ``train.optimizer.lr`` or the learning rate of the phase unless it is set.
    """

    name: str = "OneCycleLR"
    options: dict[str, Any] = Field(default_factory=dict)


class PhaseSettings(Section):
    """One phase of training, which starts from the best epoch of the previous phase.

    Each phase has its own optimizer and schedule.

    Attributes:
        epochs: The number of epochs of this phase.
        lr: The learning rate of this phase, above 0.
        trainable: The part of the network that is trained: ``all`` (the default), ``head``, or a number, which means
            the head and that many of the last blocks. The rest is frozen, including its batch normalisation statistics.
    """

    epochs: PositiveInt
    lr: PositiveFloat
    trainable: Literal["all", "head"] | PositiveInt = "all"


class TrainSettings(Section):
    """How the network is trained.

    Attributes:
        epochs: The number of passes over the training images. Set either this or ``phases``. Default: 10 if there are
            no phases.
        phases: A list of training phases; see `PhaseSettings`. Set either this or ``epochs``.
        batch_size: The number of images per batch, over all processes together. Default: 32.
        accumulate: The number of batches whose gradients are accumulated for one optimizer step. Default: 1.
        optimizer: The optimizer; see `OptimizerSettings`. The learning rate of a phase replaces ``optimizer.lr``.
        schedule: The learning rate schedule; see `ScheduleSettings`. Default: ``OneCycleLR``, which warms up and then
            anneals. Null means a constant learning rate.
        warmup_epochs: The number of epochs, fractions allowed, over which the learning rate rises linearly from 0 at
            the start of each phase, whatever the schedule. Default: 0.
        label_smoothing: The label smoothing of the cross-entropy loss, from 0 to below 1; multiclass only. Default: 0.
        class_weights: ``balanced`` weights each class in the loss by the inverse of its frequency (multilabel: weights
            the positives of a label by the ratio of negatives to positives). Default: null, no weights.
        mixup: The alpha of mixup's Beta distribution; 0 (the default) turns mixup off. If ``cutmix`` is set too, each
            batch uses one of the two at random.
        cutmix: The alpha of CutMix's Beta distribution; 0 (the default) turns CutMix off.
        ema_decay: The decay, above 0 and below 1, of an exponential moving average of the weights, which is evaluated
            and saved instead of the weights themselves. Default: null, no average.
        gradient_clip: The largest norm of the gradients, above 0. Default: null, no limit.
        monitor: The validation metric that selects the best epoch, and that early stopping and ReduceLROnPlateau watch.
            Multiclass: ``accuracy`` (the default) or ``loss``. Multilabel: ``loss`` (the default), ``f1`` (macro) or
            ``map`` (mean average precision).
        early_stopping_patience: The number of epochs without improvement after which a phase ends. Default: null,
            which never ends it early.
        checkpoint_every: The interval, in epochs, at which weights are saved in addition to those of the best epoch.
            Default: null, only those of the best epoch.
        shuffle: Whether the training images are shuffled before each epoch. Default: true.
        seed: The seed of the random splits, the order of images, the augmentation and the initial weights. Default: 0.
        deterministic: Whether to use only deterministic algorithms, which give the same bits on each run but can be
            slower. Default: false.
        precision: The precision of training: ``32-true`` (the default), ``bf16-mixed`` or ``16-mixed``. A CPU uses
            ``bf16-mixed`` instead of ``16-mixed``. The best epoch is always evaluated in float32.
        compile: Whether to compile the network with ``torch.compile``, which needs a C++ compiler on CPUs. Default:
            false.
        device: The device to train on: ``auto`` (the default), ``cpu`` or ``cuda``.
        num_workers: The number of processes that load images; 0 (the default) loads them in the training process.
        num_threads: The number of threads that PyTorch uses on the CPU. Default: null, one per core.
    """

    epochs: PositiveInt | None = DEFAULT_EPOCHS
    phases: tuple[PhaseSettings, ...] = ()
    batch_size: PositiveInt = 32
    accumulate: PositiveInt = 1
    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: ScheduleSettings | None = ScheduleSettings()
    warmup_epochs: NonNegativeFloat = 0.0
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    class_weights: Literal["balanced"] | None = None
    mixup: NonNegativeFloat = 0.0
    cutmix: NonNegativeFloat = 0.0
    ema_decay: Fraction | None = None
    gradient_clip: PositiveFloat | None = None
    monitor: Literal["loss", "accuracy", "f1", "map"] | None = None
    early_stopping_patience: PositiveInt | None = None
    checkpoint_every: PositiveInt | None = None
    shuffle: bool = True
    seed: Annotated[int, Field(ge=0)] = 0
    deterministic: bool = False
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    compile: bool = False
    device: Literal["auto", "cpu", "cuda"] = "auto"
    num_workers: Annotated[int, Field(ge=0)] = 0
    num_threads: PositiveInt | None = None

    @model_validator(mode="before")
    @classmethod
    def _either_epochs_or_phases(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        if data.get("phases"):
            if data.get("epochs") is not None:
                raise ValueError("set either epochs or phases, not both; --set train.epochs=null removes the epochs")
            return {**data, "epochs": None}
        return {**data, "epochs": DEFAULT_EPOCHS} if data.get("epochs") is None else data

    def all_phases(self) -> tuple[PhaseSettings, ...]:
        """The phases of the run; a single phase that trains all weights if the recipe sets ``epochs``."""
        if self.phases:
            return self.phases
        assert self.epochs is not None
        return (PhaseSettings(epochs=self.epochs, lr=self.optimizer.lr),)
