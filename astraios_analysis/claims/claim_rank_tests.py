"""The tests of `claim_rules` that rest on ranks: small against large, and validation loss against scores."""

from itertools import permutations

import numpy as np
import pandas as pd

from astraios_analysis.claims.claim_evidence import Bench, Evidence, NotTestable, draws_interval, gather, two_sided
from astraios_analysis.claims.rules import MIN_METHODS
from astraios_analysis.claims.tests import OVERALL, PERFORMANCE
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.records.schema import METHODS
from astraios_analysis.scores.correlations import is_at_chance
from astraios_analysis.scores.models import usable_models
from astraios_analysis.scores.ranks import spearman

MAX_EXACT = 7
N_ORDERS = 20_000
N_MODEL_PERMUTATIONS = 5_000


def small_carries_over(bench: Bench) -> tuple[Evidence, list[Evidence]]:
    """Correlate the order of methods at smaller sizes with that at the largest."""
    present = [m for m in METHODS if any(record.method == m for record in bench.records)]
    orders = _orders(len(present), bench.rng(1))
    nulls, drawn = {}, {}

    def test(name: str) -> Evidence:
        value, null, draws, detail = _carry_over(bench, name, present, orders)
        nulls[name], drawn[name] = null, draws
        return _rank_evidence(name, value, null, draws, len(present), detail, _kind(bench, name))

    parts = gather(bench.datasets(*PERFORMANCE), test)
    value = float(np.mean([part.effect for part in parts]))
    null, draws = np.nanmean(list(nulls.values()), axis=0), np.nanmean(list(drawn.values()), axis=0)
    overall = _rank_evidence(OVERALL, value, null, draws, len(present), "", _kind(bench, parts[0].name))
    return overall, parts


def _kind(bench: Bench, name: str) -> str:
    seeds = " and seeds" if bench.scores(name).covers_seeds else "; other training runs not covered"
    return f"percentile, bootstrap over problems{seeds}"


def _orders(n_methods: int, rng: np.random.Generator) -> np.ndarray:
    """Return all orders of the methods, or a sample with the observed one in it, shape (n_orders, n_methods)."""
    if n_methods <= MAX_EXACT:
        return np.array(list(permutations(range(n_methods))))
    sampled = rng.permuted(np.tile(np.arange(n_methods), (N_ORDERS, 1)), axis=1)
    return np.vstack([np.arange(n_methods), sampled])


def _carry_over(
    bench: Bench, name: str, present: list[str], orders: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray, str]:
    """Return a data set's mean correlation, its null by order of methods, its draws, and the sizes compared."""
    scores = bench.scores(name)
    values, drawn = scores.goodness(scores.table["value"].to_numpy(dtype=float)), scores.draws_of_runs(bench.seed)
    place = {(row.n_params_base, row.method): i for i, row in enumerate(scores.table.itertuples())}
    by_size = {n: [m for m in present if (n, m) in place] for n in sorted({n for n, _ in place})}
    usable = [n for n, methods in by_size.items() if len(methods) >= MIN_METHODS]
    if len(usable) < 2:
        raise NotTestable(f"{name}: {len(usable)} sizes have scores of {MIN_METHODS} or more methods; two are needed")
    found, nulls, draws, compared = [], [], [], []
    for n in usable[:-1]:
        shared = [m for m in by_size[n] if m in by_size[usable[-1]]]
        small, large = ([place[size, m] for m in shared] for size in (n, usable[-1]))
        value = float(spearman(values[small], values[large])) if len(shared) >= MIN_METHODS else np.nan
        if np.isnan(value):
            continue
        # An order of all methods orders those that both sizes have: the same for every data set.
        inner = np.argsort(np.argsort(orders[:, [present.index(m) for m in shared]], axis=1), axis=1)
        found.append(value)
        nulls.append(spearman(np.broadcast_to(values[small], inner.shape), values[large][inner]))
        draws.append(spearman(drawn[:, small], drawn[:, large]))
        compared.append(scores.table["size"].iloc[small[0]])
    if not found:
        raise NotTestable(f"{name}: no smaller size shares {MIN_METHODS} methods with the largest that differ in score")
    detail = f"{', '.join(compared)} against {scores.table['size'].iloc[place[usable[-1], by_size[usable[-1]][0]]]}"
    return float(np.mean(found)), np.mean(nulls, axis=0), _mean_known(draws), detail


