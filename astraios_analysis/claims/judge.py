"""The study's claims as computed verdicts, in two scopes, on released models and on each trained grid apart.

What is claimed and how it is judged is in `rules`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from astraios_analysis.claims import tests
from astraios_analysis.claims.rules import ALPHA, CLAIMS, LEVEL, SCOPES, Claim, Verdict
from astraios_analysis.claims.tests import Bench, Evidence, Found, NotTestable
from astraios_analysis.records.frame import RunRecord
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.records.registry import DATASETS, RELEASED, Suite
from astraios_analysis.scores.bootstrap import ProblemBootstrap, primary_score
from astraios_analysis.scores.ranks import holm

TESTS: dict[str, Callable[[Bench], Found]] = {name: getattr(tests, name) for name in CLAIMS}


@dataclass(frozen=True)
class Judgement:
    """A claim's verdict in one scope, on one grid and suite; ``found`` is None where it cannot be tested.

    ``p_corrected`` is the pooled p-value, Holm-corrected over the ``n_claims`` claims tested in the same scope on the
    same grid and suite.
    """

    claim: Claim
    scope: str
    grid: str
    suite: Suite
    records: str
    verdict: Verdict
    found: Found | None
    p_corrected: float | None
    n_claims: int
    reason: str


def decide(found: Found, p_corrected: float, p_opposite: float) -> tuple[Verdict, str]:
    """Apply `VERDICT_RULE` to what a test found and its corrected p-values, of the claim and of its opposite."""
    voting = [part for part in found.parts if part.votes]
    sides = {which: _clear(voting, which) for which in ("p", "p_opposite")}
    supports, opposes = (", ".join(names) for names in sides.values())
    against = f"contradicted by {opposes}" if opposes else "no part contradicts it"
    low, high = found.leave_one_out or (found.pooled.effect,) * 2
    if p_corrected < ALPHA:
        one = "" if low > 0 else "; one data set decides"
        return ("mixed" if opposes or one else "supported"), f"pooled, it is clear; {against}{one}"
    if p_opposite < ALPHA:
        for_it = f"supported by {supports}" if supports else "no part supports it"
        is_mixed = bool(supports) or high >= 0
        return ("mixed" if is_mixed else "contradicted"), f"pooled, the opposite is clear; {for_it}"
    if supports:
        return "mixed", f"pooled, it is not clear, but on {supports}; {against}"
    return "not supported", f"no clear evidence, pooled or on a part; {against}"


def _clear(parts: Sequence[Evidence], which: str) -> list[str]:
    found = []
    for kind in dict.fromkeys(part.kind for part in parts):
        own = [part for part in parts if part.kind == kind]
        corrected = holm([getattr(part, which) for part in own])
        found += [part.name for part, p in zip(own, corrected, strict=True) if p < ALPHA]
    return found


class UntestedError(Refusal):
    """No run has a score on a data set that a claim is about."""


def judge_claims(
    records: Sequence[RunRecord],
    *,
    claims: Sequence[str] = tuple(CLAIMS),
    n_draws: int = 2000,
    seed: int = 0,
    all_parts: bool = False,
) -> list[Judgement]:
    """Judge claims, keys of `CLAIMS`, on every grid and suite among the records: both scopes, one after the other.

    Corrected p-values are for all claims, whichever are asked for; problems are resampled ``n_draws`` times. With
    ``all_parts`` data sets on which no model beats the constant answer vote, too.
    """
    for name in claims:
        if name not in CLAIMS:
            raise Refusal(f"unknown claim {name!r}; choose from {', '.join(CLAIMS)}")
    found = []
    for grid in sorted({record.grid for record in records}, key=lambda name: (name != RELEASED, name)):
        own = [record for record in records if record.grid == grid and not record.held_out]
        for suite in ("published", "embedded"):
            if any(primary_score(r, d.name) is not None for r in own for d in DATASETS.values() if d.suite == suite):
                bench = Bench(own, suite, ProblemBootstrap(n_draws, seed), seed, all_vote=all_parts)
                scoped = [_judge(bench.in_scope(scope), grid) for scope in SCOPES]
                judged = {pair[0].claim.name: pair for pair in zip(*scoped, strict=True)}
                found += [judgement for name in dict.fromkeys(claims) for judgement in judged[name]]
    if not found:
        raise UntestedError(
            "the study's claims are of its own data sets and the embedded suite's, and no run here has a score on one; "
            "choose another --grid, or rank and compare your own with astraios rank"
        )
    return found


def _judge(bench: Bench, grid: str) -> list[Judgement]:
    tested: dict[str, Found] = {}
    reasons: dict[str, str] = {}
    for claim in CLAIMS.values():
        try:
            tested[claim.name] = TESTS[claim.name](bench)
        except NotTestable as reason:
            reasons[claim.name] = str(reason)
    known = [name for name, found in tested.items() if found.is_known]
    p_values = [holm([getattr(tested[name].pooled, which) for name in known]) for which in ("p", "p_opposite")]
    corrected = {name: tuple(map(float, pair)) for name, *pair in zip(known, *p_values, strict=True)}
    judged = []
    for claim in CLAIMS.values():
        found, p = tested.get(claim.name), corrected.get(claim.name)
        if found is None:
            verdict, reason = "not testable here", reasons[claim.name]
        elif p is None:
            verdict, reason = "not known", "one run a model: not known"
            if found.tipping_sd is not None:
                reason += f"; a run-to-run SD of {found.tipping_sd:.4f} would turn the conclusion on these models"
        else:
            verdict, reason = decide(found, *p)
        where = (bench.scope, grid, bench.suite, "released" if grid == RELEASED else "trained")
        judged.append(Judgement(claim, *where, verdict, found, p and p[0], len(known), reason))
    return judged


def _plain(evidence: Evidence | None, is_known: bool = True) -> dict[str, object]:
    """Return evidence as plain values; None for what is not known."""
    if evidence is None:
        return dict.fromkeys(("effect", "interval", "p", "p_opposite", "n", "detail"))
    interval = {"level": LEVEL, "kind": evidence.how, "lower": evidence.lower, "upper": evidence.upper}
    p_values = (evidence.p, evidence.p_opposite) if is_known else (None, None)
    found = {"effect": evidence.effect, "interval": interval if is_known else None, "p": p_values[0]}
    return found | {"p_opposite": p_values[1], "n": evidence.n, "detail": evidence.detail}


def judgement_rows(judgements: Sequence[Judgement]) -> list[dict[str, object]]:
    """Return judgements as plain values; None where nothing could be tested or a number is not known."""
    rows = []
    for judgement in judgements:
        claim, found = judgement.claim, judgement.found
        is_known = judgement.p_corrected is not None
        pooled = _plain(found and found.pooled, is_known)
        row = {"claim": claim.name, "scope": judgement.scope, **pooled, "p_corrected": judgement.p_corrected}
        row |= {"verdict": judgement.verdict, "parts": [], "leave_one_out": None, "all_parts": None}
        row |= {"tipping_sd": found and found.tipping_sd, "reason": judgement.reason}
        if found is not None:
            row["parts"] = [
                {"part": part.name, "kind": part.kind, "votes": part.votes} | _plain(part, is_known)
                for part in found.parts
            ]
            row["all_parts"] = _plain(found.all_parts, is_known)
            if found.leave_one_out:
                row["leave_one_out"] = dict(zip(("lowest", "highest"), found.leave_one_out, strict=True))
        row |= {name: getattr(judgement, name) for name in ("records", "grid", "suite", "n_claims")}
        rows.append(row | {name: getattr(claim, name) for name in ("statement", "unit", "rule")})
    return rows


def judgement_frame(judgements: Sequence[Judgement], *, parts: bool = False) -> pd.DataFrame:
    """Return judgements as a table: one row for each claim and scope, or for each part of each of them."""
    rows = []
    for row in judgement_rows(judgements):
        keys = ("records", "grid", "suite", "claim", "scope", "statement", "verdict")
        where = {name: row[name] for name in keys}
        for shown in row["parts"] if parts else [row | {"part": tests.POOLED, "kind": tests.POOLED, "votes": True}]:
            interval = shown["interval"] or {"lower": math.nan, "upper": math.nan, "kind": ""}
            loo = (not parts and row["leave_one_out"]) or {"lowest": math.nan, "highest": math.nan}
            every = (not parts and row["all_parts"]) or {"effect": math.nan}
            rows.append(
                where
                | {name: shown[name] for name in ("part", "kind", "votes", "effect")}
                | {"lower": interval["lower"], "upper": interval["upper"], "level": LEVEL, "unit": row["unit"]}
                | {"interval": interval["kind"], "p": shown["p"], "p_opposite": shown["p_opposite"]}
                | {"p_corrected": None if parts else row["p_corrected"]}
                | {"without_lowest": loo["lowest"], "without_highest": loo["highest"], "all_parts": every["effect"]}
                | {"tipping_sd": None if parts else row["tipping_sd"], "n": shown["n"] or 0}
                | {"detail": shown["detail"] or "", "reason": row["reason"]}
            )
    numbers = ["effect", "p", "p_opposite", "p_corrected", "tipping_sd"]
    table = pd.DataFrame(rows)
    return table.astype(dict.fromkeys(numbers, float)) if rows else table
