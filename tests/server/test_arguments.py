from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from graphs import make_spec
from public_parameters import ODD_VALUES, check_accepted_or_refused, check_refused, public_parameters

from tamiz import RepositoryError, ServerError
from tamiz_server import (
    Control,
    Repository,
    ServingSettings,
    Triton,
    apply_settings,
    promote,
    prune,
    rollback,
    start_rollout,
    verify,
)

RECORDS = {"ConfigChange", "Finding", "HistoryEntry", "ModelState", "Ports", "Verification", "Version"}
NO_NAME = (None, 5, True, "", b"pets", "pe\0ts", "caf\udce9", ["pets"])
NO_PATH = (None, 5, True, "", b"a", "a\0b", ["a"])
NO_COUNT = (None, "many", 2.5, -1, math.nan)
NO_PORT = (None, "8001", True, 2.5, -1, 70_000)
NO_OBJECT = (None, 5, "a", {})
NO_TEXT = (None, 5, b"a", ["a"])
NO_SHARE = (None, "0.1", "10%", True, -0.1, 1.5, math.nan, math.inf)
SPEC = make_spec(["cat", "dog"])


def create_control(**arguments: Any) -> None:
    Control(**{"url": "grpc://127.0.0.1:9", **arguments}).close()


def create_triton(**arguments: Any) -> None:
    Triton(**{"repository": "models", **arguments})


def publish(**arguments: Any) -> None:
    Repository("models").publish(**{"model": "pets", "onnx": "pets.onnx", "spec": SPEC, **arguments})


def update_config(**arguments: Any) -> None:
    Repository("models").update_config(**{"model": "pets", "update": lambda config: None, **arguments})


def remove(**arguments: Any) -> None:
    Repository("models").remove_versions(**{"model": "pets", "keep": 1, **arguments})


def of_repository(method: str) -> Callable[..., Any]:
    return lambda **arguments: getattr(Repository("models"), method)(**arguments)


def of_control(method: str, **given: Any) -> Callable[..., Any]:
    def call(**arguments: Any) -> None:
        control = Control("grpc://127.0.0.1:9")
        try:
            getattr(control, method)(**given, **arguments)
        finally:
            control.close()

    return call


def of_model(function: Callable[..., Any], **given: Any) -> Callable[..., Any]:
    return lambda **arguments: function(**{"repository": Repository("models"), "model": "pets", **given, **arguments})


