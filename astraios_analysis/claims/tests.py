"""The tests of `rules`: each takes the runs and returns the evidence of all of them and that of the parts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from scipy import stats
from scipy.special import logit

from astraios_analysis.claims.rules import LEVEL, MIN_METHODS, MIN_SIZES, RETAINED, UPDATED_SHARE
from astraios_analysis.records.counts import inside_unit_interval
from astraios_analysis.records.frame import RunRecord
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.records.registry import DATASETS, Suite
from astraios_analysis.records.schema import METHODS
from astraios_analysis.scores.bootstrap import ProblemBootstrap, percentile_interval, primary_score
from astraios_analysis.scores.correlations import is_at_chance
from astraios_analysis.scores.means import shared_block
from astraios_analysis.scores.models import ModelScores, model_scores, usable_models
from astraios_analysis.scores.ranks import draw_orders, permutation_p, spearman

PERFORMANCE = ("comprehension", "generation")
OVERALL = "overall"
N_MODEL_PERMUTATIONS = 5_000


class NotTestable(Refusal):
    """What a claim's rule needs and the records lack."""


@dataclass(frozen=True)
class Evidence:
    """What one part of the records, or all of them (``overall``), says about a claim.

    Positive effects speak for the claim; the interval, of kind ``interval``, covers `LEVEL`. The p-values are
    two-sided, for the claim and for its opposite; ``n`` counts the models or sizes that the test rests on.
    """

    name: str
    effect: float
    lower: float
    upper: float
    interval: str
    p_value: float
    p_opposite: float
    n: int
    detail: str = ""


Found = tuple[Evidence, list[Evidence]]


@dataclass
class Bench:
    """The runs of one grid that one judgement is about, none held out, and resamples of their problems."""

    records: list[RunRecord]
    suite: Suite
    bootstrap: ProblemBootstrap
    seed: int = 0
    _scores: dict[tuple, ModelScores] = field(default_factory=dict, repr=False)

    def datasets(self, *kinds: str) -> list[str]:
        """Return the suite's data sets of these kinds (all kinds by default) on which a run has a primary score."""
        own = [d for d in DATASETS.values() if d.suite == self.suite and not d.is_extra]
        known = [d.name for d in own if d.kind in (kinds or [d.kind])]
        return [name for name in known if any(primary_score(record, name) is not None for record in self.records)]

    def scores(self, dataset: str, measure: tuple[str, str] | None = None) -> ModelScores:
        """Return a data set's scores, one row a model; computed once."""
        key = (dataset, measure)
        if key not in self._scores:
            self._scores[key] = model_scores(self.records, dataset, self.bootstrap, measure)
        return self._scores[key]

    def rng(self, stream: int) -> np.random.Generator:
        """Return the random numbers of a test; the same whatever else is tested."""
        return np.random.default_rng([self.seed, stream])


def gather(names: Sequence[str], test: Callable[[str], Evidence]) -> list[Evidence]:
    """Test every part that can be tested; where none can, say why."""
    parts, reasons = [], []
    for name in names:
        try:
            parts.append(test(name))
        except NotTestable as reason:
            reasons.append(str(reason))
    if not parts:
        first = list(dict.fromkeys(reasons))
        more = f"; and {len(first) - 2} more" if len(first) > 2 else ""
        raise NotTestable("; ".join(first[:2]) + more or "nothing of the kind was measured")
    return parts


def _two_sided(p: float) -> float:
    return float(min(1.0, 2 * p))


def fft_best(bench: Bench) -> Found:
    """Compare full fine-tuning with every other method."""
    return _compare_methods(bench, "fft", {})


def lora_tradeoff(bench: Bench) -> Found:
    """Compare LoRA with every method but full fine-tuning, and with a share of full fine-tuning."""
    updated: dict[tuple[int, str], int] = {(r.n_params_base, r.method): r.n_params_updated for r in bench.records}
    shares = [updated[n, "lora"] / updated[n, "fft"] for n, m in updated if m == "lora" and (n, "fft") in updated]
    if not shares:
        raise NotTestable("no size has both LoRA and full fine-tuning")
    overall, parts = _compare_methods(bench, "lora", {"fft": RETAINED})
    share = max(shares)
    detail = f"{overall.detail}; LoRA updates at most {share:.2%} of the parameters that full fine-tuning does"
    if share > UPDATED_SHARE:
        return replace(overall, detail=detail, p_value=1.0), []
    return replace(overall, detail=detail), parts


