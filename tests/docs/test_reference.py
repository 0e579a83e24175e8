from __future__ import annotations

from importlib import import_module

import pytest
from tamiz_reference.api import api_reference
from tamiz_reference.commands import all_commands, commands_reference
from tamiz_reference.docstrings import entries, prose, sentence
from tamiz_reference.recipe import recipe_reference


class Documented:
    """A class with a tree::

        root
        └─ leaf

    Attributes:
        first: what it holds,
            in two lines.
        second_one: `code` at the end.
    """


def test_a_docstring_is_taken_apart_into_prose_and_attributes() -> None:
    assert prose(Documented) == "A class with a tree:\n\n```text\nroot\n└─ leaf\n```"
    assert entries(Documented) == {"first": "What it holds, in two lines.", "second_one": "`code` at the end."}


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a folder", "A folder."), ("Ready.", "Ready."), ("``x`` or y", "``x`` or y."), ("", "")],
)
def test_a_text_becomes_a_sentence(text: str, expected: str) -> None:
    assert sentence(text) == expected


def test_the_command_reference_has_each_command_with_each_option() -> None:
    text = commands_reference()
    for path, command in all_commands():
        section = text.partition(f"## `{path}`\n")[2].partition("\n## ")[0]
        assert section, path
        for parameter in command.params:
            for option in parameter.opts if parameter.param_type_name == "option" else []:
                # A short form may stand before the long one.
                assert f"`{option}" in section or f", {option}" in section, (path, option)


def test_every_command_and_every_option_has_a_help_text() -> None:
    for path, command in all_commands():
        assert command.help, path
        for parameter in command.params:
            assert getattr(parameter, "help", None), (path, parameter.name)


def test_the_recipe_reference_has_the_keys_of_every_section() -> None:
    text = recipe_reference()
    for key in ("name", "data.validation_fraction", "model.head.dropout", "train.phases[].lr", "tracking.uri"):
        assert f"\n`{key}`\n: *" in text, key
    assert "integer, at least 1.* The number of images per batch" in text
    assert "## `data`, `kind: csv`" in text


@pytest.mark.parametrize(
    "package", ["tamiz", "tamiz_server", "tamiz_train", "tamiz_release", "tamiz_gateway", "tamiz_bench"]
)
def test_the_api_reference_has_every_public_name(package: str) -> None:
    text = api_reference(package)
    names = import_module(package).__all__
    assert len(names) > 3
    for name in names:
        assert f":: {package}.{name}\n" in text
