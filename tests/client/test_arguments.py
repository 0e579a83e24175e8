from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import pytest
from public_parameters import (
    ODD_VALUES,
    check_accepted_or_refused,
    check_message,
    check_refused,
    public_parameters,
)

from tamiz import (
    AsyncClient,
    Client,
    InvalidImageError,
    ModelSpec,
    Normalisation,
    Preprocessing,
    ServerError,
    SpecError,
    TamizError,
    Tls,
    UsageError,
    prepare,
)
from tamiz.errors import MAX_MESSAGE, RecipeError
from tamiz.ray_data import Classify

RECORDS = {
    "CallRetried",
    "EndpointState",
    "Prediction",
    "Provenance",
    "RequestAnswered",
    "RequestFailed",
    "RequestSent",
    "Rollout",
    "Scored",
    "ShadowCompared",
    "Stats",
}
URL = "grpc://127.0.0.1:9"
IMAGE = np.zeros((4, 4, 3), np.uint8)
SIZE = Preprocessing(height=8, width=8)
NORMALISATION = Normalisation(mean=(0.0,) * 3, std=(1.0,) * 3)


class ImagesForEver:
    """An asynchronous iterable."""

    async def __aiter__(self) -> AsyncIterator[np.ndarray]:
        while True:
            yield IMAGE


def create_client(**arguments: Any) -> None:
    Client(**{"url": URL, "model": "pets", **arguments}).close()


def create_async_client(**arguments: Any) -> None:
    asyncio.run(AsyncClient(**{"url": URL, "model": "pets", **arguments}).close())


def classify(**arguments: Any) -> None:
    client = Client(URL, model="pets", timeout_s=0.01)
    try:
        client.classify(**{"image": IMAGE, **arguments})
    finally:
        client.close()


def classify_async(**arguments: Any) -> None:
    async def call() -> None:
        client = AsyncClient(URL, model="pets", timeout_s=0.01)
        try:
            await client.classify(**{"image": IMAGE, **arguments})
        finally:
            await client.close()

    asyncio.run(call())


def classify_many(**arguments: Any) -> None:
    client = Client(URL, model="pets")
    try:
        client.classify_many(**{"images": [IMAGE], **arguments})
    finally:
        client.close()


def classify_many_async(**arguments: Any) -> None:
    client = AsyncClient(URL, model="pets")
    try:
        client.classify_many(**{"images": [IMAGE], **arguments})
    finally:
        asyncio.run(client.close())


def set_timeout(**arguments: Any) -> None:
    with contextlib.closing(Client(URL, model="pets")) as client:
        client.timeout_s = arguments["timeout_s"]


def make_spec(**arguments: Any) -> ModelSpec:
    given = {"labels": ("cat", "dog"), "preprocessing": SIZE, "normalisation": NORMALISATION}
    return ModelSpec(**{**given, **arguments})


def read_spec(**arguments: Any) -> ModelSpec:
    return ModelSpec.from_json(**{"text": make_spec().to_json(), **arguments})


def make_normalisation(**arguments: Any) -> Normalisation:
    return Normalisation(**{"mean": (0.0,), "std": (1.0,), **arguments})


def make_preprocessing(**arguments: Any) -> Preprocessing:
    return Preprocessing(**{"height": 8, "width": 8, **arguments})


def prepare_image(**arguments: Any) -> None:
    prepare(**{"image": IMAGE, "preprocessing": SIZE, **arguments})


def make_tls(**arguments: Any) -> Tls:
    return Tls(**({"key": "a.pem"} if "certificate" in arguments else {"certificate": "a.pem"}), **arguments)