def _compare_methods(bench: Bench, method: str, retained: dict[str, float]) -> Found:
    """Compare a method with all others; with ``retained``, with a share of another's score only."""
    by_part: dict[str, dict[str, tuple[float, np.ndarray]]] = {}

    def test(name: str) -> Evidence:
        scores = bench.scores(name)
        by_part[name] = _differences(scores, method, retained, bench.seed)
        return _weakest(name, by_part[name], scores.covers_seeds)

    parts = gather(bench.datasets(*PERFORMANCE), test)
    others = sorted({other for found in by_part.values() for other in found})
    if len(others) < MIN_METHODS - 1:
        raise NotTestable(f"{method} is measured beside {len(others)} other methods; {MIN_METHODS - 1} are needed")
    pooled = {}
    for other in others:
        found = [differences[other] for differences in by_part.values() if other in differences]
        pooled[other] = (float(np.mean([d for d, _ in found])), np.mean([draws for _, draws in found], axis=0))
    return _weakest(OVERALL, pooled, all(bench.scores(name).covers_seeds for name in by_part)), parts


def _differences(
    scores: ModelScores, method: str, retained: dict[str, float], seed: int
) -> dict[str, tuple[float, np.ndarray]]:
    """Return, for each other method, the mean difference over the sizes that both have, and its draws."""
    drawn, places = scores.draws_of_runs(seed), scores.places
    found = {}
    for other in dict.fromkeys(scores.table["method"]):
        both = [at for at in places.values() if method in at and other in at]
        if other == method or not both:
            continue
        own, theirs = [at[method] for at in both], [at[other] for at in both]
        share = retained.get(other, 1.0)
        difference = float(np.mean(scores.good[own] - share * scores.good[theirs]))
        found[other] = difference, (drawn[:, own] - share * drawn[:, theirs]).mean(axis=1)
    if not found:
        raise NotTestable(f"{scores.dataset}: {method} has no score at a size with another method")
    return found


def _weakest(name: str, differences: dict[str, tuple[float, np.ndarray]], covers_seeds: bool) -> Evidence:
    """Return the smallest difference as evidence that all are positive."""
    closest = min(differences, key=lambda other: differences[other][0])
    effect, draws = differences[closest]
    p_better = max(_one_sided(value, drawn) for value, drawn in differences.values())
    p_worse = min(_one_sided(-value, -drawn) for value, drawn in differences.values())
    covered = "problems and seeds" if covers_seeds else "problems; other training runs not covered"
    interval = (*percentile_interval(draws, LEVEL), f"percentile, bootstrap over {covered}")
    p_values = (_two_sided(p_better), min(1.0, _two_sided(p_worse) * len(differences)))
    return Evidence(name, effect, *interval, *p_values, len(differences) + 1, f"closest: {closest}")


def _one_sided(value: float, draws: np.ndarray) -> float:
    """Return the one-sided p-value of a positive effect, normal with the standard deviation of its draws."""
    error = float(np.nanstd(draws)) if np.any(~np.isnan(draws)) else float("nan")
    if np.isnan(error):
        raise NotTestable("a score has neither counts nor a standard error, so its differences cannot be judged")
    if error < 1e-12:
        return 0.0 if value > 1e-12 else 1.0
    return float(stats.norm.sf(value / error))


def methods_differ_by_scale(bench: Bench) -> Found:
    """Test whether methods have slopes of their own."""
    names = bench.datasets(*PERFORMANCE)
    parts = gather(names, lambda name: _slopes(name, _logits(bench.scores(name))))
    _, chosen = shared_block(bench.records, names)
    tables = [_logits(bench.scores(name)) for name in chosen or [parts[0].name]]
    mean = pd.concat(tables).groupby(["n_params_base", "method"], as_index=False).agg(z=("z", "mean"), n=("z", "size"))
    detail = f"over {', '.join(chosen) or parts[0].name}"
    return replace(_slopes(OVERALL, mean[mean["n"] == len(tables)]), detail=detail), parts


def _logits(scores: ModelScores) -> pd.DataFrame:
    shares = inside_unit_interval(scores.good, scores.table["n_items"])
    return scores.table[["n_params_base", "method"]].assign(z=logit(shares))


