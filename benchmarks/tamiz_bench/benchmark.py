"""The benchmark of a served model: a sweep of loads, the in-process limit, and the comparison of the two.

Machines are noisy, so the figure that counts, served ÷ limit, compares the fastest load with the fastest setting of
the limit in interleaved rounds of the same run: it is the median of the rounds' ratios.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from tamiz import Client
from tamiz.arguments import check_instance, check_list, check_path, check_progress, check_seconds, check_whole, wrong
from tamiz.engine.pipeline import MAX_IN_FLIGHT

from .arguments import check_images, check_rounds
from .comparison import measure_in_rounds
from .limit import find_limit
from .load.closed_loop import Load, measure_client
from .machine import describe_machine
from .report import LIMIT, SERVED, Report
from .statistics import Measurement

IN_FLIGHT = (1, 2, 4, 8, 16)
"""Numbers of concurrent requests in the sweep."""


def run_benchmark(
    client: Client,
    graph: Path,
    images: Sequence[Path],
    *,
    duration_s: float = 3.0,
    rounds: int = 5,
    in_flight: Sequence[int] = IN_FLIGHT,
    on_progress: Callable[[str], None] = lambda line: None,
) -> Report:
    """Measure a served model over a sweep of loads, and compare it with the in-process limit.

    Args:
        client: a client of the served model that has read the model's spec, as it has after ``with Client(…)``.
        graph: the ONNX file of the served version.
        images: image files; see `tamiz_bench.sample_images`.
        duration_s: duration of each measurement in seconds.
        rounds: number of interleaved rounds of the fastest load and the limit.
        in_flight: numbers of concurrent requests in the sweep; each is measured with one image per request and with
            the largest batch that the server accepts.
        on_progress: called with one line of text after each measurement.

    Raises:
        UsageError: an argument is wrong, or the client has not read the spec.
        ServerError: a request failed.
        InvalidImageError: an image is unreadable.
    """
    check_instance("client", client, Client)
    check_path("graph", graph, "the path of an ONNX file")
    check_images(images)
    check_seconds("duration_s", duration_s)
    check_rounds(rounds)
    check_list("in_flight", in_flight, "a list of numbers of concurrent requests")
    if not in_flight:
        raise wrong("in_flight", in_flight, "at least one number of concurrent requests")
    for index, count in enumerate(in_flight):
        check_whole(f"in_flight[{index}]", count, most=MAX_IN_FLIGHT)
    check_progress(on_progress)
    spec, max_batch_size = client.spec, client.max_batch_size
    machine = describe_machine()
    loads = [Load(count, size) for size in sorted({1, max_batch_size}) for count in in_flight]
    sweep = _sweep(client, images, loads, duration_s, on_progress)
    fastest = max(sweep, key=lambda row: row[1].images_per_s)[0]
    limit, trials = find_limit(graph, spec, images, max_batch_size, duration_s, on_progress)
    contenders = {
        SERVED: lambda: measure_client(client, images, duration_s, fastest).images_per_s,
        LIMIT: lambda: limit.measure_throughput(images, duration_s),
    }
    return Report(
        model=client.model,
        version=client.live_version,
        images=len(images),
        machine=machine,
        sweep=sweep,
        limit_trials=trials,
        load=fastest,
        limit_setting=limit.setting,
        comparison=measure_in_rounds(contenders, rounds, "images/s", on_progress),
    )


def _sweep(
    client: Client,
    images: Sequence[Path],
    loads: Sequence[Load],
    duration_s: float,
    on_progress: Callable[[str], None],
) -> list[tuple[Load, Measurement]]:
    # The first measurement is a warm-up.
    measure_client(client, images, min(1.0, duration_s), loads[-1])
    sweep = []
    for load in loads:
        measurement = measure_client(client, images, duration_s, load)
        sweep.append((load, measurement))
        on_progress(
            f"served, {load.in_flight:>2} in flight, batch size {load.batch_size}: "
            f"{measurement.images_per_s:,.0f} images/s"
        )
    return sweep
