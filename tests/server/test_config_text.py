from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from google.protobuf import text_format
from graphs import make_spec
from tritonclient.grpc.model_config_pb2 import ModelConfig

from tamiz_server.config import ServingSettings, add_version, new_config, set_live
from tamiz_server.config_text import edit_text, format_config

SMALL, LARGE = make_spec(["a", "b"], 28, 28), make_spec(["a", "b", "ñ"], 32, 48, "RGB")


def parse(text: str) -> ModelConfig:
    return text_format.Parse(text, ModelConfig())


def edit(text: str, update: Callable[[ModelConfig], object]) -> str:
    """Edit a text, and check that the edited one says what it should."""
    before, after = parse(text), parse(text)
    update(after)
    edited = edit_text(text, before, after)
    assert parse(edited) == after
    return edited


def set_version(config: ModelConfig) -> None:
    config.version_policy.specific.versions[:] = [2]


def test_comments_order_and_layout_of_unchanged_fields_stay() -> None:
    text = (
        "# Owned by the vision team.\n"
        'platform:   "onnxruntime_onnx"   # as on the GPU machines\n'
        "\n"
        "version_policy { specific { versions: 1 } }\n"
        "instance_group [ { count: 3 kind: KIND_CPU } ]  # measured\n"
        'name: "pets"\n'
    )
    assert edit(text, set_version) == text.replace(
        "version_policy { specific { versions: 1 } }\n",
        "version_policy {\n  specific {\n    versions: 2\n  }\n}\n",
    )


def test_a_comment_inside_a_changed_field_is_moved_before_it() -> None:
    text = "version_policy { # pinned by Ana\n  latest { num_versions: 1 } # newest\n}\n"
    edited = edit(text, set_version)
    assert edited.startswith("# pinned by Ana\n# newest\nversion_policy {\n")


def test_a_comment_after_a_changed_field_stays_on_its_line() -> None:
    assert edit("max_batch_size: 8 # the limit", lambda config: setattr(config, "max_batch_size", 4)) == (
        "max_batch_size: 4 # the limit\n"
    )


def test_one_parameter_changes_without_the_others() -> None:
    text = (
        "# threads\n"
        'parameters { key: "intra_op_thread_count" value { string_value: "2" } }\n'
        'parameters { key: "old" value { string_value: "# not a comment }" } }\n'
        "parameters: { key: \"live\", value: { string_value: '1' } }, # written by a program\n"
    )

    def update(config: ModelConfig) -> None:
        del config.parameters["old"]
        config.parameters["live"].string_value = "2"
        config.parameters["new"].string_value = "x"

    edited = edit(text, update)
    assert edited.startswith("".join(text.splitlines(keepends=True)[:2]) + "parameters {\n")
    assert "# written by a program" in edited


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('name: "pets", version_policy < specific < versions: 1 > >; max_batch_size: 8', id="marks"),
        pytest.param("version_policy: { specific: { versions: [1, 3] } } max_batch_size: 8", id="one line"),
        pytest.param('name: "pe" \'ts\' # two strings\n "!" version_policy{specific{versions:1}}', id="strings"),
        pytest.param("max_batch_size: 8", id="no policy"),
        pytest.param("", id="empty"),
        pytest.param("version_policy { all {} }\r\nmax_batch_size: 8\r\n", id="carriage returns"),
        pytest.param("optimization { priority: PRIORITY_MAX graph { level: -1 } } # x", id="comment at the end"),
        pytest.param(
            'parameters [ { key: "a" value { string_value: "1" } }, { key: "tamiz.b" value { string_value: "2" } } ]',
            id="list of parameters",
        ),
    ],
)
def test_every_way_to_write_a_configuration_can_be_edited(text: str) -> None:
    def update(config: ModelConfig) -> None:
        set_version(config)
        config.parameters["tamiz.b"].string_value = "3"
        config.instance_group.add(count=2)

    edit(text, update)


def test_the_text_of_a_new_configuration_is_the_whole_configuration() -> None:
    config = new_config("pets", ServingSettings())
    add_version(config, 1, SMALL, {})
    set_live(config, [1], SMALL)
    assert edit_text("", ModelConfig(), config) == format_config(config)


def random_config(generator: random.Random) -> ModelConfig:
    config = ModelConfig(max_batch_size=generator.randrange(4))
    config.version_policy.specific.versions.extend(generator.sample(range(1, 9), generator.randrange(3)))
    for _ in range(generator.randrange(3)):
        config.instance_group.add(count=generator.randrange(4), name=generator.choice(['"', "#", "}", "ñ\n", "x"]))
    for name in generator.sample("abcd", generator.randrange(4)):
        config.parameters[name].string_value = generator.choice(["", "{", "#", "'", '"}', "1"])
    return config


@pytest.mark.parametrize("one_line", [False, True])
def test_any_configuration_can_become_any_other(one_line: bool) -> None:
    generator = random.Random(0)
    for _ in range(500):
        before, after = random_config(generator), random_config(generator)
        text = text_format.MessageToString(before, as_utf8=True, as_one_line=one_line)
        assert parse(edit_text(text, before, after)) == after
