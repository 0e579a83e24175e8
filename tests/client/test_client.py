from __future__ import annotations

import asyncio
import io
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
from conftest import Served
from fleet import stalled
from graphs import even, make_spec

import tamiz
from tamiz import AsyncClient, Client, errors
from tamiz.engine.concurrency import CORES
from tamiz_server.config import ModelConfig, ServingSettings
from tamiz_server.promotion import promote, rollback


def test_the_client_reads_the_spec_from_the_server(served: Served) -> None:
    with served.client("grey") as client:
        assert client.live_version == 1
        assert client.spec == served.repository.live_version("grey").spec
        assert client.max_batch_size == 16


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_properties_never_touch_the_network(kind: type[Client] | type[AsyncClient]) -> None:
    client = kind("grpc://127.0.0.1:9", model="grey")
    for name in ("spec", "live_version", "max_batch_size"):
        with pytest.raises(
            errors.UsageError, match=r"the spec of model grey has not been read yet; .* call refresh\(\)"
        ):
            getattr(client, name)
    assert client.stats.requests == 0


def test_entering_a_client_reads_the_spec_or_fails(served: Served) -> None:
    with served.client("grey") as client:
        assert client.spec.labels[3] == "grey 3"
        assert client.stats.requests == 1
    with pytest.raises(errors.UnavailableError), Client("grpc://127.0.0.1:9", model="grey"):
        pytest.fail("there is no server")


def test_a_path_bytes_and_pixels_get_the_label_of_the_image(served: Served, even_image: Callable[..., Path]) -> None:
    path = even_image(7)
    with served.client("grey") as client:
        for image in (path, str(path), path.read_bytes(), even(7)):
            prediction = client.classify(image, top_k=3)
            assert prediction.label == "grey 7"
            assert prediction.index == 7
            assert prediction.version == 1
            assert prediction.model == "grey"
            assert len(prediction.top) == 3
            assert prediction.top[0].score == prediction.score


def test_many_images_are_answered_in_order(served: Served) -> None:
    expected = [index % 10 for index in range(333)]
    with served.client("grey") as client:
        predictions = list(client.classify_many(map(even, expected), in_flight=3, batch_size=7))
    assert [prediction.index for prediction in predictions] == expected


def test_classify_many_takes_images_from_the_source_only_as_needed(served: Served) -> None:
    taken = 0

    def endless() -> Iterator[np.ndarray]:
        nonlocal taken
        while True:
            taken += 1
            yield even(taken % 10)

    with served.client("grey") as client:
        predictions = client.classify_many(endless(), in_flight=2, batch_size=4)
        for _ in range(100):
            next(predictions)
        predictions.close()
    # Twice as many batches as may be in flight and prepared, and the batch whose results are being yielded.
    assert taken <= 100 + 4 * (2 * (2 + CORES) + 1)


def failing_after(count: int) -> Iterator[np.ndarray]:
    yield from (even(index % 10) for index in range(count))
    raise OSError("the disk is gone")


@pytest.mark.parametrize("ordered", [True, False])
def test_a_source_that_fails_raises_its_error_after_the_outcomes_of_all_images_before(
    served: Served, ordered: bool
) -> None:
    with served.client("grey") as client:
        outcomes = client.classify_many(failing_after(1000), ordered=ordered)
        assert len([next(outcomes) for _ in range(1000)]) == 1000
        with pytest.raises(OSError, match="the disk is gone"):
            next(outcomes)


async def test_a_source_that_fails_in_an_async_client_raises_its_error_after_the_outcomes(served: Served) -> None:
    async with AsyncClient(served.triton.url, model="grey") as client:
        outcomes = client.classify_many(failing_after(1000))
        assert [(await anext(outcomes)).index for _ in range(1000)] == [index % 10 for index in range(1000)]
        with pytest.raises(OSError, match="the disk is gone"):
            await anext(outcomes)


@pytest.mark.parametrize(
    "images", [even(1), np.zeros((40, 30, 3), np.uint8), np.zeros((40, 30, 4), np.uint8), even(1).ravel()]
)
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_one_array_is_not_taken_for_many_images(kind: type[Client] | type[AsyncClient], images: np.ndarray) -> None:
    with pytest.raises(
        errors.UsageError, match=r"images: a single image \(an array of uint8 .*; give a list of images"
    ):
        kind("grpc://127.0.0.1:9", model="grey").classify_many(images)


def test_an_array_of_several_images_is_many_images(served: Served) -> None:
    stack = np.stack([even(index) for index in range(10)])
    with served.client("grey") as client:
        assert [outcome.index for outcome in client.classify_many(stack)] == list(range(10))
        coloured = np.repeat(stack[..., None], 3, axis=3)
        assert [outcome.index for outcome in client.classify_many(coloured)] == list(range(10))


