"""The command ``corpus``: examples of the training text, and its statistics."""

import argparse
import json
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from training.corpus.embedded import EmbeddedCorpus
    from training.corpus.items import Item

CORPUS_HELP = """\
Show the text that models are trained on and judged by.

The embedded corpus is generated: small programs composed of documented operations, their descriptions, and tasks about
them. The same settings and seed give the same bytes. docs/corpus.md describes it; --file shows a JSONL file through
the same interface.
"""

CORPUS_EPILOG = """\
tasks:
  completion   a documented function: the pre-training text, one document each
  synthesis    description -> program
  fix          program with one mutation and its failing behaviour -> right program
  explain      program -> description
  clone        do two functions always return the same? Yes or No
  defect       does a function do what is described? Yes or No
  security     a small job with a safe and an unsafe idiom

Without --task, examples come from the instruction stream, in its mixture. With --problems, they are those of the fixed
problem set, tests included. Examples go to standard output, and with --json a list of objects
{task, id, language, split, prompt, reference, tests, n_ops, seen, choices, details, text}; --statistics prints one
object. Exit status: 0, or 2 with a message on standard error.

examples:
  python -m training corpus --show 5
  python -m training corpus --task fix --seed 3
  python -m training corpus --problems --task synthesis --split test --show 200 --json
  python -m training corpus --kinds list number string --phrasings 3 --java
  python -m training corpus --statistics
  python -m training corpus --file path/to/examples.jsonl.gz
"""

_DEFAULT_SHOWN = 5
# A filter on a task of the mixture looks at this many items for each one it shows, and then says what is wrong.
_MOST_LOOKED_AT = 1000


def add_corpus_command(commands: Any) -> None:
    """Add the command to the sub-parsers of ``python -m training``."""
    corpus = commands.add_parser(
        "corpus",
        help="show examples of the training text, or its statistics",
        description=CORPUS_HELP,
        epilog=CORPUS_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    corpus.add_argument("--show", metavar="N", type=int, default=None, help="examples to print (default: 5)")
    corpus.add_argument("--task", metavar="TASK", help="examples of one task only")
    corpus.add_argument("--split", metavar="SPLIT", default=None, help="train, validation or test (default: train)")
    corpus.add_argument("--seed", metavar="SEED", type=int, default=0, help="seed of the streams (default: 0)")
    what = corpus.add_mutually_exclusive_group()
    what.add_argument(
        "--problems", action="store_true", help="the fixed problem set of --task, of --split test unless given"
    )
    what.add_argument(
        "--statistics", action="store_true", help="counts, lengths, vocabulary, mixture, overlap of splits"
    )
    what.add_argument("--file", metavar="PATH", help="examples of a JSONL file with the columns prompt and completion")
    corpus.add_argument(
        "--kinds", metavar="KIND", nargs="+", help="kinds of values: list, number, string (default: list)"
    )
    corpus.add_argument("--phrasings", type=int, choices=(1, 2, 3), help="ways to describe a program (default: 2)")
    corpus.add_argument("--java", action="store_true", help="half of the programs to write, fix and explain in Java")
    corpus.add_argument("--json", action="store_true", help="print JSON and nothing else")
    corpus.set_defaults(command=_corpus, parser=corpus)


def _corpus(arguments: argparse.Namespace) -> None:
    if arguments.show is not None and arguments.show < 1:
        raise ValueError(f"--show {arguments.show}: give a positive number of examples")
    if arguments.seed < 0:
        raise ValueError(f"--seed {arguments.seed}: give a number from 0 on")
    if arguments.file is not None:
        rows = _file_rows(arguments)
    else:
        corpus = _corpus_of(arguments)
        if arguments.statistics:
            _print_statistics(arguments, corpus)
            return
        rows = [{**item.to_json(), "text": item.document.text} for item in _items(arguments, corpus)]
    print(json.dumps(rows, indent=2, ensure_ascii=False) if arguments.json else "\n\n".join(map(_shown, rows)))


def _corpus_of(arguments: argparse.Namespace) -> "EmbeddedCorpus":
    from training.corpus.embedded import EmbeddedCorpus
    from training.corpus.programs import KINDS
    from training.corpus.settings import CorpusSettings

    changes: dict[str, Any] = {"java_share": 0.5} if arguments.java else {}
    if arguments.phrasings is not None:
        changes["phrasings"] = arguments.phrasings
    if arguments.kinds:
        for kind in arguments.kinds:
            _known(kind, KINDS, "kind of values")
        changes["kinds"] = tuple(dict.fromkeys(arguments.kinds))
    return EmbeddedCorpus(CorpusSettings(**changes))


def _items(arguments: argparse.Namespace, corpus: "EmbeddedCorpus") -> list["Item"]:
    from training.corpus.settings import COMPLETION, SPLITS, TASKS

    n = arguments.show or _DEFAULT_SHOWN
    if arguments.task is not None:
        _known(arguments.task, (COMPLETION, *TASKS), "task")
    split = arguments.split or ("test" if arguments.problems else "train")
    _known(split, SPLITS, "split")
    if arguments.problems:
        if arguments.task is None:
            raise ValueError(f"--problems needs a task; add --task with one of {', '.join((COMPLETION, *TASKS))}")
        return list(corpus.problems(arguments.task, split)[:n])
    if arguments.task == COMPLETION:
        return list(islice(corpus.pretraining(arguments.seed, split), n))
    stream = islice(corpus.instructions(arguments.seed, split), n * _MOST_LOOKED_AT)
    return list(islice((item for item in stream if arguments.task in (None, item.task)), n))


def _known(name: str, choices: tuple[str, ...], what: str) -> None:
    if name not in choices:
        raise ValueError(f"unknown {what} {name!r}; choose from {', '.join(choices)}")


def _file_rows(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    from training.corpus.items import lay_out
    from training.corpus.texts import load_jsonl

    examples = load_jsonl(arguments.file)[: arguments.show or _DEFAULT_SHOWN]
    return [
        {"prompt": example.prompt, "reference": example.completion, "text": lay_out(example).text}
        for example in examples
    ]


def _shown(row: dict[str, Any]) -> str:
    facts = [f"{row[name]}" for name in ("task", "split", "language") if name in row]
    if row.get("n_ops"):
        facts.append(f"{row['n_ops']} operation{'s' if row['n_ops'] > 1 else ''}{', seen' if row['seen'] else ''}")
    facts += [f"{name} {value}" for name, value in row.get("details", {}).items() if name != "programs"]
    tests = [f"test: {case['input']!r} -> {case['output']!r}" for case in row.get("tests", ())]
    return "\n".join([f"--- {', '.join(facts) or 'file'}", row["text"], *tests])


def _print_statistics(arguments: argparse.Namespace, corpus: "EmbeddedCorpus") -> None:
    from training.corpus.statistics import corpus_statistics

    found = corpus_statistics(corpus, arguments.seed)
    print(json.dumps(found, indent=2) if arguments.json else "\n".join(_lines(found)))


def _lines(found: dict[Any, Any], indent: int = 0) -> list[str]:
    lines = []
    for name, value in found.items():
        # A group of plain values is one line; a group of groups is a heading with its parts below.
        if isinstance(value, dict) and any(isinstance(part, dict) for part in value.values()):
            lines += [f"{'  ' * indent}{name}", *_lines(value, indent + 1)]
        elif isinstance(value, dict):
            parts = ", ".join(f"{part} {number}" for part, number in value.items())
            lines.append(f"{'  ' * indent}{name}: {parts or 'none'}")
        else:
            lines.append(f"{'  ' * indent}{name}: {value}")
    return lines
