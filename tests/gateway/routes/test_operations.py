from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from gateways import Gateway
from prometheus_client.parser import text_string_to_metric_families

Start = Callable[..., AbstractContextManager[Gateway]]


def test_the_gateway_is_ready_when_the_live_version_is(gateway: Gateway, start: Start) -> None:
    assert (gateway.get("/healthz").status, gateway.get("/readyz").status) == (200, 200)
    with start(url="grpc://127.0.0.1:9") as without_server:
        assert without_server.get("/healthz").status == 200
        answer = without_server.get("/readyz")
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    with start(model="none") as without_model:
        assert without_model.get("/readyz").status == 503


def test_prometheus_reads_the_metrics(gateway: Gateway, even_image: Callable[..., Path]) -> None:
    image = even_image(7).read_bytes()
    gateway.request("POST", "/v1/models/grey:classify", image)
    gateway.post_form("/classify", ("file", ("a.png", image)))
    gateway.get("/no/such/path")
    samples: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(gateway.get("/metrics").content.decode())
        for sample in family.samples
    }
    version = ("model", "grey"), ("version", "1")
    assert samples["tamiz_gateway_predictions_total", (("label", "grey 7"), *version)] == 2
    assert samples["tamiz_gateway_confidence_count", version] == 2
    assert samples["tamiz_gateway_inference_seconds_count", version] == 2
    route = ("method", "POST"), ("route", "/classify"), ("status", "200")
    assert samples["tamiz_gateway_requests_total", route] == 1
    assert samples["tamiz_gateway_requests_total", (("method", "GET"), ("route", "unknown"), ("status", "404"))] == 1


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_no_page_loads_scripts_of_other_sites(gateway: Gateway, path: str) -> None:
    assert gateway.get(path).status == 404


def test_the_openapi_document_names_every_route_and_its_references_exist(gateway: Gateway) -> None:
    document = gateway.get("/openapi.json").document
    assert set(document["paths"]) == {
        *("/classify", "/models", "/model_performance", "/monitor", "/switch_model", "/train", "/train/{training_id}"),
        *("/v1/models/{model}", "/v1/models/{model}:classify", "/explain", "/healthz", "/readyz", "/metrics"),
    }
    for reference in references(document):
        place: Any = document
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]


def references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [found for inner in value.values() for found in references(inner)]
    return [found for inner in value for found in references(inner)] if isinstance(value, list) else []
