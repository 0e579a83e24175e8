"""The in-process limit: decode, resize and run the ONNX file in one process, without a network or a server.

It takes the same image files through the same `tamiz.preprocessing` and ONNX Runtime as the served model does, with
the fastest setting that `find_limit` finds. No server on the same processors can be expected to be faster.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from tamiz.arguments import check_instance, check_path, check_progress, check_seconds, check_whole, wrong
from tamiz.engine.pipeline import MAX_BATCH_SIZE
from tamiz.errors import one_line, shorten
from tamiz.preprocessing import prepare
from tamiz.spec import INPUT_NAME, OUTPUT_NAME, ModelSpec

from .arguments import MAX_THREADS, check_images
from .comparison import measure_in_rounds
from .load.closed_loop import measure_calls
from .statistics import Measurement

_FINALISTS = 3
_FINAL_ROUNDS = 3

_MAX_REASON = 300
"""The number of characters of ONNX Runtime's reason in a message."""


@dataclass(frozen=True)
class LimitSetting:
    """Threads and batch size of the in-process limit.

    Attributes:
        threads: number of threads; each prepares a batch of images and runs the model on it.
        intra_op_threads: size of ONNX Runtime's intra-op thread pool, shared by all runs.
        batch_size: number of images in each run of the model.

    Raises:
        UsageError: a number is wrong.
    """

    threads: int
    intra_op_threads: int
    batch_size: int

    def __post_init__(self) -> None:
        check_whole("threads", self.threads, most=MAX_THREADS)
        check_whole("intra_op_threads", self.intra_op_threads, most=MAX_THREADS)
        check_whole("batch_size", self.batch_size, most=MAX_BATCH_SIZE)

    def __str__(self) -> str:
        return f"{self.threads} threads, {self.intra_op_threads} intra-op threads, batch {self.batch_size}"


class InProcessLimit:
    """The in-process limit with one setting.

    Args:
        graph: the ONNX file of the served version.
        spec: the spec of the served version.
        setting: threads and batch size.

    Raises:
        UsageError: an argument is wrong, or the graph cannot be loaded.
    """

    def __init__(self, graph: Path, spec: ModelSpec, setting: LimitSetting) -> None:
        check_path("graph", graph, "the path of an ONNX file")
        check_instance("spec", spec, ModelSpec)
        check_instance("setting", setting, LimitSetting)
        options = ort.SessionOptions()
        options.intra_op_num_threads = setting.intra_op_threads
        self.spec = spec
        self.setting = setting
        try:
            self._session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception as exc:
            # ONNX Runtime has an error class for each way in which a file can be wrong.
            reason = shorten(one_line(exc), _MAX_REASON)
            raise wrong("graph", str(graph), f"the ONNX file of the served version ({reason})") from exc

    def measure_throughput(self, images: Sequence[Path], duration_s: float) -> float:
        """Measure the throughput in images per second; see `measure`."""
        return self.measure(images, duration_s).images_per_s

    def measure(self, images: Sequence[Path], duration_s: float) -> Measurement:
        """Classify the images in a loop for ``duration_s`` seconds.

        Raises:
            UsageError: an argument is wrong.
            InvalidImageError: an image is unreadable.
        """
        setting = self.setting
        return measure_calls(self._classify, images, duration_s, threads=setting.threads, batch_size=setting.batch_size)

    def _classify(self, batch: list[Path]) -> npt.NDArray[np.int64]:
        pixels = np.stack([prepare(image, self.spec.preprocessing) for image in batch])
        (probabilities,) = self._session.run([OUTPUT_NAME], {INPUT_NAME: pixels})
        indices: npt.NDArray[np.int64] = probabilities.argmax(axis=1)
        return indices


def find_limit(
    graph: Path,
    spec: ModelSpec,
    images: Sequence[Path],
    max_batch_size: int,
    duration_s: float,
    on_progress: Callable[[str], None] = lambda line: None,
) -> tuple[InProcessLimit, list[tuple[LimitSetting, Measurement]]]:
    """Find the fastest setting of the in-process limit.

    A short trial of every setting selects the fastest three, which are then measured in interleaved rounds, so that
    noise during a trial cannot select a slow setting, i.e. a limit that is too easy to reach.

    Args:
        graph: the ONNX file.
        spec: the model's spec.
        images: image files.
        max_batch_size: largest batch that the server accepts.
        duration_s: duration in seconds of each measurement in the rounds; a trial takes half as long.
        on_progress: called with one line of text after each measurement.

    Returns:
        the limit with the fastest setting, warmed up; and every setting with the measurement of its trial.

    Raises:
        UsageError: an argument is wrong, or the graph cannot be loaded.
        InvalidImageError: an image is unreadable.
    """
    check_whole("max_batch_size", max_batch_size, most=MAX_BATCH_SIZE)
    check_images(images)
    check_seconds("duration_s", duration_s)
    check_progress(on_progress)
    trials: dict[LimitSetting, Measurement] = {}
    for setting in limit_settings(max_batch_size):
        candidate = InProcessLimit(graph, spec, setting)
        # Warm up.
        candidate.measure(images, min(0.3, duration_s / 4))
        trials[setting] = candidate.measure(images, duration_s / 2)
        on_progress(f"limit, {setting}: {trials[setting].images_per_s:,.0f} images/s")
    fastest = sorted(trials, key=lambda setting: trials[setting].images_per_s, reverse=True)[:_FINALISTS]
    finalists = {f"limit, {setting}": InProcessLimit(graph, spec, setting) for setting in fastest}
    contenders = {name: partial(limit.measure_throughput, images, duration_s) for name, limit in finalists.items()}
    final = measure_in_rounds(
        contenders, _FINAL_ROUNDS, "images/s", lambda line: on_progress(f"choosing the limit, {line}")
    )
    winner = max(finalists, key=final.median)
    return finalists[winner], list(trials.items())


def limit_settings(max_batch_size: int) -> list[LimitSetting]:
    """The settings to try, from one run at a time on all cores to one run per core.

    Args:
        max_batch_size: largest batch that the server accepts; the batch sizes 1, 2, 8 and 32 are tried too.
    """
    cores = len(os.sched_getaffinity(0))
    runs = {2**power for power in range(cores.bit_length())} | {cores}
    # Two settings with more threads than cores, in which one thread prepares images while the others run the model:
    # two runs on all cores, and one run more than there are cores.
    overlapping = {(2, cores), (cores + 1, 1)}
    combinations = sorted(overlapping | {(count, max(1, cores // count)) for count in runs})
    batch_sizes = sorted({1, 2, 8, 32, max_batch_size})
    return [
        LimitSetting(threads, intra_op_threads, batch_size)
        for threads, intra_op_threads in combinations
        for batch_size in batch_sizes
    ]
