"""Arguments and options that several commands of the trainer share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

_RUN_HELP = "Folder of a run; or folder of a recipe's runs, for the newest finished one."

RunArgument: TypeAlias = Annotated[Path, typer.Argument(metavar="RUN", help=_RUN_HELP)]
RunOption: TypeAlias = Annotated[Path, typer.Option("--run", metavar="RUN", help=_RUN_HELP)]
RecipeArgument: TypeAlias = Annotated[
    str, typer.Argument(metavar="RECIPE", help="Name of a shipped recipe, or path of a .yaml file.")
]
SetOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a value of the recipe, as in train.epochs=3; repeatable."),
]
