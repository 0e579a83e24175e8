"""The GPU of this machine, as NVIDIA's driver describes it."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass

_QUERY = ("nvidia-smi", "--query-gpu=name,compute_cap,driver_version", "--format=csv,noheader", "--id=0")
_TIMEOUT_S = 30


@dataclass(frozen=True)
class Gpu:
    """A GPU of NVIDIA.

    Attributes:
        name: its name, such as ``NVIDIA L4``.
        compute_capability: its generation, such as ``8.9``.
        driver: version of the driver, such as ``570.86.15``.
    """

    name: str
    compute_capability: str
    driver: str


def find_gpu() -> Gpu | None:
    """The first GPU of this machine; None if it has none of NVIDIA, or no working driver."""
    try:
        done = subprocess.run(_QUERY, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return parse_gpu(done.stdout)


def parse_gpu(text: str) -> Gpu | None:
    """Read the answer of nvidia-smi: name, compute capability and driver, separated by commas.

    Args:
        text: one line for each GPU, of which the first is read.

    Returns:
        the GPU; None if the text describes none.
    """
    fields = [field.strip() for field in text.strip().partition("\n")[0].rsplit(",", 2)]
    return Gpu(*fields) if len(fields) == 3 and all(fields) else None
