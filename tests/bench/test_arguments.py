from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphs import make_spec, write_grey_graph
from public_parameters import ODD_VALUES, check_accepted_or_refused, check_message, check_refused, public_parameters

from tamiz import Client, InvalidImageError, OutputError, RepositoryError, ServerError, UsageError
from tamiz_bench import (
    Comparison,
    InProcessLimit,
    LimitSetting,
    Load,
    Measurement,
    Report,
    Workload,
    compare_clients,
    compare_preprocessing,
    compare_training,
    find_limit,
    measure_bulk_throughput,
    measure_calls,
    measure_client,
    measure_in_rounds,
    print_report,
    run_benchmark,
    sample_images,
    write_report,
)
from tamiz_server import Repository

RECORDS = {"ClientReport", "Comparison", "Measurement", "Report", "TrainingReport"}
SPEC = make_spec(["cat", "dog"])
SETTING = LimitSetting(1, 1, 1)
FIGURES = Comparison("images/s", {"served": [1.0], "limit": [2.0]})
MEASUREMENT = Measurement(1, 1.0, 1.0, 1.0, 1.0)
REPORT = Report(
    *("pets", 1, 1, {"processor": "Example"}, [(Load(1, 1), MEASUREMENT)], [(SETTING, MEASUREMENT)]),
    *(Load(1, 1), SETTING, FIGURES),
)
IMAGES = [Path("missing.png")]
# Wrong too, and checked last: nothing is measured.
NOTHING: dict[str, Any] = {"on_progress": 5}


def fail(batch: list[Path]) -> None:
    raise InvalidImageError("unreadable")


def with_client(function: Callable[..., Any], **given: Any) -> Callable[..., Any]:
    """Calls the function with a client of a server that does not answer."""

    def call(**arguments: Any) -> None:
        with closing(Client("grpc://127.0.0.1:9", model="pets", timeout_s=0.1)) as client:
            function(**{"client": client, "images": IMAGES, **given, **arguments})

    return call


def with_defaults(function: Callable[..., Any], **given: Any) -> Callable[..., Any]:
    return lambda **arguments: function(**{**given, **arguments})


def of_limit(method: str) -> Callable[..., Any]:
    def call(**arguments: Any) -> None:
        limit = InProcessLimit(Path("pets.onnx"), SPEC, SETTING)
        getattr(limit, method)(**{"images": IMAGES, "duration_s": 0.01, **arguments})

    return call


def compare_pets(**arguments: Any) -> None:
    compare_clients(**{"repository": Repository("models"), "model": "pets", "images": IMAGES, **arguments})