@pytest.mark.parametrize("ordered", [True, False])
def test_each_outcome_has_the_position_of_its_image(served: Served, ordered: bool) -> None:
    images = [even(index % 10) if index % 7 else b"broken" for index in range(200)]
    with served.client("grey") as client:
        outcomes = list(client.classify_many(images, ordered=ordered, on_error="return", batch_size=6))
    assert sorted(outcome.position for outcome in outcomes) == list(range(200))
    if ordered:
        assert [outcome.position for outcome in outcomes] == list(range(200))
    for outcome in outcomes:
        if outcome.position % 7:
            assert outcome.index == outcome.position % 10
        else:
            assert isinstance(outcome, tamiz.InvalidImageError)


def test_a_batch_larger_than_the_server_accepts_is_sent_in_parts(served: Served) -> None:
    with served.client("grey") as client:
        predictions = list(client.classify_many([even(i % 10) for i in range(50)], batch_size=50))
    assert [prediction.index for prediction in predictions] == [i % 10 for i in range(50)]


def test_ending_classify_many_early_does_not_wait_for_requests_in_flight(served: Served) -> None:
    with served.client("grey", timeout_s=1) as client:
        outcomes = client.classify_many((even(index % 10) for index in itertools.count()), batch_size=1)
        next(outcomes)
        with stalled(served.triton):
            began = time.monotonic()
            outcomes.close()
            assert time.monotonic() - began < 0.9
            began = time.monotonic()
            with pytest.raises(errors.DeadlineError):
                list(client.classify_many(map(even, range(200)), batch_size=1, in_flight=1))
            assert time.monotonic() - began < 1.9, "the timeouts of the requests do not add up"
            # Time for the request that took the slot of the failed one.
            time.sleep(0.2)
            sent = client.stats.requests
            time.sleep(1.2)
            assert client.stats.requests == sent, "no request is sent after the iterator ended"
        assert client.classify(even(3)).index == 3


def test_a_client_that_another_thread_closes_raises_closed_error(served: Served) -> None:
    client = served.client("grey", timeout_s=20)
    client.classify(even(1))
    with stalled(served.triton), ThreadPoolExecutor(1) as pool:
        call = pool.submit(client.classify, even(2))
        time.sleep(0.2)
        client.close()
        with pytest.raises(errors.ClosedError, match="the client of model grey is closed"):
            call.result(timeout=2)


def test_an_unreadable_image_is_raised_or_returned_in_its_place(served: Served) -> None:
    images = [even(1), b"not an image", even(2)]
    with served.client("grey") as client:
        with pytest.raises(tamiz.InvalidImageError):
            list(client.classify_many(images))
        first, broken, last = client.classify_many(images, on_error="return")
        assert (first.index, last.index) == (1, 2)
        assert isinstance(broken, tamiz.InvalidImageError)
        assert all(isinstance(o, tamiz.InvalidImageError) for o in client.classify_many([b"x"] * 3, on_error="return"))
        with pytest.raises(tamiz.InvalidImageError):
            client.classify(b"not an image")


async def test_the_async_client_gives_the_same_answers(served: Served) -> None:
    expected = [index % 10 for index in range(100)]

    async def source():
        for index in expected:
            yield even(index)

    async with AsyncClient(served.triton.url, model="grey") as client:
        assert client.live_version == 1
        assert client.spec == served.repository.live_version("grey").spec
        assert (await client.classify(even(4), top_k=2)).label == "grey 4"
        assert [p.index async for p in client.classify_many(source(), batch_size=8)] == expected
        assert [p.index async for p in client.classify_many(map(even, expected))] == expected
        with pytest.raises(tamiz.InvalidImageError):
            await client.classify(b"not an image")


async def test_an_async_caller_that_stops_early_leaves_no_task_behind(served: Served) -> None:
    async with AsyncClient(served.triton.url, model="grey") as client:
        results = client.classify_many((even(index % 10) for index in range(10_000)), batch_size=2)
        assert (await anext(results)).index == 0
        before = asyncio.all_tasks()
        await results.aclose()
        assert asyncio.all_tasks() == {asyncio.current_task()} < before


async def test_a_closed_client_raises_closed_error(served: Served) -> None:
    client = served.client("grey")
    client.close()
    with pytest.raises(errors.ClosedError, match="closed"):
        client.classify(even(1))
    async with AsyncClient(served.triton.url, model="grey") as async_client:
        pass
    with pytest.raises(errors.ClosedError, match="closed"):
        await async_client.classify(even(1))


