"""The base class of all sections of a recipe, and the ranges of numbers that they share."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

PositiveInt = Annotated[int, Field(ge=1)]
"""An integer of at least 1."""

NonNegativeFloat = Annotated[float, Field(ge=0)]
"""A number of at least 0."""

PositiveFloat = Annotated[float, Field(gt=0)]
"""A number above 0."""

Fraction = Annotated[float, Field(gt=0, lt=1)]
"""A part of a whole: above 0 and below 1."""

Probability = Annotated[float, Field(ge=0, le=1)]
"""A number from 0 to 1, both included."""


class Section(BaseModel):
    """A section of a recipe. It is frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())
