"""The HTTP transport: Triton's HTTP API through tritonclient, for networks that do not carry gRPC."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from functools import partial
from typing import Any

import numpy as np
from google.protobuf import json_format
from tritonclient.grpc import model_config_pb2
from tritonclient.utils import InferenceServerException

from ..errors import (
    AccessError,
    DeadlineError,
    InferenceError,
    InvalidRequestError,
    MissingExtraError,
    ModelNotFoundError,
    OverloadedError,
    ServerError,
    UnavailableError,
)
from ..spec import INPUT_NAME, OUTPUT_NAME
from . import requests
from .connection import Connection
from .headers import Headers, read_headers
from .reply import Reply
from .requests import InferReply, Metadata, ModelState, OutputTensor, Request, VersionCounts
from .status import how_to_start, make_error

try:
    import aiohttp
    from tritonclient.http import InferInput, InferRequestedOutput
    from tritonclient.http import aio as triton_http
except (ImportError, RuntimeError) as exc:
    raise MissingExtraError("http", "tritonclient[http]") from exc

_NEVER_S = 86_400.0

_CLOSE_S = 1.0
"""Time for closing the connections of a pool."""


class HttpConnection(Connection):
    """A pool of HTTP connections: the asyncio client of tritonclient on an event loop in a dedicated thread.

    Args:
        url: URL of the server, for messages.
        target: ``host:port``.
        context: of TLS; None for an unencrypted connection.
        headers: sent with every request.
    """

    def __init__(self, url: str, target: str, context: ssl.SSLContext | None = None, headers: Headers = None) -> None:
        super().__init__(url)
        self._headers = headers
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="tamiz-http", daemon=True)
        self._thread.start()
        self._client: Any = asyncio.run_coroutine_threadsafe(_open(target, context), self._loop).result()
        # Held so that `close` cannot stop the loop before it runs a request, which would then wait for ever.
        self._stopping = threading.RLock()

    @property
    def cancels(self) -> bool:
        """See `Connection.cancels`."""
        # Triton does not notice that the connection of an HTTP request was closed, so no version crashes.
        return True

    def send(self, reply: Reply[Any]) -> None:
        """See `Connection.send`."""
        headers = dict(read_headers(self._headers))
        with self._stopping:
            if self.closed:
                raise UnavailableError(f"the connection to {self.url} was closed", url=self.url)
            self._loop.call_soon_threadsafe(self._start, reply, headers)

    def close(self) -> None:
        """See `Connection.close`."""
        with self._stopping:
            self._loop.call_soon_threadsafe(self._loop.stop)
        if threading.current_thread() is not self._thread:
            self._thread.join(_CLOSE_S)

    def _start(self, reply: Reply[Any], headers: dict[str, str]) -> None:
        task = self._loop.create_task(_reply(self._client, reply.request, headers, self.url))
        task.add_done_callback(partial(self._end, reply))
        reply.abandon = partial(self._cancel, task)
        if reply.done():
            # The caller stopped waiting before this line.
            task.cancel()

    def _cancel(self, task: asyncio.Task[Any]) -> None:
        # Nothing is left to cancel when the loop is closed.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(task.cancel)

    def _end(self, reply: Reply[Any], task: asyncio.Task[Any]) -> None:
        if task.cancelled():
            reply.end(error=UnavailableError(f"the request to {self.url} was cancelled", url=self.url))
        elif (error := task.exception()) is not None:
            reply.end(error=error)
        else:
            reply.end(task.result())

    def _serve(self) -> None:
        try:
            self._loop.run_forever()
            self._loop.run_until_complete(self._cancel_and_close())
        finally:
            self._loop.close()

    async def _cancel_and_close(self) -> None:
        in_flight = asyncio.all_tasks() - {asyncio.current_task()}
        for task in in_flight:
            task.cancel()
        await asyncio.gather(*in_flight, return_exceptions=True)
        await self._client.close()


async def _open(target: str, context: ssl.SSLContext | None) -> Any:
    # A coroutine, because the client must be made on the loop. Each request has its own timeout and the engine limits
    # the number of requests, so the client itself limits neither.
    return triton_http.InferenceServerClient(
        target, conn_limit=0, conn_timeout=_NEVER_S, ssl=context is not None, ssl_context=context or True
    )


async def _send(client: Any, request: Request[Any], headers: dict[str, str]) -> Any:
    match request:
        case requests.ModelInfer():
            return await _infer(client, request, headers)
        case requests.ModelConfig(model):
            document = await client.get_model_config(model, headers=headers)
            return json_format.ParseDict(document, model_config_pb2.ModelConfig(), ignore_unknown_fields=True)
        case requests.ModelStatistics():
            document = await client.get_inference_statistics(headers=headers)
            return sorted({entry["name"] for entry in document["model_stats"]})
        case requests.VersionStatistics(model):
            document = await client.get_inference_statistics(model, headers=headers)
            return [_version_counts(entry) for entry in document["model_stats"]]
        case requests.ModelReady(model, version):
            named = "" if version is None else str(version)
            return await client.is_model_ready(model, named, headers=headers)
        case requests.ServerReady():
            return await client.is_server_ready(headers=headers)
        case requests.ServerMetadata():
            document = await client.get_server_metadata(headers=headers)
            return Metadata(document["name"], document["version"])
        case requests.SystemSharedMemoryStatus():
            return frozenset(region["name"] for region in await client.get_system_shared_memory_status(headers=headers))
        case requests.SystemSharedMemoryRegister(name, byte_size):
            return await client.register_system_shared_memory(name, f"/{name}", byte_size, headers=headers)
        case requests.SystemSharedMemoryUnregister(name):
            return await client.unregister_system_shared_memory(name, headers=headers)
        case requests.RepositoryModelLoad(model, config):
            return await client.load_model(model, headers=headers, config=config)
        case requests.RepositoryIndex():
            return [
                ModelState(
                    entry["name"],
                    int(entry.get("version") or 0),
                    entry.get("state", "UNLOADED"),
                    entry.get("reason", ""),
                )
                for entry in await client.get_model_repository_index(headers=headers)
            ]
    raise NotImplementedError(request.method)


async def _infer(client: Any, request: requests.ModelInfer, headers: dict[str, str]) -> InferReply:
    image = InferInput(INPUT_NAME, [len(request.images), *request.served.spec.preprocessing.shape], "UINT8")
    if request.region is None:
        image.set_data_from_numpy(np.stack(request.images))
    else:
        image.set_shared_memory(request.region, sum(pixels.nbytes for pixels in request.images))
    outputs = [InferRequestedOutput(OUTPUT_NAME)]
    parameters = None if request.deadline_us is None else {requests.DEADLINE_PARAMETER: request.deadline_us}
    result = await client.infer(
        request.model, [image], str(request.version), outputs, headers=headers, parameters=parameters
    )
    reply = result.get_response()
    return InferReply(
        reply.get("model_version", ""),
        tuple(
            OutputTensor(
                entry["name"], entry["datatype"], tuple(entry["shape"]), result.as_numpy(entry["name"]).tobytes()
            )
            for entry in reply["outputs"]
        ),
    )


def _version_counts(entry: dict[str, Any]) -> VersionCounts:
    counted = entry["inference_stats"]
    return VersionCounts(int(entry["version"]), counted["success"]["count"], counted["fail"]["count"])


_KINDS: dict[str, type[ServerError]] = {
    "400": InvalidRequestError,
    "401": AccessError,
    "403": AccessError,
    "404": ModelNotFoundError,
    "429": OverloadedError,
    "501": InvalidRequestError,
    "502": UnavailableError,
    "503": UnavailableError,
    "504": UnavailableError,
}


async def _reply(client: Any, request: Request[Any], headers: dict[str, str], url: str) -> Any:
    """Send a request and await the reply; what goes wrong is raised as an error of `tamiz.errors`."""

    def error(kind: type[ServerError], text: str, status: str = "HTTP", if_missing: str = "") -> ServerError:
        return make_error(kind, text, status=status, request=request, url=url, if_missing=if_missing)

    try:
        return await _send(client, request, headers)
    except InferenceServerException as exc:
        status = exc.status() or ""
        raise error(_KINDS.get(status, InferenceError), exc.message() or "", f"HTTP {status}".strip()) from exc
    except TimeoutError as exc:
        raise error(DeadlineError, "") from exc
    except (aiohttp.ClientSSLError, ssl.SSLError) as exc:
        raise error(UnavailableError, f"handshake failed: {exc}") from exc
    except aiohttp.ClientResponseError as exc:
        raise error(UnavailableError, "the answer is not HTTP; is this the HTTP port?") from exc
    except (aiohttp.ClientError, OSError) as exc:
        raise error(UnavailableError, str(exc) or type(exc).__name__, if_missing=how_to_start(url)) from exc
    except (ValueError, LookupError, TypeError, json_format.ParseError) as exc:
        raise error(InferenceError, f"the answer is not Triton's: {type(exc).__name__}: {exc}") from exc
