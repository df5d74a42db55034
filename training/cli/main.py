"""Command line of the training package: ``python -m training COMMAND``. A command's module is imported when named."""

import os
import sys
import warnings
from collections.abc import Sequence
from typing import NoReturn

from astraios_analysis.records.commands import Program

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

commands = Program("training", COMMANDS, help=HELP, epilog=EXAMPLES)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return 0, 1 where runs failed, 130 after Ctrl-C. Wrong arguments exit with 2 and a message."""
    with warnings.catch_warnings():
        # The libraries' notices about their own future versions are not the caller's business.
        warnings.simplefilter("ignore", category=FutureWarning)
        status = commands.run(PROG, argv)
    return sys.exit(status) if status == 2 else status


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
