"""The ``tamiz`` command: the table of all commands, and the exit code of every error."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import typer

from . import __version__
from .console import ExitCode, printable
from .errors import MissingExtraError, TamizError, UsageError
from .interruption import interrupted_by
from .lazy_commands import LazyCommand, LazyGroup

PROGRAM = "tamiz"

COMMANDS: tuple[LazyCommand | LazyGroup, ...] = (
    LazyCommand(
        "demo",
        "tamiz_bench.demo:demo",
        extra="train,server,bench,cpu",
        summary="Train, publish, serve and classify handwritten digits.",
    ),
    LazyCommand("train", "tamiz_train.commands.train:train", extra="train,cpu", summary="Train a model from a recipe."),
    LazyGroup(
        name="recipe",
        help="Write a recipe for your own images, and look at recipes.",
        rich_markup_mode=None,
        commands=[
            LazyCommand(
                "new",
                "tamiz_train.commands.recipe:new",
                extra="train,cpu",
                summary="Look at labelled images, and write a recipe for them.",
            ),
            LazyCommand(
                "list",
                "tamiz_train.commands.recipe:list_recipes",
                extra="train,cpu",
                summary="List the shipped recipes.",
            ),
            LazyCommand("show", "tamiz_train.commands.recipe:show", extra="train,cpu", summary="Print a recipe."),
            LazyCommand(
                "schema",
                "tamiz_train.commands.recipe:schema",
                extra="train,cpu",
                summary="Print the JSON schema of recipes, for editors.",
            ),
        ],
    ),
    LazyGroup(
        name="data",
        help="Check and show the images of a recipe before training.",
        rich_markup_mode=None,
        commands=[
            LazyCommand(
                "check",
                "tamiz_train.commands.data:check",
                extra="train,cpu",
                summary="Report the problems in a recipe's data.",
            ),
            LazyCommand(
                "show",
                "tamiz_train.commands.data:show",
                extra="train,cpu",
                summary="Write a contact sheet of a recipe's training images.",
            ),
            LazyCommand(
                "split",
                "tamiz_train.commands.data:split",
                extra="train,cpu",
                summary="Write the splits of a recipe's images as a manifest.",
            ),
        ],
    ),
    LazyCommand(
        "evaluate",
        "tamiz_release.commands.evaluate:evaluate",
        extra="release,cpu",
        summary="Evaluate a run, an ONNX file or a served model.",
    ),
    LazyCommand(
        "compare",
        "tamiz_release.commands.compare:compare",
        extra="release,cpu",
        summary="Say which of two models is better on the same images.",
    ),
    LazyCommand(
        "explain",
        "tamiz_train.commands.explain:explain",
        extra="train,cpu",
        summary="Show which parts of an image led to a label (Grad-CAM).",
    ),
    LazyCommand(
        "predict",
        "tamiz_train.commands.predict:predict",
        extra="train,cpu",
        summary="Classify images with a run, without a server.",
    ),
    LazyCommand(
        "export",
        "tamiz_release.commands.export:export",
        extra="train,cpu",
        summary="Export a run to ONNX and compare its outputs with the trained model's.",
    ),
    LazyCommand(
        "publish",
        "tamiz_release.commands.publish:publish",
        extra="release,cpu",
        summary="Publish a run or any ONNX classifier as a new version.",
    ),
    LazyCommand(
        "release",
        "tamiz_release.commands.release:release",
        extra="train,server,cpu",
        summary="Release a run in one go: export, gate, publish, canary, watch, promote.",
    ),
    LazyGroup(
        name="models",
        default="list",
        help="List models and versions, and which are live (`list`, which need not be named), or verify their files.",
        short_help="List models and versions, and which are live; verify their files.",
        rich_markup_mode=None,
        commands=[
            LazyCommand(
                "list",
                "tamiz_server.commands.models:models",
                extra="server",
                summary="List models and versions, and which are live.",
            ),
            LazyCommand(
                "verify",
                "tamiz_server.commands.verify:verify",
                extra="server",
                summary="Hash the files of the repository again, and name those that changed.",
            ),
        ],
    ),
    LazyCommand(
        "promote", "tamiz_release.commands.promote:promote", extra="server", summary="Make a version the live one."
    ),
    LazyCommand(
        "rollback",
        "tamiz_release.commands.rollback:rollback",
        extra="server",
        summary="End a canary or shadow, or undo the last promotion.",
    ),
    LazyCommand(
        "history",
        "tamiz_server.commands.history:history",
        extra="server",
        summary="List who promoted which version, when and why.",
    ),
    LazyGroup(
        name="versions",
        help="Remove versions that nothing needs any more.",
        rich_markup_mode=None,
        commands=[
            LazyCommand(
                "prune",
                "tamiz_server.commands.versions:prune",
                extra="server",
                summary="Remove the oldest versions of a model.",
            )
        ],
    ),
    LazyCommand(
        "serve",
        "tamiz_server.commands.serve:serve",
        extra="server,cpu",
        summary="Serve the model repository with the embedded Triton.",
    ),
    LazyCommand(
        "gateway",
        "tamiz_gateway.commands.gateway:gateway",
        extra="gateway,server,cpu",
        summary="Serve REST in front of Triton: the published classifier's contract.",
    ),
    LazyCommand("classify", "tamiz.bulk.command:classify", summary="Classify files and folders with a served model."),
    LazyCommand(
        "replay",
        "tamiz_release.commands.replay:replay",
        extra="server,cpu",
        summary="Classify images of a bulk job again, and compare to the bit.",
    ),
    LazyGroup(
        name="bench",
        help="Measure throughput and latency beside the limit of the machine.",
        rich_markup_mode=None,
        commands=[
            LazyCommand(
                "served",
                "tamiz_bench.commands.served:served",
                extra="bench,server,cpu",
                summary="Compare a served model with the in-process limit.",
            ),
            LazyCommand(
                "client",
                "tamiz_bench.commands.client:client",
                extra="bench,server,cpu",
                summary="Compare the client with one written from tritonclient's documentation.",
            ),
            LazyCommand(
                "preprocessing",
                "tamiz_bench.commands.preprocessing:preprocessing",
                extra="bench",
                summary="Measure the time to prepare an image.",
            ),
            LazyCommand(
                "precisions",
                "tamiz_bench.commands.precisions:precisions",
                extra="bench,train,cpu",
                summary="Compare FP32, INT8 and FP16 graphs of a network.",
            ),
            LazyCommand(
                "training",
                "tamiz_bench.commands.training:training",
                extra="bench,train,cpu",
                summary="Compare training with a plain PyTorch loop and with the limit.",
            ),
        ],
    ),
)


def main(arguments: Sequence[str] | None = None, *, commands: Sequence[LazyCommand | LazyGroup] = COMMANDS) -> NoReturn:
    """Run the command line and exit with a code of `ExitCode`.

    An error is one line on standard error; ``--debug``, before or after the command, shows its traceback instead.

    Args:
        arguments: the arguments without the program's name; None for those of the process.
        commands: the commands that are available.
    """
    # OpenCV would print a line for each unreadable image, beside the error that the image gets.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    command = make_command(commands)
    if f"_{PROGRAM.upper()}_COMPLETE" in os.environ:
        _complete(command)
    rest, debug = _take_debug(sys.argv[1:] if arguments is None else arguments)
    try:
        # A job that a scheduler or a closed terminal ends cleans up as after Ctrl-C.
        with interrupted_by(signal.SIGTERM, signal.SIGHUP):
            status = _run(command, rest)
    except typer.TyperException as exc:
        if debug:
            raise
        _fail(exc.format_message().rstrip("."), exc.exit_code)
    except TamizError as exc:
        if debug:
            raise
        _fail(str(exc), ExitCode.USAGE if isinstance(exc, UsageError) else ExitCode.FAILED)
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted", ExitCode.INTERRUPTED)
    except BrokenPipeError:
        # The reader of a pipe such as `tamiz … | head` has exited. Python flushes standard output once more at exit,
        # and must not meet the closed pipe again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = ExitCode.BROKEN_PIPE
    sys.exit(status)


def make_command(commands: Sequence[LazyCommand | LazyGroup] = COMMANDS) -> Any:
    """The command ``tamiz`` with its commands, none of which is imported yet."""
    application = typer.Typer(cls=LazyGroup, rich_markup_mode=None, pretty_exceptions_enable=False)
    application.callback()(_options)
    root: Any = typer.main.get_command(application)
    for command in commands:
        root.add_command(command)
    return root


def _print_version(requested: bool) -> None:
    if requested:
        print(f"{PROGRAM} {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Train an image classifier, serve it with NVIDIA Triton, classify at scale."""


def _complete(command: Any) -> NoReturn:
    """Answer a shell that asks for completions."""
    try:
        command.main(prog_name=PROGRAM)
    except MissingExtraError:
        # A command whose extra is missing has no completions; a message would be printed into the line being typed.
        sys.exit(ExitCode.FAILED)
    sys.exit(ExitCode.SUCCESS)


def _take_debug(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """The arguments without ``--debug``, and whether it was among them; what follows ``--`` is not an option."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    options = [argument for argument in arguments[:end] if argument != "--debug"]
    return [*options, *arguments[end:]], len(options) < end


def _run(command: Any, arguments: list[str]) -> int:
    # Not `command.main`, which maps some errors to other exit codes.
    try:
        with command.make_context(PROGRAM, arguments) as context:
            status = command.invoke(context)
        sys.stdout.flush()
    except typer.Exit as exc:
        return exc.exit_code
    return status or ExitCode.SUCCESS


def _fail(message: str, status: int) -> NoReturn:
    print(f"error: {printable(' '.join(message.split()))}", file=sys.stderr)
    sys.exit(status)


if __name__ == "__main__":
    main()
