"""The machine on which a precision is chosen: it decides which graph is fastest, and what integers saturate at."""

from __future__ import annotations

import platform
from typing import Any

import onnxruntime as ort

from tamiz_server.processor import processor_name, read_processor

_INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "amx_bf16", "asimddp", "i8mm")
"""The vector instructions, as Linux names them, that ONNX Runtime's kernels choose by."""

_DOT_PRODUCTS = {"avx512_vnni", "avx_vnni", "amx_int8"}


def describe_machine() -> dict[str, Any]:
    """The processor, its vector instructions, and the version of ONNX Runtime."""
    return {"processor": processor_name()} | {
        "instructions": [name for name in _INSTRUCTIONS if name in _flags()],
        "onnxruntime": ort.__version__,
    }


def saturates() -> bool:
    """Whether sums of products of 8 bits can saturate: on an x86 processor without VNNI or AMX instructions."""
    return platform.machine() in {"x86_64", "AMD64"} and _DOT_PRODUCTS.isdisjoint(_flags())


def _flags() -> set[str]:
    return set((read_processor("flags") or read_processor("Features")).split())
