"""CSV manifests: ``path,label[,split]``, or ``path,labels[,split]`` with several labels separated by ``|``."""

from __future__ import annotations

import csv
import difflib
import io
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tamiz.console import printable
from tamiz.errors import RecipeError, os_reason, suggest

from ..recipe.data import CsvData
from .labels import in_label_order, list_some, to_label
from .location import located
from .split import SPLITS, Data, Source, Split, split_name

COLUMNS = ("path", "label", "labels", "split")

MAX_HEADER = 10_000
"""The number of characters of a first line that are read to see whether a file is a manifest."""


@dataclass(frozen=True)
class _Row:
    line: int
    path: str
    labels: tuple[str, ...]
    split: str


def read_manifest(settings: CsvData) -> Source:
    """Read a manifest, and check that the images that it lists exist.

    Raises:
        RecipeError: the manifest cannot be read, or rows are invalid; the message lists the first problems with their
            line numbers, and the number of the others.
    """
    path = settings.root / settings.manifest
    problems: list[str] = []
    multilabel, rows = _read(path, problems)
    if not rows and not problems:
        problems.append("no rows")
    # With on_unreadable: skip, a missing file is skipped later, like any image that cannot be read.
    problems += _check_rows(rows, path.parent, must_exist=settings.on_unreadable == "stop")
    labels = in_label_order(label for row in rows for label in row.labels)
    if not problems:
        problems += _check_labels(labels, rows, multilabel)
    if problems:
        raise RecipeError(f"data.manifest: {path}: {list_some(problems, '; ')}")
    splits = {}
    for name in SPLITS:
        chosen = [row for row in rows if row.split == name]
        if chosen:
            images = [path.parent / row.path for row in chosen]
            splits[name] = Split(name, images, _targets(chosen, labels, multilabel))
    return Source(labels, "multilabel" if multilabel else "multiclass", splits)


