from __future__ import annotations

import pytest
from graphs import make_spec
from tritonclient.grpc import model_config_pb2

from tamiz import RepositoryError
from tamiz.served_version import live_versions
from tamiz_server.config import (
    ServingSettings,
    add_version,
    drop_versions,
    new_config,
    parse_config,
    read_promotions,
    set_live,
)
from tamiz_server.config_text import format_config

SMALL, LARGE = make_spec(["a", "b"], 28, 28), make_spec(["a", "b", "ñ"], 32, 48, "RGB")


def make_config(**settings: int) -> model_config_pb2.ModelConfig:
    config = new_config("pets", ServingSettings(**settings))
    add_version(config, 1, SMALL, {})
    add_version(config, 2, LARGE, {})
    set_live(config, [1], SMALL)
    return config


def test_the_text_parses_back_to_the_same_message() -> None:
    config = make_config(instances=2, threads=1, micro_batch_size=2)
    assert config.parameters["micro_batch_size"].string_value == "2"
    assert parse_config(format_config(config), "config.pbtxt") == config


def test_the_queue_is_always_limited_and_rejects_further_requests() -> None:
    config = make_config(max_queue_size=7, queue_timeout_ms=30, max_queue_delay_us=40)
    assert config.dynamic_batching.max_queue_delay_microseconds == 40
    queue = config.dynamic_batching.default_queue_policy
    assert queue.max_queue_size == 7
    assert queue.default_timeout_microseconds == 30_000
    assert queue.timeout_action == model_config_pb2.ModelQueuePolicy.REJECT


def test_triton_chooses_the_kind_of_device() -> None:
    assert make_config(instances=3).instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_AUTO
    assert make_config(instances=3).instance_group[0].count == 3


def test_shapes_and_warm_up_are_those_of_the_live_version() -> None:
    config = make_config(max_batch_size=8)
    assert (list(config.input[0].dims), list(config.output[0].dims)) == ([28, 28, 1], [2])
    set_live(config, [1, 2], LARGE)
    assert live_versions(config) == [2]
    assert (list(config.input[0].dims), list(config.output[0].dims)) == ([32, 48, 3], [3])
    assert [(warm.batch_size, list(warm.inputs["image"].dims)) for warm in config.model_warmup] == [
        (1, [32, 48, 3]),
        (8, [32, 48, 3]),
    ]


def test_only_the_specs_of_the_versions_to_keep_remain() -> None:
    config = make_config()
    drop_versions(config, keep=[2])
    assert config.parameters["tamiz.spec.2"].string_value == LARGE.to_json()
    assert "tamiz.spec.1" not in config.parameters


def test_settings_that_an_operator_tuned_stay() -> None:
    config = make_config()
    config.instance_group[0].count = 4
    config.parameters["intra_op_thread_count"].string_value = "2"
    config.optimization.graph.level = 1
    set_live(config, [1, 2], LARGE)
    assert config.instance_group[0].count == 4
    assert config.parameters["intra_op_thread_count"].string_value == "2"
    assert config.optimization.graph.level == 1
    assert read_promotions(config) == [1, 2]


@pytest.mark.parametrize("text", ["name: ", "wrong: 1", "max_batch_size: -x"])
def test_a_text_that_is_not_a_configuration_is_rejected_with_its_source(text: str) -> None:
    with pytest.raises(RepositoryError, match="here: not a model configuration"):
        parse_config(text, "here")


def test_a_configuration_that_was_not_written_by_tamiz_has_no_promotions() -> None:
    with pytest.raises(RepositoryError, match="the model was not published by Tamiz"):
        read_promotions(model_config_pb2.ModelConfig(name="theirs"))
