"""The machine on which a precision is chosen: it decides which graph is fastest, and what integers saturate at."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import onnxruntime as ort

_INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "amx_bf16", "asimddp", "i8mm")
"""The vector instructions, as Linux names them, that ONNX Runtime's kernels choose by."""

_DOT_PRODUCTS = {"avx512_vnni", "avx_vnni", "amx_int8"}


def describe_machine() -> dict[str, Any]:
    """The processor, its vector instructions, and the version of ONNX Runtime."""
    return {"processor": _field("model name") or platform.processor() or platform.machine()} | {
        "instructions": [name for name in _INSTRUCTIONS if name in _flags()],
        "onnxruntime": ort.__version__,
    }


def saturates() -> bool:
    """Whether sums of products of 8 bits can saturate: on an x86 processor without VNNI or AMX instructions."""
    return platform.machine() in {"x86_64", "AMD64"} and _DOT_PRODUCTS.isdisjoint(_flags())


def _flags() -> set[str]:
    return set((_field("flags") or _field("Features")).split())


def _field(name: str) -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == name), "")
