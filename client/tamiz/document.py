"""Document: the base of what Tamiz keeps in JSON and YAML documents; what is unknown or wrong is refused."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from .arguments import show
from .errors import UsageError


class Document(BaseModel):
    """A frozen pydantic model whose constructor raises an error of Tamiz; it may be part of a larger document.

    Raises:
        UsageError: a value is missing, unknown or wrong; the message has all problems.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as exc:
            raise UsageError(f"{type(self).__name__}: {describe(exc)}") from exc

    # Otherwise pydantic would call it for a part of a larger document too, whose problems are reported together.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]


def describe(exc: ValidationError) -> str:
    """All problems that a pydantic validation found, on one line, each with the path of the value."""
    problems = []
    for error in exc.errors(include_url=False):
        path = ".".join(str(part) for part in error["loc"])
        message = error["msg"].removeprefix("Value error, ")
        if error["type"] not in ("missing", "extra_forbidden", "value_error"):
            message = f"{show(error['input'])}: {message}"
        problems.append(f"{path}: {message}" if path else message)
    return "; ".join(problems)
