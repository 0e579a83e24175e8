"""Servers in memory that follow a script, and an engine that calls them; no Triton and no waiting."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from graphs import even, make_spec
from tritonclient.grpc import model_config_pb2

from tamiz import CallEvent, errors
from tamiz.engine.engine import Engine
from tamiz.engine.settings import Settings
from tamiz.engine.steps import Compute, Flow, Send, Sleep, Wait
from tamiz.transports.requests import (
    InferReply,
    ModelConfig,
    ModelInfer,
    ModelStatistics,
    OutputTensor,
    Request,
    ServerReady,
    SystemSharedMemoryStatus,
)

MODEL = "grey"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Server:
    """A server that answers from its live version, unless its script has an exception for the next request.

    Attributes:
        url: URL of the server.
        version: the live version.
        labels: number of labels of the live version.
        side: height and width of the input of the live version, in pixels.
        max_batch_size: the largest number of images in a request.
        script: the exceptions of the next inference requests, in order; None, or an empty script, answers.
        config_script: the same for requests of the model's configuration.
        ready: whether the server reports that it is ready.
        models: names of the models that the server reports; None fails.
        takes_s: seconds on the clock of the harness that each request takes.
        candidate_takes_s: the same of inference requests to the candidate; None for the same time.
        requests: the requests that the server has received.
        candidate: the version that is rolled out beside the live one; None without a rollout.
        canary: share of the calls that the candidate answers.
        sticky: whether the images decide which version answers them.
        shadow: share of the calls that the candidate is sent as well.
        resize: how the candidate resizes images; the live version squashes them.
        answer_index: index of the label that the candidate gives every image; the live version gives 3.
        label_prefix: beginning of the names of the labels; the number of the version unless it is given.
        candidate_script: the exceptions of the next inference requests to the candidate.
    """

    url: str
    version: int = 1
    labels: int = 10
    side: int = 28
    max_batch_size: int = 8
    script: deque[Exception | None] = field(default_factory=deque)
    config_script: deque[Exception | None] = field(default_factory=deque)
    ready: bool = True
    models: list[str] | None = None
    takes_s: float = 0.0
    candidate_takes_s: float | None = None
    requests: list[Request[Any]] = field(default_factory=list)
    candidate: int | None = None
    canary: float = 0.0
    sticky: bool = False
    shadow: float = 0.0
    resize: str = "squash"
    answer_index: int = 3
    label_prefix: str = ""
    candidate_script: deque[Exception | None] = field(default_factory=deque)

    def duration(self, request: Request[Any]) -> float:
        is_slow = isinstance(request, ModelInfer) and request.version == self.candidate
        return self.candidate_takes_s if is_slow and self.candidate_takes_s is not None else self.takes_s

    def answer(self, request: Request[Any]) -> Any:
        self.requests.append(request)
        match request:
            case ModelConfig():
                self._fail(self.config_script)
                return self.config()
            case ServerReady():
                return self.ready
            case ModelStatistics():
                if self.models is None:
                    raise errors.AccessError("no statistics")
                return self.models
            case SystemSharedMemoryStatus():
                return frozenset()
            case ModelInfer():
                self._fail(self.candidate_script if request.version == self.candidate else self.script)
                if request.version not in (self.version, self.candidate):
                    raise errors.ModelNotFoundError("not live", model=MODEL, version=request.version, url=self.url)
                return self.infer(request.version, len(request.images))
        return None

    def config(self) -> model_config_pb2.ModelConfig:
        config = model_config_pb2.ModelConfig(name=MODEL, max_batch_size=self.max_batch_size)
        config.input.add(name="image", dims=[self.side, self.side, 1])
        for version in filter(None, (self.version, self.candidate)):
            spec = make_spec(
                [f"{self.label_prefix or f'v{version}'} {index}" for index in range(self.labels)],
                self.side,
                self.side,
            )
            if version == self.candidate:
                spec = spec.model_copy(
                    update={"preprocessing": spec.preprocessing.model_copy(update={"resize": self.resize})}
                )
            config.version_policy.specific.versions.append(version)
            config.parameters[f"tamiz.spec.{version}"].string_value = spec.to_json()
        if self.canary:
            config.parameters["tamiz.canary"].string_value = f"{self.candidate} {self.canary}"
        if self.sticky:
            config.parameters["tamiz.sticky"].string_value = "image"
        if self.shadow:
            config.parameters["tamiz.shadow"].string_value = f"{self.candidate} {self.shadow}"
        return config

    def infer(self, version: int, images: int) -> InferReply:
        probabilities = np.full((images, self.labels), 0.01, np.float32)
        probabilities[:, self.answer_index if version == self.candidate else 3] = 0.9
        tensor = OutputTensor("probabilities", "FP32", probabilities.shape, probabilities.tobytes())
        return InferReply(str(version), (tensor,))

    @staticmethod
    def _fail(script: deque[Exception | None]) -> None:
        failure = script.popleft() if script else None
        if failure is not None:
            raise failure

    @property
    def versions(self) -> list[int | None]:
        """The versions that inference requests asked for, in order."""
        return [request.version for request in self.requests if isinstance(request, ModelInfer)]

    @property
    def methods(self) -> list[str]:
        return [request.method for request in self.requests]


class Harness:
    """Scripted servers, a clock, and the engine under test, whose steps it carries out without waiting.

    Args:
        servers: the servers in the client's URL.
        timeout_s: see `tamiz.Client`.
        shared_memory: see `tamiz.Client`.
        on_event: see `tamiz.Client`; None collects the events.
        version: see `tamiz.Client`.
        provenance: see `tamiz.Client`.

    Attributes:
        background: functions that the engine wants called in another thread; `run_background` calls them.
        has_threads: whether another thread can be started.
    """

    def __init__(
        self,
        *servers: Server,
        timeout_s: float = 10.0,
        shared_memory: bool = False,
        on_event: Callable[[CallEvent], None] | None = None,
        version: int | None = None,
        provenance: bool = False,
    ) -> None:
        self.servers = {server.url: server for server in servers}
        self.clock = Clock()
        self.slept: list[float] = []
        self.timeouts: list[float] = []
        self.leftovers: list[Callable[[], None]] = []
        self.events: list[CallEvent] = []
        url = "grpc://" + ",".join(server.url.removeprefix("grpc://") for server in servers)
        listener = on_event or self.events.append
        settings = Settings(url, MODEL, timeout_s, None, None, None, shared_memory, listener, version, provenance)
        self.wall_clock = Clock()
        self.background: list[Callable[[], None]] = []
        self.has_threads = True
        self.engine = Engine(
            settings,
            connect=self.connect,
            clock=self.clock,
            wall_clock=self.wall_clock,
            in_background=self.in_background,
        )

    def connect(self, url: str) -> Connection:
        return Connection(self, self.servers[url])

    def classify(self, image: Any = None) -> Any:
        return self.run(self.engine.classification.classify(even(3) if image is None else image, 1))

    def classify_batch(self, images: list[Any]) -> Any:
        return self.run(self.engine.classification.classify_batch(images, 1, self.engine.limits, 0))

    def in_background(self, function: Callable[[], None]) -> None:
        if not self.has_threads:
            raise RuntimeError("can't start new thread")
        self.background.append(function)

    def run_background(self) -> None:
        while self.background:
            self.background.pop(0)()

    def run(self, flow: Flow[Any]) -> Any:
        result: Any = None
        failure: Exception | None = None
        try:
            while True:
                step = flow.send(result) if failure is None else flow.throw(failure)
                result, failure = None, None
                try:
                    result = self.carry_out(step)
                except Exception as exc:
                    failure = exc
        except StopIteration as stop:
            return stop.value
        finally:
            flow.close()

    def carry_out(self, step: Any) -> Any:
        match step:
            case Send(transport, request, timeout_s, on_sent, on_ended):
                on_sent()
                self.timeouts.append(timeout_s)
                return transport.call(request, timeout_s, on_ended)
            case Compute(function, args):
                return function(*args)
            case Sleep(seconds):
                self.slept.append(seconds)
                self.clock.now += seconds
            case Wait(future):
                return future.result(timeout=0)
        return None

    @property
    def stats(self) -> tuple[int, int, int]:
        stats = self.engine.counter.stats
        return stats.overloaded, stats.unavailable, stats.version_changed


@dataclass
class Probe:
    """The reply to the readiness probe, which does not use the script."""

    server: Server

    def wait(self, timeout_s: float) -> bool:
        return self.server.ready


@dataclass
class Connection:
    """A transport to a scripted server."""

    harness: Harness
    server: Server

    @property
    def url(self) -> str:
        return self.server.url

    def call(self, request: Request[Any], timeout_s: float, on_ended: Callable[[], None] = lambda: None) -> Any:
        takes_s = self.server.duration(request)
        if takes_s > timeout_s:
            # The server goes on with the request.
            self.harness.leftovers.append(on_ended)
            self.harness.clock.now += timeout_s
            raise errors.DeadlineError("late", model=MODEL, version=request.version, url=self.url)
        self.harness.clock.now += takes_s
        try:
            return self.server.answer(request)
        finally:
            on_ended()

    def begin(self, request: Request[Any], timeout_s: float) -> Probe:
        return Probe(self.server)

    def close(self) -> None:
        pass


@pytest.fixture
def one() -> Server:
    return Server("grpc://one:8001")


@pytest.fixture
def two() -> Server:
    return Server("grpc://two:8001")


@pytest.fixture
def make_harness(request: pytest.FixtureRequest) -> Callable[..., Harness]:
    def make(*servers: Server, **options: Any) -> Harness:
        made = Harness(*servers, **options)
        request.addfinalizer(made.engine.close)
        return made

    return make
