from __future__ import annotations

import importlib
import multiprocessing
import pickle
import re
from pathlib import Path

import pytest

from tamiz import errors
from tamiz.errors import (
    InvalidImageError,
    MissingExtraError,
    ServerError,
    TamizError,
    UsageError,
    first_line,
    list_names,
    one_line,
    suggest,
)

PACKAGES = ("tamiz", "tamiz_server", "tamiz_train", "tamiz_gateway", "tamiz_bench")


def every_error() -> list[TamizError]:
    """One error of every class of the whole tree, wherever it is defined, with a value in every attribute."""
    for package in PACKAGES:
        folder = Path(str(importlib.import_module(package).__file__)).parent
        for path in folder.rglob("*.py"):
            if re.search(r"^class \w+Error\(", path.read_text(), re.MULTILINE):
                importlib.import_module(".".join(path.relative_to(folder.parent).with_suffix("").parts))
    made: list[TamizError] = []
    for kind in sorted(subclasses(TamizError), key=lambda kind: kind.__name__):
        if kind is MissingExtraError:
            made.append(MissingExtraError("train", "torch"))
        elif kind is AwkwardError:
            made.append(AwkwardError("size", limit=3))
        elif issubclass(kind, ServerError):
            made.append(kind("failed", model="pets", version=7, url="grpc://here"))
        else:
            made.append(kind("failed"))
        if isinstance(made[-1], InvalidImageError):
            made[-1].position = 12
        made[-1].add_note("a note")
    return made


def subclasses(kind: type[TamizError]) -> set[type[TamizError]]:
    return {kind}.union(*map(subclasses, kind.__subclasses__()))


def fail_with(error: TamizError) -> None:
    raise error


class AwkwardError(UsageError):
    """An error whose arguments are not its message."""

    def __init__(self, name: str, *, limit: int) -> None:
        super().__init__(f"{name} exceeds {limit}")
        self.name = name
        self.limit = limit


def test_every_error_survives_pickling_with_its_attributes() -> None:
    errors_of_packages = every_error()
    assert len(errors_of_packages) > 25
    for error in errors_of_packages:
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            copy = pickle.loads(pickle.dumps(error, protocol))
            assert type(copy) is type(error)
            assert str(copy) == str(error)
            assert vars(copy) == vars(error)


def test_every_error_reaches_the_parent_of_a_pool() -> None:
    # A forked worker knows this module, which pytest imports under a name of its own.
    with multiprocessing.get_context("fork").Pool(1) as pool:
        for error in every_error():
            with pytest.raises(type(error)) as caught:
                pool.apply_async(fail_with, (error,)).get(timeout=60)
            assert str(caught.value) == str(error)
            assert vars(caught.value) == vars(error)


def test_some_errors_are_also_built_in_exceptions() -> None:
    assert issubclass(errors.DeadlineError, TimeoutError)
    assert issubclass(errors.InvalidImageError, ValueError)


def test_a_message_becomes_one_line() -> None:
    assert first_line(ValueError("\n first \n second")) == "first"
    assert one_line(ValueError("first\n  second")) == "first second"
    assert first_line(ValueError()) == one_line(ValueError()) == "ValueError"


def test_a_suggestion_is_the_closest_name_or_all_names_if_they_are_few() -> None:
    assert suggest("digit", ["digits", "clothing"]) == "; did you mean 'digits'?"
    assert suggest("x", ["b", "a"]) == "; known: a, b"
    assert suggest("x", map(str, range(100, 200))).endswith("109, 110, 111 and 88 more")
    assert suggest("x", []) == ""


def test_a_message_with_long_or_many_names_is_bounded() -> None:
    assert list_names(["a", "b"]) == "a, b"
    assert list_names(["x" * 100_000, "b"]) == f"{'x' * 100}…, b"
    assert len(list_names(["x" * 1000] * 1000)) < 1500
    assert len(suggest("y", ["x" * 100_000])) < 150
    assert len(suggest("x" * 100_000, ["x" * 100_001])) < 600
