"""A Sphinx extension that writes the reference from the code, so that no part of it is a hand-written copy.

A page asks for a part by a comment on a line of its own, which the part replaces when the page is read::

    <!-- generated: commands -->
    <!-- generated: recipe -->
    <!-- generated: api tamiz -->
    <!-- generated: attributes tamiz.console:ExitCode -->
    <!-- generated: modules tamiz -->
    <!-- generated: prose tamiz.errors -->

Each part is Markdown made by one function of this package, which tests can call without Sphinx.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from docutils import nodes
from pydantic import BaseModel

from . import api, attributes, commands, docstrings, modules, recipe

PARTS: dict[str, Callable[..., str]] = {
    "api": api.api_reference,
    "attributes": attributes.attributes_reference,
    "commands": commands.commands_reference,
    "modules": modules.modules_reference,
    "prose": docstrings.module_prose,
    "recipe": recipe.recipe_reference,
}
_MARK = re.compile(r"^<!-- generated: (?P<part>\w+)(?: (?P<argument>\S+))? -->$", re.MULTILINE)


def setup(app: Any) -> dict[str, Any]:
    """Register the extension with Sphinx."""
    app.connect("source-read", _fill_in)
    app.connect("env-get-outdated", _always_read_again)
    app.connect("missing-reference", _leave_as_code)
    app.connect("doctree-read", _set_dashes)
    app.connect("autodoc-process-signature", _simplify_signature)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def fill_in(text: str) -> str:
    """A page's Markdown with each comment replaced by its generated part."""

    def generate(found: re.Match[str]) -> str:
        arguments = [found["argument"]] if found["argument"] else []
        return PARTS[found["part"]](*arguments)

    return _MARK.sub(generate, text)


def _fill_in(app: Any, page: str, source: list[str]) -> None:
    source[0] = fill_in(source[0])


def _always_read_again(app: Any, env: Any, added: set[str], changed: set[str], removed: set[str]) -> list[str]:
    # The code may have changed where the page has not.
    return [page for page in env.found_docs if _MARK.search(env.doc2path(page).read_text(encoding="utf-8"))]


def _leave_as_code(app: Any, env: Any, node: Any, content: Any) -> Any:
    """A name in single backticks that the reference does not have: a command, a file, a private name."""
    return content if node.get("reftype") == "obj" else None


def _simplify_signature(
    app: Any, what: str, name: str, value: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    if isinstance(value, type) and issubclass(value, BaseModel):
        # Pydantic models are written as YAML or JSON; their attributes are listed, so the signature says nothing more.
        return "", None
    # What autodoc leaves of a type alias in a union.
    alias = re.compile(r"TypeAliasForwardRef\('([\w.]+)'\)")
    return alias.sub(r"\1", signature) if signature else signature, alias.sub(r"\1", returns) if returns else returns


def _set_dashes(app: Any, doctree: Any) -> None:
    # Sphinx writes two hyphens between a parameter and its text, for its smart quotes to make a dash of them. Those are
    # off, since they would make dashes of the hyphens of options too.
    for text in list(doctree.findall(nodes.Text)):
        if text == " -- ":
            text.parent.replace(text, nodes.Text(" – "))
