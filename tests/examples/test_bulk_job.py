from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytestmark = pytest.mark.integration


def test_the_job_writes_a_row_for_each_image_and_the_reason_for_an_unreadable_one(
    example: Callable[[str], ModuleType], served: Any, even_image: Callable[..., Path], tmp_path: Path
) -> None:
    paths = [even_image(index) for index in range(10)]
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    out = tmp_path.parent / "labels.csv"
    stats = example("bulk_job").classify_folder(tmp_path, out, served.triton.url, "grey")
    with out.open(encoding="utf-8") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    assert [rows[str(path)]["label"] for path in paths] == [f"grey {index}" for index in range(10)]
    assert rows[str(broken)]["label"] == ""
    assert rows[str(broken)]["error"]
    assert stats.images == 10