SECRET = "hunter2 é"
NO_WHOLE = (None, "5", True, 2.5, 0, -1)
CLIENT = {
    "url": (None, 5, "", "a", b"grpc://a:1", "grpc://a\0b:1", "grpc://caf\udce9:1", "grpc://a:1,a:1"),
    "model": (None, "", 5, b"pets", "pe\0ts", "caf\udce9"),
    "timeout_s": (None, "5", True, 0, -1, math.nan, math.inf, 10**400, np.zeros(1)),
    "headers": (5, "a=b", {1: "a"}, {"a": 1}, {"a b": "c"}, {"x" * 200_000 + " ": "c"}, [("a", "b")]),
    "tls": ("ca.pem", True, {"ca": "a.pem"}),
    "key": (5, b"key", SECRET, "a\nb"),
    "shared_memory": (None, 1, "yes"),
    "on_event": (5, "print", []),
    "version": NO_WHOLE[1:],
    "provenance": (None, 1, "yes"),
}
CLASSIFY_MANY = {
    "images": (None, 5, "a.png", b"abc", IMAGE, np.array(3), object()),
    "top_k": NO_WHOLE,
    "on_error": (None, "ignore", [], np.zeros(3)),
    "ordered": (None, 1, "yes"),
    "in_flight": (*NO_WHOLE[1:], 2**70),
    "batch_size": (*NO_WHOLE[1:], 2**70),
    "provenance": (0, 1, "yes"),
}
WRONG: dict[str, tuple[Callable[..., Any], tuple[object, ...]]] = {
    **{f"Client.{name}": (create_client, values) for name, values in CLIENT.items()},
    **{f"AsyncClient.{name}": (create_async_client, values) for name, values in CLIENT.items()},
    **{f"Client.classify_many.{name}": (classify_many, values) for name, values in CLASSIFY_MANY.items()},
    **{f"AsyncClient.classify_many.{name}": (classify_many_async, values) for name, values in CLASSIFY_MANY.items()},
    # A wrong image is an InvalidImageError, when the size to prepare it for is known.
    "Client.classify.image": (classify, ()),
    "Client.classify.top_k": (classify, NO_WHOLE),
    "Client.classify.provenance": (classify, (0, 1, "yes")),
    "Client.classify.timeout_s": (classify, CLIENT["timeout_s"][1:]),
    "AsyncClient.classify.image": (classify_async, ()),
    "AsyncClient.classify.top_k": (classify_async, NO_WHOLE),
    "AsyncClient.classify.provenance": (classify_async, (0, 1, "yes")),
    "AsyncClient.classify.timeout_s": (classify_async, CLIENT["timeout_s"][1:]),
    "prepare.image": (prepare_image, ()),
    "prepare.preprocessing": (prepare_image, (None, 224, (8, 8), {"height": 8, "width": 8})),
    "Preprocessing.revision": (make_preprocessing, (None, 0, 99, "new")),
    "Preprocessing.height": (make_preprocessing, (None, 0, "tall", 2.5, 10**5000)),
    "Preprocessing.width": (make_preprocessing, (None, 0, "wide", 2.5, 2**70)),
    "Preprocessing.colour": (make_preprocessing, (None, "BGR", 3, "x" * 200_000)),
    "Preprocessing.resize": (make_preprocessing, (None, "stretch", [])),
    "Preprocessing.crop_fraction": (make_preprocessing, (None, 0, 1.5, math.nan)),
    "Preprocessing.interpolation": (make_preprocessing, (None, "cubic", 1)),
    "Normalisation.mean": (make_normalisation, (None, 0.5, ("a",), (math.nan,), (math.inf,))),
    "Normalisation.std": (make_normalisation, (None, 0.5, (0,), (-1.0,), (math.nan,))),
    "ModelSpec.schema_version": (make_spec, (None, 0, 99)),
    "ModelSpec.task": (make_spec, (None, "regression")),
    "ModelSpec.labels": (make_spec, (None, "cat", ("cat",), ("cat", "cat"), ("cat", ""), (1, 2))),
    "ModelSpec.thresholds": (make_spec, (0.5, (0.5, 0.5), (2.0, 0.5))),
    "ModelSpec.preprocessing": (make_spec, (None, 224, {"height": 8})),
    "ModelSpec.normalisation": (make_spec, (None, "imagenet", Normalisation(mean=(0.0,), std=(1.0,)))),
    "ModelSpec.from_json.text": (read_spec, (None, 5, {}, object())),
    "ModelSpec.from_json.source": (read_spec, (None, 5, "")),
    "Tls.ca": (Tls, (5, b"ca.pem", "", "a\0b", "-----BEGIN CERTIFICATE-----")),
    "Tls.certificate": (make_tls, (5, b"a.pem", "", "a\0b", "-----BEGIN CERTIFICATE-----")),
    "Tls.key": (make_tls, (5, b"a.pem", "", "a\0b", "-----BEGIN PRIVATE KEY-----")),
    "Tls.read.name": (Tls().read, (None, "password", [])),
}


