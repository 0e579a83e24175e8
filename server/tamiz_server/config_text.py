"""Changes to the text of ``config.pbtxt`` that keep what an operator wrote: comments, order and layout.

Protobuf's own printer drops comments, so only the fields whose values change are written anew, each where it stood.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

_TOKEN = re.compile(
    r"""(?P<comment>\#[^\n]*)
      | (?P<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')
      | (?P<mark>[{}<>\[\],;:])
      | (?P<word>[^\s\#"'{}<>\[\],;:]+)""",
    re.VERBOSE,
)
_OPENING, _CLOSING, _SEPARATORS = ("{", "<", "["), ("}", ">", "]"), (",", ";")


def edit_text(text: str, before: ModelConfig, after: ModelConfig) -> str:
    """Change the text of a configuration.

    Args:
        text: content of the file, which is a valid configuration.
        before: what the text says.
        after: what the changed text shall say.

    Returns:
        the text in which the changed fields have their new values. A comment inside such a field is moved before it.
    """
    changed = [field for field in _names(before, after) if _only(before, field) != _only(after, field)]
    edits: list[tuple[_Field, str]] = []
    added = ModelConfig()
    for name in changed:
        found = [field for field in _top_level_fields(text) if field.name == name]
        if name == "parameters":
            edits += _parameter_edits(text, found, after)
            known = {key for field in found for key in _parse(text, field).parameters}
            for key in sorted(after.parameters.keys() - known):
                added.parameters[key].CopyFrom(after.parameters[key])
        elif found:
            edits += [(found[0], format_config(_only(after, name))), *((field, "") for field in found[1:])]
        else:
            added.MergeFrom(_only(after, name))
    for field, replacement in sorted(edits, key=lambda edit: edit[0].start, reverse=True):
        text = _replace(text, field, replacement)
    return "\n".join(part.rstrip("\n") for part in (text, format_config(added)) if part) + "\n"


def format_config(config: ModelConfig) -> str:
    """Write a whole configuration as text; `tamiz_server.config.parse_config` reads it back to an equal message."""
    text: str = text_format.MessageToString(config, as_utf8=True)
    return text


def _names(*configs: ModelConfig) -> list[str]:
    """Names of the fields that are set in any of the configurations, in the order of their numbers."""
    return list({field.number: field.name for config in configs for field, _ in config.ListFields()}.values())


def _only(config: ModelConfig, name: str) -> ModelConfig:
    """A copy of the configuration without its other fields."""
    copy = ModelConfig()
    copy.CopyFrom(config)
    for field, _ in config.ListFields():
        if field.name != name:
            copy.ClearField(field.name)
    return copy


@dataclass(frozen=True)
class _Field:
    """One field at the top level of the text, with the separator after it."""

    name: str
    start: int
    end: int


def _top_level_fields(text: str) -> Iterator[_Field]:
    tokens = [token for token in _TOKEN.finditer(text) if token.lastgroup != "comment"]
    position = 0
    while position < len(tokens):
        first = tokens[position]
        position += 1
        if tokens[position][0] == ":":
            position += 1
        position = _end_of_value(tokens, position)
        if position < len(tokens) and tokens[position][0] in _SEPARATORS:
            position += 1
        yield _Field(first[0], first.start(), tokens[position - 1].end())


def _end_of_value(tokens: list[re.Match[str]], position: int) -> int:
    """Position of the token after the value that begins at a position."""
    if tokens[position].lastgroup == "string":
        # Strings that follow one another are one value.
        while position < len(tokens) and tokens[position].lastgroup == "string":
            position += 1
        return position
    depth = 0
    while True:
        token = tokens[position][0]
        position += 1
        depth += (token in _OPENING) - (token in _CLOSING)
        if depth == 0:
            return position


def _parse(text: str, field: _Field) -> ModelConfig:
    config = ModelConfig()
    text_format.Parse(text[field.start : field.end].rstrip(",;"), config)
    return config


def _parameter_edits(text: str, fields: list[_Field], after: ModelConfig) -> Iterator[tuple[_Field, str]]:
    for field in fields:
        current, wanted = _parse(text, field), ModelConfig()
        for key in current.parameters:
            if key in after.parameters:
                wanted.parameters[key].CopyFrom(after.parameters[key])
        if current != wanted:
            yield field, format_config(wanted)


def _replace(text: str, field: _Field, replacement: str) -> str:
    start, end = field.start, field.end
    comments = [token[0] for token in _TOKEN.finditer(text, start, end) if token.lastgroup == "comment"]
    lines = "".join(f"{line}\n" for line in [*comments, *replacement.splitlines()])
    line_start = text.rfind("\n", 0, start) + 1
    before, (rest, newline, after) = text[line_start:start], text[end:].partition("\n")
    if not before.strip() and not rest.strip():
        # The field had its lines to itself, so it leaves no empty line behind.
        return text[:line_start] + lines + after
    if replacement and rest[:1] in ("", " ", "\t"):
        # A comment or another field that follows stays on its line.
        lines = lines.rstrip("\n")
    return text[:start] + lines + rest + newline + after
