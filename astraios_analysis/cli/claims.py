"""``astraios claims``: what the study claims, judged."""

import textwrap
from typing import Any

import click

import astraios_analysis as aa
from astraios_analysis.cli.shared import JSON, RUNS, SEED, Command, flag, load_runs, option, require_distinct, several
from astraios_analysis.records.printing import json_text, say, table_text

_WIDTH = 100
_EVIDENCE = ["effect", "lower", "upper", "unit", "p_value"]

HELP = """\
Judge each claim of the study on the released models and on every trained grid
apart: supported, not supported, mixed, or not testable here, with the effect,
its interval and a p-value that is corrected for the number of claims. The
claims and rules are in docs/claims.md; --rules prints them.

JSON is a list of {records, grid, suite, claim, statement, verdict, effect,
interval, p_value, p_opposite, n, detail, p_holm, n_claims, reason, rule,
parts}; what could not be tested has null.
"""
EXAMPLES = """\
  astraios claims
  astraios claims --grid released --claim fft_best --claim small_carries_over
  astraios claims --parts
  astraios claims --json > claims.json
"""


@click.command("claims", cls=Command, help=HELP, epilog=EXAMPLES)
@RUNS
@several("--claim", "NAME", "judge this claim (repeatable; default: all)")
@flag("--parts", "show every data set of every claim")
@flag("--rules", "print the rules and judge nothing")
@option("--seed", "N", "seed of resamples and permutations (0)", type=SEED, default=0)
@JSON
def command(claim: tuple[str, ...], parts: bool, rules: bool, seed: int, as_json: bool, **where: Any) -> None:
    """Judge the claims and print the verdicts."""
    if rules:
        lines = aa.describe_claims().splitlines()
        print("\n".join(textwrap.fill(line, _WIDTH, subsequent_indent="  ") for line in lines))
        return
    runs = load_runs(**where)
    require_distinct(runs)
    found = aa.judge(runs, claim, seed=seed)
    if found.reason:
        raise aa.Refusal(found.reason)
    if as_json:
        print(json_text(found.rows))
        return
    tables = found.table.groupby(["grid", "suite"], sort=False)
    for (grid, suite), own in tables:
        print(f"{own['records'].iloc[0].title()} models, grid {grid}, {suite} data sets\n")
        print(f"{table_text(own[['claim', 'verdict', *_EVIDENCE, 'p_holm', 'n', 'detail']])}\n")
        for row in own.itertuples():
            text = f"{row.statement} {row.verdict.capitalize()}: {row.reason}."
            print(textwrap.fill(text, _WIDTH, initial_indent="  ", subsequent_indent="    "))
        if parts:
            shown = found.parts[(found.parts["grid"] == grid) & (found.parts["suite"] == suite)]
            print(f"\n{table_text(shown[['claim', 'part', *_EVIDENCE, 'n', 'detail']])}")
        print()
    say(
        f"intervals: {100 * found.table['level'].iloc[0]:g} %; p_holm: corrected over the {found.rows[0]['n_claims']} "
        "claims tested together; positive effects speak for a claim; rules: --rules"
    )
