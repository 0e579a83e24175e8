"""Triton's HTTP protocol behind the messages of its gRPC one, for networks that carry no gRPC."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Coroutine
from typing import Any

import grpc
import numpy as np
from google.protobuf import json_format
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException

from .errors import MissingExtraError
from .protocol import InferRequest
from .transport import CallFuture, Headers, read_headers

try:
    import aiohttp
    from tritonclient.http import InferInput, InferRequestedOutput
    from tritonclient.http import aio as triton_http
except (ImportError, RuntimeError) as exc:
    raise MissingExtraError("http", "tritonclient[http]") from exc

_CODES = {
    "400": grpc.StatusCode.INVALID_ARGUMENT,
    "401": grpc.StatusCode.UNAUTHENTICATED,
    "403": grpc.StatusCode.PERMISSION_DENIED,
    "404": grpc.StatusCode.NOT_FOUND,
    "409": grpc.StatusCode.ALREADY_EXISTS,
    "429": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "501": grpc.StatusCode.UNIMPLEMENTED,
    "502": grpc.StatusCode.UNAVAILABLE,
    "503": grpc.StatusCode.UNAVAILABLE,
    "504": grpc.StatusCode.UNAVAILABLE,
}


class HttpCallError(grpc.RpcError):  # type: ignore[misc]
    """A failed call, in the terms of gRPC."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self._code = code
        self._text = text

    def code(self) -> grpc.StatusCode:
        """The status, as gRPC names it."""
        return self._code

    def details(self) -> str:
        """What the server, or the library that carried the call, said."""
        return self._text


class HttpTransport:
    """HTTP, through tritonclient's asyncio client, which runs in a thread of its own; see `transport.Transport`."""

    def __init__(self, target: str, context: ssl.SSLContext | None = None, headers: Headers = None) -> None:
        self._headers = headers
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tamiz-http", daemon=True)
        self._thread.start()
        self._client: Any = asyncio.run_coroutine_threadsafe(_open(target, context), self._loop).result()
        self._closing = threading.Lock()

    def call(self, method: str, request: Any, timeout_s: float) -> Any:
        """See `transport.Transport`."""
        return self.begin(method, request, timeout_s).result()

    def begin(self, method: str, request: Any, timeout_s: float) -> CallFuture:
        """See `transport.Transport`."""
        headers = dict(read_headers(self._headers))
        # Not between the last turn of the loop and its end, where a call would wait for ever.
        with self._closing:
            call = _METHODS[method](self._client, request, headers)
            return asyncio.run_coroutine_threadsafe(_translate(call, timeout_s), self._loop)

    def close(self) -> None:
        """See `transport.Transport`."""
        if threading.current_thread() is self._thread:
            # The client became garbage while this thread happened to run: it cannot wait for itself.
            threading.Thread(target=self.close, name="tamiz-http-close", daemon=True).start()
            return
        with self._closing:
            if self._loop.is_closed():
                return
            asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    async def _end(self) -> None:
        calls = asyncio.all_tasks() - {asyncio.current_task()}
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await self._client.close()


async def _open(target: str, context: ssl.SSLContext | None) -> Any:
    # It must be made in the loop. Time-outs are those of each call; the number of calls is the caller's affair.
    return triton_http.InferenceServerClient(
        target, conn_limit=0, conn_timeout=86_400.0, ssl=context is not None, ssl_context=context or True
    )


async def _translate(call: Coroutine[Any, Any, Any], timeout_s: float) -> Any:
    code = grpc.StatusCode
    try:
        async with asyncio.timeout(timeout_s):
            return await call
    except InferenceServerException as exc:
        raise HttpCallError(_CODES.get(exc.status() or "", code.INTERNAL), exc.message() or "") from exc
    except TimeoutError as exc:
        raise HttpCallError(code.DEADLINE_EXCEEDED, "Deadline Exceeded") from exc
    except (aiohttp.ClientSSLError, ssl.SSLError) as exc:
        raise HttpCallError(code.UNAVAILABLE, f"handshake failed: {exc}") from exc
    except aiohttp.ClientResponseError as exc:
        raise HttpCallError(code.UNAVAILABLE, "what answers does not speak HTTP") from exc
    except (aiohttp.ClientError, OSError) as exc:
        raise HttpCallError(code.UNAVAILABLE, str(exc) or type(exc).__name__) from exc
    except (ValueError, LookupError, TypeError, json_format.ParseError) as exc:
        raise HttpCallError(code.INTERNAL, f"what answers is not Triton: {type(exc).__name__}: {exc}") from exc


async def _infer(client: Any, infer: InferRequest, headers: dict[str, str]) -> Any:
    request = infer.header
    (tensor,) = request.inputs
    image = InferInput(tensor.name, list(tensor.shape), tensor.datatype)
    if infer.images:
        image.set_data_from_numpy(np.stack(infer.images))
    else:
        region, size = (tensor.parameters[f"shared_memory_{name}"] for name in ("region", "byte_size"))
        image.set_shared_memory(region.string_param, size.int64_param)
    outputs = [InferRequestedOutput(tensor.name) for tensor in request.outputs]
    result = await client.infer(request.model_name, [image], request.model_version, outputs, headers=headers)
    answer = result.get_response()
    reply = service_pb2.ModelInferResponse(
        model_name=answer["model_name"], model_version=answer.get("model_version", "")
    )
    for entry in answer["outputs"]:
        tensor = reply.outputs.add(name=entry["name"], datatype=entry["datatype"])
        tensor.shape.extend(entry["shape"])
        reply.raw_output_contents.append(result.as_numpy(entry["name"]).tobytes())
    return reply


async def _config(client: Any, request: service_pb2.ModelConfigRequest, headers: dict[str, str]) -> Any:
    document = await client.get_model_config(request.name, headers=headers)
    reply = service_pb2.ModelConfigResponse()
    json_format.ParseDict(document, reply.config, ignore_unknown_fields=True)
    return reply


async def _ready(client: Any, request: service_pb2.ModelReadyRequest, headers: dict[str, str]) -> Any:
    ready = await client.is_model_ready(request.name, request.version, headers=headers)
    return service_pb2.ModelReadyResponse(ready=ready)


async def _server_ready(client: Any, request: service_pb2.ServerReadyRequest, headers: dict[str, str]) -> Any:
    return service_pb2.ServerReadyResponse(ready=await client.is_server_ready(headers=headers))


async def _regions(client: Any, request: Any, headers: dict[str, str]) -> Any:
    reply = service_pb2.SystemSharedMemoryStatusResponse()
    for region in await client.get_system_shared_memory_status(headers=headers):
        json_format.ParseDict(region, reply.regions[region["name"]], ignore_unknown_fields=True)
    return reply


async def _register(
    client: Any, request: service_pb2.SystemSharedMemoryRegisterRequest, headers: dict[str, str]
) -> Any:
    await client.register_system_shared_memory(request.name, request.key, request.byte_size, headers=headers)
    return service_pb2.SystemSharedMemoryRegisterResponse()


async def _unregister(
    client: Any, request: service_pb2.SystemSharedMemoryUnregisterRequest, headers: dict[str, str]
) -> Any:
    await client.unregister_system_shared_memory(request.name, headers=headers)
    return service_pb2.SystemSharedMemoryUnregisterResponse()


_METHODS = {
    "ModelConfig": _config,
    "ModelInfer": _infer,
    "ModelReady": _ready,
    "ServerReady": _server_ready,
    "SystemSharedMemoryRegister": _register,
    "SystemSharedMemoryStatus": _regions,
    "SystemSharedMemoryUnregister": _unregister,
}
