"""A REST service in front of Triton: one route that takes an image file and returns its label.

uvicorn --app-dir examples --port 8080 fastapi_service:app
curl --data-binary @seven.png http://localhost:8080/classify
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

import tamiz

URL = os.environ.get("TRITON_URL", "grpc://localhost:8001")
MODEL = os.environ.get("MODEL", "digits")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Create one client for the whole process: it keeps its connections open and follows new versions."""
    async with tamiz.AsyncClient(URL, model=MODEL, timeout_s=2.0) as client:
        app.state.client = client
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/classify")
async def classify(request: Request, top_k: int = 1) -> dict[str, object]:
    """Classify the image file in the body of the request."""
    prediction = await request.app.state.client.classify(await request.body(), top_k=top_k)
    return {"label": prediction.label, "score": prediction.score, "version": prediction.version, "top": prediction.top}


# The most specific class that matches an error decides: an OverloadedError is a ServerError too.
STATUS = {
    tamiz.InvalidImageError: 422,  # the caller sent something that is no image
    tamiz.UsageError: 400,  # such as top_k=0
    tamiz.OverloadedError: 503,  # worth a retry
    tamiz.DeadlineError: 504,
    tamiz.TamizError: 502,  # everything else concerns the server behind this one
}


@app.exception_handler(tamiz.TamizError)
async def describe(request: Request, exc: Exception) -> JSONResponse:
    """Turn an error of Tamiz into a status and one line."""
    status = next(status for kind, status in STATUS.items() if isinstance(exc, kind))
    headers = {"retry-after": "1"} if status == 503 else None
    return JSONResponse({"error": type(exc).__name__, "message": str(exc)}, status, headers)
