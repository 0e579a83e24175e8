"""Several real Tritons, each as slow as a test wants it, to be killed and started again."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from graphs import make_spec, write_grey_graph

from tamiz_server.config import ModelConfig, ServingSettings
from tamiz_server.repository import Repository
from tamiz_server.triton import Triton

MODEL = "grey"

_SLOW_MODEL = '''
import json
import os
import sys
import time

sys.path[:0] = os.environ["PYTHONPATH"].split(":")

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Tells the grey of an image, and takes a fixed time for each: it sleeps, so the machine has time for others."""

    def initialize(self, args):
        config = json.loads(args["model_config"])
        self.classes = int(config["output"][0]["dims"][0])

    def execute(self, requests):
        responses = []
        for request in requests:
            pixels = pb_utils.get_input_tensor_by_name(request, "image").as_numpy()
            time.sleep({seconds} * len(pixels))
            grey = pixels.reshape(len(pixels), -1).mean(axis=1)
            best = np.round(grey / 255 * (self.classes - 1)).astype(int)
            answer = np.full((len(pixels), self.classes), 0.001, np.float32)
            answer[np.arange(len(pixels)), best] = 0.99
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("probabilities", answer)]))
        return responses
'''


def publish_slow(
    repository: Repository, model: str, labels: list[str], *, seconds: float, settings: ServingSettings
) -> None:
    """Publish a version of a grey model, each of whose instances takes so many seconds for an image."""
    spec = make_spec(labels)
    graph = write_grey_graph(repository.path.parent / f"{model}.onnx", spec)
    version = repository.publish(model, graph, spec, settings=settings)
    (repository.path / model / str(version) / "model.py").write_text(_SLOW_MODEL.replace("{seconds}", str(seconds)))

    def use_python_backend(config: ModelConfig) -> None:
        config.backend = "python"

    repository.update_config(model, use_python_backend)


def until(true: Callable[[], bool], seconds: float = 10) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


@contextmanager
def stalled(*servers: Triton) -> Iterator[None]:
    """Servers that hold their breath for as long as the block runs."""
    for server in servers:
        os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for server in servers:
            os.kill(server.pid, signal.SIGCONT)


class Fleet:
    """Servers of one model, as a context manager.

    Args:
        folder: for their repositories.
        count: of servers.
        seconds: that each of a server's instances, two where the settings do not say, takes for one image.
        settings: of serving.
    """

    def __init__(
        self, folder: Path, count: int, *, seconds: float = 0.0, settings: ServingSettings = ServingSettings()
    ) -> None:
        self.servers: list[Triton] = []
        for number in range(count):
            repository = Repository(folder / f"server{number}" / "model_repository")
            repository.path.parent.mkdir()
            labels = [f"grey {index}" for index in range(10)]
            publish_slow(repository, MODEL, labels, seconds=seconds, settings=settings)
            self.servers.append(Triton(repository.path))

    @property
    def url(self) -> str:
        """Of all servers together."""
        return "grpc://" + ",".join(server.url.removeprefix("grpc://") for server in self.servers)

    def kill(self, number: int) -> None:
        """End a server without a word."""
        os.kill(self.servers[number].pid, signal.SIGKILL)
        self.servers[number].stop()

    def stop(self, number: int) -> None:
        """End a server as an administrator does; it finishes what it has begun."""
        self.servers[number].stop()

    def restart(self, number: int) -> None:
        """Start a server again, at its old address."""
        old = self.servers[number]
        self.servers[number] = Triton(old.repository.path, grpc_port=old.ports.grpc)
        self.servers[number].start()

    def __enter__(self) -> Fleet:
        try:
            for server in self.servers:
                server.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self.servers:
            server.stop()
