from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from conftest import Served

from tamiz import Client
from tamiz_bench.load.closed_loop import (
    MAX_IMAGES,
    Load,
    measure_bulk_throughput,
    measure_calls,
    measure_client,
    sample_images,
)


@pytest.mark.parametrize("load", [Load(1, 1), Load(3, 1), Load(1, 8), Load(2, 8)], ids=str)
def test_a_client_is_measured_for_the_given_duration(
    load: Load, served: Served, even_image: Callable[..., Path]
) -> None:
    images = [even_image(index) for index in range(10)]
    with served.client("grey") as client:
        measurement = measure_client(client, images, 0.3, load)
    assert 0.3 <= measurement.duration_s < 3
    assert measurement.images > load.in_flight
    assert 0 < measurement.p50_ms <= measurement.p95_ms <= measurement.p99_ms < 3000
    # Little's law: the requests in flight are throughput times latency; the median stands for the mean here.
    assert measurement.images_per_s * measurement.p50_ms / 1000 < load.in_flight * load.batch_size * 1.5


def test_a_bulk_job_is_measured_with_all_images_in_one_call(served: Served, even_image: Callable[..., Path]) -> None:
    with served.client("grey") as client:
        assert measure_bulk_throughput(client, [even_image(1)], 0.2) > 1


def test_no_image_is_read_ahead_of_its_request() -> None:
    calls: list[tuple[int, object]] = []

    class Recorded(Client):
        def classify_many(self, images: Iterable[object], **options: object) -> Iterator[object]:  # type: ignore[override]
            calls.append((len(list(images)), options))
            return iter(())

    client = Recorded("grpc://127.0.0.1:9", model="grey")
    images = [Path(str(index)) for index in range(5)]
    measurement = measure_client(client, images, 0.01, Load(2, 3))
    assert calls
    assert set(map(str, calls)) == {str((3, {"in_flight": 1, "batch_size": 3}))}
    assert measurement.images == 3 * len(calls)


def test_calls_take_batches_from_the_list_in_a_loop() -> None:
    images = [Path("a"), Path("b"), Path("c")]
    batches: list[list[Path]] = []
    measurement = measure_calls(batches.append, images, 0.01, threads=1, batch_size=2)
    assert batches[:3] == [[Path("a"), Path("b")], [Path("c"), Path("a")], [Path("b"), Path("c")]]
    assert measurement.images == 2 * len(batches)


def test_an_error_of_a_call_ends_the_measurement() -> None:
    def fail(batch: list[Path]) -> None:
        raise ValueError("a call failed")

    with pytest.raises(ValueError, match="a call failed"):
        measure_calls(fail, [Path("a")], 0.01, threads=2)


def test_a_sample_is_the_same_for_the_same_images() -> None:
    images = [Path(f"{index}.png") for index in range(1000)]
    sample = sample_images(images)
    assert len(set(sample)) == MAX_IMAGES
    assert sample_images(images) == sample
    assert sorted(sample_images(images[:10])) == images[:10]