def _slopes(name: str, table: pd.DataFrame) -> Evidence:
    """F test of methods' slopes beside levels of methods and sizes (two-way layout, cells may be missing)."""
    from statsmodels.regression.linear_model import OLS

    counts = table.groupby("method")["n_params_base"].nunique()
    table = table[table["method"].isin(counts[counts >= MIN_SIZES].index)]
    if table["method"].nunique() < 2 or table["n_params_base"].nunique() < MIN_SIZES:
        methods = table["method"].nunique()
        raise NotTestable(f"{name}: {methods} methods with {MIN_SIZES} or more sizes; two are needed")
    is_method, is_size = (pd.get_dummies(table[name]).to_numpy(dtype=float) for name in ("method", "n_params_base"))
    own_slopes = is_method * np.log10(table[["n_params_base"]].to_numpy(dtype=float))
    levels = np.hstack([is_method, is_size[:, 1:]])
    # Levels of sizes hold the slope that all methods share, so one method's own slope is left out.
    simple, full = OLS(table["z"], levels).fit(), OLS(table["z"], np.hstack([levels, own_slopes[:, 1:]])).fit()
    more, dof = int(simple.df_resid - full.df_resid), int(full.df_resid)
    if more < 1 or dof < 2 or full.ssr < 1e-20:
        raise NotTestable(f"{name}: {len(table)} models leave too little to judge slopes by; add sizes")
    statistic, p_value, _ = full.compare_f_test(simple)
    # The variance of slopes over methods is what F has beyond 1, by the spread of sizes that levels leave.
    beyond = own_slopes - levels @ np.linalg.lstsq(levels, own_slopes, rcond=None)[0]
    unit = full.mse_resid * more / float(np.sum(beyond**2))
    bounds = [1.0, *stats.f.ppf([(1 + LEVEL) / 2, (1 - LEVEL) / 2], more, dof)]
    effects = (float(np.sqrt(max(statistic / bound - 1, 0.0) * unit)) for bound in bounds)
    return Evidence(name, *effects, f"F, {more} and {dof} degrees of freedom", float(p_value), 1.0, len(table))


def larger_less_robust(bench: Bench) -> Found:
    """Regress the relative drop on size."""
    return _trend(bench, bench.datasets("robustness"), ("robust_drop@1", "all_transformations"))


def larger_less_secure(bench: Bench) -> Found:
    """Regress the insecure share on size."""
    names = [name for name in bench.datasets("security") if bench.scores(name).metric == "insecure_rate"]
    if not names:
        raise NotTestable("no share of insecure programs was measured (parse rates are not security scores)")
    return _trend(bench, names, None)


def _trend(bench: Bench, names: Sequence[str], measure: tuple[str, str] | None) -> Found:
    """Regress values, averaged at each size over the methods measured at every size, on size."""
    means: dict[str, pd.Series] = {}

    def test(name: str) -> Evidence:
        table = bench.scores(name, measure).table
        if table.empty:
            raise NotTestable(f"{name}: {measure[0] if measure else 'the primary score'} was not measured")
        wide = table.pivot_table(index="n_params_base", columns="method", values="value").sort_index()
        complete = wide.dropna(axis="columns")
        if complete.shape[1] == 0:
            raise NotTestable(f"{name}: no method is measured at every size")
        means[name] = complete.mean(axis=1)
        return size_slope(name, means[name], f"mean over {', '.join(complete.columns)}")

    if not names:
        raise NotTestable("nothing of the kind was measured")
    parts = gather(names, test)
    together = pd.DataFrame(means).dropna()
    return size_slope(OVERALL, together.mean(axis=1), f"mean over {', '.join(together.columns)}"), parts


def size_slope(name: str, means: pd.Series, detail: str = "") -> Evidence:
    """Regress means, by base parameters in the index, on log10 of the size, with a t test over sizes."""
    from statsmodels.regression.linear_model import OLS

    if len(means) < MIN_SIZES:
        raise NotTestable(f"{name}: {len(means)} sizes; a trend and its error need {MIN_SIZES}")
    x = np.log10(means.index.to_numpy(dtype=float))
    fit = OLS(means.to_numpy(dtype=float), np.column_stack([np.ones(len(x)), x - x.mean()])).fit()
    slope, (lower, upper) = float(fit.params[1]), fit.conf_int(alpha=1 - LEVEL)[1]
    # Means on a line have no error to divide by.
    p = float(stats.t.sf(fit.tvalues[1], fit.df_resid)) if fit.bse[1] > 1e-12 else float(slope <= 0)
    interval = (float(lower), float(upper), f"t over sizes, {int(fit.df_resid)} degrees of freedom")
    return Evidence(name, slope, *interval, _two_sided(p), _two_sided(1 - p), len(means), detail)


def small_carries_over(bench: Bench) -> Found:
    """Correlate the order of methods at smaller sizes with that at the largest."""
    present = [m for m in METHODS if any(record.method == m for record in bench.records)]
    # One order of all methods orders those that two sizes share: the same for every data set.
    orders, _ = draw_orders(len(present), bench.rng(1))
    nulls, drawn = {}, {}

    def kind(name: str) -> str:
        seeds = " and seeds" if bench.scores(name).covers_seeds else "; other training runs not covered"
        return f"percentile, bootstrap over problems{seeds}"

    def test(name: str) -> Evidence:
        nulls[name], drawn[name], detail = _carry_over(bench.scores(name), present, orders, bench.seed)
        return _rank_evidence(name, nulls[name], drawn[name], len(present), detail, kind(name))

    parts = gather(bench.datasets(*PERFORMANCE), test)
    null, draws = np.nanmean(list(nulls.values()), axis=0), np.nanmean(list(drawn.values()), axis=0)
    return _rank_evidence(OVERALL, null, draws, len(present), "", kind(parts[0].name)), parts


