"""A corpus of mutated images: no crash, no hang, no memory above the stated limit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tamiz.image_header import MAX_PIXELS

BYTES_PER_PIXEL = 16
"""As stated in `tamiz.image_header`."""


def prepare_mutated(count: int) -> dict[str, object]:
    script = Path(__file__).with_name("hostile_images.py")
    command = [sys.executable, script, str(count), str(MAX_PIXELS * BYTES_PER_PIXEL)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3000)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize("count", [1000, pytest.param(20_000, marks=pytest.mark.soak)])
def test_mutated_images_are_refused_or_prepared_and_nothing_else(count: int) -> None:
    seen = prepare_mutated(count)
    print(seen)
    assert seen["slowest_s"] < 5
    assert seen["peak_bytes"] < MAX_PIXELS * BYTES_PER_PIXEL
    assert sum(seen["seen"].values()) == count
    assert min(seen["seen"].values()) > count / 20
    # What no decoder here reads is refused whole, too.
    assert set(seen["seeds_refused"]) == {"GIF P", "GIF L", "animated GIF", "animated PNG", "TIFF F"}
