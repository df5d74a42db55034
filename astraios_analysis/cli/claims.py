"""``astraios claims``: what the study claims, judged."""

import textwrap
from types import SimpleNamespace

import click

import astraios_analysis as aa
from astraios_analysis.cli.shared import RUNS, SEED, load_runs, require_distinct, several
from astraios_analysis.records.commands import JSON, Command, flag, option
from astraios_analysis.records.notation import json_text, say, table_text

_WIDTH = 100
_EVIDENCE = ["effect", "lower", "upper", "unit", "p"]
_RANGE = ["without_lowest", "without_highest"]

HELP = """\
Judge each claim of the study on the released models and on every trained grid
apart, twice: for these models (other problems) and for other models (other
runs or sizes). The verdict is supported, contradicted, mixed, not supported,
not known or not testable here, with the effect, its interval, a p-value that
is corrected for the number of claims, and the range of the effect when one
data set is left out. Data sets on which no model beats the constant answer
have no vote (--all-parts: they have). The claims and rules are in
docs/claims.md; --rules prints them.

JSON is a list of {claim, scope, effect, interval, p, p_opposite, n, detail,
p_corrected, verdict, parts, leave_one_out, all_parts, tipping_sd, reason,
records, grid, suite, n_claims, statement, unit, rule}; what could not be
tested has null.
"""
EXAMPLES = """\
  astraios claims
  astraios claims --grid released --claim fft_best --claim small_carries_over
  astraios claims --parts
  astraios claims --all-parts
  astraios claims --json > claims.json
"""


@click.command("claims", cls=Command, help=HELP, epilog=EXAMPLES)
@RUNS
@several("--claim", "NAME", "judge this claim (repeatable; default: all)")
@flag("--parts", "show every data set, size and cost of every claim")
@flag("--all-parts", "let data sets vote on which no model beats the constant answer")
@flag("--rules", "print the rules and judge nothing")
@option("--seed", "N", "seed of resamples and permutations (0)", type=SEED, default=0)
@JSON
def command(given: SimpleNamespace) -> None:
    """Judge the claims and print the verdicts."""
    if given.rules:
        lines = aa.describe_claims().splitlines()
        print("\n".join(textwrap.fill(line, _WIDTH, subsequent_indent="  ") for line in lines))
        return
    runs = load_runs(given)
    require_distinct(runs)
    found = aa.judge(runs, given.claim, seed=given.seed, all_parts=given.all_parts)
    if found.reason:
        raise aa.Refusal(found.reason)
    if given.as_json:
        print(json_text(found.rows))
        return
    for (grid, suite), own in found.table.groupby(["grid", "suite"], sort=False):
        print(f"{own['records'].iloc[0].title()} models, grid {grid}, {suite} data sets\n")
        print(f"{table_text(own[['claim', 'scope', 'verdict', *_EVIDENCE, 'p_corrected', *_RANGE, 'all_parts']])}\n")
        for _, lines in own.groupby("claim", sort=False):
            said = " ".join(f"{row.scope.capitalize()}: {row.verdict}; {row.reason}." for row in lines.itertuples())
            text = f"{lines['statement'].iloc[0]} {said}"
            print(textwrap.fill(text, _WIDTH, initial_indent="  ", subsequent_indent="    "))
        if given.parts:
            shown = found.parts[(found.parts["grid"] == grid) & (found.parts["suite"] == suite)]
            print(f"\n{table_text(shown[['claim', 'scope', 'part', 'kind', 'votes', *_EVIDENCE, 'detail']])}")
        print()
    say(
        f"intervals: {100 * found.table['level'].iloc[0]:g} %; p_corrected: over all claims tested in a scope; "
        "without_lowest and _highest: the effect with one data set left out; all_parts: with data sets that have no "
        "vote; positive effects speak for a claim; rules: --rules"
    )
