"""What the commands' arguments share: parsers with examples, the data options, and values that are checked."""

import argparse
from pathlib import Path


def make_parser(make, *args: str, **kwargs: str) -> argparse.ArgumentParser:
    """Return a parser whose help keeps its line breaks."""
    return make(*args, formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs)


def add_command(commands, name: str, summary: str, description: str, examples: str) -> argparse.ArgumentParser:
    """Add a command with a line in the list of commands, its own help, and examples."""
    epilog = f"examples:\n{examples}"
    return make_parser(commands.add_parser, name, help=summary, description=description, epilog=epilog)


def add_data(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose records: the data folder, the grid, the seed."""
    parser.add_argument("--data", type=Path, metavar="DIR", help="data folder (default: ./data)")
    parser.add_argument("--grid", metavar="NAME", help="use this grid, for example released")
    parser.add_argument("--run-seed", type=seed, metavar="N", help="use runs trained with this seed")


def positive(text: str) -> int:
    """Read a whole number from 1 up."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 up")
    return int(text)


def seed(text: str) -> int:
    """Read a whole number from 0 up."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 up")
    return int(text)


def level(text: str) -> float:
    """Read a coverage between 0 and 1."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a coverage between 0 and 1, such as 0.95")
    return value
