"""Closed-loop load: a fixed number of requests in flight, each replaced by the next one when its response arrives.

The list of image files is cycled through until the duration has passed. The ramp-up and the last responses count as
part of the measurement.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tamiz import Client
from tamiz.arguments import check_function, check_instance, check_seconds, check_whole
from tamiz.engine.pipeline import MAX_BATCH_SIZE, MAX_IN_FLIGHT

from ..arguments import MAX_THREADS, check_images
from ..statistics import LatencyRecorder, Measurement

MAX_IMAGES = 256
"""Largest number of images in a benchmark; see `sample_images`."""


@dataclass(frozen=True)
class Load:
    """How a client sends images.

    Attributes:
        in_flight: number of concurrent requests.
        batch_size: number of images in each request.

    Raises:
        UsageError: a number is wrong.
    """

    in_flight: int
    batch_size: int

    def __post_init__(self) -> None:
        check_whole("in_flight", self.in_flight, most=MAX_IN_FLIGHT)
        check_whole("batch_size", self.batch_size, most=MAX_BATCH_SIZE)


def sample_images(images: Sequence[Path]) -> list[Path]:
    """A random sample of at most `MAX_IMAGES` images, always the same one for the same images.

    A short list lets every measurement go through all of its images. With a long one, a fast contender would reach
    images that a slow one does not, and those may be larger or smaller.

    Raises:
        UsageError: it is not a list of at least one image file.
    """
    check_images(images)
    return random.Random(0).sample(list(images), min(len(images), MAX_IMAGES))


def measure_client(client: Client, images: Sequence[Path], duration_s: float, load: Load) -> Measurement:
    """Measure a client of a served model: ``load.in_flight`` threads send one request after another.

    No image is read ahead of its request, so that a latency is that of the request: the time to prepare its images, to
    send them, and to get the answer.

    Args:
        client: the client, which has read the model's spec.
        images: image files; see `sample_images`.
        duration_s: duration of the measurement in seconds.
        load: how the client sends.

    Raises:
        UsageError: an argument is wrong.
        ServerError: a request failed.
        InvalidImageError: an image is unreadable.
    """
    check_instance("client", client, Client)
    check_instance("load", load, Load)

    def classify(batch: list[Path]) -> object:
        if load.batch_size == 1:
            return client.classify(batch[0])
        return list(client.classify_many(batch, in_flight=1, batch_size=load.batch_size))

    return measure_calls(classify, images, duration_s, threads=load.in_flight, batch_size=load.batch_size)


def measure_bulk_throughput(client: Client, images: Sequence[Path], duration_s: float) -> float:
    """Measure one ``classify_many`` with its defaults, as a bulk job uses it, in images per second.

    It reads images ahead, so the time from reading an image to its result is no latency, and is not measured.

    Args:
        client: the client, which has read the model's spec.
        images: image files; see `sample_images`.
        duration_s: duration of the measurement in seconds.

    Raises:
        UsageError: an argument is wrong.
        ServerError: a request failed.
        InvalidImageError: an image is unreadable.
    """
    check_instance("client", client, Client)
    check_images(images)
    check_seconds("duration_s", duration_s)
    started = time.perf_counter()
    source = itertools.takewhile(lambda _: time.perf_counter() - started < duration_s, itertools.cycle(images))
    count = sum(1 for _ in client.classify_many(source))
    return count / (time.perf_counter() - started)


def measure_calls(
    classify: Callable[[list[Path]], object],
    images: Sequence[Path],
    duration_s: float,
    *,
    threads: int,
    batch_size: int = 1,
) -> Measurement:
    """Measure a function that several threads call, each with one batch of images after another.

    Args:
        classify: called with ``batch_size`` image files; threads call it at the same time.
        images: image files; see `sample_images`.
        duration_s: duration of the measurement in seconds.
        threads: number of threads.
        batch_size: number of images in each call.

    Raises:
        UsageError: an argument is wrong.
    """
    check_function("classify", classify, "a function that takes a list of image files")
    check_images(images)
    check_seconds("duration_s", duration_s)
    check_whole("threads", threads, most=MAX_THREADS)
    check_whole("batch_size", batch_size, most=MAX_BATCH_SIZE)
    recorder = LatencyRecorder()
    source, source_lock = itertools.cycle(images), threading.Lock()
    started = time.perf_counter()
    deadline = started + duration_s

    def work() -> None:
        while (read_at := time.perf_counter()) < deadline:
            with source_lock:
                batch = list(itertools.islice(source, batch_size))
            classify(batch)
            recorder.record(time.perf_counter() - read_at, len(batch))

    with ThreadPoolExecutor(threads) as pool:
        for worker in [pool.submit(work) for _ in range(threads)]:
            worker.result()
    return recorder.measurement(time.perf_counter() - started)
