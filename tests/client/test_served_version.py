from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from graphs import make_spec
from tritonclient.grpc import model_config_pb2

from tamiz import SpecError
from tamiz.served_version import ServedVersion, read_served_version

SPEC = make_spec(["cat", "dog"], height=2, width=3)
SPEC_SHA256 = hashlib.sha256(SPEC.to_json().encode()).hexdigest()
SERVED = ServedVersion("pets", 7, SPEC, 8, onnx_sha256=None, spec_sha256=SPEC_SHA256)


def config(**parameters: str) -> model_config_pb2.ModelConfig:
    message = model_config_pb2.ModelConfig(name="pets", max_batch_size=8)
    message.version_policy.specific.versions.append(7)
    message.input.add(name="image", dims=[2, 3, 1])
    for name, value in parameters.items():
        message.parameters[name.replace("__", ".")].string_value = value
    return message


def test_the_live_version_is_read_from_the_configuration() -> None:
    assert read_served_version(config(tamiz__spec__7=SPEC.to_json())) == SERVED


def test_the_hash_of_the_graph_is_read_from_the_summary_of_the_version() -> None:
    recorded = config(tamiz__spec__7=SPEC.to_json(), tamiz__summary__7='{"onnx_sha256": "ab12"}')
    assert read_served_version(recorded) == replace(SERVED, onnx_sha256="ab12")


@pytest.mark.parametrize("summary", ["", "[", "[]", "3", '{"run": "a"}', '{"onnx_sha256": 5}'])
def test_a_summary_that_was_edited_or_has_no_hash_does_not_prevent_classification(summary: str) -> None:
    assert read_served_version(config(tamiz__spec__7=SPEC.to_json(), tamiz__summary__7=summary)) == SERVED


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        pytest.param(config(), "no spec for version 7", id="no spec"),
        pytest.param(config(tamiz__spec__7="{"), "version 7: not JSON", id="broken spec"),
        pytest.param(
            config(tamiz__spec__7=make_spec(["cat", "dog"]).to_json()),
            r"the server takes .*\[2, 3, 1\]",
            id="unfit",
        ),
        pytest.param(model_config_pb2.ModelConfig(name="pets"), "names no live version", id="no version"),
    ],
)
def test_a_configuration_without_a_matching_spec_is_rejected(
    message: model_config_pb2.ModelConfig, reason: str
) -> None:
    with pytest.raises(SpecError, match=reason):
        read_served_version(message)
