"""The sections of a recipe, each a frozen pydantic model whose docstring tells its keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

PositiveInt = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(gt=0, lt=1)]
Probability = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    """A part of a recipe: frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class _ImageData(Section):
    """What all kinds of data have.

    Attributes:
        root: the folder that holds the images.
        validation_share: of the images it is taken from, where the data name none for validation.
        validation_from: split validation off the images for training (``train``) or off those for test (``test``).
        subset_size: train on this many images, drawn by the seed; None for all.
        on_broken: an image that cannot be read is left out and named (``skip``) or ends the run (``stop``).
    """

    root: Path
    validation_share: Share = 0.1
    validation_from: Literal["train", "test"] = "train"
    subset_size: PositiveInt | None = None
    on_broken: Literal["skip", "stop"] = "stop"


class FolderData(_ImageData):
    """Image folders, one a class: ``root/train/<label>/…``, and beside ``train``, ``validation`` and ``test``.

    Without a ``train`` folder, the class folders stand in ``root`` itself. What is split off has the same share of
    each class.

    Attributes:
        test_share: of the images, where there is no ``test`` folder.
    """

    kind: Literal["folder"]
    test_share: Share = 0.2


class CsvData(_ImageData):
    """A CSV manifest: ``path,label[,split]``, or ``path,labels[,split]`` with the labels of an image joined by a bar.

    Paths are relative to the manifest, in UTF-8; ``split`` is ``train``, ``validation`` or ``test``. Other columns
    are passed over. With ``labels`` the task is multilabel.

    Attributes:
        manifest: the CSV file, in ``root``.
        test_share: of the images, where no row is for test.
    """

    kind: Literal["csv"]
    manifest: Path = Path("labels.csv")
    test_share: Share = 0.2


class VocData(_ImageData):
    """A data set in the layout of PASCAL VOC, multilabel: ``JPEGImages``, ``Annotations`` and ``ImageSets/Main``.

    ``train.txt``, ``val.txt`` and ``test.txt`` of ``ImageSets/Main`` name the images of the splits; ``trainval.txt``
    serves where ``train.txt`` is not there. An image has the labels of the objects in its annotation.

    Attributes:
        root: the folder that holds those three, as in ``VOCdevkit/VOC2007``.
        test_share: of the images, where there is no ``test.txt``.
        difficult: count the objects that are marked as difficult.
    """

    kind: Literal["voc"]
    test_share: Share = 0.2
    difficult: bool = True


class TorchvisionData(_ImageData):
    """A data set that torchvision knows and downloads into ``root``.

    Attributes:
        name: of the data set in torchvision.
    """

    kind: Literal["torchvision"]
    name: Literal["FashionMNIST", "MNIST", "CIFAR10"]


DataSettings = FolderData | CsvData | VocData | TorchvisionData
DATA_KINDS: dict[str, type[_ImageData]] = {
    "folder": FolderData,
    "csv": CsvData,
    "voc": VocData,
    "torchvision": TorchvisionData,
}


class HeadSettings(Section):
    """A head of several layers in the place of a model's own: linear layers with ReLU between them.

    Attributes:
        hidden: width of each hidden layer.
        dropout: before each linear layer, the last one included; so one more than ``hidden`` has.
        init: of its weights: ``torch`` as torch does, ``xavier`` uniform with biases of 0.
    """

    hidden: tuple[PositiveInt, ...]
    dropout: tuple[Annotated[float, Field(ge=0, lt=1)], ...]
    init: Literal["torch", "xavier"] = "torch"

    @model_validator(mode="after")
    def _one_dropout_a_layer(self) -> HeadSettings:
        if len(self.dropout) != len(self.hidden) + 1:
            raise ValueError(
                f"{len(self.hidden)} hidden layers and the last one need {len(self.hidden) + 1} values of dropout, "
                f"not {len(self.dropout)}; 0 for none"
            )
        return self


class ModelSettings(Section):
    """Which network is trained, and from which weights.

    Attributes:
        name: ``lenet5``, ``mlp``, ``cnn``, or any model of timm.
        pretrained: begin with timm's weights, which are downloaded.
        weights: begin with this local state dict (``.safetensors``, or ``.pt`` read with ``weights_only``); a
            head of another number of classes is left out.
        head: see `HeadSettings`; None keeps the model's own, one linear layer.
        options: further arguments of ``timm.create_model``.
    """

    name: str
    pretrained: bool = False
    weights: Path | None = None
    head: HeadSettings | None = None
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_source(self) -> ModelSettings:
        if self.pretrained and self.weights:
            raise ValueError("give pretrained or weights, not both")
        return self


