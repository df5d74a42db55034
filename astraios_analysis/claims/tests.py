"""The tests of `claim_rules`: each takes the runs and returns the overall evidence and that of the parts."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats
from scipy.special import logit

from astraios_analysis.claims.claim_evidence import (
    Bench,
    Evidence,
    NotTestable,
    balanced_means,
    draws_interval,
    gather,
    one_sided,
    size_slope,
    two_sided,
)
from astraios_analysis.claims.rules import LEVEL, MIN_METHODS, MIN_SIZES, RETAINED, UPDATED_SHARE
from astraios_analysis.records.counts import inside_unit_interval
from astraios_analysis.scores.means import shared_block
from astraios_analysis.scores.models import ModelScores

PERFORMANCE = ("comprehension", "generation")
OVERALL = "overall"


def fft_best(bench: Bench) -> tuple[Evidence, list[Evidence]]:
    """Compare full fine-tuning with every other method."""
    return _compare_methods(bench, "fft", {})


def lora_tradeoff(bench: Bench) -> tuple[Evidence, list[Evidence]]:
    """Compare LoRA with every method but full fine-tuning, and with a share of full fine-tuning."""
    updated: dict[tuple[int, str], int] = {(r.n_params_base, r.method): r.n_params_updated for r in bench.records}
    pairs = [
        (updated[n, "lora"], updated[n, "fft"]) for n, method in updated if method == "lora" and (n, "fft") in updated
    ]
    if not pairs:
        raise NotTestable("no size has both LoRA and full fine-tuning")
    overall, parts = _compare_methods(bench, "lora", {"fft": RETAINED})
    share = max(lora / fft for lora, fft in pairs)
    detail = f"{overall.detail}; LoRA updates at most {share:.2%} of the parameters that full fine-tuning does"
    p_value = overall.p_value if share <= UPDATED_SHARE else 1.0
    return _with(overall, detail=detail, p_value=p_value), parts if share <= UPDATED_SHARE else []


def _with(evidence: Evidence, **changes: object) -> Evidence:
    return Evidence(**(vars(evidence) | changes))


def _compare_methods(bench: Bench, method: str, retained: dict[str, float]) -> tuple[Evidence, list[Evidence]]:
    """Compare a method with all others; with ``retained``, with a share of another's score only."""
    by_part: dict[str, dict[str, tuple[float, np.ndarray]]] = {}
    covers_seeds = True

    def test(name: str) -> Evidence:
        nonlocal covers_seeds
        scores = bench.scores(name)
        by_part[name] = _differences(scores, method, retained, bench.seed)
        covers_seeds &= scores.covers_seeds
        return _weakest(name, by_part[name], scores.covers_seeds)

    parts = gather(bench.datasets(*PERFORMANCE), test)
    others = sorted({other for found in by_part.values() for other in found})
    if len(others) < MIN_METHODS - 1:
        raise NotTestable(f"{method} is measured beside {len(others)} other methods; {MIN_METHODS - 1} are needed")
    pooled = {}
    for other in others:
        found = [differences[other] for differences in by_part.values() if other in differences]
        pooled[other] = (float(np.mean([d for d, _ in found])), np.mean([draws for _, draws in found], axis=0))
    return _weakest(OVERALL, pooled, covers_seeds), parts


def _differences(
    scores: ModelScores, method: str, retained: dict[str, float], seed: int
) -> dict[str, tuple[float, np.ndarray]]:
    """Return, for each other method, the mean difference over the sizes that both have, and its draws."""
    table, values = scores.table, scores.goodness(scores.table["value"].to_numpy(dtype=float))
    drawn = scores.draws_of_runs(seed)
    place = {(row.n_params_base, row.method): i for i, row in enumerate(table.itertuples())}
    found = {}
    for other in dict.fromkeys(table["method"]):
        sizes = [n for n, name in place if name == method and (n, other) in place]
        if other == method or not sizes:
            continue
        own, theirs = [place[n, method] for n in sizes], [place[n, other] for n in sizes]
        share = retained.get(other, 1.0)
        difference = float(np.mean(values[own] - share * values[theirs]))
        found[other] = difference, (drawn[:, own] - share * drawn[:, theirs]).mean(axis=1)
    if not found:
        raise NotTestable(f"{scores.dataset}: {method} has no score at a size with another method")
    return found


def _weakest(name: str, differences: dict[str, tuple[float, np.ndarray]], covers_seeds: bool) -> Evidence:
    """Return the smallest difference as evidence that all are positive."""
    closest = min(differences, key=lambda other: differences[other][0])
    effect, draws = differences[closest]
    p_better = [one_sided(value, drawn) for value, drawn in differences.values()]
    p_worse = [one_sided(-value, -drawn) for value, drawn in differences.values()]
    lower, upper = draws_interval(draws)
    covered = "problems and seeds" if covers_seeds else "problems; other training runs not covered"
    return Evidence(
        name,
        effect,
        lower,
        upper,
        f"percentile, bootstrap over {covered}",
        two_sided(max(p_better)),
        min(1.0, two_sided(min(p_worse)) * len(differences)),
        len(differences) + 1,
        f"closest: {closest}",
    )