def _mean_known(draws: list[np.ndarray]) -> np.ndarray:
    """Average draws; where a resample has no order at a size, over the other sizes."""
    stacked = np.stack(draws)
    n_known = (~np.isnan(stacked)).sum(axis=0)
    return np.where(n_known > 0, np.nansum(stacked, axis=0) / np.maximum(n_known, 1), np.nan)


def _rank_evidence(
    name: str, value: float, null: np.ndarray, draws: np.ndarray, n: int, detail: str, interval: str
) -> Evidence:
    lower, upper = draws_interval(draws)
    known = null[~np.isnan(null)]
    p_for, p_against = (float(np.mean(side)) for side in (known >= value - 1e-12, known <= value + 1e-12))
    return Evidence(name, value, lower, upper, interval, two_sided(p_for), two_sided(p_against), n, detail)


def loss_indicates(bench: Bench) -> tuple[Evidence, list[Evidence]]:
    """Correlate validation loss with every score, models being permuted alike for all data sets."""
    if all(record.val_loss is None for record in bench.records):
        raise NotTestable("these runs have no validation loss; a grid trained here measures it")
    found: dict[str, tuple] = {}

    def test(name: str) -> Evidence:
        try:
            kept = usable_models(bench.scores(name))
        except Refusal as error:
            raise NotTestable(str(error)) from error
        models = list(zip(kept.table["n_params_base"], kept.table["method"], strict=True))
        goodness = pd.Series(kept.goodness(kept.table["value"].to_numpy(dtype=float)), index=models)
        found[name] = (
            pd.Series(kept.table["val_loss"].to_numpy(), index=models),
            goodness,
            kept.draws_of_runs(bench.seed),
        )
        return _loss_evidence(bench, name, [found[name]], "at chance" if is_at_chance(kept) else "")

    parts = gather(bench.datasets(), test)
    return _loss_evidence(bench, OVERALL, list(found.values()), f"{len(parts)} data sets"), parts


def _loss_evidence(bench: Bench, name: str, sets: list[tuple], detail: str) -> Evidence:
    """Average over data sets the correlation of loss with the score on the models that all of them have."""
    models = [m for m in sets[0][0].index if all(m in losses.index for losses, _, _ in sets)]
    if len(models) < MIN_METHODS:
        raise NotTestable(f"{len(models)} models have a loss and every score; {MIN_METHODS} are needed")
    rng = bench.rng(2)
    shuffled = rng.permuted(np.tile(np.arange(len(models)), (N_MODEL_PERMUTATIONS, 1)), axis=1)
    n_draws = len(sets[0][2])
    resampled = rng.integers(len(models), size=(n_draws, len(models)))
    values, nulls, draws = [], [], []
    for losses, goodness, drawn in sets:
        place = goodness.index.get_indexer(pd.Index(models, tupleize_cols=False))
        loss, good = losses.to_numpy()[place], goodness.to_numpy()[place]
        values.append(-spearman(loss, good))
        nulls.append(-spearman(np.broadcast_to(loss, shuffled.shape), good[shuffled]))
        draws.append(-spearman(loss[resampled], np.take_along_axis(drawn[:, place], resampled, axis=1)))
    if np.any(np.isnan(values)):
        raise NotTestable(f"{name}: all models score the same on a data set; there is no order to compare")
    null = np.vstack([np.array(values)[:, None].T, np.stack(nulls, axis=1)]).mean(axis=1)
    interval = "percentile, bootstrap over models and problems"
    return _rank_evidence(name, float(np.mean(values)), null, _mean_known(draws), len(models), detail, interval)
