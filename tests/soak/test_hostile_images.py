"""Mutated images: no crash, no hang, no memory above the documented limit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tamiz.image_header import MAX_PIXELS

BYTES_PER_PIXEL = 16
"""The limit that `tamiz.image_header` documents."""


def prepare_mutated(count: int) -> dict[str, object]:
    script = Path(__file__).with_name("hostile_images.py")
    command = [sys.executable, script, str(count), str(MAX_PIXELS * BYTES_PER_PIXEL)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3000)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "count",
    [pytest.param(1000, marks=pytest.mark.integration), pytest.param(20_000, marks=pytest.mark.soak)],
)
def test_a_mutated_image_is_either_rejected_or_prepared(count: int) -> None:
    seen = prepare_mutated(count)
    print(seen)
    assert seen["slowest_s"] < 5
    assert seen["peak_bytes"] < MAX_PIXELS * BYTES_PER_PIXEL
    assert sum(seen["seen"].values()) == count
    assert min(seen["seen"].values()) > count / 20
    # Formats that no decoder supports are rejected even without a mutation.
    assert set(seen["seeds_rejected"]) == {"GIF P", "GIF L", "animated GIF", "animated PNG", "animated WebP", "TIFF F"}
