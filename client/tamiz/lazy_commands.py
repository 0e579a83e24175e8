"""Commands that are imported when they are called, so that help and completion of names answer at once."""

from __future__ import annotations

import functools
import importlib
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from .extras import extra_required


class LazyCommand(TyperCommand):
    """A command whose function is imported when the command is called or its options are completed.

    A group asks for all of its commands to list them, so a command knows its name and its line of help before the
    import.

    Args:
        name: name of the command.
        target: function of the command, as ``package.module:function``.
        extra: extra of the distribution that the function needs; empty when it needs none.
        summary: the command's line in the help of its group.
    """

    def __init__(self, name: str, target: str, *, extra: str = "", summary: str) -> None:
        super().__init__(name, short_help=summary, rich_markup_mode=None)
        self.target = target
        self.extra = extra

    # Contexts and commands are `Any`: typer does not export the types of the base class.
    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Import the command and parse its arguments; the context belongs to the imported command."""
        return self.load().make_context(info_name, args, parent, **extra)

    def load(self) -> Any:
        """Import the function and build its command, with all arguments and options.

        Raises:
            MissingExtraError: a package of the extra is not installed.
        """
        module, _, name = self.target.partition(":")
        with extra_required(self.extra):
            function = getattr(importlib.import_module(module), name)

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with extra_required(self.extra):
                return function(*args, **kwargs)

        application = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
        application.command(self.name)(call)
        return typer.main.get_command(application)


class LazyGroup(TyperGroup):
    """A group of commands.

    Args:
        default: name of the command that is called when none is named, also with options; without one, the group prints
            its help.
        settings: the settings of the group's base class.
    """

    def __init__(self, *, default: str | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        self.default = default

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the options before the name of the command."""
        names_option = bool(args) and args[0].startswith("-") and args[0] not in ctx.help_option_names
        # A shell that completes the name of the command asks with no arguments.
        if self.default is not None and (names_option or not (args or ctx.resilient_parsing)):
            args = [self.default, *args]
        return super().parse_args(ctx, args or ["--help"])

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Complete the name of a command, or an option of the default one."""
        if self.default is not None and incomplete.startswith("-"):
            default = self.commands[self.default].make_context(self.default, [], parent=ctx, resilient_parsing=True)
            return default.command.shell_complete(default, incomplete)
        return super().shell_complete(ctx, incomplete)
