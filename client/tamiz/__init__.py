"""Classify images with models that NVIDIA Triton serves.

`Client` and `AsyncClient` are where to begin. What needs gRPC, OpenCV or pydantic is loaded when first used,
so that ``import tamiz`` and ``tamiz --help`` answer at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .errors import (
    AccessError,
    ClosedError,
    DeadlineError,
    ExportError,
    InferenceError,
    InvalidImageError,
    InvalidRequestError,
    MissingExtraError,
    ModelNotFoundError,
    OutputError,
    OverloadedError,
    RecipeError,
    RepositoryError,
    RunError,
    ServerError,
    SharedMemoryError,
    SpecError,
    TamizError,
    TrackingError,
    TritonError,
    UnavailableError,
    UsageError,
)

if TYPE_CHECKING:
    from .client import AsyncClient, Client
    from .prediction import Prediction
    from .preprocessing import prepare
    from .retries import Stats
    from .spec import ModelSpec, Normalisation, Preprocessing
    from .transport import Tls

__version__ = "0.1.0"

__all__ = [
    "AccessError",
    "AsyncClient",
    "Client",
    "ClosedError",
    "DeadlineError",
    "ExportError",
    "InferenceError",
    "InvalidImageError",
    "InvalidRequestError",
    "MissingExtraError",
    "ModelNotFoundError",
    "ModelSpec",
    "Normalisation",
    "OutputError",
    "OverloadedError",
    "Prediction",
    "Preprocessing",
    "RecipeError",
    "RepositoryError",
    "RunError",
    "ServerError",
    "SharedMemoryError",
    "SpecError",
    "Stats",
    "TamizError",
    "Tls",
    "TrackingError",
    "TritonError",
    "UnavailableError",
    "UsageError",
    "prepare",
]

_LAZY = {
    "AsyncClient": "client",
    "Client": "client",
    "ModelSpec": "spec",
    "Normalisation": "spec",
    "Prediction": "prediction",
    "Preprocessing": "spec",
    "Stats": "retries",
    "Tls": "transport",
    "prepare": "preprocessing",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'tamiz' has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
