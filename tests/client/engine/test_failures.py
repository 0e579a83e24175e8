from __future__ import annotations

import pytest

from tamiz import errors
from tamiz.engine.failures import name_all, reason
from tamiz.errors import MAX_MESSAGE

A, B = "grpc://a:8001", "grpc://b:8001"
REMEDY = "; check the URL, and that the server is running"


def lost(url: str, why: str = "refused") -> errors.UnavailableError:
    return errors.UnavailableError(f"no server answers at {url}: {why}", model="grey", url=url, remedy=REMEDY)


def test_an_error_names_every_server_that_failed_and_says_once_what_to_do() -> None:
    error = name_all(lost(B), {A: reason(lost(A), A), B: reason(lost(B), B)})
    assert (
        str(error) == f"2 servers failed: no server answers at {A}: refused; no server answers at {B}: refused{REMEDY}"
    )
    assert isinstance(error, errors.UnavailableError)
    assert (error.model, error.url, error.remedy) == ("grey", B, REMEDY)


def test_the_error_of_one_server_stays_as_it_is() -> None:
    error = lost(A)
    assert name_all(error, {A: reason(error, A)}) is error


def test_servers_that_failed_in_different_ways_keep_their_reasons_and_the_last_one_gives_the_kind() -> None:
    late = errors.DeadlineError(f"model grey: {B} did not answer in time", url=B)
    error = name_all(late, {A: reason(lost(A), A), B: reason(late, B)})
    assert type(error) is errors.DeadlineError
    assert f"{A}: refused; model grey: {B} did not answer in time" in str(error)


def test_a_reason_without_the_url_is_completed_with_it() -> None:
    assert reason(OSError("the token\nservice is down"), A) == f"{A}: the token service is down"


@pytest.mark.parametrize("kind", [errors.InvalidRequestError, errors.AccessError, errors.InferenceError])
def test_what_every_server_would_reject_is_the_only_thing_that_the_error_tells(kind: type[errors.ServerError]) -> None:
    error = kind("rejected", url=B)
    assert name_all(error, {A: "lost", B: "rejected"}) is error


@pytest.mark.parametrize("servers", [2, 20, 1000])
def test_a_message_about_many_servers_is_short_and_says_what_to_do(servers: int) -> None:
    urls = [f"grpc://server-{number}.example:8001" for number in range(servers)]
    error = name_all(lost(urls[-1]), {url: reason(lost(url, "because " * 1000), url) for url in urls})
    message = str(error)
    assert len(message) < MAX_MESSAGE
    assert message.startswith(f"{servers} servers failed: ")
    assert all(url in message for url in urls[:20])
    assert (f" and {servers - 20} more" in message) == (servers > 20)
    assert message.endswith(REMEDY)
