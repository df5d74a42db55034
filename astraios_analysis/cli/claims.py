"""``astraios claims``: its arguments and what it prints."""

import argparse
import textwrap

from astraios_analysis.claims.rules import CLAIMS, LEVEL, VERDICT_RULE
from astraios_analysis.cli.arguments import add_command, add_data, seed

_WIDTH = 100


def add_parser(commands) -> None:
    """Add the command to the parser of all commands."""
    claims = add_command(
        commands,
        "claims",
        "judge what the study claims, by rules written down before",
        "Judge each claim of the study on the released models and on every trained grid\n"
        "apart: supported, not supported, mixed, or not testable here, with the effect,\n"
        "its interval and a p-value that is corrected for the number of claims. The\n"
        "rules are in docs/claims.md; --rules prints them.\n\n"
        f"claims: {', '.join(list(CLAIMS)[:4])},\n{', '.join(list(CLAIMS)[4:])}\n\n"
        "JSON is a list of {records, grid, suite, claim, statement, verdict, effect,\n"
        "interval, p_value, p_holm, n_claims, n, detail, reason, rule, parts}; what\n"
        "could not be tested has null.",
        "  astraios claims\n"
        "  astraios claims --grid released --claim fft_best --claim small_carries_over\n"
        "  astraios claims --parts\n"
        "  astraios claims --json > claims.json\n",
    )
    add_data(claims)
    claims.add_argument("--claim", action="append", metavar="NAME", help="judge this claim (repeatable; default: all)")
    claims.add_argument("--parts", action="store_true", help="show every data set of every claim")
    claims.add_argument("--rules", action="store_true", help="print the rules and judge nothing")
    claims.add_argument("--seed", type=seed, default=0, metavar="N", help="seed of resamples and permutations (0)")
    claims.add_argument("--json", action="store_true", help="print JSON")
    claims.set_defaults(run="run_claims", module="claims")


def run_claims(arguments: argparse.Namespace) -> int:
    """Judge the claims and print the verdicts."""
    from astraios_analysis.claims.judge import judge_claims, judgement_frame
    from astraios_analysis.cli.shared import load_runs, require_distinct
    from astraios_analysis.records.printing import json_text, say, table_text

    if arguments.rules:
        print(rules_text())
        return 0
    records = load_runs(arguments)
    require_distinct(records)
    found = judge_claims(records, claims=arguments.claim or list(CLAIMS), seed=arguments.seed)
    if arguments.json:
        print(json_text([judgement_json(judgement) for judgement in found]))
        return 0
    columns = ["claim", "verdict", "effect", "lower", "upper", "unit", "p_value", "p_holm", "n", "detail"]
    for (grid, suite), own in judgement_frame(found).groupby(["grid", "suite"], sort=False):
        judged = [j for j in found if (j.grid, j.suite) == (grid, suite)]
        print(f"{judged[0].records.title()} models, grid {grid}, {suite} data sets\n")
        print(table_text(own[columns]))
        print()
        for judgement in judged:
            text = f"{judgement.claim.statement} {judgement.verdict.capitalize()}: {judgement.reason}."
            print(textwrap.fill(text, _WIDTH, initial_indent="  ", subsequent_indent="    "))
        if arguments.parts:
            print(
                f"\n{table_text(judgement_frame(judged, parts=True)[['claim', 'part', *columns[2:7], 'n', 'detail']])}"
            )
        print()
    say(
        f"intervals: {100 * LEVEL:g} %; p_holm: corrected over the {found[0].n_claims} claims tested together; "
        "positive effects speak for a claim; rules: --rules"
    )
    return 0


def rules_text() -> str:
    """Return the rules as text."""
    blocks = [textwrap.fill(VERDICT_RULE, _WIDTH)]
    for claim in CLAIMS.values():
        lines = [f"{claim.name}: {claim.statement}", f"effect: {claim.effect} ({claim.unit}); part: {claim.part}"]
        blocks.append("\n".join(textwrap.fill(line, _WIDTH, subsequent_indent="  ") for line in [*lines, claim.rule]))
    return "\n\n".join(blocks)


def judgement_json(judgement) -> dict:
    """Return a judgement as plain values; None where nothing could be tested or a number is not known."""
    overall = judgement.overall
    return {
        "records": judgement.records,
        "grid": judgement.grid,
        "suite": judgement.suite,
        "claim": judgement.claim.name,
        "statement": judgement.claim.statement,
        "verdict": judgement.verdict,
        **_evidence_json(overall, judgement.claim),
        "p_holm": judgement.p_holm,
        "n_claims": judgement.n_claims,
        "reason": judgement.reason,
        "rule": judgement.claim.rule,
        "parts": [{"part": part.name} | _evidence_json(part, judgement.claim) for part in judgement.parts],
    }


def _evidence_json(evidence, claim) -> dict:
    if evidence is None:
        return dict.fromkeys(("effect", "interval", "p_value", "p_opposite", "n", "detail"))
    lower, upper = (None if bound != bound else bound for bound in (evidence.lower, evidence.upper))
    interval = {"level": LEVEL, "kind": evidence.interval, "lower": lower, "upper": upper}
    return {
        "effect": {"name": claim.effect, "unit": claim.unit, "value": evidence.effect},
        "interval": interval,
        "p_value": evidence.p_value,
        "p_opposite": evidence.p_opposite,
        "n": evidence.n,
        "detail": evidence.detail,
    }
