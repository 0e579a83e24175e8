"""Several real Triton servers with a fixed computation time per image, which tests kill and restart."""

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
    """Classifies images by mean grey, and sleeps a fixed time for each, which leaves the processors to others."""

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
    """Publish a version of a grey model; each of its instances takes ``seconds`` for an image."""
    spec = make_spec(labels)
    graph = write_grey_graph(repository.path.parent / f"{model}.onnx", spec)
    version = repository.publish(model, graph, spec, settings=settings)
    (repository.path / model / str(version) / "model.py").write_text(_SLOW_MODEL.replace("{seconds}", str(seconds)))

    def use_python_backend(config: ModelConfig) -> None:
        config.backend = "python"

    repository.update_config(model, use_python_backend)


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Wait until a condition is true; fail after so many seconds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@contextmanager
def stalled(*servers: Triton) -> Iterator[None]:
    """Suspend the processes of servers while the block runs."""
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
        folder: folder for the repositories of the servers.
        count: number of servers.
        seconds: seconds that an instance takes for one image; a server has two instances by default.
        settings: serving settings of the model.
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
        """The URL of all servers together."""
        return "grpc://" + ",".join(server.url.removeprefix("grpc://") for server in self.servers)

    def kill(self, number: int) -> None:
        """Kill a server with SIGKILL."""
        os.kill(self.servers[number].pid, signal.SIGKILL)
        self.servers[number].stop()

    def stop(self, number: int) -> None:
        """Stop a server normally; it first finishes the requests in flight."""
        self.servers[number].stop()

    def restart(self, number: int) -> None:
        """Start a server again at the same address."""
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
