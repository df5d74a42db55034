"""The study's claims as computed verdicts, on released models and on each trained grid apart.

What is claimed and how it is judged is in `rules`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from astraios_analysis.claims import tests
from astraios_analysis.claims.rules import ALPHA, CLAIMS, LEVEL, Claim, Verdict
from astraios_analysis.claims.tests import Bench, Evidence, Found, NotTestable
from astraios_analysis.records.frame import RunRecord
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.records.registry import DATASETS, Suite
from astraios_analysis.records.released import GRID
from astraios_analysis.scores.bootstrap import ProblemBootstrap, primary_score

TESTS: dict[str, Callable[[Bench], Found]] = {name: getattr(tests, name) for name in CLAIMS}


@dataclass(frozen=True)
class Judgement:
    """A claim's verdict on one grid and suite, with its evidence (none overall where it cannot be tested).

    ``p_holm`` is the overall p-value, Holm-corrected over the ``n_claims`` claims tested on the same grid and suite.
    """

    claim: Claim
    grid: str
    suite: Suite
    records: str
    verdict: Verdict
    overall: Evidence | None
    p_holm: float | None
    n_claims: int
    parts: tuple[Evidence, ...]
    reason: str


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Return Holm's step-down corrected p-values, in the order given (Holm 1979).

    As `statsmodels.stats.multitest.multipletests`, which collects garbage at every call: half of the time of a verdict.
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    return corrected


def decide(p_holm: float, parts: Sequence[Evidence]) -> tuple[Verdict, str]:
    """Apply `VERDICT_RULE` to a claim's corrected p-value and its parts."""
    supports, opposes = (
        [part.name for part, p in zip(parts, holm([getattr(part, which) for part in parts]), strict=True) if p < ALPHA]
        for which in ("p_value", "p_opposite")
    )
    against = f"contradicted by {', '.join(opposes)}" if opposes else "no part contradicts it"
    if p_holm < ALPHA:
        return ("mixed" if opposes else "supported"), f"clear over all parts; {against}"
    if supports:
        return "mixed", f"not clear over all parts, but on {', '.join(supports)}; {against}"
    return "not supported", f"no clear evidence over all parts or on one; {against}"


class UntestedError(Refusal):
    """No run has a score on a data set that a claim is about."""


def judge_claims(
    records: Sequence[RunRecord],
    *,
    claims: Sequence[str] = tuple(CLAIMS),
    n_draws: int = 2000,
    seed: int = 0,
) -> list[Judgement]:
    """Judge claims, keys of `CLAIMS`, on every grid and suite among the records, one after the other.

    Corrected p-values are for the claims judged together; problems are resampled ``n_draws`` times.
    """
    for name in claims:
        if name not in CLAIMS:
            raise Refusal(f"unknown claim {name!r}; choose from {', '.join(CLAIMS)}")
    found = []
    for grid in sorted({record.grid for record in records}, key=lambda name: (name != GRID, name)):
        own = [record for record in records if record.grid == grid and not record.held_out]
        for suite in ("published", "embedded"):
            if any(primary_score(r, d.name) is not None for r in own for d in DATASETS.values() if d.suite == suite):
                bench = Bench(own, suite, ProblemBootstrap(n_draws=n_draws, seed=seed), seed)
                found += _judge(bench, grid, [CLAIMS[name] for name in dict.fromkeys(claims)])
    if not found:
        raise UntestedError(
            "the study's claims are of its own data sets and the embedded suite's, and no run here has a score on one; "
            "choose another --grid, or rank and compare your own with astraios rank"
        )
    return found


def _judge(bench: Bench, grid: str, claims: list[Claim]) -> list[Judgement]:
    tested: dict[str, Found] = {}
    reasons: dict[str, str] = {}
    for claim in claims:
        try:
            tested[claim.name] = TESTS[claim.name](bench)
        except NotTestable as reason:
            reasons[claim.name] = str(reason)
    corrected = dict(zip(tested, holm([overall.p_value for overall, _ in tested.values()]), strict=True))
    found = []
    for claim in claims:
        where = {"claim": claim, "grid": grid, "suite": bench.suite, "n_claims": len(tested)}
        where["records"] = "released" if grid == GRID else "trained"
        if claim.name in reasons:
            nothing = {"overall": None, "p_holm": None, "parts": ()}
            found.append(Judgement(**where, **nothing, verdict="not testable here", reason=reasons[claim.name]))
            continue
        overall, parts = tested[claim.name]
        verdict, reason = decide(float(corrected[claim.name]), parts)
        evidence = {"overall": overall, "p_holm": float(corrected[claim.name]), "parts": tuple(parts)}
        found.append(Judgement(**where, **evidence, verdict=verdict, reason=reason))
    return found


def judgement_rows(judgements: Sequence[Judgement]) -> list[dict[str, object]]:
    """Return judgements as plain values; None where nothing could be tested or a number is not known."""
    return [
        {name: getattr(judgement, name) for name in ("records", "grid", "suite")}
        | {"claim": judgement.claim.name, "statement": judgement.claim.statement, "verdict": judgement.verdict}
        | _plain(judgement.overall, judgement.claim)
        | {name: getattr(judgement, name) for name in ("p_holm", "n_claims", "reason")}
        | {"rule": judgement.claim.rule}
        | {"parts": [{"part": part.name} | _plain(part, judgement.claim) for part in judgement.parts]}
        for judgement in judgements
    ]


def _plain(evidence: Evidence | None, claim: Claim) -> dict[str, object]:
    if evidence is None:
        return dict.fromkeys(("effect", "interval", "p_value", "p_opposite", "n", "detail"))
    lower, upper = (None if np.isnan(bound) else bound for bound in (evidence.lower, evidence.upper))
    return {
        "effect": {"name": claim.effect, "unit": claim.unit, "value": evidence.effect},
        "interval": {"level": LEVEL, "kind": evidence.interval, "lower": lower, "upper": upper},
    } | {name: getattr(evidence, name) for name in ("p_value", "p_opposite", "n", "detail")}


def judgement_frame(judgements: Sequence[Judgement], *, parts: bool = False) -> pd.DataFrame:
    """Return judgements as a table: one row for each claim, or for each part of each claim.

    ``p_holm`` of a part is empty: its correction is part of the verdict.
    """
    rows = []
    for judgement in judgements:
        where = {name: getattr(judgement, name) for name in ("records", "grid", "suite")}
        where |= {"claim": judgement.claim.name, "statement": judgement.claim.statement, "verdict": judgement.verdict}
        shown = judgement.parts if parts else (judgement.overall,)
        for evidence in shown:
            known = {} if evidence is None else vars(evidence)
            row = where | {"part": known.get("name", "overall")}
            row |= {name: known.get(name, np.nan) for name in ("effect", "lower", "upper")}
            row |= {"level": LEVEL, "unit": judgement.claim.unit, "interval": known.get("interval", "")}
            row |= {"p_value": known.get("p_value", np.nan), "p_opposite": known.get("p_opposite", np.nan)}
            p_holm = np.nan if parts or judgement.p_holm is None else judgement.p_holm
            row |= {"p_holm": p_holm, "n": known.get("n", 0), "detail": known.get("detail", "")}
            rows.append(row | {"reason": judgement.reason})
    return pd.DataFrame(rows)
