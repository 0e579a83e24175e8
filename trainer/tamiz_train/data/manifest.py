"""CSV manifests: ``path,label[,split]``, or ``path,labels[,split]`` with several labels joined by a bar."""

from __future__ import annotations

import csv
import difflib
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tamiz.errors import RecipeError, suggest

from ..settings import CsvData
from .split import SPLITS, Source, Split, in_order

COLUMNS = ("path", "label", "labels", "split")
SHOWN = 5
"""How many problems of a manifest are told one by one."""


class _Row(NamedTuple):
    line: int
    path: str
    labels: tuple[str, ...]
    split: str


def read_manifest(settings: CsvData) -> Source:
    """Read the images that a manifest names.

    Raises:
        RecipeError: it cannot be read, or rows are wrong; the first few problems with their lines, and how many.
    """
    path = settings.root / settings.manifest
    problems: list[str] = []
    multilabel, rows = _read(path, problems)
    if not rows and not problems:
        problems.append("no rows")
    problems += _check(rows, path.parent, missing=settings.on_broken == "stop")
    labels = in_order(label for row in rows for label in row.labels)
    if not multilabel and not problems:
        trained = {label for row in rows if row.split == "train" for label in row.labels}
        if untrained := [label for label in labels if label not in trained]:
            problems.append(f"labels without a row for train: {', '.join(untrained)}")
        if len(labels) < 2:
            problems.append(f"{len(labels)} labels; two or more are needed")
    if multilabel and not labels and not problems:
        problems.append("no image has a label")
    if problems:
        more = f"; and {len(problems) - SHOWN} problems more" if len(problems) > SHOWN else ""
        raise RecipeError(f"data.manifest: {path}: {'; '.join(problems[:SHOWN])}{more}")
    index = {label: place for place, label in enumerate(labels)}
    splits = {}
    for name in SPLITS:
        chosen = [row for row in rows if row.split == name]
        if not chosen:
            continue
        if multilabel:
            targets = np.zeros((len(chosen), len(labels)), np.float32)
            for place, row in enumerate(chosen):
                targets[place, [index[label] for label in row.labels]] = 1
        else:
            targets = np.array([index[row.labels[0]] for row in chosen], np.int64)
        splits[name] = Split(name, [path.parent / row.path for row in chosen], targets)
    return Source(labels, "multilabel" if multilabel else "multiclass", splits)


def _read(path: Path, problems: list[str]) -> tuple[bool, list[_Row]]:
    try:
        # With or without the byte order mark that spreadsheets write.
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as exc:
        raise RecipeError(
            f"data.manifest: {path}: not UTF-8 (byte {exc.start} is {exc.object[exc.start]:#x}); save it as UTF-8"
        ) from exc
    except OSError as exc:
        raise RecipeError(f"data.manifest: {path}: {exc.strerror}") from exc
    lines = csv.reader(text.splitlines(keepends=True), strict=True)
    try:
        header = [name.strip() for name in next(lines, [])]
        label = _check_header(path, header)
        rows = list(_rows(lines, header, label, problems))
    except csv.Error as exc:
        raise RecipeError(f"data.manifest: {path}: line {lines.line_num}: {exc}") from exc
    return label == "labels", rows


def _check_header(path: Path, header: list[str]) -> str:
    if not header:
        raise RecipeError(f"data.manifest: {path}: empty; its first line is path,label or path,label,split")
    for wrong in (";", "\t", "|"):
        if len(header) == 1 and wrong in header[0]:
            raise RecipeError(f"data.manifest: {path}: the columns are separated by {wrong!r}; separate them by commas")
    problems = []
    for name in header:
        if name not in COLUMNS and difflib.get_close_matches(name, COLUMNS):
            problems.append(f"unknown column {name!r}{suggest(name, COLUMNS)}")
    if repeated := sorted({name for name in header if header.count(name) > 1}):
        problems.append(f"columns given twice: {', '.join(repeated)}")
    if "path" not in header or ("label" in header) == ("labels" in header):
        problems.append(f"the columns are {', '.join(header)}; it needs path, and label or labels")
    if problems:
        raise RecipeError(f"data.manifest: {path}: {'; '.join(problems)}")
    return "label" if "label" in header else "labels"


def _rows(lines: Iterator[list[str]], header: list[str], label: str, problems: list[str]) -> Iterator[_Row]:
    for fields in lines:
        line = lines.line_num  # type: ignore[attr-defined]
        if not fields:
            continue
        if len(fields) != len(header):
            problems.append(f"line {line}: {len(fields)} fields, the header has {len(header)}")
            continue
        row = {name: field.strip() for name, field in zip(header, fields, strict=True)}
        labels = tuple(row[label].split("|")) if label == "labels" and row[label] else (row[label],)
        labels = tuple(name.strip() for name in labels)
        split = row.get("split", "train")
        if not row["path"]:
            problems.append(f"line {line}: empty path")
        elif label == "labels" and not row[label]:
            # An image that has none of the labels is an example too.
            yield _Row(line, row["path"], (), split)
            continue
        if not all(labels):
            problems.append(f"line {line}: empty label")
        elif row["path"]:
            yield _Row(line, row["path"], labels, split)


def _check(rows: list[_Row], folder: Path, *, missing: bool) -> Iterator[str]:
    lines: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        path = os.path.normpath(row.path)
        lines[path].append(row.line)
        if row.split not in SPLITS:
            yield f"line {row.line}: unknown split {row.split!r}; it is train, validation or test"
        if Path(path).is_absolute() or Path(path).parts[:1] == ("..",):
            yield f"line {row.line}: {row.path} leaves the folder of the manifest; paths are relative to it"
        elif "\0" in path:
            yield f"line {row.line}: the path holds a null byte"
        elif missing and not os.path.isfile(folder / path):  # noqa: PTH113 - Path raises where a name is long
            yield f"line {row.line}: there is no file {row.path}"
    for path, places in lines.items():
        if len(places) > 1:
            yield f"{path} is in lines {', '.join(map(str, places))}; an image has one row"
