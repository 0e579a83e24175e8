from __future__ import annotations

import pickle

import pytest

from tamiz import errors
from tamiz.errors import MissingExtraError, ServerError, TamizError, first_line, one_line, suggest


def every_error() -> list[TamizError]:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, TamizError)]
    made: list[TamizError] = []
    for kind in kinds:
        if kind is MissingExtraError:
            made.append(MissingExtraError("train", "torch"))
        elif issubclass(kind, ServerError):
            made.append(kind("failed", model="pets", version=7, url="grpc://here"))
        else:
            made.append(kind("failed"))
    return made


@pytest.mark.parametrize("error", every_error(), ids=lambda error: type(error).__name__)
def test_an_error_survives_pickling(error: TamizError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


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
    assert suggest("x", map(str, range(100))) == ""
