"""The HTTP transport: Triton's HTTP API through tritonclient, for networks that do not carry gRPC."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

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
from .headers import Headers, read_headers
from .requests import InferReply, Metadata, ModelState, OutputTensor, Request
from .status import make_error

try:
    import aiohttp
    from tritonclient.http import InferInput, InferRequestedOutput
    from tritonclient.http import aio as triton_http
except (ImportError, RuntimeError) as exc:
    raise MissingExtraError("http", "tritonclient[http]") from exc

R = TypeVar("R")

_NEVER_S = 86_400.0


class HttpTransport:
    """An HTTP connection; see `tamiz.transports.base.Transport`.

    The asyncio client of tritonclient runs on an event loop in a dedicated thread.

    Args:
        url: URL of the server, for messages.
        target: ``host:port``.
        context: of TLS; None for an unencrypted connection.
        headers: sent with every request.
    """

    def __init__(self, url: str, target: str, context: ssl.SSLContext | None = None, headers: Headers = None) -> None:
        self.url = url
        self._headers = headers
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tamiz-http", daemon=True)
        self._thread.start()
        self._client: Any = asyncio.run_coroutine_threadsafe(_open(target, context), self._loop).result()
        self._closing = threading.Lock()

    def call(self, request: Request[R], timeout_s: float) -> R:
        """Send a request and wait for the reply; see `Transport`."""
        return self.begin(request, timeout_s).result()

    def begin(self, request: Request[R], timeout_s: float) -> Future[R]:
        """Send a request; see `Transport`."""
        headers = dict(read_headers(self._headers))
        # Held so that `close` cannot stop the loop before it runs the request, which would then wait for ever.
        with self._closing:
            reply = _send(self._client, request, headers)
            return asyncio.run_coroutine_threadsafe(
                _raise_tamiz_errors(reply, request, self.url, timeout_s), self._loop
            )

    def close(self) -> None:
        """Close the connection; see `Transport`."""
        if threading.current_thread() is self._thread:
            # The client was garbage-collected while this thread happened to run: a thread cannot wait for itself.
            threading.Thread(target=self.close, name="tamiz-http-close", daemon=True).start()
            return
        with self._closing:
            if self._loop.is_closed():
                return
            asyncio.run_coroutine_threadsafe(self._cancel_and_close(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
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
        case requests.RepositoryModelLoad(model):
            return await client.load_model(model, headers=headers)
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
    result = await client.infer(request.model, [image], str(request.version), outputs, headers=headers)
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


async def _raise_tamiz_errors(reply: Coroutine[Any, Any, R], request: Request[R], url: str, timeout_s: float) -> R:
    """Await a reply, and raise what goes wrong as an error of `tamiz.errors`."""

    def error(kind: type[ServerError], text: str, status: str = "HTTP") -> ServerError:
        return make_error(kind, text, status=status, request=request, url=url)

    try:
        async with asyncio.timeout(timeout_s):
            return await reply
    except InferenceServerException as exc:
        status = exc.status() or ""
        raise error(_KINDS.get(status, InferenceError), exc.message() or "", f"HTTP {status}".strip()) from exc
    except TimeoutError as exc:
        raise error(DeadlineError, "") from exc
    except (aiohttp.ClientSSLError, ssl.SSLError) as exc:
        raise error(UnavailableError, f"handshake failed: {exc}") from exc
    except aiohttp.ClientResponseError as exc:
        raise error(UnavailableError, "the answer is not HTTP") from exc
    except (aiohttp.ClientError, OSError) as exc:
        raise error(UnavailableError, str(exc) or type(exc).__name__) from exc
    except (ValueError, LookupError, TypeError, json_format.ParseError) as exc:
        raise error(InferenceError, f"the answer is not Triton's: {type(exc).__name__}: {exc}") from exc
