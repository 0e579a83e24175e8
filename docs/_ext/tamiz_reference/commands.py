"""The command line: every command, argument and option, from the application itself."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

from .docstrings import sentence

PROGRAM = "tamiz"


def commands_reference() -> str:
    """A section for each command: its usage, its help, its arguments and its options."""
    return "\n".join(line for path, command in all_commands() for line in _section(path, command))


def all_commands() -> Iterator[tuple[str, Any]]:
    """Each command and each group with its full name, such as ``tamiz data check``."""
    from tamiz.cli import make_command

    yield from _walk(PROGRAM, make_command())


def _walk(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield path, command
    if hasattr(command, "list_commands"):
        context = command.context_class(command, info_name=path)
        for name in command.list_commands(context):
            yield from _walk(f"{path} {name}", _real(command.get_command(context, name)))


def _real(command: Any) -> Any:
    """The command itself, where what a group lists is a stand-in that imports it when it is called."""
    return command.load() if hasattr(command, "load") else command


def _section(path: str, command: Any) -> Iterator[str]:
    yield f"## `{path}`\n"
    context = command.context_class(command, info_name=path)
    yield f"```text\n{' '.join([path, *command.collect_usage_pieces(context)])}\n```\n"
    # Typer breaks paragraphs by a form feed where the docstring had more than the help shows.
    yield f"{inspect.cleandoc((command.help or '').partition(chr(12))[0])}\n"
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record is not None:
            name, text = record
            yield f"`{name}`\n: {_with_facts(text)}\n"


def _with_facts(text: str) -> str:
    """A parameter's help, with the default, the range and the like, which follow in brackets, set apart."""
    found = re.fullmatch(r"(?P<text>.*?)\s*(?:\[(?P<facts>[^\[\]]*)\])?", text, re.DOTALL)
    assert found is not None
    facts = f" *({found['facts']})*" if found["facts"] else ""
    return f"{sentence(found['text'])}{facts}"
