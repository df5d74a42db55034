"""The command ``corpus``: examples of the training text, and its statistics."""

import json
from itertools import islice
from types import SimpleNamespace
from typing import Any

import click

from astraios_analysis.records.commands import JSON, flag, option
from astraios_analysis.records.refusal import Refusal, require_known
from training.cli.shared import Command, at_most_one
from training.corpus.embedded import EmbeddedCorpus
from training.corpus.items import Item
from training.corpus.settings import COMPLETION, SPLITS, TASKS
from training.corpus.statistics import corpus_statistics
from training.spec.grids import corpus_settings, preset

HELP = """\
Show the text that models are trained on and judged by.

The embedded corpus is generated: small programs composed of documented operations, their descriptions, and tasks about
them. The same settings and seed give the same bytes. docs/corpus.md describes it.
"""

EPILOG = """\
tasks:
  completion   the base text, one document each: documented functions, and what the preset has beside them
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
  python -m training corpus --problems --task synthesis --split test --show 200 --json
  python -m training corpus --preset gpu --task fix
  python -m training corpus --statistics
"""

# A filter on a task of the mixture looks at this many items for each one it shows, and then says what is wrong.
_MOST_LOOKED_AT = 1000


@click.command("corpus", cls=Command, help=HELP, epilog=EPILOG)
@option("--show", "N", "examples to print", type=click.IntRange(min=1), default=5, show_default=True)
@option("--task", "TASK", "examples of one task only")
@option("--split", "SPLIT", "train, validation or test (default: train)")
@option("--seed", "SEED", "seed of the streams", type=click.IntRange(min=0), default=0, show_default=True)
@flag("--problems", "the fixed problem set of --task, of --split test unless given")
@flag("--statistics", "counts, lengths, vocabulary, mixture, overlap of splits")
@option("--preset", "NAME", "the grid whose corpus is shown", default="ladder", show_default=True)
@JSON
def command(given: SimpleNamespace) -> None:
    """Print examples, or statistics."""
    at_most_one(problems=given.problems, statistics=given.statistics)
    corpus = EmbeddedCorpus(corpus_settings(preset(given.preset).data))
    if given.statistics:
        found = corpus_statistics(corpus, given.seed)
        print(json.dumps(found, indent=2) if given.as_json else "\n".join(_lines(found)))
        return
    rows = [{**item.to_json(), "text": item.document.text} for item in _items(corpus, given)]
    print(json.dumps(rows, indent=2, ensure_ascii=False) if given.as_json else "\n\n".join(map(_shown, rows)))


def _items(corpus: EmbeddedCorpus, given: SimpleNamespace) -> list[Item]:
    task, split = given.task, given.split or ("test" if given.problems else "train")
    if task is not None:
        require_known("task", [task], (COMPLETION, *TASKS))
    require_known("split", [split], SPLITS)
    if given.problems:
        if task is None:
            raise Refusal(f"--problems needs a task; add --task with one of {', '.join((COMPLETION, *TASKS))}")
        return list(corpus.problems(task, split)[: given.show])
    if task == COMPLETION:
        return list(islice(corpus.pretraining(given.seed, split), given.show))
    stream = islice(corpus.instructions(given.seed, split), given.show * _MOST_LOOKED_AT)
    return list(islice((item for item in stream if task in (None, item.task)), given.show))


def _shown(row: dict[str, Any]) -> str:
    facts = [row[name] for name in ("task", "split", "language")]
    if row["n_ops"]:
        facts.append(f"{row['n_ops']} operation{'s' if row['n_ops'] > 1 else ''}{', seen' if row['seen'] else ''}")
    facts += [f"{name} {value}" for name, value in row["details"].items() if name != "programs"]
    tests = [f"test: {case['input']!r} -> {case['output']!r}" for case in row["tests"]]
    return "\n".join([f"--- {', '.join(facts)}", row["text"], *tests])


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