def is_manifest(path: Path) -> bool:
    """Whether a CSV file has the columns of a manifest, whatever its rows are."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            # Bounded, because a file of another kind can be one long line.
            header = next(csv.reader([file.readline(MAX_HEADER)], skipinitialspace=True), [])
    except (OSError, UnicodeDecodeError, csv.Error):
        return False
    columns = {name.strip() for name in header}
    return "path" in columns and len(columns & {"label", "labels"}) == 1


def to_manifest(data: Data, folder: Path) -> str:
    """The images of a data set, with their labels and splits, as the text of a manifest.

    Args:
        data: the data set.
        folder: the folder of the manifest; the paths are relative to it.

    Raises:
        RecipeError: the images are no files below the folder, or a name or a label cannot stand in a manifest; the
            message lists the first problems.
    """
    multilabel = data.task == "multilabel"
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "labels" if multilabel else "label", "split"])
    problems: list[str] = []
    for split in data.splits:
        if isinstance(split.images, np.ndarray):
            raise RecipeError("data: only images in files can be listed in a manifest, not those of torchvision")
        for image, target in zip(split.images, split.targets, strict=True):
            labels = [data.labels[index] for index in np.flatnonzero(target)] if multilabel else [data.labels[target]]
            path = os.path.relpath(image, folder)
            if Path(path).parts[:1] == ("..",):
                problems.append(f"{image} is not below {folder}, where the manifest is")
            unfit = [label for label in labels if label != label.strip() or (multilabel and "|" in label)]
            if path != path.strip() or "\0" in path or printable(path) != path:
                unfit.append(path)
            problems += [f"{printable(name)!r} cannot stand in a manifest; rename it" for name in unfit]
            writer.writerow([path, "|".join(labels), split.name])
    if problems:
        raise RecipeError(f"data: {list_some(list(dict.fromkeys(problems)), '; ')}")
    return text.getvalue()


def _read(path: Path, problems: list[str]) -> tuple[bool, list[_Row]]:
    """Whether the manifest is multilabel, and its rows."""
    try:
        # utf-8-sig, because spreadsheets write a byte order mark.
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise RecipeError(
            f"data.manifest: {path}: not UTF-8 (byte {exc.start} is {exc.object[exc.start]:#x}); save it as UTF-8"
        ) from exc
    except OSError as exc:
        raise RecipeError(f"data.manifest: {located(path)}: {os_reason(exc)}") from exc
    # A text file without translation of line ends, as csv expects it. A blank before a quoted field is no part of it.
    lines = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
    rows = []
    try:
        header = [name.strip() for name in next(lines, [])]
        label_column = _check_header(path, header)
        for fields in lines:
            if fields and (row := _parse_row(lines.line_num, fields, header, label_column, problems)):
                rows.append(row)
    except csv.Error as exc:
        raise RecipeError(f"data.manifest: {path}: line {lines.line_num}: {exc}") from exc
    return label_column == "labels", rows


def _check_header(path: Path, header: list[str]) -> str:
    """The name of the column with the labels: ``label`` or ``labels``."""
    if not header:
        raise RecipeError(f"data.manifest: {path}: empty; the first line must be path,label or path,label,split")
    for separator in (";", "\t", "|"):
        if len(header) == 1 and separator in header[0]:
            raise RecipeError(
                f"data.manifest: {path}: the columns are separated by {separator!r}; separate them by commas"
            )
    problems = []
    for name in header:
        if name not in COLUMNS and difflib.get_close_matches(name, COLUMNS):
            problems.append(f"unknown column {name!r}{suggest(name, COLUMNS)}")
    if repeated := sorted({name for name in header if header.count(name) > 1}):
        problems.append(f"repeated columns: {', '.join(repeated)}")
    if "path" not in header or ("label" in header) == ("labels" in header):
        problems.append(f"the columns are {', '.join(header)}; needed are path, and either label or labels")
    if problems:
        raise RecipeError(f"data.manifest: {path}: {'; '.join(problems)}")
    return "label" if "label" in header else "labels"


def _parse_row(line: int, fields: list[str], header: list[str], label_column: str, problems: list[str]) -> _Row | None:
    if len(fields) != len(header):
        problems.append(f"line {line}: {len(fields)} fields, but the header has {len(header)}")
        return None
    row = {name: field.strip() for name, field in zip(header, fields, strict=True)}
    path, text, split = row["path"], to_label(row[label_column]), row.get("split", "train")
    split = split_name(split) or split
    if not path:
        problems.append(f"line {line}: empty path")
    if label_column == "labels" and not text:
        # An image without any of the labels is a valid example.
        return _Row(line, path, (), split) if path else None
    labels = tuple(name.strip() for name in (text.split("|") if label_column == "labels" else [text]))
    if not all(labels):
        problems.append(f"line {line}: empty label")
        return None
    return _Row(line, path, labels, split) if path else None


def _check_rows(rows: list[_Row], folder: Path, *, must_exist: bool) -> Iterator[str]:
    lines: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        path = os.path.normpath(row.path)
        lines[path].append(row.line)
        if row.split not in SPLITS:
            yield f"line {row.line}: unknown split {row.split!r}; use train, validation or test"
        if Path(path).is_absolute() or Path(path).parts[:1] == ("..",):
            yield f"line {row.line}: {row.path} is outside the folder of the manifest; paths are relative to it"
        elif "\0" in path:
            yield f"line {row.line}: the path contains a null byte"
        elif must_exist and not os.path.isfile(folder / path):  # noqa: PTH113 - Path raises if a name is too long
            yield f"line {row.line}: there is no file {row.path}"
    for path, repeated in lines.items():
        if len(repeated) > 1:
            yield f"{path} is in lines {', '.join(map(str, repeated))}; list each image once"


def _check_labels(labels: Sequence[str], rows: list[_Row], multilabel: bool) -> Iterator[str]:
    if multilabel:
        if not labels:
            yield "no image has a label"
        return
    trained = {label for row in rows if row.split == "train" for label in row.labels}
    if untrained := [label for label in labels if label not in trained]:
        yield f"labels without a row in the split train: {', '.join(untrained)}"
    if len(labels) < 2:
        yield f"{len(labels)} labels; two or more are needed"


def _targets(
    rows: list[_Row], labels: Sequence[str], multilabel: bool
) -> npt.NDArray[np.int64] | npt.NDArray[np.float32]:
    index = {label: place for place, label in enumerate(labels)}
    if not multilabel:
        return np.array([index[row.labels[0]] for row in rows], np.int64)
    targets = np.zeros((len(rows), len(labels)), np.float32)
    for place, row in enumerate(rows):
        targets[place, [index[label] for label in row.labels]] = 1
    return targets
