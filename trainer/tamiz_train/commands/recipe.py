"""``tamiz recipe``: write a recipe for one's own images, and look at those that there are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from tamiz.console import print_json, print_next, print_table, progress_line
from tamiz.errors import UsageError
from tamiz.files import write_whole
from tamiz.options import JsonOption

from ..recipe.loading import describe_recipe, load_recipe, name_from, read_source, shipped_recipes
from .arguments import RecipeArgument


def new(
    images: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder of labelled images, or a .csv manifest of them.")
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="The recipe to write; default: NAME.yaml, after the images."),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="State dict to start from (.safetensors or .pt), of timm's mobilenetv2_100 or of the model that a "
            "config.json of timm beside it names.",
        ),
    ] = None,
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="Start from timm's weights, which training downloads.")
    ] = False,
) -> None:
    """Look at labelled images, and write a commented recipe that trains well on them."""
    if pretrained and weights:
        raise UsageError("give --pretrained or --weights, not both")
    if weights is not None and not weights.is_file():
        raise UsageError(f"--weights: there is no file {weights}")
    path = out or Path(f"{name_from(images.resolve().stem if images.is_file() else images.resolve().name)}.yaml")
    if path.suffix not in {".yaml", ".yml"}:
        raise UsageError(f"--out {path}: name a .yaml file")
    if path.exists():
        raise UsageError(f"{path} exists; name another file with --out, or remove it")
    for given in filter(None, (images, weights)):
        if not str(given).isprintable():
            raise UsageError(f"{str(given)!r}: a recipe cannot hold this path; rename it")
    from ..data.labels import list_some
    from ..draft import Weights, draft_recipe, pretrained_weights_at_hand
    from ..survey import survey

    found = survey(images)
    start = None
    if weights is not None:
        start = Weights.of_file(weights)
    elif pretrained or pretrained_weights_at_hand():
        start = Weights()
    write_whole(path, draft_recipe(found, start))
    recipe = load_recipe(path)
    images_by_split = ", ".join(f"{len(split):,} {split.name}" for split in found.data.splits)
    progress_line(
        f"{path}: {found.data.task}, {len(found.data.labels)} labels ({list_some(found.data.labels)}), "
        f"{images_by_split} images; model {recipe.model.name}, {recipe.train.epochs} epochs"
    )
    for remark in found.remarks:
        progress_line(remark)
    print_next(*(("data", "check", path) if found.remarks else ("train", path, "--check")))


def list_recipes(as_json: JsonOption = False) -> None:
    """List the shipped recipes."""
    recipes = [(name, describe_recipe(name)) for name in shipped_recipes()]
    if as_json:
        print_json([{"name": name, "description": description} for name, description in recipes])
    else:
        print_table(["recipe", "description"], recipes)


def show(recipe: RecipeArgument) -> None:
    """Print a recipe as it is written, to read it or to begin one's own with it."""
    load_recipe(recipe)
    print(read_source(recipe)[1], end="")


def schema(
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="The file to write; default: standard output.")
    ] = None,
) -> None:
    """Print the JSON schema of recipes, by which editors complete keys and mark mistakes."""
    from ..recipe.schema import recipe_schema

    text = json.dumps(recipe_schema(), indent=2)
    if out is None:
        print(text)
        return
    write_whole(out, text + "\n")
    print(f"{out}: the first line of a recipe that uses it: # yaml-language-server: $schema={out}")