class OptimizerSettings(Section):
    """An optimizer by name with its arguments: of ``torch.optim`` (``AdamW``), or of timm (``adamw``, ``lamb``, …)."""

    name: str = "AdamW"
    lr: Rate
    options: dict[str, Any] = Field(default_factory=dict)


class ScheduleSettings(Section):
    """A schedule by name with its arguments: of ``torch.optim.lr_scheduler``, or of timm (``cosine``, ``poly``, …).

    ``OneCycleLR`` and others that take ``total_steps`` get the run's and go by the step, all others by the
    epoch. ``ReduceLROnPlateau`` and timm's ``plateau`` watch ``train.monitor``.
    """

    name: str
    options: dict[str, Any] = Field(default_factory=dict)


class PhaseSettings(Section):
    """One phase of training with its own optimizer state and schedule; each begins from the best epoch before it.

    Attributes:
        epochs: of this phase.
        lr: of this phase.
        trainable: ``all``, ``head``, or a number: the head and that many of the last blocks. The rest is frozen,
            batch normalisation included.
    """

    epochs: PositiveInt
    lr: Rate
    trainable: Literal["all", "head"] | PositiveInt = "all"


class TrainSettings(Section):
    """How the network is trained.

    Attributes:
        epochs: passes over the training images; or give ``phases``.
        phases: see `PhaseSettings`.
        batch_size: images a step, over all processes together.
        accumulate: batches whose gradients make one step.
        optimizer: see `OptimizerSettings`; a phase has a rate of its own.
        schedule: see `ScheduleSettings`; None for a constant rate.
        warmup_epochs: over which the rate rises from 0 at the beginning, whatever the schedule; parts count.
        label_smoothing: of the cross-entropy; multiclass only.
        class_weights: ``balanced`` weighs each class in the loss by the inverse of its share of the images
            (multilabel: positives by negatives over positives).
        mixup: alpha of mixup's Beta distribution; 0 for none. With ``cutmix`` too, each batch takes one of the two.
        cutmix: alpha of CutMix's Beta distribution; 0 for none.
        ema_decay: keep an exponential moving average of the weights with this decay, and evaluate and save it.
        gradient_clip: largest norm of the gradients; None for no limit.
        monitor: the validation figure that the best epoch, early stopping and ReduceLROnPlateau go by: ``loss``;
            ``accuracy`` (multiclass, its default); ``f1`` (macro) and ``map`` (multilabel; default ``loss``).
        early_stopping_patience: end a phase after this many epochs without a better one; None for never.
        checkpoint_every: keep the weights of each so many epochs as well as the best; None for none.
        shuffle: new order of the training images each epoch.
        seed: of the split, the order, the augmentation and the first weights.
        deterministic: only algorithms that give the same bits each time, where that costs speed too.
        precision: Lightning's: ``32-true``, ``bf16-mixed``, ``16-mixed``. The evaluation of the best epoch is
            always in float32.
        compile: the network with ``torch.compile``, which wants a C++ compiler on CPUs.
        device: Lightning's accelerator: ``auto``, ``cpu``, ``cuda``.
        num_workers: processes that load images; they live as long as the run.
        num_threads: of PyTorch on the CPU; None for one a core.
    """

    epochs: PositiveInt | None = None
    phases: tuple[PhaseSettings, ...] = ()
    batch_size: PositiveInt
    accumulate: PositiveInt = 1
    optimizer: OptimizerSettings
    schedule: ScheduleSettings | None = None
    warmup_epochs: Annotated[float, Field(ge=0)] = 0.0
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    class_weights: Literal["balanced"] | None = None
    mixup: Annotated[float, Field(ge=0)] = 0.0
    cutmix: Annotated[float, Field(ge=0)] = 0.0
    ema_decay: Share | None = None
    gradient_clip: Rate | None = None
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

    @model_validator(mode="after")
    def _epochs_or_phases(self) -> TrainSettings:
        if (self.epochs is None) == (not self.phases):
            raise ValueError("give epochs or phases, and not both")
        return self

    def in_phases(self) -> tuple[PhaseSettings, ...]:
        """The phases; one of all weights where the recipe gives ``epochs``."""
        if self.phases:
            return self.phases
        assert self.epochs is not None
        return (PhaseSettings(epochs=self.epochs, lr=self.optimizer.lr),)


class TrackingSettings(Section):
    """Where the run is kept beside its folder.

    Attributes:
        uri: of MLflow's tracking store; None tracks nothing.
        experiment: its name; the recipe's name where None.
        log_model: log the trained model to MLflow, as the ONNX graph that is served.
        tensorboard: write TensorBoard's files into the run folder too.
    """

    uri: str | None = "sqlite:///mlflow.db"
    experiment: str | None = None
    log_model: bool = False
    tensorboard: bool = False
