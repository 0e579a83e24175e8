"""Measuring: images a second and latency, of a served model and of the in-process limit.

Both take the same image files through the same `tamiz.preprocessing`. The served side is the real client; the
limit is ONNX Runtime in this process, with no network and no server between.
"""

from __future__ import annotations

import itertools
import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from hdrh.histogram import HdrHistogram

from tamiz import Client
from tamiz.preprocessing import prepare
from tamiz.spec import INPUT_NAME, OUTPUT_NAME, ModelSpec

from .plain_client import PlainClient

MOST_IMAGES = 256
"""That a benchmark takes; see `sample`."""


@dataclass(frozen=True)
class Load:
    """How the client sends: requests under way at once, and images in each; None leaves it to the client."""

    in_flight: int | None = None
    batch_size: int | None = None


@dataclass(frozen=True)
class Setting:
    """How the in-process limit computes.

    Attributes:
        threads: that each take a batch of images, prepare it and run the model.
        intra_op_threads: of ONNX Runtime for one run; all ``threads`` share them.
        batch_size: images in a run.
    """

    threads: int
    intra_op_threads: int
    batch_size: int

    def __str__(self) -> str:
        return f"{self.threads} threads × {self.intra_op_threads}, batch {self.batch_size}"


@dataclass(frozen=True)
class Measurement:
    """What one measurement gave.

    Attributes:
        images: answered in the time measured.
        seconds: measured.
        p50_ms: median latency, from an image's being taken from the source to its answer, in milliseconds.
        p95_ms: of 95 in 100 images.
        p99_ms: of 99 in 100 images.
    """

    images: int
    seconds: float
    p50_ms: float
    p95_ms: float
    p99_ms: float

    @property
    def images_per_s(self) -> float:
        """Throughput."""
        return self.images / self.seconds


def sample(images: Sequence[Path]) -> list[Path]:
    """So few of the images, by chance but always the same, that each measurement gets to all of them.

    Else a faster contender would get to other images than a slower one, which may be larger or smaller.
    """
    return random.Random(0).sample(list(images), min(len(images), MOST_IMAGES))


def measure_served(client: Client, images: Sequence[Path], load: Load, seconds: float) -> Measurement:
    """Classify images over and over for a time, through the real client.

    One image a request is sent by ``classify`` from as many threads, as a service does with its own requests;
    more images a request by ``classify_many``, as a bulk job does.

    Args:
        client: of the served model.
        images: files, taken one after another for as long as it measures; see `sample`.
        load: how the client sends.
        seconds: to measure. The first and the last moments, when the pipeline fills and empties, count too.
    """
    if load.batch_size == 1 and load.in_flight is not None:
        return _repeat(lambda batch: client.classify(batch[0]), images, 1, load.in_flight, seconds)
    taken: deque[float] = deque()
    end = time.perf_counter() + seconds

    def source() -> Iterator[Path]:
        for image in itertools.cycle(images):
            now = time.perf_counter()
            if now > end:
                return
            taken.append(now)
            yield image

    latency = _histogram()
    count = 0
    began = time.perf_counter()
    for _ in client.classify_many(source(), in_flight=load.in_flight, batch_size=load.batch_size):
        # Results come in the order of the images, so the oldest time is this image's.
        latency.record_value(_microseconds(time.perf_counter() - taken.popleft()))
        count += 1
    return _measurement(count, time.perf_counter() - began, latency)


def measure_plain(client: PlainClient, images: Sequence[Path], threads: int, seconds: float) -> Measurement:
    """Classify images over and over for a time, through the straightforward client, from so many threads."""
    return _repeat(lambda batch: client.classify(batch[0]), images, 1, threads, seconds)


class Limit:
    """The in-process limit of one setting: decode, resize and run the ONNX file, with nothing between.

    Args:
        graph: the ONNX file of the version that is served.
        spec: its contract.
        setting: how to compute.
    """

    def __init__(self, graph: Path, spec: ModelSpec, setting: Setting) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = setting.intra_op_threads
        self.spec = spec
        self.setting = setting
        self._session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def measure(self, images: Sequence[Path], seconds: float) -> Measurement:
        """Classify images over and over for a time."""
        setting = self.setting
        return _repeat(self._classify, images, setting.batch_size, setting.threads, seconds)

    def _classify(self, batch: list[Path]) -> npt.NDArray[np.int64]:
        pixels = np.stack([prepare(image, self.spec.preprocessing) for image in batch])
        (probabilities,) = self._session.run([OUTPUT_NAME], {INPUT_NAME: pixels})
        return probabilities.argmax(axis=1)


def _repeat(
    function: Callable[[list[Path]], object],
    images: Sequence[Path],
    batch_size: int,
    threads: int,
    seconds: float,
) -> Measurement:
    """Call a function with one batch of images after another for a time, from each of some threads."""
    latency, lock = _histogram(), threading.Lock()
    source = itertools.cycle(images)
    count = 0
    began = time.perf_counter()
    end = began + seconds

    def work() -> None:
        nonlocal count
        while (taken := time.perf_counter()) < end:
            with lock:
                batch = list(itertools.islice(source, batch_size))
            function(batch)
            elapsed = _microseconds(time.perf_counter() - taken)
            with lock:
                latency.record_value(elapsed, len(batch))
                count += len(batch)

    with ThreadPoolExecutor(threads) as pool:
        for worker in [pool.submit(work) for _ in range(threads)]:
            worker.result()
    return _measurement(count, time.perf_counter() - began, latency)


def limit_settings(max_batch_size: int) -> list[Setting]:
    """The settings among which the best is the limit: few runs on all cores, to as many runs as cores on one each."""
    cores = len(os.sched_getaffinity(0))
    runs = {2**power for power in range(cores.bit_length())} | {cores}
    threads = sorted({(2, cores), (cores + 1, 1)} | {(count, max(1, cores // count)) for count in runs})
    batches = sorted({1, 2, 8, 32, max_batch_size})
    return [Setting(workers, intra, batch) for workers, intra in threads for batch in batches]


def _histogram() -> HdrHistogram:
    # 1 µs to 10 minutes, to three digits.
    return HdrHistogram(1, 600_000_000, 3)


def _microseconds(seconds: float) -> int:
    return max(1, round(seconds * 1e6))


def _measurement(images: int, seconds: float, latency: HdrHistogram) -> Measurement:
    p50, p95, p99 = (latency.get_value_at_percentile(percentile) / 1000 for percentile in (50, 95, 99))
    return Measurement(images, seconds, p50, p95, p99)
