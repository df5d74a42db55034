"""What both command lines share: how commands are declared, found when they are named, and how they end."""

import functools
import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import click

# What shells report for a process that SIGINT ended: 128 + 2.
_INTERRUPTED = 130


class _Texts:
    """Shows descriptions and examples as they are written, line by line."""

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write(f"\n{self.help}" if self.help else "")

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        title = "examples:\n" if (self.epilog or "").startswith("  ") else ""
        formatter.write(f"\n{title}{self.epilog}" if self.epilog else "")


class Group(_Texts, click.Group):
    """A command of commands."""


class Command(_Texts, click.Command):
    """A command, which is called with all that was given in one namespace."""

    def invoke(self, ctx: click.Context) -> Any:
        """Call the command."""
        return self.callback(SimpleNamespace(**ctx.params))


class Program(Group):
    """A program of commands: by name the place of each, imported when it is named, and one line about it."""

    def __init__(self, name: str, commands: Mapping[str, tuple[str, str]], **texts: Any) -> None:
        super().__init__(name, context_settings={"max_content_width": 100}, **texts)
        self.places = commands

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands."""
        return list(self.places)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import the command of a name."""
        if name not in self.places:
            return None
        module, _, command = self.places[name][0].partition(":")
        return getattr(importlib.import_module(module), command or "command")

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without an import of what is only listed."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self.places.items()])

    def run(self, name: str, arguments: Sequence[str] | None) -> int:
        """Run the command that arguments (by default those of the process) name, and return its exit code."""
        try:
            with self.make_context(name, sys.argv[1:] if arguments is None else list(arguments)) as context:
                code = self.invoke(context)
            sys.stdout.flush()
        except click.exceptions.Exit as end:
            return end.exit_code
        except click.ClickException as error:
            error.show()
            return error.exit_code
        except BrokenPipeError:
            # The reader of a pipe (head, less) has seen enough. What is left in the buffer must go somewhere at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except OSError as error:
            # Those of the hub's client have no number, and say something else.
            if error.errno is None:
                raise
            place = error.filename or "a file"
            print(f"{place}: cannot be read or written ({error.strerror})", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return _INTERRUPTED
        return code or 0


def options(*decorators: Callable) -> Callable:
    """Return one decorator of several, the first one's option shown first."""
    return functools.reduce(lambda outer, inner: lambda function: outer(inner(function)), decorators)


def option(name: str, metavar: str, text: str, **settings: Any) -> Callable:
    """Return an option that takes a value."""
    return click.option(name, metavar=metavar, help=text, **settings)


def flag(name: str, text: str) -> Callable:
    """Return an option that is on or off."""
    return click.option(name, is_flag=True, help=text)


JSON = click.option("--json", "as_json", is_flag=True, help="print JSON: full precision, nothing else")
