"""The Python API of a package: every name of its ``__all__``, through autodoc."""

from __future__ import annotations

import ast
import inspect
from importlib import import_module
from pathlib import Path
from types import ModuleType

_OUTSIDE = "BaseModel, BaseException, Enum, Module, StrEnum, object, str, tuple"
"""Members that a class inherits from these are described on other sites."""

_KINDS = ("Classes and functions", "Errors", "Types")


def api_reference(package: str) -> str:
    """Directives for every public name of a package, grouped by kind.

    Args:
        package: name of an importable package with ``__all__``.
    """
    module = import_module(package)
    groups: dict[str, list[str]] = {kind: [] for kind in _KINDS}
    for name in module.__all__:
        value = getattr(module, name)
        if _is_alias(value):
            groups["Types"].append(_type_alias(module, name))
        elif isinstance(value, type) and issubclass(value, BaseException):
            groups["Errors"].append(f".. autoexception:: {package}.{name}\n")
        elif inspect.isclass(value):
            groups["Classes and functions"].append(
                f".. autoclass:: {package}.{name}\n   :inherited-members: {_OUTSIDE}\n"
            )
        else:
            groups["Classes and functions"].append(f".. autofunction:: {package}.{name}\n")
    parts = [f"```{{py:module}} {package}\n```\n"]
    for kind, directives in groups.items():
        if directives:
            body = "\n".join(directives)
            parts.append(f"## {kind} of {package}\n\n```{{eval-rst}}\n{body}```\n")
    return "\n".join(parts)


def type_aliases(package: str) -> dict[str, str]:
    """The public type aliases of a package, by name, with the name that signatures shall show and link to."""
    module = import_module(package)
    return {name: f"{package}.{name}" for name in module.__all__ if _is_alias(getattr(module, name))}


def _is_alias(value: object) -> bool:
    return not (inspect.isclass(value) or inspect.isroutine(value))


def _type_alias(module: ModuleType, name: str) -> str:
    """A type alias as it is written, with the docstring below it; autodoc would show that of the aliased class."""
    for path in sorted(Path(str(module.__file__)).parent.rglob("*.py")):
        statements = ast.parse(path.read_text(encoding="utf-8")).body
        for statement, following in zip(statements, [*statements[1:], None], strict=True):
            match statement:
                case ast.AnnAssign(target=ast.Name(id=found), value=ast.expr() as value) if found == name:
                    return _data(f"{module.__name__}.{name}", ast.unparse(value), following)
                case ast.Assign(targets=[ast.Name(id=found)], value=value) if found == name:
                    return _data(f"{module.__name__}.{name}", ast.unparse(value), following)
    raise LookupError(f"{module.__name__}.{name}: no module of the package assigns it")


def _data(name: str, value: str, following: ast.stmt | None) -> str:
    text = ""
    if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
        text = inspect.cleandoc(str(following.value.value)).replace("\n", "\n   ")
    return f".. py:data:: {name}\n   :value: {value}\n\n   {text}\n"
