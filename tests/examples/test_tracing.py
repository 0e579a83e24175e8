from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from fleet import stalled
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

import tamiz

pytestmark = pytest.mark.integration


def test_each_request_is_a_span_and_a_failed_one_has_its_error(
    example: Callable[[str], ModuleType],
    served: Any,
    even_image: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spans, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    tracing = example("tracing")
    monkeypatch.setattr(tracing, "tracer", provider.get_tracer("test"))
    with tamiz.Client(
        served.triton.url, model="grey", on_event=tracing.record, headers=tracing.trace_headers, timeout_s=1
    ) as client:
        with tracing.tracer.start_as_current_span("classify"):
            client.classify(even_image(3))
            assert "traceparent" in tracing.trace_headers()
        with stalled(served.triton), pytest.raises(tamiz.DeadlineError):
            client.classify(even_image(3))
    answered, caller, failed = spans.get_finished_spans()[-3:]
    assert (answered.name, answered.attributes["tamiz.images"], answered.attributes["tamiz.version"]) == (
        "ModelInfer",
        1,
        1,
    )
    assert answered.parent.span_id == caller.context.span_id
    assert failed.status.status_code is StatusCode.ERROR
    assert failed.events[0].attributes["exception.type"].endswith("DeadlineError")
