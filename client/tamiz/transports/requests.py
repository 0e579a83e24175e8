"""The requests that a transport carries, named as the methods of Triton's gRPC service, with their reply types.

They describe the content of a request, not its encoding: each transport encodes them for its own protocol.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from tritonclient.grpc import model_config_pb2

from ..preprocessing import Pixels
from ..served_version import ServedVersion

R = TypeVar("R")


class Request(Generic[R]):
    """A request whose reply is of type ``R``.

    Attributes:
        model: name of the requested model; empty where the request names none.
        version: the requested version; None where the request names none.
    """

    model: str = ""
    version: int | None = None
    images: Sequence[Pixels] = ()

    @property
    def method(self) -> str:
        """The name of the method in Triton's gRPC service."""
        return type(self).__name__


@dataclass(frozen=True, slots=True)
class OutputTensor:
    """One output of a model.

    Attributes:
        name: name of the output.
        datatype: Triton's name of the element type, such as ``FP32``.
        shape: with the batch as the first dimension.
        content: the elements in row-major order, little-endian.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    content: bytes


@dataclass(frozen=True, slots=True)
class InferReply:
    """The reply to `ModelInfer`.

    Attributes:
        version: the version that answered, as the server writes it.
        outputs: the outputs of the model.
    """

    version: str
    outputs: tuple[OutputTensor, ...]


@dataclass(frozen=True, slots=True)
class Metadata:
    """The name and version that a server reports.

    Attributes:
        name: the ``--id`` of the server, ``triton`` by default.
        version: the version of Triton, such as ``2.51.0``.
    """

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class ModelState:
    """The state of one version of a model on a server.

    Attributes:
        model: name of the model.
        version: number of the version; 0 where the server names none.
        state: Triton's name of the state; ``READY`` when the version serves.
        reason: why it does not serve.
    """

    model: str
    version: int
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class VersionCounts:
    """What a server has counted of one version of a model since it loaded the version.

    Attributes:
        version: number of the version.
        answered: number of requests that were answered.
        failed: number of requests that failed.
    """

    version: int
    answered: int
    failed: int


DEADLINE_PARAMETER = "tamiz_deadline_us"
"""The parameter of an inference request that holds `ModelInfer.deadline_us`.

Triton passes it to the backend: the one of the embedded server answers a late request with an error, others ignore it.
"""


class ModelInfer(Request[InferReply]):
    """Asks for the probabilities of a batch of images.

    Args:
        served: the version that the images were prepared for; the request names it.
        images: at least one image, uint8 ``[height, width, channels]``, contiguous, all of the version's shape.
        region: name of the shared-memory region that holds the images from its beginning, one after another; None
            sends the pixels with the request.

    Attributes:
        deadline_us: time at which the caller stops waiting, in microseconds since 1970; None does not tell the server.
    """

    deadline_us: int | None = None

    def __init__(self, served: ServedVersion, images: Sequence[Pixels], *, region: str | None = None) -> None:
        self.served = served
        self.model = served.model
        self.version = served.version
        self.images = images
        self.region = region


@dataclass(frozen=True)
class ModelConfig(Request[model_config_pb2.ModelConfig]):
    """Asks for a model's configuration."""

    model: str


@dataclass(frozen=True)
class ModelReady(Request[bool]):
    """Asks whether a model, or one version of it, is ready to serve."""

    model: str
    version: int | None = None


@dataclass(frozen=True)
class ModelStatistics(Request[list[str]]):
    """Asks for the names of the models that a server serves, sorted.

    `RepositoryIndex` has more of them, but most servers allow it only with a key.
    """


@dataclass(frozen=True)
class VersionStatistics(Request[list[VersionCounts]]):
    """Asks what a server has counted of each version of a model.

    Attributes:
        model: name of the model.
    """

    model: str

    @property
    def method(self) -> str:
        """The name of the method in Triton's gRPC service."""
        return "ModelStatistics"


@dataclass(frozen=True)
class ServerReady(Request[bool]):
    """Asks whether a server is ready to serve."""


@dataclass(frozen=True)
class ServerMetadata(Request[Metadata]):
    """Asks for a server's name and version."""


@dataclass(frozen=True)
class SystemSharedMemoryStatus(Request[frozenset[str]]):
    """Asks for the names of the shared-memory regions that are registered with a server."""


@dataclass(frozen=True)
class SystemSharedMemoryRegister(Request[None]):
    """Registers a shared-memory region with a server.

    Attributes:
        name: name of the region, and of its file in ``/dev/shm``.
        byte_size: size of the region in bytes.
    """

    name: str
    byte_size: int


@dataclass(frozen=True)
class SystemSharedMemoryUnregister(Request[None]):
    """Unregisters a shared-memory region from a server.

    Attributes:
        name: name of the region; empty for all regions of the server.
    """

    name: str


@dataclass(frozen=True)
class RepositoryModelLoad(Request[None]):
    """Loads a model, or reloads what has changed of it; the reply comes when the change is in force.

    Attributes:
        model: name of the model.
        config: configuration to use instead of that in the server's repository, as JSON; None uses the repository's.
    """

    model: str
    config: str | None = None


@dataclass(frozen=True)
class RepositoryIndex(Request[list[ModelState]]):
    """Asks for the state of every model in a server's repository."""
