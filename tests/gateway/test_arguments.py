from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from public_parameters import ODD_VALUES, check_accepted_or_refused, check_refused, public_parameters

from tamiz import OutputError, RepositoryError
from tamiz_gateway import Settings, TrainingSettings, create_app, load_settings, run_gateway

SETTINGS = Settings(model="pets", port=0)


def make(**arguments: Any) -> None:
    Settings(**{"model": "pets", **arguments})


def load(**arguments: Any) -> None:
    load_settings(**{"model": "pets", **arguments})


def serve(**arguments: Any) -> None:
    # Wrong too, and checked last: nothing is served.
    run_gateway(**{"settings": SETTINGS, "on_ready": 5, **arguments})


NO_SECONDS = (None, "soon", 0, -1, math.nan, math.inf)
NO_COUNT = (None, "many", 2.5, 0, -1, 10**12)
NO_KEY = (5, "short", ["a"])
WRONG: dict[str, tuple[Callable[..., Any], tuple[object, ...]]] = {
    "Settings.model": (make, (None, 5, "", ["pets"])),
    "Settings.url": (make, (None, 5)),
    "Settings.repository": (make, (None, 5, ["a"])),
    "Settings.runs_dir": (make, (None, 5, ["a"])),
    "Settings.host": (make, (None, 5, "", "0.0.0.0")),
    "Settings.port": (make, (None, "many", 2.5, -1, 70_000)),
    "Settings.triton_key": (make, (5, ["a"])),
    "Settings.state": (make, (5, ["a"])),
    **{f"Settings.{name}": (make, NO_KEY) for name in ("classify_key", "admin_key")},
    **{f"Settings.{name}": (make, NO_SECONDS) for name in ("timeout_s", "body_timeout_s")},
    **{
        f"Settings.{name}": (make, NO_COUNT)
        for name in ("workers", "max_body_bytes", "max_pixels", "max_files", "max_requests")
    },
    "Settings.max_buffered_bytes": (make, (None, "many", 2.5, 0, 1_000)),
    "Settings.training": (make, (None, 5, {"epochs": 0})),
    **{f"TrainingSettings.{name}": (TrainingSettings, (5, ["a"])) for name in ("data_dir", "jobs_dir")},
    **{
        f"TrainingSettings.{name}": (TrainingSettings, (5, ["a"]))
        for name in ("architecture", "tracking_uri", "experiment")
    },
    **{
        f"TrainingSettings.{name}": (TrainingSettings, NO_COUNT[1:])
        for name in ("epochs", "batch_size", "checkpoint_every", "num_threads", "max_jobs")
    },
    "TrainingSettings.recipe": (TrainingSettings, (None, 5, "")),
    "TrainingSettings.learning_rate": (TrainingSettings, NO_SECONDS[1:]),
    "TrainingSettings.validation_fraction": (TrainingSettings, (*NO_SECONDS[1:], 1)),
    "TrainingSettings.device": (TrainingSettings, (5, "tpu")),
    "TrainingSettings.mixed_precision": (TrainingSettings, ("perhaps", 7)),
    "create_app.settings": (create_app, (None, 5, {})),
    "load_settings.environment": (load, (5, "a", [])),
    "run_gateway.settings": (serve, (None, 5, {})),
    "run_gateway.on_ready": (serve, (None, 5, "print")),
}


def test_every_public_parameter_has_a_row() -> None:
    assert set(WRONG) == public_parameters("tamiz_gateway", records=())


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_is_refused_by_the_name_of_its_parameter(name: str) -> None:
    call, values = WRONG[name]
    for value in values:
        check_refused(call, name.rpartition(".")[2], value)


@pytest.mark.parametrize("name", [name for name in WRONG if not name.startswith("run_gateway")])
def test_any_value_is_taken_or_refused_in_one_short_line(name: str) -> None:
    call, _ = WRONG[name]
    for value in ODD_VALUES:
        check_accepted_or_refused(call, name.rpartition(".")[2], value, (OutputError, RepositoryError))
