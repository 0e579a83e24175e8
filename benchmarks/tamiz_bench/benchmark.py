"""The benchmark: a sweep of the served model, the search for the limit, and the two against each other.

Machines are noisy, so the figure that counts, served ÷ limit, comes from the best setting of each, measured in
turns in the same run several times: it is the median of the rounds' ratios.
"""

from __future__ import annotations

import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import onnxruntime as ort

import tamiz
from tamiz import Client, ModelSpec

from .measure import Limit, Load, Measurement, Setting, limit_settings, measure_served
from .turns import ratio, take_turns

IN_FLIGHT = (1, 2, 4, 8, 16)

_FINALISTS = 3
_FINAL_ROUNDS = 3


@dataclass(frozen=True)
class Report:
    """What a benchmark found.

    Attributes:
        model: its name.
        version: of the model.
        images: files that were classified in turn.
        machine: where it ran.
        sweep: each load with what it gave.
        limits: each setting of the limit with what it gave.
        best_load: with which the served model is held against the limit.
        best_setting: of the limit.
        served: images/s of the served model, by round.
        limit: images/s of the limit, by round.
    """

    model: str
    version: int
    images: int
    machine: dict[str, Any]
    sweep: list[tuple[Load, Measurement]]
    limits: list[tuple[Setting, Measurement]]
    best_load: Load
    best_setting: Setting
    served: list[float]
    limit: list[float]

    @property
    def served_images_per_s(self) -> float:
        """Of the served model: the median of the rounds."""
        return statistics.median(self.served)

    @property
    def limit_images_per_s(self) -> float:
        """Of the limit: the median of the rounds."""
        return statistics.median(self.limit)

    @property
    def ratio(self) -> float:
        """Served ÷ limit: the median of the rounds' ratios."""
        return ratio(self.served, self.limit)

    def to_dict(self) -> dict[str, Any]:
        """One JSON document."""
        return {
            "model": self.model,
            "version": self.version,
            "images": self.images,
            "machine": self.machine,
            "served_images_per_s": self.served_images_per_s,
            "limit_images_per_s": self.limit_images_per_s,
            "served_to_limit": self.ratio,
            "best_load": asdict(self.best_load),
            "best_setting": asdict(self.best_setting),
            "rounds": {"served": self.served, "limit": self.limit},
            "sweep": [_row(load, measured) for load, measured in self.sweep],
            "limits": [_row(setting, measured) for setting, measured in self.limits],
        }


def run_benchmark(
    client: Client,
    graph: Path,
    images: Sequence[Path],
    *,
    seconds: float = 3.0,
    rounds: int = 5,
    in_flight: Sequence[int] = IN_FLIGHT,
    say: Callable[[str], None] = lambda line: None,
) -> Report:
    """Sweep a served model, find the in-process limit, and hold the best of both against each other.

    Args:
        client: of the served model.
        graph: the ONNX file of the version that is served.
        images: files.
        seconds: of each measurement.
        rounds: in which the best load and the best setting take turns.
        in_flight: numbers of requests under way at once.
        say: gets a line of text for a person at each step.
    """
    spec, largest = client.spec, client.max_batch_size
    machine = describe_machine()
    loads = [Load(count, size) for size in sorted({1, largest}) for count in in_flight]
    measure_served(client, images, loads[-1], min(1.0, seconds))
    sweep = []
    for load in loads:
        measured = measure_served(client, images, load, seconds)
        sweep.append((load, measured))
        say(f"served, {load.in_flight:>2} in flight of {load.batch_size}: {measured.images_per_s:,.0f} images/s")
    limit, limits = find_limit(graph, spec, images, largest, seconds, say)
    best_load = max(sweep, key=lambda row: row[1].images_per_s)[0]
    contenders = {
        "served": lambda: measure_served(client, images, best_load, seconds).images_per_s,
        "limit": lambda: limit.measure(images, seconds).images_per_s,
    }
    speeds = take_turns(contenders, rounds, "images/s", say)
    return Report(
        client.model,
        client.live_version,
        len(images),
        machine,
        sweep,
        limits,
        best_load,
        limit.setting,
        speeds["served"],
        speeds["limit"],
    )


def find_limit(
    graph: Path,
    spec: ModelSpec,
    images: Sequence[Path],
    largest: int,
    seconds: float,
    say: Callable[[str], None],
) -> tuple[Limit, list[tuple[Setting, Measurement]]]:
    """The in-process limit by the setting that does best, warmed up; and each setting with what it gave.

    One short trial each leaves the best few, which then take turns, so that one moment when the machine is slow does
    not choose a limit that is easy to reach.

    Args:
        graph: the ONNX file.
        spec: its contract.
        images: files.
        largest: batch that the server takes.
        seconds: of each turn; a trial takes half of it.
        say: gets a line of text for a person for each setting.
    """
    tried = []
    for setting in limit_settings(largest):
        candidate = Limit(graph, spec, setting)
        candidate.measure(images, min(0.3, seconds / 4))
        measured = candidate.measure(images, seconds / 2)
        tried.append((setting, measured))
        say(f"limit, {setting}: {measured.images_per_s:,.0f} images/s")
    best = sorted(tried, key=lambda row: row[1].images_per_s, reverse=True)[:_FINALISTS]
    limits = {f"limit, {setting}": Limit(graph, spec, setting) for setting, _ in best}

    def turn(limit: Limit) -> Callable[[], float]:
        return lambda: limit.measure(images, seconds).images_per_s

    speeds = take_turns({name: turn(limit) for name, limit in limits.items()}, _FINAL_ROUNDS, "images/s", say)
    return limits[max(speeds, key=lambda name: statistics.median(speeds[name]))], tried


def describe_machine() -> dict[str, Any]:
    """Where a benchmark ran, with what."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": _processor(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "tamiz": tamiz.__version__,
        "onnxruntime": ort.__version__,
    }


def _row(how: Load | Setting, measured: Measurement) -> dict[str, Any]:
    return {**asdict(how), **asdict(measured), "images_per_s": measured.images_per_s}


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} × {names[0]}" if names else platform.processor()
