"""Command line of the training package: ``python -m training COMMAND``. torch is imported only once a command runs."""

import argparse
import json
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from astraios_analysis.records.frame import METHODS, known_method
from training.cli.corpus import add_corpus_command
from training.cli.estimate import add_estimate_command
from training.cli.grid import add_grid_command
from training.cli.one import add_one_command
from training.cli.score import add_score_command
from training.spec.grids import PRESETS, preset
from training.spec.run import Tuning

PROG = "python -m training"

# What shells report for a process that SIGINT ended: 128 + 2.
_INTERRUPTED = 130

MAIN_HELP = """\
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

MAIN_EXAMPLES = f"""\
examples:
  {PROG} params                     parameters of the 28 published models
  {PROG} corpus --show 5            examples of the text that models are trained on
  {PROG} grid run --preset smoke    train the smallest grid
  {PROG} run --help                 one big run on many processes
  {PROG} estimate --help            operations, time and memory before a grid is trained
  {PROG} score --list               data sets that generations can be scored on
  {PROG} params --help              everything about a command
"""

PARAMS_HELP = """\
Count the parameters of tuned models exactly, without their weights.

Models are built on the meta device: every shape, no memory. All 28 published models take a few seconds.
Below width 2048, LoRA's rank (8) and the adapters' bottleneck (256) shrink in proportion to the width, so that the
share of updated parameters stays near that of the published 1B models.
"""

PARAMS_EPILOG = f"""\
columns:
  size                 name of the size in the preset, or of the model folder
  method               tuning method
  n_params             parameters of the tuned model, added ones included
  n_params_base        parameters of the base model, embeddings included
  n_params_embedding   of these, token and position embeddings, and the output head where it is not tied
  n_params_updated     parameters that tuning updates
  percent_updated      100 n_params_updated / n_params

With --adapter a row has its folder in place of size and method; `astraios import trainer --counts` reads the JSON.
The table goes to standard output, and with --json a list of objects with these keys and nothing else.
Exit status: 0, or 2 with a message on standard error.

examples:
  {PROG} params --preset starcoderbase
  {PROG} params --size 1b 7b --method lora adapterh
  {PROG} params --size 16b --json
  {PROG} params --model path/to/model --method fft lora
  {PROG} params --adapter out/lora out/dora --config path/to/base --json > counts.json
"""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of ``python -m training``."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog=PROG, description=MAIN_HELP, epilog=MAIN_EXAMPLES, formatter_class=raw)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    params = commands.add_parser(
        "params",
        help="count parameters: total, base, embedding, updated",
        description=PARAMS_HELP,
        epilog=PARAMS_EPILOG,
        formatter_class=raw,
    )
    source = params.add_mutually_exclusive_group()
    source.add_argument(
        "--preset", metavar="NAME", help=f"models of a preset grid: {', '.join(PRESETS)} (default: starcoderbase)"
    )
    source.add_argument(
        "--model", metavar="FOLDER", type=Path, help="a local folder with a config.json; weights are not needed"
    )
    source.add_argument(
        "--adapter",
        metavar="FOLDER",
        nargs="+",
        type=Path,
        help="folders of adapters, of any PEFT method",
    )
    params.add_argument("--config", metavar="PATH", type=Path, help="--adapter's base: config.json, or its folder")
    params.add_argument(
        "--size", metavar="SIZE", nargs="+", action="extend", help="sizes of the preset to count (default: all)"
    )
    params.add_argument(
        "--method",
        metavar="METHOD",
        nargs="+",
        action="extend",
        help=f"tuning methods to count: {', '.join(METHODS)} (default: all)",
    )
    params.add_argument("--json", action="store_true", help="print JSON: full precision, nothing else")
    params.set_defaults(command=_params, parser=params)
    add_corpus_command(commands)
    add_grid_command(commands)
    add_estimate_command(commands)
    add_one_command(commands)
    add_score_command(commands)
    return parser


def _params(arguments: argparse.Namespace) -> None:
    if arguments.adapter is not None:
        rows = _adapter_rows(arguments)
    else:
        rows = _folder_rows(arguments) if arguments.model is not None else _preset_rows(arguments)
    print(json.dumps(rows, indent=2) if arguments.json else _table(rows))


def _preset_rows(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    runs = preset(arguments.preset or "starcoderbase").runs(arguments.size, arguments.method)

    from training.models.pretrained import size_config

    # Seeds share their counts: one row for each size and method.
    models = {(run.size.name, run.tuning.method): run for run in runs}
    return [_row(run.size.name, size_config(run.size), run.tuning) for run in models.values()]


def _folder_rows(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    if arguments.size:
        raise ValueError("--size chooses among a preset's sizes; leave it out with --model, which counts one folder")
    methods = {known_method(method) for method in arguments.method or METHODS}

    from training.models.pretrained import folder_config

    config = folder_config(arguments.model)
    name = arguments.model.resolve().name
    width = config.get_text_config().hidden_size
    return [_row(name, config, Tuning.for_width(method, width)) for method in METHODS if method in methods]


def _adapter_rows(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    if arguments.config is None:
        raise ValueError("--adapter counts on a base model; give its config.json, or the folder of it, with --config")
    if arguments.size or arguments.method:
        raise ValueError("--size and --method are those of a preset; leave them out with --adapter")

    from training.models.counts import count_adapter

    counted = [(folder, count_adapter(folder, arguments.config)) for folder in arguments.adapter]
    return [{"adapter": str(folder.resolve())} | _counts(counts) for folder, counts in counted]


def _row(size: str, config: Any, tuning: Tuning) -> dict[str, Any]:
    from training.models.counts import count_parameters

    return {"size": size, "method": tuning.method} | _counts(count_parameters(config, tuning))


def _counts(counts: Any) -> dict[str, Any]:
    return {
        "n_params": counts.n_params,
        "n_params_base": counts.n_params_base,
        "n_params_embedding": counts.n_params_embedding,
        "n_params_updated": counts.n_params_updated,
        "percent_updated": counts.percent_updated,
    }


_NAMES = ("size", "method", "adapter")


def _table(rows: list[dict[str, Any]]) -> str:
    header = list(rows[0])
    cells = [header, *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    return "\n".join(
        "  ".join(
            # Names to the left, numbers to the right.
            text.ljust(width) if header[column] in _NAMES else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    )


def _cell(value: str | int | float) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4f}" if isinstance(value, float) else value


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; those of the process without it.

    Returns
    -------
    int
        0; 1 where runs failed; 130 after Ctrl-C. A command that cannot run exits with status 2 and a message on
        standard error.
    """
    arguments = build_parser().parse_args(argv)
    with warnings.catch_warnings():
        # The libraries' notices about their own future versions are not the caller's business.
        warnings.simplefilter("ignore", category=FutureWarning)
        try:
            status = arguments.command(arguments) or 0
            sys.stdout.flush()
            return status
        except BrokenPipeError:
            # The reader of a pipe (head, less) has seen enough. What is left in the buffer must go somewhere at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except ValueError as error:
            arguments.parser.error(str(error))
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return _INTERRUPTED
    return 0


def _leave(status: int) -> NoReturn:
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


if __name__ == "__main__":
    _leave(main())
