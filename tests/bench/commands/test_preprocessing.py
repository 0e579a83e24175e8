from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path


def test_each_revision_is_compared_with_opencv_alone(
    tamiz: Callable[..., subprocess.CompletedProcess[str]], even_image: Callable[..., Path]
) -> None:
    done = tamiz("bench", "preprocessing", even_image(3), "--seconds", 0.05, "--rounds", 2, "--json")
    assert done.returncode == 0, done.stderr
    costs = json.loads(done.stdout.splitlines()[-1])["us_per_image"]
    assert {name: len(values) for name, values in costs.items()} == {
        "opencv": 2,
        "revision 1": 2,
        "revision 2": 2,
        "revision 3": 2,
    }
    assert all(value > 0 for values in costs.values() for value in values)
