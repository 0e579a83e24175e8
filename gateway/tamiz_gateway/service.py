"""Service: what the routes share: the clients of the models, the repository, and the counters."""

from __future__ import annotations

import asyncio
import logging

from tamiz import AsyncClient, CallEvent, Prediction, RequestAnswered
from tamiz.errors import ModelNotFoundError, SpecError, TamizError
from tamiz_release.registry import synchronise
from tamiz_server import Control, Repository, promote
from tamiz_server.repository import MODEL_NAME

from . import trace
from .explanation import Explainer
from .metrics import Metrics
from .monitor import Monitor
from .problems import Problem
from .settings import Settings
from .training.jobs import Jobs

logger = logging.getLogger("tamiz_gateway")

PROBE_TIMEOUT_S = 2.0
"""Seconds in which the server must answer for the gateway to be ready."""

MAX_MODELS = 64
"""The number of models that one worker keeps a connection for."""


class Service:
    """The parts that the routes share, of one worker.

    Args:
        settings: the settings of the gateway.
        metrics: the metrics of the worker.

    Attributes:
        settings: the settings of the gateway.
        metrics: the metrics of the worker.
        repository: the model repository.
        monitor: the performance monitor.
        jobs: the training jobs.
        explainer: explains images.

    Raises:
        UsageError: the URL is malformed.
        OutputError: the folder that workers share cannot be written.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.settings = settings
        self.metrics = metrics
        self.repository = Repository(settings.repository)
        self.monitor = Monitor(settings.state)
        self.jobs = Jobs(settings)
        self.explainer = Explainer(settings, self.repository)
        self._clients = {settings.model: self._connect(settings.model)}
        self._probe = AsyncClient(settings.url, model=settings.model, timeout_s=PROBE_TIMEOUT_S)
        self._promoting = asyncio.Lock()

    @property
    def default_client(self) -> AsyncClient:
        """The client of the gateway's own model; it connects with the first call."""
        return self._clients[self.settings.model]

    async def client(self, model: str) -> AsyncClient:
        """The client of a model.

        Raises:
            Problem: 404 if the server has no such model, or another tool published it.
            ServerError: the server does not answer.
        """
        if model in self._clients:
            return self._clients[model]
        unknown = Problem(404, f"no model {model[:100]!r}", error="ModelNotFoundError")
        if not MODEL_NAME.fullmatch(model) or len(model) > 255 or len(self._clients) >= MAX_MODELS:
            raise unknown
        client = self._connect(model)
        try:
            await client.refresh()
        except BaseException as exc:
            await client.close()
            if isinstance(exc, ModelNotFoundError | SpecError):
                raise unknown from exc
            raise
        if model in self._clients:
            # Another request was faster.
            await client.close()
        return self._clients.setdefault(model, client)

    async def ready(self) -> str:
        """Why the gateway is not ready to classify; empty if it is."""
        try:
            await self._probe.refresh()
        except TamizError as exc:
            logger.warning("not ready: %s", exc)
            return f"model {self.settings.model} is not served: {type(exc).__name__}"
        return ""

    async def promote(self, version: int) -> None:
        """Make a version of the gateway's model the live one, on disk and in the server.

        Raises:
            RepositoryError: there is no such version, or it cannot be loaded.
            ServerError: the server does not answer, or rejects the key.
            UsageError: the URL names several servers.
        """
        async with self._promoting:
            await asyncio.to_thread(self._promote, version)

    def count(self, prediction: Prediction) -> None:
        """Count a prediction."""
        self.monitor.record_prediction(prediction.model, prediction.version, prediction.score)
        self.metrics.record_prediction(prediction.model, prediction.version, prediction.label, prediction.score)

    async def close(self) -> None:
        """Close the clients and the monitor."""
        for client in (*self._clients.values(), self._probe):
            await client.close()
        self.monitor.close()

    def _promote(self, version: int) -> None:
        key = self.settings.triton_key
        with Control(self.settings.url, key.get_secret_value() if key else None) as control:
            promote(
                self.repository, self.settings.model, version, control=control, reason="POST /switch_model of a gateway"
            )
        synchronise(self.repository, self.settings.model, on_progress=logger.info)

    def _connect(self, model: str) -> AsyncClient:
        return AsyncClient(
            self.settings.url,
            model=model,
            timeout_s=self.settings.timeout_s,
            headers=trace.triton_headers,
            on_event=self._count_inference,
        )

    def _count_inference(self, event: CallEvent) -> None:
        if isinstance(event, RequestAnswered) and event.method == "ModelInfer" and event.version is not None:
            self.monitor.record_inference(event.model, event.version, event.images, event.seconds)
            self.metrics.record_inference(event.model, event.version, event.seconds)
