"""The action ``grid score``: scores for finished runs and for base models, without training."""

import argparse
import json
from collections.abc import Sequence
from typing import Any

from astraios_analysis.records.frame import DATASETS
from training.cli.shared import (
    UNSAFE_HELP,
    add_choice,
    add_workers,
    chosen_specs,
    close,
    note,
    records_folder,
    require_containment,
    table,
    worker_count,
)
from training.spec.run import RunSpec
from training.suite.request import MEASURE_NAMES, Scoring

SCORE_HELP = """\
Score finished runs on the embedded suite (docs/embedded_suite.md), without training.

`grid run` scores every run after its training. This adds what a record lacks: runs trained with --no-scores, a measure
that is new, or one whose version has changed. Tuned models come from the cache.
"""

SCORE_EPILOG = f"""\
measures: {", ".join(MEASURE_NAMES[:5])},
  {", ".join(MEASURE_NAMES[5:])}

A record is replaced in one step after every measure, so that Ctrl-C costs one measure at most; measures that it has
from this version of the suite are not taken again, unless --force is given. Progress goes to standard error.

--base scores each base model of the grid once, in no record, also on its own task, embedded_completion. The table of
the headline scores goes to standard output, and with --json a list of all of them, objects {{size, seed, n_params_base,
dataset, setting, metric, value, stderr, n_items}}, and nothing else.

Exit status: 0 when every finished run has the measures; 1 when some failed, with the last line of each on standard
error, or are another process' work; 2 for wrong arguments; 130 after Ctrl-C.

examples:
  python -m training grid score --preset smoke
  python -m training grid score --preset smoke --measures clone defect --jobs 1
  python -m training grid score --preset smoke --size 32x2 --measures security --force
"""


def add_score_action(actions: Any) -> None:
    """Add the action to the sub-parsers of ``python -m training grid``."""
    raw = argparse.RawDescriptionHelpFormatter
    scored = actions.add_parser(
        "score",
        help="add scores to the records of a grid",
        description=SCORE_HELP,
        epilog=SCORE_EPILOG,
        formatter_class=raw,
    )
    add_choice(scored)
    add_workers(scored)
    scored.add_argument(
        "--measures", metavar="MEASURE", nargs="+", action="extend", help="measures to take (default: all)"
    )
    scored.add_argument("--unsafe", action="store_true", help=UNSAFE_HELP)
    what = scored.add_mutually_exclusive_group()
    what.add_argument("--force", action="store_true", help="take measures again that a record has")
    what.add_argument("--base", action="store_true", help="score the untuned base models instead, and print the scores")
    scored.add_argument("--json", action="store_true", help="with --base, print JSON and nothing else")
    scored.set_defaults(command=_score, parser=scored)


def _score(arguments: argparse.Namespace) -> int:
    measures = MEASURE_NAMES if arguments.measures is None else tuple(arguments.measures)
    scoring = Scoring(measures, unsafe=arguments.unsafe, force=arguments.force)
    specs = chosen_specs(arguments)
    if arguments.json and not arguments.base:
        raise ValueError("--json belongs to --base; scores of runs go into their records (astraios records show)")
    require_containment(scoring, "nothing was scored")
    if arguments.base:
        return _score_bases(specs, arguments, scoring)

    from training.grid.workers import launch_scoring

    runs_dir = records_folder(arguments)
    try:
        outcomes = launch_scoring(specs, runs_dir, arguments.cache, scoring, jobs=worker_count(arguments), report=note)
    except KeyboardInterrupt:
        note("stopped; the same command goes on after the last measure of each run")
        raise
    return close(outcomes, f"records in {runs_dir} have the measures")


def _score_bases(specs: Sequence[RunSpec], arguments: argparse.Namespace, scoring: Scoring) -> int:
    from training.grid.run import base_scores

    bases = {(spec.size.name, spec.seed): spec for spec in specs}
    rows = []
    for number, ((size, seed), spec) in enumerate(bases.items(), 1):
        note(f"[{number}/{len(bases)}] base {size}, seed {seed}")
        rows += base_scores(spec, arguments.cache, scoring)
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return 0
    primary = {(known.name, known.primary_setting, known.primary_metric) for known in DATASETS.values()}
    keys = [(row["dataset"], row["setting"], row["metric"]) for row in rows]
    is_shown = [key in primary or key[0] not in DATASETS for key in keys]
    print(table([_rounded(row) for row, shown in zip(rows, is_shown, strict=True) if shown]))
    return 0


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {name: f"{value:.3f}" if isinstance(value, float) else value for name, value in row.items()}
