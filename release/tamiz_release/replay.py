"""Replay: images of a bulk job are classified again by the version that the results name.

A version never changes, so its results can be computed again; that shows that neither the version nor the images nor
the results were changed since. The probabilities are compared to the bit. Their last bits may differ where the batch
size, the number of threads, the processor, or the release of ONNX Runtime or OpenCV is another one.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NamedTuple, TypeAlias

from tamiz import Prediction
from tamiz.arguments import check_function, check_path, check_text, check_whole
from tamiz.bulk.inputs import find_inputs, is_tar
from tamiz.bulk.recorded import read_records
from tamiz.bulk.results import Record, to_record
from tamiz.errors import InvalidImageError, RepositoryError, TamizError, UsageError
from tamiz.preprocessing import ImageSource

Predict: TypeAlias = Callable[[Sequence[ImageSource], int], Iterable[Prediction | InvalidImageError]]
"""Classifies images by one version, with a number of labels for each; an outcome for each image, in their order."""


class RecordedVersion(NamedTuple):
    """The version that results name.

    Attributes:
        model: name of the model.
        version: number of the version.
        onnx_sha256: SHA-256 of its graph; None if the results do not have it.
        spec_sha256: SHA-256 of its spec; None if the results do not have it.
    """

    model: str
    version: int
    onnx_sha256: str | None
    spec_sha256: str | None

    def __str__(self) -> str:
        return f"{self.model} version {self.version}"


OpenVersion: TypeAlias = Callable[[RecordedVersion, int], AbstractContextManager[Predict]]
"""Opens a version for a number of results; raises `VersionGoneError` if it is not to be had as it was recorded."""


class VersionGoneError(RepositoryError):
    """The version that results name does not exist any more, or is another one."""


@dataclass(frozen=True)
class ReplayDifference:
    """An image that got another result.

    Attributes:
        path: path of the image.
        label: the recorded label.
        score: the recorded probability.
        label_now: the label of the replay.
        score_now: the probability of the replay.
    """

    path: str
    label: str
    score: float
    label_now: str
    score_now: float


@dataclass(frozen=True)
class Replay:
    """What a replay found.

    Attributes:
        results: number of results in the file, without unreadable images.
        replayed: number of images that were classified again.
        differences: the images that got another label or another probability, to the bit.
        missing_images: path of each image that cannot be read any more, and the reason.
        missing_versions: name of each version that is gone, the number of its images in the sample, and the reason.
    """

    results: int
    replayed: int
    differences: tuple[ReplayDifference, ...]
    missing_images: tuple[tuple[str, str], ...]
    missing_versions: tuple[tuple[str, int, str], ...]

    @property
    def same(self) -> int:
        """Number of images that got the same labels and probabilities, to the bit."""
        return self.replayed - len(self.differences)

    @property
    def other_labels(self) -> int:
        """Number of images that got another label."""
        return sum(each.label != each.label_now for each in self.differences)

    @property
    def largest_difference(self) -> float:
        """Largest difference of a probability of the images that got the same label; 0 if there is none."""
        same_label = (each for each in self.differences if each.label == each.label_now)
        return max((abs(each.score - each.score_now) for each in same_label), default=0.0)


def replay_results(
    path: Path,
    open_version: OpenVersion,
    *,
    model: str | None = None,
    sample: int = 100,
    seed: int = 0,
    root: Path = Path(),
    on_image: Callable[[], None] = lambda: None,
) -> Replay:
    """Classify a sample of the images of a bulk job again.

    Args:
        path: the results, as `tamiz classify` wrote them.
        open_version: opens the version that results name, such as `tamiz_release.replayed_version.open_on_disk`.
        model: name of the model, for results without provenance.
        sample: number of images to classify again, drawn at random.
        seed: seed of the draw.
        root: folder that relative paths in the results begin at.
        on_image: called after each image.

    Raises:
        UsageError: the file does not hold results, or names no model; or an argument is wrong.
        ServerError: the server did not answer.
        ExportError: a graph cannot be loaded on this machine.
    """
    check_path("path", path, "the path of a file with results")
    check_whole("sample", sample)
    check_whole("seed", seed, least=0)
    check_function("open_version", open_version, "a function that opens a version, such as that of open_on_disk")
    if model is not None:
        check_text("model", model, "the name of a model, or None")
    check_path("root", root, "the path of a folder")
    check_function("on_image", on_image, "a function without arguments")
    path, root = Path(path), Path(root)
    results, drawn = _draw(read_records(path), sample, random.Random(int(seed)))
    groups: dict[RecordedVersion, list[Record]] = defaultdict(list)
    for record in drawn:
        groups[_version_of(record, model, path)].append(record)
    work = _Work(root, on_image)
    for version, records in groups.items():
        try:
            with open_version(version, results) as predict:
                work.compare(records, predict)
        except VersionGoneError as exc:
            work.missing_versions.append((str(version), len(records), str(exc)))
    return Replay(
        results, work.replayed, tuple(work.differences), tuple(work.missing_images), tuple(work.missing_versions)
    )


def _draw(records: Iterator[Record], sample: int, draw: random.Random) -> tuple[int, list[Record]]:
    """Number of the predictions, and a sample of them in their order, each equally probable (Vitter's algorithm R)."""
    kept: dict[int, tuple[int, Record]] = {}
    count = 0
    for record in records:
        if record["error"] is None:
            place = count if count < sample else draw.randrange(count + 1)
            if place < sample:
                kept[place] = (count, record)
            count += 1
    return count, [record for _, record in sorted(kept.values(), key=lambda entry: entry[0])]


def _version_of(record: Record, model: str | None, path: Path) -> RecordedVersion:
    name = record.get("model") or model
    if name is None:
        raise UsageError(f"{path}: the results do not name their model; pass --model, or write them with --provenance")
    return RecordedVersion(name, record["version"], record.get("onnx_sha256"), record.get("spec_sha256"))


class _Work:
    """What a replay has found so far."""

    def __init__(self, root: Path, on_image: Callable[[], None]) -> None:
        self.replayed = 0
        self.differences: list[ReplayDifference] = []
        self.missing_images: list[tuple[str, str]] = []
        self.missing_versions: list[tuple[str, int, str]] = []
        self._root = root
        self._on_image = on_image

    def compare(self, records: Sequence[Record], predict: Predict) -> None:
        """Classify the images of records again; those with as many labels each together."""
        by_top_k: dict[int, list[Record]] = defaultdict(list)
        for record in records:
            by_top_k[len(record.get("top", ())) or 1].append(record)
        for top_k, alike in by_top_k.items():
            found = list(self._find(alike))
            outcomes = predict([source for _, source in found], top_k)
            for (record, _), outcome in zip(found, outcomes, strict=True):
                self._compare(record, outcome)
                self._on_image()

    def _find(self, records: Sequence[Record]) -> Iterator[tuple[Record, ImageSource]]:
        """The records whose images are still there, with the image; members of tar files last."""
        archives: dict[Path, dict[Path, list[Record]]] = defaultdict(lambda: defaultdict(list))
        for record in records:
            path = self._root / record["path"]
            if _is_file(path):
                yield record, path
            elif archive := next((folder for folder in path.parents if is_tar(folder.name) and _is_file(folder)), None):
                archives[archive][path].append(record)
            else:
                self._miss(record, "no such file")
        for archive, wanted in archives.items():
            reason = f"not in {archive}"
            try:
                for name, source in find_inputs([archive]):
                    if not isinstance(source, InvalidImageError):
                        yield from ((record, source) for record in wanted.pop(Path(name), ()))
            except TamizError as exc:
                reason = str(exc)
            for record in chain.from_iterable(wanted.values()):
                self._miss(record, reason)

    def _compare(self, record: Record, outcome: Prediction | InvalidImageError) -> None:
        if isinstance(outcome, InvalidImageError):
            self._miss(record, str(outcome))
            return
        self.replayed += 1
        now = to_record(record["path"], outcome, multilabel="labels" in record)
        if _answer(now, joined=isinstance(record.get("labels"), str)) != _answer(record, joined=False):
            recorded = record["label"], record["score"]
            self.differences.append(ReplayDifference(record["path"], *recorded, now["label"], now["score"]))

    def _miss(self, record: Record, reason: str) -> None:
        self.missing_images.append((record["path"], reason))
        self._on_image()


def _answer(record: Record, *, joined: bool) -> tuple[object, ...]:
    """What a model said of an image; with its labels in one text, as a CSV file has them, if they shall be joined."""
    labels = record.get("labels")
    if joined:
        labels = "|".join(scored["label"] for scored in labels or ())
    return record["label"], record["score"], record.get("top", []), labels


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        # The name is too long, or no name at all.
        return False
