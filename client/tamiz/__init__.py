"""Classify images with models that NVIDIA Triton serves.

Begin with `Client` or `AsyncClient`. Everything that needs gRPC, OpenCV or pydantic is imported when it is first used,
so that ``import tamiz`` and ``tamiz --help`` are fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import (
    AccessError,
    ClosedError,
    DeadlineError,
    ExportError,
    GateError,
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
from .lazy_exports import lazy_exports

if TYPE_CHECKING:
    from .async_client import AsyncClient
    from .base_client import OnError
    from .client import Client
    from .engine.connections import EndpointState
    from .engine.events import (
        CallEvent,
        CallRetried,
        OnEvent,
        RequestAnswered,
        RequestFailed,
        RequestSent,
        ShadowCompared,
    )
    from .engine.recovery import Cause
    from .engine.routed import Outcome
    from .engine.stats import Stats
    from .prediction import Prediction, Provenance, Scored
    from .preprocessing import ImageSource, Pixels, prepare
    from .routing import Rollout
    from .spec import ModelSpec, Normalisation, Preprocessing
    from .transports import Headers, Tls

__version__ = "0.1.0"

__all__ = [
    "AccessError",
    "AsyncClient",
    "CallEvent",
    "CallRetried",
    "Cause",
    "Client",
    "ClosedError",
    "DeadlineError",
    "EndpointState",
    "ExportError",
    "GateError",
    "Headers",
    "ImageSource",
    "InferenceError",
    "InvalidImageError",
    "InvalidRequestError",
    "MissingExtraError",
    "ModelNotFoundError",
    "ModelSpec",
    "Normalisation",
    "OnError",
    "OnEvent",
    "Outcome",
    "OutputError",
    "OverloadedError",
    "Pixels",
    "Prediction",
    "Preprocessing",
    "Provenance",
    "RecipeError",
    "RepositoryError",
    "RequestAnswered",
    "RequestFailed",
    "RequestSent",
    "Rollout",
    "RunError",
    "Scored",
    "ServerError",
    "ShadowCompared",
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
    "AsyncClient": "async_client",
    "CallEvent": "engine.events",
    "CallRetried": "engine.events",
    "Cause": "engine.recovery",
    "Client": "client",
    "EndpointState": "engine.connections",
    "Headers": "transports",
    "ImageSource": "preprocessing",
    "ModelSpec": "spec",
    "Normalisation": "spec",
    "OnError": "base_client",
    "OnEvent": "engine.events",
    "Outcome": "engine.routed",
    "Pixels": "preprocessing",
    "Prediction": "prediction",
    "Preprocessing": "spec",
    "Provenance": "prediction",
    "RequestAnswered": "engine.events",
    "RequestFailed": "engine.events",
    "RequestSent": "engine.events",
    "Rollout": "routing",
    "Scored": "prediction",
    "ShadowCompared": "engine.events",
    "Stats": "engine.stats",
    "Tls": "transports",
    "prepare": "preprocessing",
}

__getattr__, __dir__ = lazy_exports(__name__, _LAZY, [*__all__, "__version__"])