rollout, pruning = of_model(start_rollout, version=2, canary=0.1), of_model(prune, keep=1)
promotion, undo, settings = of_model(promote, version=1), of_model(rollback), of_model(apply_settings, settings=None)
WRONG: dict[str, tuple[Callable[..., Any], tuple[object, ...]]] = {
    "Control.url": (create_control, (None, 5, "", "a", "grpc://a:1,b:1")),
    "Control.key": (create_control, (5, b"key", "é", "a\nb")),
    "Control.tls": (create_control, ("ca.pem", True, {"ca": "a.pem"})),
    "Control.headers": (create_control, (5, "a=b", {1: "a"}, {"a": 1})),
    "Control.load.model": (of_control("load"), NO_NAME),
    "Control.load.config": (of_control("load", model="pets"), (5, "a", {})),
    "Control.config.model": (of_control("config"), NO_NAME),
    "Repository.path": (Repository, NO_PATH),
    **{
        f"Repository.{method}.model": (of_repository(method), NO_NAME)
        for method in (
            "config",
            "history",
            "live_numbers",
            "live_version",
            "loaded_numbers",
            "rollout",
            "version_numbers",
            "versions",
        )
    },
    "Repository.next_version.model": (Repository("models").next_version, (None, 5, b"pets", ["pets"])),
    "Repository.publish.model": (publish, (None, 5, b"pets", ["pets"])),
    "Repository.publish.onnx": (publish, NO_PATH),
    "Repository.publish.spec": (publish, NO_OBJECT),
    "Repository.publish.manifest": (publish, (5, "a", [])),
    "Repository.publish.settings": (publish, NO_OBJECT),
    "Repository.publish.files": (publish, (5, "a", [])),
    "Repository.publish.reason": (publish, NO_TEXT),
    "Repository.remove_versions.model": (remove, NO_NAME),
    "Repository.remove_versions.keep": (remove, (None, "1", True, 2.5, -1)),
    "Repository.remove_versions.also_keep": (remove, (None, 5, "a")),
    "Repository.remove_versions.reason": (remove, NO_TEXT),
    "Repository.update_config.model": (update_config, NO_NAME),
    "Repository.update_config.update": (update_config, (None, 5, "a")),
    **{
        f"ServingSettings.{name}": (ServingSettings, NO_COUNT)
        for name in (
            "instances",
            "max_batch_size",
            "max_queue_delay_us",
            "max_queue_size",
            "micro_batch_size",
            "queue_timeout_ms",
            "threads",
        )
    },
    "Triton.repository": (create_triton, NO_PATH),
    **{f"Triton.{name}": (create_triton, NO_PORT) for name in ("grpc_port", "http_port", "metrics_port")},
    "Triton.key": (create_triton, (5, b"key", "é", "a\nb")),
    "Triton.log": (create_triton, NO_PATH[1:]),
    "Triton.start_timeout_s": (create_triton, (None, "5", True, 0, -1, math.nan, math.inf)),
    "Triton.restarts": (create_triton, (None, "5", True, 2.5, -1)),
    "Triton.on_progress": (create_triton, (5, "print", [])),
    "apply_settings.repository": (settings, (None, 5, "models")),
    "apply_settings.model": (of_model(apply_settings, settings=ServingSettings()), NO_NAME),
    "apply_settings.settings": (settings, NO_OBJECT),
    "apply_settings.control": (settings, (5, "grpc://a:1")),
    "promote.repository": (promotion, (None, 5, "models")),
    "promote.model": (promotion, NO_NAME),
    "promote.version": (promotion, (None, "1", True, 0, -1)),
    "promote.control": (promotion, (5, "grpc://a:1")),
    "promote.if_candidate": (promotion, (None, 1, "yes")),
    "promote.settings": (promotion, (5, "a", {})),
    "rollback.repository": (undo, (None, 5, "models")),
    "rollback.model": (undo, NO_NAME),
    "promote.reason": (promotion, NO_TEXT),
    "prune.repository": (pruning, (None, 5, "models")),
    "prune.model": (pruning, NO_NAME),
    "prune.keep": (pruning, (None, "1", True, 2.5, -1)),
    "prune.control": (pruning, (5, "grpc://a:1")),
    "prune.reason": (pruning, NO_TEXT),
    "rollback.control": (undo, (5, "grpc://a:1")),
    "rollback.candidate": (undo, ("1", True, 0, -1)),
    "rollback.reason": (undo, NO_TEXT),
    "rollback.automatic": (undo, (None, 1, "yes")),
    "start_rollout.repository": (rollout, (None, 5, "models")),
    "start_rollout.model": (rollout, NO_NAME),
    "start_rollout.version": (rollout, (None, "1", True, 0, -1)),
    "start_rollout.canary": (rollout, (*NO_SHARE, 0.0)),
    "start_rollout.sticky": (rollout, (None, 1, "image")),
    "start_rollout.replace": (rollout, (None, 1, "yes")),
    "start_rollout.shadow": (rollout, NO_SHARE),
    "start_rollout.control": (rollout, (5, "grpc://a:1")),
    "start_rollout.reason": (rollout, NO_TEXT),
    "verify.repository": (of_model(verify), (None, 5, "models")),
    "verify.model": (of_model(verify), NO_NAME[1:]),
}


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The empty repository ``models`` in the current folder."""
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path)


def test_every_public_parameter_has_a_row() -> None:
    assert set(WRONG) == public_parameters("tamiz_server", records=RECORDS)


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_is_refused_by_the_name_of_its_parameter(name: str) -> None:
    call, values = WRONG[name]
    for value in values:
        check_refused(call, name.rpartition(".")[2], value)


@pytest.mark.parametrize("name", [name for name in WRONG if not name.startswith("Control.")])
def test_any_value_is_taken_or_refused_in_one_short_line(name: str) -> None:
    call, _ = WRONG[name]
    for value in ODD_VALUES:
        check_accepted_or_refused(call, name.rpartition(".")[2], value, (RepositoryError, ServerError))
