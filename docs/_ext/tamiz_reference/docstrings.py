"""Google-style docstrings, taken apart: the prose, and the entries of ``Attributes:``."""

from __future__ import annotations

import inspect
import re
import textwrap
from importlib import import_module

_SECTIONS = ("Args", "Attributes", "Example", "Raises", "Returns", "Yields")
_ENTRY = re.compile(r"(?P<name>\w+): (?P<text>.*)", re.DOTALL)


def prose(owner: object) -> str:
    """The docstring before its first section, as Markdown: a literal block becomes a fenced one."""
    text = _sections(owner).get("", "")
    return re.sub(r"(\S?)::\n\n((?:    .*\n?|\n)+)", _fenced, text + "\n").strip()


def module_prose(name: str) -> str:
    """The docstring of a module, as Markdown.

    Args:
        name: name of an importable module.
    """
    return prose(import_module(name))


def entries(owner: object) -> dict[str, str]:
    """The entries of ``Attributes:``, by name, each as one line."""
    found = {}
    for entry in re.split(r"\n(?=\S)", textwrap.dedent(_sections(owner).get("Attributes", "")).strip()):
        if match := _ENTRY.fullmatch(entry):
            found[match["name"]] = sentence(" ".join(match["text"].split()))
    return found


def sentence(text: str) -> str:
    """Text that begins with a capital letter, unless it begins with code, and ends with a full stop."""
    text = text.strip()
    if not text:
        return ""
    if not re.match(r"\w+[_(.]\w", text):
        text = text[0].upper() + text[1:]
    return text if text.endswith((".", "!", "?", ":")) else f"{text}."


def _sections(owner: object) -> dict[str, str]:
    sections: dict[str, list[str]] = {"": []}
    current = ""
    # Only the object's own docstring: pydantic's BaseModel has one of its own.
    for line in inspect.cleandoc(getattr(owner, "__doc__", None) or "").splitlines():
        if line.rstrip(":") in _SECTIONS and line.endswith(":"):
            current = line.rstrip(":")
        sections.setdefault(current, []).append("" if line == f"{current}:" else line)
    return {name: "\n".join(lines).strip("\n") for name, lines in sections.items()}


def _fenced(block: re.Match[str]) -> str:
    colon = f"{block[1]}:\n\n" if block[1] else ""
    return f"{colon}```text\n{textwrap.dedent(block[2]).strip()}\n```\n\n"
