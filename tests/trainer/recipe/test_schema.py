"""The JSON schema of recipes."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
import yaml

from tamiz_train.recipe import shipped_recipes
from tamiz_train.recipe.document import parse
from tamiz_train.recipe.loading import read_source
from tamiz_train.recipe.schema import recipe_schema


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return recipe_schema()


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_fits_the_schema(name: str, schema: dict[str, Any]) -> None:
    jsonschema.validate(parse(read_source(name)[1]), schema)


@pytest.mark.parametrize(
    "text",
    [
        "{data: {kind: folder, root: x}, model: {name: cnn}}",
        "{data: {kind: csv, root: x}, model: {name: cnn}, preprocessing: 160, normalisation: imagenet}",
    ],
)
def test_the_shortest_recipe_and_the_short_forms_fit_the_schema(text: str, schema: dict[str, Any]) -> None:
    jsonschema.validate(yaml.safe_load(text), schema)


@pytest.mark.parametrize(
    "text",
    [
        "{data: {kind: folder, root: x}}",
        "{data: {kind: folder, root: x}, model: {name: cnn}, trian: {}}",
        "{data: {kind: folder, root: x, manifest: y.csv}, model: {name: cnn}}",
        "{data: {kind: folder, root: x}, model: {name: cnn}, normalisation: imagnet}",
        "{data: {kind: folder, root: x}, model: {name: cnn}, train: {epochs: 0}}",
    ],
)
def test_mistakes_do_not_fit_the_schema(text: str, schema: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(text), schema)


def test_every_key_has_a_description(schema: dict[str, Any]) -> None:
    for name, section in {"Recipe": schema, **schema["$defs"]}.items():
        for key, field in section.get("properties", {}).items():
            assert field.get("description"), f"{name}.{key}"
