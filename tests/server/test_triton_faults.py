from __future__ import annotations

import pytest
from conftest import Served

from tamiz_server.config import ServingSettings, new_config, parse_config
from tamiz_server.triton_faults import EMBEDDED_VERSION, setting_warnings


def test_the_default_settings_run_into_no_fault() -> None:
    assert setting_warnings(new_config("pets", ServingSettings())) == []


def test_a_single_instance_is_warned_of_where_the_queue_is_limited() -> None:
    config = new_config("pets", ServingSettings(instances=1))
    (warning,) = setting_warnings(config)
    assert warning.startswith("instances: 1 with a limited queue: Triton 2.51.0 sometimes misses")
    assert warning.endswith("set 2 or more instances")
    config.dynamic_batching.ClearField("default_queue_policy")
    assert setting_warnings(config) == []


def test_a_queue_delay_is_warned_of() -> None:
    (warning,) = setting_warnings(new_config("pets", ServingSettings(max_queue_delay_us=5000)))
    assert warning.startswith("max_queue_delay_us: 5000: Triton 2.51.0 may stop using instances")
    assert warning.endswith("set 0")


def test_settings_that_an_operator_wrote_are_read_as_triton_reads_them() -> None:
    """Without a count, a group has one instance; so does a configuration without a group."""
    text = "dynamic_batching { default_queue_policy { max_queue_size: 9 } }"
    assert len(setting_warnings(parse_config(text, "config.pbtxt"))) == 1
    assert len(setting_warnings(parse_config(f"{text} instance_group {{ kind: KIND_CPU }}", "config.pbtxt"))) == 1
    assert not setting_warnings(parse_config(f"{text} instance_group [{{ }}, {{ }}]", "config.pbtxt"))


@pytest.mark.parametrize("limit", ["max_queue_size: 9", "default_timeout_microseconds: 9"])
@pytest.mark.parametrize(
    "policy", ["default_queue_policy {{ {} }}", "priority_queue_policy {{ key: 1 value {{ {} }} }}"]
)
def test_every_way_to_limit_a_queue_is_read(policy: str, limit: str) -> None:
    config = parse_config(f"dynamic_batching {{ priority_levels: 2 {policy.format(limit)} }}", "config.pbtxt")
    assert len(setting_warnings(config)) == 1


@pytest.mark.parametrize(
    ("version", "faulty"), [("2.50.0", True), ("2.51.0", True), ("2.52.0", False), ("3.0.0", False), ("unknown", False)]
)
def test_only_releases_in_which_the_faults_were_seen_are_warned_of(version: str, faulty: bool) -> None:
    settings = ServingSettings(instances=1, max_queue_delay_us=1)
    assert len(setting_warnings(new_config("pets", settings), version)) == 2 * faulty


def test_the_embedded_triton_has_the_version_that_warnings_assume(served: Served) -> None:
    assert served.control.server_version() == EMBEDDED_VERSION
