from __future__ import annotations

import re

import pytest

from tamiz_gateway.trace import current, read_trace, triton_headers

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_the_trace_of_the_caller_goes_on_with_a_span_of_the_gateway() -> None:
    trace = read_trace({"traceparent": PARENT, "tracestate": "a=b", "x-request-id": "order-7"})
    assert (trace.request_id, trace.trace_id, trace.parent_id) == ("order-7", PARENT[3:35], PARENT[36:52])
    sent = trace.headers
    assert re.fullmatch(f"00-{trace.trace_id}-{trace.span_id}-01", sent["traceparent"])
    assert trace.span_id != trace.parent_id
    assert (sent["tracestate"], sent["x-request-id"]) == ("a=b", "order-7")


@pytest.mark.parametrize(
    "parent", ["", "nonsense", PARENT.upper(), PARENT.replace("4bf9", "xxxx"), f"00-{'0' * 32}-00f067aa0ba902b7-01"]
)
def test_without_a_valid_one_a_trace_begins_here(parent: str) -> None:
    trace = read_trace({"traceparent": parent, "tracestate": "a=b"})
    assert (trace.parent_id, trace.state) == ("", "")
    assert re.fullmatch("[0-9a-f]{32}", trace.trace_id)


@pytest.mark.parametrize("name", ["", "a b", "a\nb", "x" * 200])
def test_a_request_id_that_a_log_could_not_take_is_replaced(name: str) -> None:
    assert re.fullmatch("[0-9a-f]{32}", read_trace({"x-request-id": name}).request_id)


def test_requests_to_triton_carry_the_trace_of_the_request() -> None:
    assert triton_headers() == {}
    token = current.set(read_trace({"traceparent": PARENT}))
    try:
        assert triton_headers()["traceparent"].startswith(PARENT[:35])
    finally:
        current.reset(token)