async def test_calls_that_wait_for_a_processor_when_the_client_is_closed_raise_closed_error(served: Served) -> None:
    image = cv2.imencode(".png", np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), np.uint8))[1].tobytes()
    client = AsyncClient(served.triton.url, model="grey")
    await client.refresh()
    calls = [asyncio.create_task(client.classify(image)) for _ in range(50)]
    await asyncio.sleep(0.05)
    await client.close()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} <= {tamiz.Prediction, errors.ClosedError}
    assert sum(isinstance(outcome, errors.ClosedError) for outcome in outcomes) > 20
    assert not any(call.cancelled() for call in calls)


def test_a_proxy_is_not_used_for_the_loopback_address(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    with served.client("grey", timeout_s=5) as client:
        assert client.classify(even(2)).index == 2


async def test_the_async_client_raises_the_same_errors(served: Served) -> None:
    with pytest.raises(errors.ModelNotFoundError):
        async with AsyncClient(served.triton.url, model="nothing"):
            pass
    client = AsyncClient("grpc://127.0.0.1:9", model="grey")
    with pytest.raises(errors.UnavailableError):
        await client.classify(even(1))
    with pytest.raises(errors.UsageError, match=r"call refresh\(\)"):
        _ = client.spec
    await client.close()


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_an_unknown_model_is_an_error_that_suggests_the_closest_model_of_the_server(
    protocol: str, served: Served
) -> None:
    url = served.triton.url if protocol == "grpc" else f"http://127.0.0.1:{served.triton.ports.http}"
    with pytest.raises(errors.ModelNotFoundError, match="did you mean 'grey'"), Client(url, model="gray"):
        pass


def test_an_unknown_model_and_a_missing_server_are_different_errors(served: Served) -> None:
    with (
        pytest.raises(errors.ModelNotFoundError, match="nothing") as caught,
        served.client("nothing") as client,
    ):
        client.classify(even(1))
    assert caught.value.url == served.triton.url
    with (
        pytest.raises(errors.UnavailableError, match="start one with"),
        Client("grpc://127.0.0.1:9", model="grey") as client,
    ):
        client.classify(even(1))


def test_a_model_that_tamiz_did_not_publish_is_a_spec_error(served: Served) -> None:
    name = served.new_name()
    served.publish(name, make_spec(["a", "b"]))

    def drop_spec(config: ModelConfig) -> None:
        del config.parameters["tamiz.spec.1"]

    served.repository.update_config(name, drop_spec)
    served.control.load(name)
    with (
        pytest.raises(tamiz.SpecError, match=f"model {name}: no spec for version 1"),
        served.client(name) as client,
    ):
        client.classify(even(1))


def test_a_promoted_version_of_another_size_and_class_count_gives_no_wrong_label(served: Served) -> None:
    name = served.new_name()
    served.publish(name, make_spec([f"old {i}" for i in range(10)], 28, 28))
    with served.client(name) as client:
        assert client.classify(even(9)).label == "old 9"
        served.publish(name, make_spec([f"new {i}" for i in range(12)], 32, 32, "RGB"))
        assert client.classify(even(9)).label == "old 9", "published is not yet live"
        promote(served.repository, name, 2, control=served.control)
        prediction = client.classify(even(11, 12))
        assert (prediction.label, prediction.version, client.live_version) == ("new 11", 2, 2)
        rollback(served.repository, name, control=served.control)
        assert client.classify(even(3)).label == "old 3"


def test_a_call_may_have_a_timeout_of_its_own(served: Served) -> None:
    with served.client("grey", timeout_s=60) as client, stalled(served.triton):
        began = time.monotonic()
        with pytest.raises(errors.DeadlineError):
            client.classify(even(3), timeout_s=0.5)
        assert time.monotonic() - began < 10


def test_a_stalled_server_is_a_deadline_error_at_the_deadline(served: Served) -> None:
    with served.client("grey", timeout_s=1) as client:
        client.refresh()
        with stalled(served.triton):
            began = time.monotonic()
            with pytest.raises(errors.DeadlineError) as caught:
                client.classify(even(1))
            assert time.monotonic() - began < 1.9
        assert isinstance(caught.value, TimeoutError)
        client.timeout_s = 10
        assert client.classify(even(1)).index == 1


def test_a_full_queue_is_an_overloaded_error(served: Served) -> None:
    name = served.new_name()
    settings = ServingSettings(max_batch_size=1, max_queue_size=1, instances=1)
    served.publish(name, make_spec(["a", "b"]), busy_loops=60, settings=settings)
    seen: list[Exception] = []
    # More calls at once than the retry budget of the client can retry.
    together = threading.Barrier(30)

    def call() -> None:
        together.wait(60)
        try:
            client.classify(even(0, 2))
        except errors.TamizError as exc:
            seen.append(exc)

    with served.client(name, timeout_s=60) as client:
        client.refresh()
        threads = [threading.Thread(target=call) for _ in range(together.parties)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert seen
    assert {type(error) for error in seen} == {errors.OverloadedError}


@pytest.mark.parametrize("settings", [{"in_flight": 0}, {"batch_size": 0}, {"on_error": "ignore"}, {"top_k": 0}])
def test_invalid_settings_are_rejected_before_anything_is_sent(settings: dict[str, object]) -> None:
    client = Client("grpc://127.0.0.1:9", model="grey")
    with pytest.raises(errors.UsageError, match=next(iter(settings))):
        client.classify_many([], **settings)
    for one in ("a.png", b"content", Path("a.png"), io.BytesIO(b"content")):
        with pytest.raises(errors.UsageError, match="images: a single image"):
            client.classify_many(one)
    for timeout_s in (0, -1, float("inf"), float("nan"), None, "5", np.float32(0)):
        with pytest.raises(errors.UsageError, match="timeout_s"):
            Client(model="grey", timeout_s=timeout_s)
    for model in ("", None):
        with pytest.raises(errors.UsageError, match="model: .*; give the name of a model"):
            Client(model=model)
    for tls in ("ca.pem", True):
        with pytest.raises(errors.UsageError, match="tls: .*; give a tamiz.Tls"):
            Client("grpcs://127.0.0.1:9", model="grey", tls=tls)


def test_any_bytes_like_object_is_an_image_and_other_objects_are_errors(served: Served) -> None:
    content = cv2.imencode(".png", even(3))[1].tobytes()
    images = [content, bytearray(content), memoryview(content), None, 7, io.BytesIO(content)]
    with served.client("grey") as client:
        outcomes = list(client.classify_many(images, on_error="return"))
    assert [outcome.index for outcome in outcomes[:3]] == [3, 3, 3]
    for outcome, shown in zip(outcomes[3:], ("None", "7 (int)", "a value of type BytesIO"), strict=True):
        assert str(outcome).startswith(f"{shown}: not an image; give a path")


def test_a_top_k_above_the_number_of_labels_gives_all_labels(served: Served) -> None:
    with served.client("grey") as client:
        assert len(client.classify(even(1), top_k=99).top) == 10
        with pytest.raises(errors.UsageError, match="top_k"):
            client.classify(even(1), top_k=0)


def test_an_image_sent_as_pixels_and_as_png_is_the_same(served: Served) -> None:
    pixels = np.arange(28 * 28, dtype=np.uint32).reshape(28, 28).astype(np.uint8)
    content = cv2.imencode(".png", pixels)[1].tobytes()
    with served.client("grey") as client:
        assert client.classify(pixels, top_k=10) == client.classify(content, top_k=10)


def test_no_call_fails_when_the_process_of_an_instance_dies(served: Served) -> None:
    name = served.new_name()
    served.publish(name, make_spec([str(index) for index in range(10)]), settings=ServingSettings(instances=2))
    with served.client(name, timeout_s=20) as client:
        assert client.classify(even(1)).index == 1
        process, _ = (
            child
            for child in psutil.Process(served.triton.pid).children()
            if child.status() != psutil.STATUS_ZOMBIE and f"/{name}/" in " ".join(child.cmdline())
        )
        process.kill()
        assert [client.classify(even(index)).index for index in range(6)] == list(range(6))
        assert client.stats.unavailable > 0


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_prediction_carries_the_hashes_of_the_version_that_answered_on_request(protocol: str, served: Served) -> None:
    name = served.new_name()
    for labels in (["a", "b"], ["c", "d"]):
        served.publish(name, make_spec(labels))
    url = f"{protocol}://127.0.0.1:{getattr(served.triton.ports, protocol)}"
    with Client(url, model=name, provenance=True) as client:
        for version in (1, 2):
            promote(served.repository, name, version, control=served.control)
            client.refresh()
            manifest = served.repository.live_version(name).manifest
            (batched,) = client.classify_many([even(1, 2)])
            for prediction in (client.classify(even(1, 2)), batched):
                provenance = prediction.provenance
                assert (provenance.model, provenance.version, provenance.url) == (name, version, url)
                assert provenance.onnx_sha256 == manifest["onnx_sha256"]
                assert provenance.spec_sha256 == manifest["spec_sha256"]
                assert abs(provenance.time.timestamp() - time.time()) < 60
        assert client.classify(even(1, 2), provenance=False).provenance is None


async def test_an_async_client_carries_the_provenance_too(served: Served) -> None:
    async with AsyncClient(served.triton.url, model="grey") as client:
        assert (await client.classify(even(1))).provenance is None
        single = await client.classify(even(1), provenance=True)
        (batched,) = [prediction async for prediction in client.classify_many([even(1)], provenance=True)]
    hashes = {served.repository.live_version("grey").manifest["onnx_sha256"]}
    assert {single.provenance.onnx_sha256, batched.provenance.onnx_sha256} == hashes
