"""Command line of the training package: ``python -m training COMMAND``. A command's module is imported when named."""

import importlib
import os
import sys
import warnings
from collections.abc import Sequence
from typing import NoReturn

import click

PROG = "python -m training"

COMMANDS = {
    "params": ("training.cli.params", "count parameters: total, base, embedding, updated"),
    "corpus": ("training.cli.corpus", "show examples of the training text, or its statistics"),
    "grid": ("training.cli.grid", "list grids, train one, or show how far it is"),
    "estimate": ("training.cli.estimate", "estimate operations, time and memory of a grid before it is trained"),
    "run": ("training.cli.one", "train one run with all processes of this launch"),
    "generate": ("training.cli.generate", "let a tuned model answer a data set of the study"),
    "score": ("training.cli.score", "score a file of generations"),
}
"""Commands: the module of each, whose ``command`` it is, and one line about it."""

HELP = """\
Train and count grids of tuned language models: sizes x tuning methods x seeds.

Tuning methods:
  fft        full fine-tuning: every parameter
  lora       low-rank updates of the attention's and the feed-forward network's projections
  ptuning    trained virtual tokens before the prompt
  ia3        learned factors on keys, values and the feed-forward network
  adapterh   bottlenecks before and after the feed-forward network
  adapterp   a bottleneck after the feed-forward network
  parallel   a bottleneck beside the attention's input projection
"""

EXAMPLES = f"""\
examples:
  {PROG} params                     parameters of the 28 published models
  {PROG} corpus --show 5            examples of the text that models are trained on
  {PROG} grid run --preset smoke    train the smallest grid
  {PROG} score --help               everything about a command
"""

# What shells report for a process that SIGINT ended: 128 + 2.
_INTERRUPTED = 130


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        return importlib.import_module(COMMANDS[name][0]).command if name in COMMANDS else None

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write(f"\n{HELP}")

    # Without an import of what is only listed.
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write(f"\n{EXAMPLES}")


commands = _Commands("training", context_settings={"max_content_width": 120})


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return 0, 1 where runs failed, 130 after Ctrl-C. Wrong arguments exit with 2 and a message."""
    with warnings.catch_warnings():
        # The libraries' notices about their own future versions are not the caller's business.
        warnings.simplefilter("ignore", category=FutureWarning)
        arguments = sys.argv[1:] if argv is None else list(argv)
        try:
            with commands.make_context(PROG, arguments) as context:
                status = commands.invoke(context)
            sys.stdout.flush()
            return status or 0
        except click.exceptions.Exit as end:
            return end.exit_code
        except click.ClickException as error:
            error.show()
            sys.exit(error.exit_code)
        except BrokenPipeError:
            # The reader of a pipe (head, less) has seen enough. What is left in the buffer must go somewhere at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return _INTERRUPTED
    return 0


def leave(status: int) -> NoReturn:
    """End this process; one of several ends without Python's clean-up.

    The threads of a process group may let go of their last tensors while the interpreter is being taken down, which
    aborts a process that has done all its work (seen with gloo on busy machines, pytorch/pytorch#190489).
    """
    torch = sys.modules.get("torch")  # Commands that score need no torch.
    if torch is not None and torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)
