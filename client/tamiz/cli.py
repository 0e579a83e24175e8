"""The ``tamiz`` command, and the exit code of every error. Its commands are in `tamiz.command_table`."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import typer

from . import __version__
from .command_table import COMMANDS
from .console import ExitCode, printable
from .errors import MissingExtraError, TamizError, UsageError
from .interruption import interrupted_by
from .lazy_commands import LazyCommand, LazyGroup

PROGRAM = "tamiz"


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
