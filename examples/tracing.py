"""Record every request of a client as an OpenTelemetry span, and every retry as an event of the caller's span.

python examples/tracing.py data/digits/test/7/*.png
"""

import sys
import time

from opentelemetry import propagate, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

import tamiz

tracer = trace.get_tracer("tamiz")


def record(event: tamiz.CallEvent) -> None:
    """Turn an event of a call into a span; for `Client(on_event=record)`."""
    if isinstance(event, tamiz.RequestAnswered | tamiz.RequestFailed):
        end = time.time_ns()
        span = tracer.start_span(event.method, kind=trace.SpanKind.CLIENT, start_time=end - int(event.seconds * 1e9))
        span.set_attributes({"server.address": event.url, "tamiz.model": event.model, "tamiz.images": event.images})
        span.set_attributes({"tamiz.call": event.call, "tamiz.version": event.version or 0})
        if isinstance(event, tamiz.RequestFailed):
            span.record_exception(event.error)
            span.set_status(trace.StatusCode.ERROR, str(event.error))
        span.end(end)
    elif isinstance(event, tamiz.CallRetried):
        attributes = {"cause": str(event.cause), "attempt": event.attempt, "wait_s": event.wait_s}
        trace.get_current_span().add_event("retry", attributes)


def trace_headers() -> dict[str, str]:
    """The trace context of the caller, so that the server's spans join its trace; called for each request."""
    headers: dict[str, str] = {}
    propagate.inject(headers)
    return headers


if __name__ == "__main__":
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter()))
    trace.set_tracer_provider(provider)
    with tamiz.Client(model="digits", on_event=record, headers=trace_headers) as client:
        for path in sys.argv[1:]:
            with tracer.start_as_current_span("classify"):
                print(client.classify(path).label)