NO_IMAGES = (None, 5, True, "a.png", b"a.png", {}, [], [5], ["a.png", None], [""], ["a\0b"])
NO_PATH = (None, 5, True, "", b"a", "a\0b", ["a"])
NO_SECONDS = (None, "5", True, 0, -1, math.nan, math.inf)
NO_COUNT = (None, "5", True, 2.5, 0, -1, 2**70)
NO_FUNCTION = (None, 5, "print")
NO_OBJECT = (None, 5, "a", {})
limit = with_defaults(InProcessLimit, graph=Path("pets.onnx"), spec=SPEC, setting=SETTING)
search = with_defaults(find_limit, graph="no.onnx", spec=SPEC, images=IMAGES, max_batch_size=1, duration_s=0.01)
calls = with_defaults(measure_calls, classify=fail, images=IMAGES, duration_s=0.01, threads=1)
in_rounds = with_defaults(measure_in_rounds, contenders={"a": lambda: 1.0}, rounds=1, unit="images/s")
load = with_defaults(Load, in_flight=1, batch_size=1)
setting = with_defaults(LimitSetting, threads=1, intra_op_threads=1, batch_size=1)
served = with_client(run_benchmark, graph=Path("pets.onnx"))
one_load = with_client(measure_client, duration_s=0.01, load=Load(1, 1))
bulk = with_client(measure_bulk_throughput, duration_s=0.01)
preparing = with_defaults(compare_preprocessing, images=IMAGES)
training = with_defaults(compare_training, workload=Workload())
WRONG: dict[str, tuple[Callable[..., Any], tuple[object, ...]]] = {
    "Comparison.median.name": (FIGURES.median, (None, 5, "serve", [])),
    "Comparison.ratio.name": (with_defaults(FIGURES.ratio, reference="limit"), (None, 5, "serve", [])),
    "Comparison.ratio.reference": (with_defaults(FIGURES.ratio, name="limit"), (None, 5, "serve", [])),
    "InProcessLimit.graph": (limit, (*NO_PATH, "missing.onnx")),
    "InProcessLimit.spec": (limit, NO_OBJECT),
    "InProcessLimit.setting": (limit, NO_OBJECT),
    **{
        f"InProcessLimit.{method}.{name}": (of_limit(method), values)
        for method in ("measure", "measure_throughput")
        for name, values in (("images", NO_IMAGES), ("duration_s", NO_SECONDS))
    },
    **{f"LimitSetting.{name}": (setting, NO_COUNT) for name in ("threads", "intra_op_threads", "batch_size")},
    **{f"Load.{name}": (load, NO_COUNT) for name in ("in_flight", "batch_size")},
    "Workload.model": (Workload, (None, 5, "", b"resnet18", "a\0b")),
    **{f"Workload.{name}": (Workload, NO_COUNT) for name in ("size", "batch_size", "images")},
    "Workload.workers": (Workload, (None, "5", True, 2.5, -1, 2**70)),
    "Workload.precision": (Workload, (None, 32, "16-mixed", [])),
    "compare_clients.repository": (compare_pets, (None, 5, "models")),
    "compare_clients.model": (compare_pets, (None, 5, "", b"pets")),
    "compare_clients.images": (compare_pets, NO_IMAGES),
    "compare_clients.duration_s": (compare_pets, NO_SECONDS),
    "compare_clients.rounds": (compare_pets, NO_COUNT),
    "compare_clients.on_progress": (compare_pets, NO_FUNCTION),
    "compare_preprocessing.images": (preparing, NO_IMAGES),
    "compare_preprocessing.size": (preparing, NO_COUNT),
    "compare_preprocessing.colour": (preparing, (None, 3, "grey", [])),
    "compare_preprocessing.duration_s": (preparing, NO_SECONDS),
    "compare_preprocessing.rounds": (preparing, NO_COUNT),
    "compare_preprocessing.on_progress": (preparing, NO_FUNCTION),
    "compare_training.workload": (training, NO_OBJECT),
    "compare_training.rounds": (training, NO_COUNT),
    "compare_training.on_progress": (training, NO_FUNCTION),
    "find_limit.graph": (search, (*NO_PATH, "missing.onnx")),
    "find_limit.spec": (search, NO_OBJECT),
    "find_limit.images": (search, NO_IMAGES),
    "find_limit.max_batch_size": (search, NO_COUNT),
    "find_limit.duration_s": (search, NO_SECONDS),
    "find_limit.on_progress": (search, NO_FUNCTION),
    "measure_bulk_throughput.client": (bulk, NO_OBJECT),
    "measure_bulk_throughput.images": (bulk, NO_IMAGES),
    "measure_bulk_throughput.duration_s": (bulk, NO_SECONDS),
    "measure_calls.classify": (calls, NO_FUNCTION),
    "measure_calls.images": (calls, NO_IMAGES),
    "measure_calls.duration_s": (calls, NO_SECONDS),
    "measure_calls.threads": (calls, NO_COUNT),
    "measure_calls.batch_size": (calls, NO_COUNT),
    "measure_client.client": (one_load, NO_OBJECT),
    "measure_client.images": (one_load, NO_IMAGES),
    "measure_client.duration_s": (one_load, NO_SECONDS),
    "measure_client.load": (one_load, NO_OBJECT),
    "measure_in_rounds.contenders": (in_rounds, (None, 5, {}, [len], {"a": 1}, {1: len})),
    "measure_in_rounds.rounds": (in_rounds, NO_COUNT),
    "measure_in_rounds.unit": (in_rounds, (None, 5, "")),
    "measure_in_rounds.on_progress": (in_rounds, NO_FUNCTION),
    "print_report.report": (print_report, NO_OBJECT),
    "run_benchmark.client": (served, NO_OBJECT),
    "run_benchmark.graph": (served, NO_PATH),
    "run_benchmark.images": (served, NO_IMAGES),
    "run_benchmark.duration_s": (served, NO_SECONDS),
    "run_benchmark.rounds": (served, NO_COUNT),
    "run_benchmark.in_flight": (served, (None, 5, "1", [], [0], [True], [2.5], ["1"], {1})),
    "run_benchmark.on_progress": (served, NO_FUNCTION),
    "sample_images.images": (sample_images, NO_IMAGES),
    "write_report.report": (with_defaults(write_report, folder=Path("report")), NO_OBJECT),
    "write_report.folder": (with_defaults(write_report, report=REPORT), NO_PATH),
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder, with the empty repository ``models`` and the graph ``pets.onnx``."""
    (tmp_path / "models").mkdir()
    write_grey_graph(tmp_path / "pets.onnx", SPEC)
    monkeypatch.chdir(tmp_path)


def test_every_public_parameter_has_a_row() -> None:
    assert set(WRONG) == public_parameters("tamiz_bench", records=RECORDS)


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_is_refused_by_the_name_of_its_parameter(name: str) -> None:
    call, values = WRONG[name]
    for value in values:
        check_refused(call, name.rpartition(".")[2], value)


# What a function of the caller raises is the caller's.
@pytest.mark.parametrize("name", [name for name in WRONG if not name.endswith((".on_progress", ".classify"))])
def test_any_value_is_taken_or_refused_in_one_short_line(name: str) -> None:
    call, _ = WRONG[name]
    parameter = name.rpartition(".")[2]
    if name.startswith("compare_training"):
        call = with_defaults(call, **NOTHING)
    for value in ODD_VALUES:
        check_accepted_or_refused(
            call, parameter, value, (InvalidImageError, OutputError, RepositoryError, ServerError)
        )


def test_what_is_no_onnx_file_is_refused_with_the_reason() -> None:
    Path("text.onnx").write_text("not a graph")
    with pytest.raises(UsageError, match=r"graph: 'text\.onnx' .*INVALID_PROTOBUF") as caught:
        InProcessLimit(Path("text.onnx"), SPEC, SETTING)
    check_message(caught.value)


def test_numbers_of_numpy_are_taken() -> None:
    assert Load(np.int64(2), np.int32(4)).in_flight == 2
    assert dataclasses.replace(Workload(), images=np.int64(3)).images == 3
