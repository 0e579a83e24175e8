"""The benchmark of the client: images per second from files to labels.

The contenders classify the same image files with the same embedded Triton, in interleaved rounds:

- ``tamiz``: ``Client.classify_many`` with its defaults.
- ``tamiz, shared memory``: the same with shared memory, for a client on the server's machine.
- ``tritonclient script``: `tamiz_bench.contenders.tritonclient_script` in one thread.
- ``tritonclient script, 16 threads``: the same, shared by 16 threads.
- ``limit``: the in-process limit (`tamiz_bench.limit`) with its fastest setting.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tamiz import Client
from tamiz.arguments import check_instance, check_progress, check_seconds
from tamiz_server.repository import Repository
from tamiz_server.triton import Triton

from .arguments import check_images, check_rounds
from .comparison import Comparison, measure_in_rounds
from .contenders.float32_model import copy_with_float32_model
from .contenders.tritonclient_script import TritonclientScript
from .limit import LimitSetting, find_limit
from .load.closed_loop import measure_bulk_throughput, measure_calls
from .machine import describe_machine

SCRIPT_THREADS = 16
LIMIT = "limit"
_COMPARED_LABELS = 100


@dataclass(frozen=True)
class ClientReport:
    """Results of the benchmark of the client.

    Attributes:
        model: name of the model.
        version: version of the model.
        images: number of image files.
        machine: processor, software versions and time of the benchmark.
        limit_setting: the fastest setting of the in-process limit.
        comparison: images/s of each contender by round.
        compared_labels: number of images whose labels by ``tamiz`` and by the tritonclient script were compared.
        differing_labels: number of these with different labels, since Pillow resizes with other rounding.
        in_flight_limit: the adaptive limit of requests in flight of ``tamiz`` at the end.
    """

    model: str
    version: int
    images: int
    machine: dict[str, str]
    limit_setting: LimitSetting
    comparison: Comparison
    compared_labels: int
    differing_labels: int
    in_flight_limit: int

    def to_dict(self) -> dict[str, Any]:
        """The report as one JSON document."""
        figures = self.comparison.figures
        return {
            "model": self.model,
            "version": self.version,
            "images": self.images,
            "machine": self.machine,
            "limit_setting": asdict(self.limit_setting),
            "images_per_s": figures,
            "to_limit": {name: self.comparison.ratio(name, LIMIT) for name in figures},
            "compared_labels": self.compared_labels,
            "differing_labels": self.differing_labels,
            "in_flight_limit": self.in_flight_limit,
        }


def compare_clients(
    repository: Repository,
    model: str,
    images: Sequence[Path],
    *,
    duration_s: float = 4.0,
    rounds: int = 5,
    on_progress: Callable[[str], None] = lambda line: None,
) -> ClientReport:
    """Measure the client, a script written from tritonclient's documentation, and the in-process limit.

    A copy of the model is served by an embedded Triton for the duration of the benchmark.

    Args:
        repository: the repository that holds the model.
        model: name of the model; its live version is measured.
        images: image files; see `tamiz_bench.sample_images`.
        duration_s: duration of each measurement in seconds.
        rounds: number of interleaved rounds.
        on_progress: called with one line of text after each measurement.

    Raises:
        RepositoryError: the model is missing or damaged.
        UsageError: an argument is wrong, or the model's resize mode is not ``squash``, the only one of the script.
        TritonError: Triton cannot be started.
        ServerError: a request failed.
    """
    check_instance("repository", repository, Repository)
    check_images(images)
    check_seconds("duration_s", duration_s)
    check_rounds(rounds)
    check_progress(on_progress)
    live = repository.live_version(model)
    graph = repository.path / model / str(live.version) / "model.onnx"
    with ExitStack() as stack:
        copy = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tamiz-bench-")))
        float32_model = copy_with_float32_model(repository, model, copy)
        triton = stack.enter_context(Triton(copy))
        client = stack.enter_context(Client(triton.url, model=model, timeout_s=60))
        local_client = stack.enter_context(
            Client(triton.url, model=model, timeout_s=60, key=triton.key, shared_memory=True)
        )
        script = TritonclientScript(triton.url, float32_model, live.spec)
        stack.callback(script.close)
        compared = images[:_COMPARED_LABELS]
        differing = sum(client.classify(path).label != script.classify(path) for path in compared)
        limit, _ = find_limit(graph, live.spec, images, client.max_batch_size, duration_s / 2, on_progress)
        contenders: dict[str, Callable[[], float]] = {
            "tamiz": lambda: measure_bulk_throughput(client, images, duration_s),
            "tamiz, shared memory": lambda: measure_bulk_throughput(local_client, images, duration_s),
            "tritonclient script": partial(_measure_script, script, images, duration_s, 1),
            f"tritonclient script, {SCRIPT_THREADS} threads": partial(
                _measure_script, script, images, duration_s, SCRIPT_THREADS
            ),
            LIMIT: lambda: limit.measure_throughput(images, duration_s),
        }
        comparison = measure_in_rounds(contenders, rounds, "images/s", on_progress)
        return ClientReport(
            model=model,
            version=live.version,
            images=len(images),
            machine=describe_machine(),
            limit_setting=limit.setting,
            comparison=comparison,
            compared_labels=len(compared),
            differing_labels=differing,
            in_flight_limit=client.in_flight_limit,
        )


def _measure_script(script: TritonclientScript, images: Sequence[Path], duration_s: float, threads: int) -> float:
    return measure_calls(lambda batch: script.classify(batch[0]), images, duration_s, threads=threads).images_per_s