def test_every_public_parameter_has_a_row() -> None:
    assert set(WRONG) == public_parameters("tamiz", records=RECORDS)


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_is_refused_by_the_name_of_its_parameter(name: str) -> None:
    call, values = WRONG[name]
    for value in values:
        check_refused(call, name.rpartition(".")[2], value)


@pytest.mark.parametrize("name", WRONG)
def test_any_value_is_taken_or_refused_in_one_short_line(name: str) -> None:
    call, _ = WRONG[name]
    allowed: tuple[type[TamizError], ...] = (ServerError,) if ".classify." in name else ()
    if name == "prepare.image":
        allowed = (InvalidImageError,)
    elif name == "ModelSpec.from_json.text":
        allowed = (SpecError,)
    for value in ODD_VALUES:
        check_accepted_or_refused(call, name.rpartition(".")[2], value, allowed)


def test_a_wrong_timeout_is_refused_when_it_is_set_later_too() -> None:
    for value in CLIENT["timeout_s"]:
        check_refused(set_timeout, "timeout_s", value)


def test_what_is_no_image_is_an_invalid_image() -> None:
    for value in ODD_VALUES:
        with pytest.raises(InvalidImageError) as caught:
            prepare(value, SIZE)  # type: ignore[arg-type]
        check_message(caught.value)


def test_an_image_in_base64_is_refused_with_a_hint() -> None:
    with pytest.raises(InvalidImageError, match="give a path, or the decoded bytes of an image file"):
        prepare("iVBORw0KGgo" * 20_000, SIZE)


def test_a_released_view_of_memory_is_an_invalid_image() -> None:
    view = memoryview(b"abc")
    view.release()
    with pytest.raises(InvalidImageError, match="released"):
        prepare(view, SIZE)


def test_a_message_never_holds_a_key() -> None:
    for call, argument in ((create_client, {"key": SECRET}), (make_tls, {"key": f"-----BEGIN KEY {SECRET}"})):
        with pytest.raises(UsageError, match="key: ") as caught:
            call(**argument)
        assert "hunter2" not in str(caught.value)


def test_only_the_asynchronous_client_takes_asynchronous_images() -> None:
    classify_many_async(images=ImagesForEver())
    with pytest.raises(UsageError, match="images: .*ImagesForEver; .*AsyncClient"):
        classify_many(images=ImagesForEver())


def test_images_may_be_a_sequence_that_only_has_items() -> None:
    class Dataset:
        def __getitem__(self, index: int) -> np.ndarray:
            return IMAGE

    classify_many(images=Dataset())


def test_numbers_of_numpy_are_taken() -> None:
    create_client(timeout_s=np.float32(0.5))
    classify_many(top_k=np.int64(2), batch_size=np.int32(4))


def test_json_that_is_nested_too_deeply_is_refused() -> None:
    with pytest.raises(SpecError, match="nested too deeply"):
        ModelSpec.from_json("[" * 100_000)


def test_the_problems_of_a_part_are_reported_with_those_of_the_whole_spec() -> None:
    with pytest.raises(UsageError, match=r"ModelSpec: labels: .*; preprocessing.height: 0 \(int\): .*") as caught:
        make_spec(labels=5, preprocessing={"height": 0, "width": 8})
    check_message(caught.value)


def test_a_message_is_bounded_whoever_makes_it_and_keeps_its_end() -> None:
    for kind in (TamizError, UsageError, InvalidImageError, ServerError):
        message = str(kind("x" * 10**6 + "; do this"))
        assert len(message) == MAX_MESSAGE
        assert message.endswith("; do this")
    assert len(str(RecipeError("x" * 10_000))) == 10_000


def test_a_column_of_ray_data_must_be_named_and_rows_be_columns() -> None:
    for column in (None, 5, [], ""):
        with pytest.raises(UsageError, match="column: "):
            Classify(column=column, model="pets")  # type: ignore[arg-type]
    classify_rows = Classify(url=URL, model="pets")
    with pytest.raises(UsageError, match="batch: None"):
        classify_rows(None)  # type: ignore[arg-type]