def _carry_over(
    scores: ModelScores, present: list[str], orders: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray, str]:
    """Return a data set's mean correlation by order of methods, its draws, and the sizes compared."""
    name, drawn = scores.dataset, scores.draws_of_runs(seed)
    usable = [at for at in scores.places.values() if len(at) >= MIN_METHODS]
    if len(usable) < 2:
        raise NotTestable(f"{name}: {len(usable)} sizes have scores of {MIN_METHODS} or more methods; two are needed")
    size_of, nulls, draws, compared = scores.table["size"], [], [], []
    for at in usable[:-1]:
        shared = [m for m in present if m in at and m in usable[-1]]
        small, large = [at[m] for m in shared], [usable[-1][m] for m in shared]
        if len(shared) < MIN_METHODS or np.isnan(spearman(scores.good[small], scores.good[large])):
            continue
        inner = np.argsort(np.argsort(orders[:, [present.index(m) for m in shared]], axis=1), axis=1)
        nulls.append(spearman(np.broadcast_to(scores.good[small], inner.shape), scores.good[large][inner]))
        draws.append(spearman(drawn[:, small], drawn[:, large]))
        compared.append(size_of.iloc[small[0]])
    if not nulls:
        raise NotTestable(f"{name}: no smaller size shares {MIN_METHODS} methods with the largest that differ in score")
    detail = f"{', '.join(compared)} against {size_of.iloc[next(iter(usable[-1].values()))]}"
    return np.mean(nulls, axis=0), _mean_known(draws), detail


def _mean_known(draws: list[np.ndarray]) -> np.ndarray:
    """Average draws; where a resample has no order on one side, over the others."""
    stacked = np.stack(draws)
    n_known = (~np.isnan(stacked)).sum(axis=0)
    return np.where(n_known > 0, np.nansum(stacked, axis=0) / np.maximum(n_known, 1), np.nan)


def _rank_evidence(name: str, null: np.ndarray, draws: np.ndarray, n: int, detail: str, interval: str) -> Evidence:
    """Return a correlation as evidence, from its values by order of which the first is the observed one."""
    p_values = (_two_sided(permutation_p(null, side)) for side in ("above", "below"))
    return Evidence(name, float(null[0]), *percentile_interval(draws, LEVEL), interval, *p_values, n, detail)


def loss_indicates(bench: Bench) -> Found:
    """Correlate validation loss with every score, models being permuted alike for all data sets."""
    if all(record.val_loss is None for record in bench.records):
        raise NotTestable("these runs have no validation loss; a grid trained here measures it")
    found: dict[str, ModelScores] = {}

    def test(name: str) -> Evidence:
        scores = bench.scores(name)
        try:
            found[name] = usable_models(scores)
        except Refusal as error:
            raise NotTestable(str(error)) from error
        return _loss_evidence(bench, name, [found[name]], "at chance" if is_at_chance(found[name]) else "")

    parts = gather(bench.datasets(), test)
    return _loss_evidence(bench, OVERALL, list(found.values()), f"{len(parts)} data sets"), parts


def _loss_evidence(bench: Bench, name: str, sets: list[ModelScores], detail: str) -> Evidence:
    """Average over data sets the correlation of loss with the score on the models that all of them have."""
    keys = [list(zip(s.table["n_params_base"], s.table["method"], strict=True)) for s in sets]
    models = [m for m in keys[0] if all(m in known for known in keys)]
    if len(models) < MIN_METHODS:
        raise NotTestable(f"{len(models)} models have a loss and every score; {MIN_METHODS} are needed")
    rng = bench.rng(2)
    orders, _ = draw_orders(len(models), rng, n_sampled=N_MODEL_PERMUTATIONS)
    resampled = rng.integers(len(models), size=(len(sets[0].draws), len(models)))
    nulls, draws = [], []
    for scores, known in zip(sets, keys, strict=True):
        place = [known.index(m) for m in models]
        loss, good = scores.table["val_loss"].to_numpy()[place], scores.good[place]
        drawn = np.take_along_axis(scores.draws_of_runs(bench.seed)[:, place], resampled, axis=1)
        nulls.append(-spearman(np.broadcast_to(loss, orders.shape), good[orders]))
        draws.append(-spearman(loss[resampled], drawn))
    null = np.mean(nulls, axis=0)
    if np.isnan(null[0]):
        raise NotTestable(f"{name}: all models score the same on a data set; there is no order to compare")
    interval = "percentile, bootstrap over models and problems"
    return _rank_evidence(name, null, _mean_known(draws), len(models), detail, interval)
