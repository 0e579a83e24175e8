"""Closed-loop load: a fixed number of requests in flight, each replaced by the next one when its response arrives.

The list of image files is cycled through until the duration has passed. The ramp-up and the last responses count as
part of the measurement.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tamiz import Client

from ..statistics import LatencyRecorder, Measurement

MAX_IMAGES = 256
"""Largest number of images in a benchmark; see `sample_images`."""


@dataclass(frozen=True)
class Load:
    """How a client sends images.

    Attributes:
        in_flight: number of concurrent requests.
        batch_size: number of images in each request.
    """

    in_flight: int
    batch_size: int


def sample_images(images: Sequence[Path]) -> list[Path]:
    """A random sample of at most `MAX_IMAGES` images, always the same one for the same images.

    A short list lets every measurement go through all of its images. With a long one, a fast contender would reach
    images that a slow one does not, and those may be larger or smaller.
    """
    return random.Random(0).sample(list(images), min(len(images), MAX_IMAGES))


def measure_client(client: Client, images: Sequence[Path], duration_s: float, load: Load | None = None) -> Measurement:
    """Measure a client of a served model.

    With one image per request, ``load.in_flight`` threads call ``classify``, as a service does. With larger batches,
    one ``classify_many`` reads all images, as a bulk job does.

    Args:
        client: the client, which has read the model's spec.
        images: image files; see `sample_images`.
        duration_s: duration of the measurement in seconds.
        load: how the client sends; None for ``classify_many`` with its defaults.
    """
    if load is not None and load.batch_size == 1:
        return measure_calls(lambda batch: client.classify(batch[0]), images, duration_s, threads=load.in_flight)
    return _measure_classify_many(client, images, duration_s, load)


def _measure_classify_many(client: Client, images: Sequence[Path], duration_s: float, load: Load | None) -> Measurement:
    read_at: deque[float] = deque()
    recorder = LatencyRecorder()
    started = time.perf_counter()
    deadline = started + duration_s

    def source() -> Iterator[Path]:
        for image in itertools.cycle(images):
            now = time.perf_counter()
            if now > deadline:
                return
            read_at.append(now)
            yield image

    in_flight, batch_size = (None, None) if load is None else (load.in_flight, load.batch_size)
    for _ in client.classify_many(source(), in_flight=in_flight, batch_size=batch_size):
        # Results come in the order of the images, so the oldest time belongs to this result.
        recorder.record(time.perf_counter() - read_at.popleft())
    return recorder.measurement(time.perf_counter() - started)


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
    """
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
