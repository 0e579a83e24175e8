"""The ``tamiz`` command.

Commands of the other packages are named as strings and imported when they are called. So all are always
listed, ``tamiz --help`` answers at once, and a command whose extra is not installed says what to type.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Annotated, Any

import typer

from .errors import MissingExtraError, TamizError, UsageError

# name: (where it is, the extra that it needs, one line of help), in the order of their use.
COMMANDS = {
    "demo": ("tamiz_bench.demo:demo", "train,server,bench,cpu", "The whole chain on handwritten digits."),
    "train": ("tamiz_train.cli:train", "train,cpu", "Train a model by a recipe."),
    "data check": ("tamiz_train.cli:data_check", "train,cpu", "Tell what is wrong with a recipe's data."),
    "data show": ("tamiz_train.cli:data_show", "train,cpu", "Write a contact sheet of a recipe's images."),
    "evaluate": ("tamiz_train.cli:evaluate", "train,cpu", "Measure a run, or a served model, on its data."),
    "explain": ("tamiz_train.cli:explain", "train,cpu", "Show where in an image a run sees its label (Grad-CAM)."),
    "predict": ("tamiz_train.cli:predict", "train,cpu", "Classify images with a run, without a server."),
    "export": ("tamiz_train.cli:export", "train,cpu", "Export a run to ONNX and compare the two."),
    "publish": (
        "tamiz_train.cli:publish",
        "train,cpu",
        "Add a run to the model repository as a new version.",
    ),
    "models": ("tamiz_server.cli:models", "server", "List models, versions, and which are live."),
    "promote": ("tamiz_server.cli:promote", "server", "Make a version the live one."),
    "rollback": ("tamiz_server.cli:rollback", "server", "Undo the last promotion."),
    "serve": ("tamiz_server.cli:serve", "server,cpu", "Serve the model repository with the embedded Triton."),
    "classify": ("tamiz.classify:classify", "", "Classify files and folders with a served model."),
    "bench served": (
        "tamiz_bench.commands.served:served",
        "bench,server,cpu",
        "Compare a served model with the in-process limit.",
    ),
    "bench client": (
        "tamiz_bench.commands.client:client",
        "bench,server,cpu",
        "Compare the client with a script written from tritonclient's documentation.",
    ),
    "bench preprocessing": (
        "tamiz_bench.commands.preprocessing:preprocessing",
        "bench",
        "Measure the time to decode and resize an image.",
    ),
    "bench training": (
        "tamiz_bench.commands.training:training",
        "bench,train,cpu",
        "Compare the trainer with a PyTorch loop and the limit.",
    ),
}

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Train an image classifier, serve it with NVIDIA Triton, classify at scale.",
)
GROUPS = {
    "data": typer.Typer(
        no_args_is_help=True, rich_markup_mode=None, help="Look at a recipe's images before training on them."
    ),
    "bench": typer.Typer(
        no_args_is_help=True, rich_markup_mode=None, help="Measure images per second, beside the limit of the hardware."
    ),
}


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Read the options that stand before the command."""
    if version:
        from . import __version__

        print(f"tamiz {__version__}")
    elif context.invoked_subcommand is None:
        print(context.get_help())


def main() -> None:
    """Run the command line: exit 0, 1 for work that failed, 2 for usage, with one line and no traceback.

    3 is for work that is done, but for images that cannot be read.
    """
    # OpenCV would print a line for each broken image, which the image's error tells already.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    try:
        sys.exit(app(arguments, prog_name="tamiz", standalone_mode=False) or 0)
    except typer.TyperException as exc:
        if debug:
            raise
        message = exc.format_message() if hasattr(exc, "format_message") else str(exc)
        _fail(message.rstrip("."), getattr(exc, "exit_code", 2))
    except TamizError as exc:
        if debug:
            raise
        _fail(str(exc), 2 if isinstance(exc, UsageError) else 1)
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted", 130)
    except BrokenPipeError:
        # `tamiz … | head`: nobody reads on, which is no error; what Python would flush at exit goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


def _fail(message: str, status: int) -> None:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(status)


def _call(name: str, arguments: list[str]) -> Any:
    place, extra, _ = COMMANDS[name]
    module, _, function = place.partition(":")
    real = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    try:
        real.command(name.rpartition(" ")[2])(getattr(importlib.import_module(module), function))
        return typer.main.get_command(real)(arguments, prog_name=f"tamiz {name}", standalone_mode=False)
    except ModuleNotFoundError as exc:
        if exc.name is None or exc.name.partition(".")[0].startswith("tamiz"):
            raise
        raise MissingExtraError(extra, exc.name) from exc


def _register(name: str, summary: str) -> None:
    # Everything behind the command's name, --help too, is for the real command, which is not imported yet.
    settings = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}

    group, _, last = name.rpartition(" ")

    @(GROUPS[group] if group else app).command(last, help=summary, context_settings=settings)
    def command(context: typer.Context) -> Any:
        return _call(name, [argument for argument in context.args if argument != "--debug"])


for _name, (_, _, _summary) in COMMANDS.items():
    _register(_name, _summary)
for _group, _commands in GROUPS.items():
    app.add_typer(_commands, name=_group)

if __name__ == "__main__":
    main()
