"""The section ``data``: where the images and their labels are, and how they are divided into three splits."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from .section import Fraction, PositiveInt, Section

TEST_FRACTION = 0.2
"""The fraction of images that is split off for testing if neither the data nor the recipe says otherwise."""


class ImageData(Section):
    """The keys that all kinds of data share.

    A split that the data does not define is drawn: an image's content and ``train.seed`` decide its split, so an image
    stays in its split when others are added, and copies of an image are in one split. The fractions hold on average,
    and each class of a multiclass task has at least one image in each split.

    Attributes:
        root: The folder that contains the images. A relative path begins at the working directory, not at the folder of
            the recipe.
        validation_fraction: The fraction of images, above 0 and below 1, that is split off for validation. It is used
            only if the data itself has no validation split. Default: 0.1.
        validation_from: The split that the validation images are taken from: ``train`` (the default) or ``test``.
        subset_size: The number of training images to use; the seed selects which. Default: null, which uses all.
        on_unreadable: What happens when an image cannot be read: ``stop`` (the default) ends the run with an error,
            ``skip`` leaves the image out and lists it at the end.
    """

    root: Path
    validation_fraction: Fraction = 0.1
    validation_from: Literal["train", "test"] = "train"
    subset_size: PositiveInt | None = None
    on_unreadable: Literal["skip", "stop"] = "stop"


class FolderData(ImageData):
    """Image folders, one per class: ``<root>/<split>/<label>/…``.

    The splits are the folders ``train``, ``validation`` (or ``valid``, ``val``) and ``test``; other folders beside them
    are an error. If there is no folder ``train``, the class folders are expected in ``root`` itself. To keep the test
    images fixed, put them into the folder ``test``.

    All image files below a class folder belong to its class. Links are followed. Hidden files and folders, folders of
    operating systems such as ``__MACOSX``, and files whose names do not end like those of images are left out and
    counted.

    Attributes:
        kind: ``folder``.
        test_fraction: The fraction of images, above 0 and below 1, that is split off for testing. It is used only if
            there is no folder ``test``. Default: null, which is 0.2 if the data has no validation split either;
            otherwise there are no test images, and the given splits are kept.
    """

    kind: Literal["folder"]
    test_fraction: Fraction | None = None


class CsvData(ImageData):
    """A CSV manifest with the columns ``path,label[,split]``, or ``path,labels[,split]`` for several labels per image.

    The file is UTF-8. Each path is relative to the manifest. Several labels of one image are separated by ``|``; with
    the column ``labels`` the task is multilabel. ``split`` is ``train``, ``validation`` (or ``valid``, ``val``) or
    ``test``. Other columns are ignored.

    Attributes:
        kind: ``csv``.
        manifest: The path of the CSV file, relative to ``root``. Default: ``labels.csv``.
        test_fraction: The fraction of images, above 0 and below 1, that is split off for testing. It is used only if
            no row has the split ``test``. Default: null, which is 0.2 if the data has no validation split either;
            otherwise there are no test images, and the given splits are kept.
    """

    kind: Literal["csv"]
    manifest: Path = Path("labels.csv")
    test_fraction: Fraction | None = None


class VocData(ImageData):
    """A multilabel data set in the layout of PASCAL VOC: ``JPEGImages``, ``Annotations`` and ``ImageSets/Main``.

    ``train.txt``, ``val.txt`` and ``test.txt`` in ``ImageSets/Main`` list the images of the splits; ``trainval.txt`` is
    read if ``train.txt`` is missing. The labels of an image are the names of the objects in its annotation.

    Attributes:
        kind: ``voc``.
        root: The folder that contains these three folders, such as ``VOCdevkit/VOC2007``.
        test_fraction: The fraction of images, above 0 and below 1, that is split off for testing. It is used only if
            there is no ``test.txt``. Default: null, which is 0.2 if the data has no validation split either; otherwise
            there are no test images, and the given splits are kept.
        difficult: Whether objects that are marked as difficult count as labels. Default: true.
    """

    kind: Literal["voc"]
    test_fraction: Fraction | None = None
    difficult: bool = True


class TorchvisionData(ImageData):
    """A data set that torchvision provides, and downloads into ``root`` if it is not there.

    Attributes:
        kind: ``torchvision``.
        name: The name of the data set in torchvision: ``FashionMNIST``, ``MNIST`` or ``CIFAR10``.
    """

    kind: Literal["torchvision"]
    name: Literal["FashionMNIST", "MNIST", "CIFAR10"]


DataSettings = FolderData | CsvData | VocData | TorchvisionData
"""The section ``data``; the key ``kind`` selects which of the four it is."""

DATA_KINDS: dict[str, type[ImageData]] = {
    "folder": FolderData,
    "csv": CsvData,
    "voc": VocData,
    "torchvision": TorchvisionData,
}
"""The settings class of each value of ``kind``."""