def methods_differ_by_scale(bench: Bench) -> tuple[Evidence, list[Evidence]]:
    """Test whether methods have slopes of their own."""
    names = bench.datasets(*PERFORMANCE)
    parts = gather(names, lambda name: _slopes(name, _logits(bench.scores(name))))
    _, chosen = shared_block(bench.records, names)
    tables = [_logits(bench.scores(name)) for name in chosen] or [_logits(bench.scores(parts[0].name))]
    mean = pd.concat(tables).groupby(["n_params_base", "method"], as_index=False).agg(z=("z", "mean"), n=("z", "size"))
    detail = f"over {', '.join(chosen) or parts[0].name}"
    return _with(_slopes(OVERALL, mean[mean["n"] == len(tables)]), detail=detail), parts


def _logits(scores: ModelScores) -> pd.DataFrame:
    goodness = scores.goodness(scores.table["value"].to_numpy(dtype=float))
    shares = inside_unit_interval(goodness, scores.table["n_items"])
    return scores.table[["n_params_base", "method"]].assign(z=logit(shares))


def _slopes(name: str, table: pd.DataFrame) -> Evidence:
    """F test of methods' slopes beside levels of methods and sizes (two-way layout, cells may be missing)."""
    counts = table.groupby("method")["n_params_base"].nunique()
    table = table[table["method"].isin(counts[counts >= MIN_SIZES].index)]
    methods, sizes = sorted(set(table["method"])), sorted(set(table["n_params_base"]))
    if len(methods) < 2 or len(sizes) < MIN_SIZES:
        raise NotTestable(f"{name}: {len(methods)} methods with {MIN_SIZES} or more sizes; two are needed")
    x = np.log10(table["n_params_base"].to_numpy(dtype=float))
    is_method = table["method"].to_numpy()[:, None] == np.array(methods)
    levels = np.column_stack([is_method, table["n_params_base"].to_numpy()[:, None] == np.array(sizes)]).astype(float)
    slopes = is_method * (x - x.mean())[:, None]
    z = table["z"].to_numpy(dtype=float)
    simple, simple_rank = _residual_square(levels, z)
    full, full_rank = _residual_square(np.column_stack([levels, slopes]), z)
    more, dof = full_rank - simple_rank, len(z) - full_rank
    if more < 1 or dof < 2 or full < 1e-20:
        raise NotTestable(f"{name}: {len(z)} models leave too little to judge slopes by; add sizes")
    beyond = slopes - levels @ np.linalg.lstsq(levels, slopes, rcond=None)[0]
    information = float(np.sum(beyond**2)) / more
    statistic = ((simple - full) / more) / (full / dof)
    bounds = [1.0, *stats.f.ppf([(1 + LEVEL) / 2, (1 - LEVEL) / 2], more, dof)]
    effect, lower, upper = (
        float(np.sqrt(max(statistic / bound - 1, 0.0) * full / dof / information)) for bound in bounds
    )
    p_value = float(stats.f.sf(statistic, more, dof))
    return Evidence(name, effect, lower, upper, f"F, {more} and {dof} degrees of freedom", p_value, 1.0, len(z))


def _residual_square(design: np.ndarray, z: np.ndarray) -> tuple[float, int]:
    theta, _, rank, _ = np.linalg.lstsq(design, z, rcond=None)
    return float(np.sum((z - design @ theta) ** 2)), int(rank)


def larger_less_robust(bench: Bench) -> tuple[Evidence, list[Evidence]]:
    """Regress the relative drop on size."""
    return _trend(bench, bench.datasets("robustness"), ("robust_drop@1", "all_transformations"))


def larger_less_secure(bench: Bench) -> tuple[Evidence, list[Evidence]]:
    """Regress the insecure share on size."""
    names = [name for name in bench.datasets("security") if bench.scores(name).metric == "insecure_rate"]
    if not names:
        raise NotTestable("no share of insecure programs was measured (parse rates are not security scores)")
    return _trend(bench, names, None)


def _trend(bench: Bench, names: Sequence[str], measure: tuple[str, str] | None) -> tuple[Evidence, list[Evidence]]:
    means: dict[str, pd.Series] = {}

    def test(name: str) -> Evidence:
        scores = bench.scores(name, measure)
        if scores.table.empty:
            raise NotTestable(f"{name}: {measure[0] if measure else 'the primary score'} was not measured")
        sizes, mean, methods = balanced_means(scores, scores.table["value"].to_numpy(dtype=float))
        means[name] = pd.Series(mean, index=sizes)
        return size_slope(name, sizes, mean, f"mean over {', '.join(methods)}")

    if not names:
        raise NotTestable("nothing of the kind was measured")
    parts = gather(names, test)
    together = pd.DataFrame(means).dropna()
    shown = f"mean over {', '.join(together.columns)}"
    return size_slope(OVERALL, together.index.to_numpy(dtype=float), together.mean(axis=1).to_numpy(), shown), parts
