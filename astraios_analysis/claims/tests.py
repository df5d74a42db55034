"""The tests of `rules`: each takes the runs and a scope, and returns what is pooled, its parts, and what would turn it.

Almost every claim is about contrasts, weighted sums of the scores of models, the same for every data set; a family of
contrasts must be positive all together. A contrast is an array whose first entry is the measured value, the others its
draws: problems resampled jointly for all models and, for other models, the variance between seeds added.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import combinations
from zlib import crc32

import numpy as np
from scipy import optimize, stats
from scipy.special import ndtr

from astraios_analysis.claims.rules import (
    LEVEL,
    MIN_METHODS,
    MIN_PROGRAMS,
    MIN_SIZES,
    OTHER,
    PRICE,
    THESE,
)
from astraios_analysis.records.frame import RunRecord
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.records.registry import DATASETS, Suite
from astraios_analysis.records.schema import order_methods
from astraios_analysis.scores.bootstrap import ProblemBootstrap, percentile_interval, primary_score
from astraios_analysis.scores.contrasts import tipping_sd, weigh
from astraios_analysis.scores.means import shared_block
from astraios_analysis.scores.models import ModelScores, has_several_seeds, model_scores, usable_models
from astraios_analysis.scores.ranks import (
    draw_orders,
    noise_free,
    over_orders,
    permutation_p,
    spearman,
    with_value,
)

PERFORMANCE = ("comprehension", "generation")
# Losses of answers are no performance, of which the claims are.
_SCORED = (*PERFORMANCE, "robustness", "security")
POOLED = "pooled"
N_MODEL_PERMUTATIONS = 5_000
COSTS = ("flop", "peak_memory_bytes", "seconds")
# Methods whose costs are closer than this are not told apart by it.
_COST_DIFFERS = 1.05

Model = tuple[int, str]
Weights = dict[Model, float]
Family = dict[str, np.ndarray]
_Z = stats.norm.ppf((1 + LEVEL) / 2)


class NotTestable(Refusal):
    """What a claim's rule needs and the records lack."""


@dataclass(frozen=True)
class Evidence:
    """What one part of the records, of a ``kind``, or all that have a vote (``pooled``), says about a claim.

    Positive effects speak for the claim; the interval, made as ``how`` says, covers `LEVEL`. The p-values are two-sided
    (NaN where not known), for the claim and for its opposite; ``n`` counts the models or sizes that the test rests on.
    """

    name: str
    effect: float
    lower: float
    upper: float
    how: str
    p: float
    p_opposite: float
    n: int
    detail: str = ""
    kind: str = "data set"
    votes: bool = True


@dataclass(frozen=True)
class Found:
    """What a test finds: pooled evidence, parts, the range of the effect when one data set is left out.

    ``all_parts`` is the pooled evidence with the data sets that have no vote. ``tipping_sd`` is the standard deviation
    between runs at which the pooled p-value would reach 0.05; None where it is above already or nothing is known of it.
    """

    pooled: Evidence
    parts: list[Evidence]
    leave_one_out: tuple[float, float] | None = None
    all_parts: Evidence | None = None
    tipping_sd: float | None = None
    is_known: bool = True


@dataclass
class Bench:
    """The runs of one grid that one judgement is about, none held out, and resamples of their problems."""

    records: list[RunRecord]
    suite: Suite
    bootstrap: ProblemBootstrap
    seed: int = 0
    scope: str = THESE
    all_vote: bool = False
    _scores: dict[tuple, ModelScores] = field(default_factory=dict, repr=False)
    _drawn: dict[int, tuple[ModelScores, np.ndarray]] = field(default_factory=dict, repr=False)

    def in_scope(self, scope: str) -> "Bench":
        """Return the bench for another scope: the same runs, scores and resamples."""
        return replace(self, scope=scope, _drawn={})

    def datasets(self, *kinds: str) -> list[str]:
        """Return the suite's data sets of these kinds (all that have scores) on which a run has a primary score."""
        known = [d for d in DATASETS.values() if d.suite == self.suite and d.kind in (kinds or _SCORED)]
        return [d.name for d in known if d.primary_metric and len(self.scores(d.name).table)]

    def scores(self, dataset: str, measure: tuple[str, str] | None = None) -> ModelScores:
        """Return a data set's scores, one row a model; computed once."""
        key = (dataset, measure)
        if key not in self._scores:
            self._scores[key] = model_scores(self.records, dataset, self.bootstrap, measure)
        return self._scores[key]

    def votes(self, name: str) -> bool:
        """Whether a data set has a vote: it is of the study or the suite, and a model beats the constant answer."""
        return not DATASETS[name].is_extra and (self.all_vote or self.scores(name).has_vote)

    def drawn(self, scores: ModelScores) -> np.ndarray:
        """Return measured goodness and below it its draws in this scope, shape (1 + n_draws, n_models)."""
        if id(scores) not in self._drawn:
            draws = scores.goodness(scores.draws) if self.scope == THESE else scores.draws_of_runs(self.seed)
            # With the scores, so that their id is not given to others.
            self._drawn[id(scores)] = scores, np.vstack([scores.good, draws])
        return self._drawn[id(scores)][1]

    @property
    def knows_runs(self) -> bool:
        """Whether models were trained more than once, so that other runs are known in this scope."""
        return self.scope == THESE or has_several_seeds(self.records)

    def how(self, over: str = "problems") -> str:
        """Say what an interval is over."""
        return f"normal, {over}{' and seeds' if self.scope == OTHER else ''} resampled"

    def rng(self, stream: int) -> np.random.Generator:
        """Return the random numbers of a test; the same whatever else is tested."""
        return np.random.default_rng([self.seed, stream])


def by_part(names: Iterable[str], test: Callable[[str], object]) -> dict[str, object]:
    """Return what a test finds by part; where no part can be tested, say why."""
    found, reasons = {}, []
    for name in names:
        try:
            found[name] = test(name)
        except NotTestable as reason:
            reasons.append(str(reason))
    if not found:
        first = list(dict.fromkeys(reasons))
        more = f"; and {len(first) - 2} more" if len(first) > 2 else ""
        raise NotTestable("; ".join(first[:2]) + more or "nothing of the kind was measured")
    return found


def _two_sided(p: float) -> float:
    return float(min(1.0, 2 * p))


def _error(contrast: np.ndarray) -> float:
    """Return the standard error of a contrast: the deviation of its draws."""
    known = contrast[1:][~np.isnan(contrast[1:])]
    if len(known) < len(contrast) // 2:
        raise NotTestable("scores are not known in most resamples: nothing is solved, or there are no counts or errors")
    return float(np.std(known))


def weakest(name: str, family: Family, how: str, **more: object) -> Evidence:
    """Return the smallest contrast as evidence that all of a family are positive (intersection-union)."""
    errors = {other: _error(contrast) for other, contrast in family.items()}

    def one_sided(other: str, sign: int) -> float:
        value, error = sign * family[other][0], errors[other]
        return float(ndtr(-value / error)) if error > 1e-12 else float(value <= 1e-12)

    closest = min(family, key=lambda other: family[other][0])
    effect, half = float(family[closest][0]), _Z * errors[closest]
    p = _two_sided(max(one_sided(other, 1) for other in family))
    opposite = min(1.0, _two_sided(min(one_sided(other, -1) for other in family)) * len(family))
    more = {"n": len(family) + 1, "detail": f"closest: {closest}"} | more
    return Evidence(name, effect, effect - half, effect + half, how, p, opposite, **more)


def pool(families: Sequence[Family]) -> Family:
    """Average the contrasts of a family over data sets, each over those that have it."""
    others = sorted({other for family in families for other in family})
    return {other: np.mean([family[other] for family in families if other in family], axis=0) for other in others}


def _summarise(
    bench: Bench, families: dict[str, Family], judge: Callable[[str, Family], Evidence], **more: object
) -> Found:
    """Return pooled evidence, that of every data set, and the sensitivities, from the contrasts of each."""
    voting = {name: family for name, family in families.items() if bench.votes(name)}
    if not voting:
        raise NotTestable("no model beats the constant answer on a data set that could be tested")
    pooled = judge(POOLED, pool(list(voting.values())))

    def over(chosen: Iterable[str]) -> Evidence | None:
        with suppress(NotTestable):
            return judge(POOLED, pool([families[name] for name in chosen]))

    without = [over(other for other in voting if other != name) for name in voting] if len(voting) > 1 else []
    effects = [evidence.effect for evidence in without if evidence]
    parts = []
    for name, family in families.items():
        with suppress(NotTestable):
            parts.append(replace(judge(name, family), votes=name in voting))
    every = over(name for name in families if not DATASETS[name].is_extra)
    return Found(pooled, parts, (min(effects), max(effects)) if effects else None, every, **more)


def fft_best(bench: Bench) -> Found:
    """Compare full fine-tuning with every other method."""
    return _compare_methods(bench, "fft", {})


def lora_tradeoff(bench: Bench) -> Found:
    """Compare LoRA with every other method, net of cost."""
    costs = _log_costs(bench.records)
    pooled = {
        model: float(np.mean([costs[name][model] for name in costs]))
        for model in set.intersection(*(set(known) for known in costs.values()))
    }
    found = _compare_methods(bench, "lora", pooled)
    of_one = {name: _compare_methods(bench, "lora", known, by_size=False).pooled for name, known in costs.items()}
    by_cost = [replace(pooled, name=name, kind="cost") for name, pooled in of_one.items() if len(of_one) > 1]
    free = _compare_methods(bench, "lora", {}, by_size=False).pooled.effect
    detail = f"{found.pooled.detail}; cost: {', '.join(costs)}; without cost: {free:+.4f}"
    return replace(found, pooled=replace(found.pooled, detail=detail), parts=found.parts + by_cost)


def _log_costs(records: Sequence[RunRecord]) -> dict[str, dict[Model, float]]:
    """Return log10 of each recorded cost by which the methods of a size differ, averaged over seeds."""
    found: dict[str, dict[Model, list[float]]] = {}
    for record in records:
        costs = {name: getattr(record.cost, name) for name in COSTS} if record.cost else {}
        for name, value in ({"n_params_updated": record.n_params_updated} | costs).items():
            if value:
                found.setdefault(name, {}).setdefault((record.n_params_base, record.method), []).append(value)
    logs = {name: {m: float(np.mean(np.log10(v))) for m, v in own.items()} for name, own in found.items()}
    differing = {
        name: own
        for name, own in logs.items()
        if name in COSTS and max(np.ptp([own[m] for m in own if m[0] == n]) for n, _ in own) > np.log10(_COST_DIFFERS)
    }
    return differing or {"n_params_updated": logs["n_params_updated"]}


def _compare_methods(bench: Bench, method: str, log_cost: dict[Model, float], *, by_size: bool = True) -> Found:
    """Compare a method with all others; with log10 of costs, net of them."""

    def net_of_cost(sizes: Sequence[int], other: str) -> Weights:
        weights: Weights = {}
        for n in sizes:
            weights |= {(n, method): 1 / len(sizes), (n, other): -1 / len(sizes)}
            if log_cost:
                price = PRICE * (log_cost[n, other] - log_cost[n, method]) / len(sizes)
                weights[n, "fft"] = weights.get((n, "fft"), 0.0) + price
        return weights

    def family(name: str, sizes: Sequence[int] | None = None) -> Family:
        scores = bench.scores(name)
        found, drawn = {}, scores.by_model(bench.drawn(scores))
        needs = {method, "fft"} if log_cost else {method}
        for other in dict.fromkeys(scores.table["method"]):
            both = [
                n
                for n, at in scores.places.items()
                if needs | {other} <= set(at)
                and (not sizes or n in sizes)
                and (not log_cost or {(n, method), (n, other)} <= set(log_cost))
            ]
            if other != method and both:
                found[other] = weigh(drawn, net_of_cost(both, other))
        if not found:
            raise NotTestable(f"{name}: {method} has no score at a size with another method")
        return found

    families = by_part(bench.datasets(*PERFORMANCE), family)
    others = {other for found in families.values() for other in found}
    if len(others) < MIN_METHODS - 1:
        raise NotTestable(f"{method} is measured beside {len(others)} other methods; {MIN_METHODS - 1} are needed")
    judge = partial(weakest, how=bench.how())
    found, parts = _summarise(bench, families, judge), []
    voting = [name for name in families if bench.votes(name)]
    block, chosen = shared_block(bench.records, voting)
    for n, size in sorted({(r.n_params_base, r.size) for r in block or bench.records}) if by_size else ():
        with suppress(NotTestable):
            own = by_part(chosen or voting, partial(family, sizes=[n]))
            parts.append(replace(judge(size, pool(list(own.values()))), kind="size"))
    closest = found.pooled.detail.removeprefix("closest: ")
    contrast = pool([families[name] for name in voting])[closest]
    # A run's noise is shared by its scores on all data sets, and independent of that of other runs.
    tipping = _tipping(contrast, found.pooled, 2 / max(1, len(parts)))
    return replace(found, parts=found.parts + parts, tipping_sd=tipping, is_known=bench.knows_runs)


def _tipping(contrast: np.ndarray, pooled: Evidence, runs: float) -> float | None:
    """Return the SD of one run at which the p-value of a contrast would be 0.05; it enters ``runs`` times squared."""
    is_clear = min(pooled.p, pooled.p_opposite) < 1 - LEVEL
    return tipping_sd(pooled.effect, _error(contrast) ** 2, runs, LEVEL) if is_clear else None


def methods_differ_by_scale(bench: Bench) -> Found:
    """Test whether methods have slopes of their own."""
    names = bench.datasets(*PERFORMANCE)
    _, chosen = shared_block(bench.records, [name for name in names if bench.votes(name)])

    def family(name: str, sizes: Sequence[int] = ()) -> Family:
        scores = bench.scores(name)
        usable = {n: at for n, at in scores.places.items() if len(at) >= 2 and (not sizes or n in sizes)}
        methods = order_methods(set.intersection(*map(set, usable.values()))) if usable else []
        if len(usable) < 3 or len(methods) < 2:
            raise NotTestable(f"{name}: {len(usable)} sizes with {len(methods)} methods at all of them; 3 are needed")
        x = np.log10(list(usable))
        x = (x - x.mean()) / np.sum((x - x.mean()) ** 2)
        drawn = scores.by_model(bench.drawn(scores))
        slope = {m: weigh(drawn, dict(zip([(n, m) for n in usable], x, strict=True))) for m in methods}
        mean = np.mean(list(slope.values()), axis=0)
        return {m: own - mean for m, own in slope.items()} | {"_run": np.full_like(mean, np.sum(x**2))}

    families = by_part(names, family)
    sizes = set.intersection(*(set(bench.scores(name).places) for name in chosen)) if chosen else set()
    if len(sizes) >= 3:
        families |= {name: family(name, sorted(sizes)) for name in chosen if name in families}
    found = _summarise_shared(bench, families, partial(_slopes, how=bench.how()))
    pooled = pool([families[name] for name in chosen or families if name in families])
    return replace(found, tipping_sd=_tipping_slopes(pooled), is_known=bench.knows_runs)


def _chi_square(family: Family, run_sd: float = 0.0) -> tuple[float, int]:
    """Return the statistic that all slopes, less their mean, are 0, and its degrees of freedom."""
    slopes = np.stack([contrast for name, contrast in family.items() if name != "_run"])
    centre = np.eye(len(slopes)) - 1 / len(slopes)
    known = slopes[:, 1:][:, ~np.isnan(slopes[:, 1:]).any(axis=0)]
    if known.shape[1] < len(slopes):
        raise NotTestable("scores have neither counts nor errors, which would tell the methods' slopes apart")
    covariance = np.cov(known) + run_sd**2 * family["_run"][0] * np.eye(len(slopes))
    # Methods that solve nothing at any size do not differ: they take their degrees of freedom with them.
    values, vectors = np.linalg.eigh(centre @ covariance @ centre)
    kept = values > 1e-9 * values.max()
    if not values.max() > 0:
        raise NotTestable("no problem tells the methods' slopes apart")
    return float(np.sum((vectors[:, kept].T @ slopes[:, 0]) ** 2 / values[kept])), int(kept.sum())


def _slopes(name: str, family: Family, how: str) -> Evidence:
    """Return the deviation of slopes beyond noise, with the interval of the noncentrality."""
    q, dof = _chi_square(family)
    slopes = {m: contrast for m, contrast in family.items() if m != "_run"}
    values = np.array([contrast[0] for contrast in slopes.values()])
    scale = float(np.std(values, ddof=1)) / np.sqrt(max(q, 1e-12))

    def noncentral(p: float) -> float:
        if stats.chi2.cdf(q, dof) <= p:
            return 0.0
        return optimize.brentq(lambda nc: stats.ncx2.cdf(q, dof, max(nc, 1e-9)) - p, 0, 10 * q + 100)

    effect = scale * np.sqrt(max(q - dof, 0.0))
    low, high = (scale * np.sqrt(noncentral(p)) for p in ((1 + LEVEL) / 2, (1 - LEVEL) / 2))
    low, high = with_value((low, high), effect)
    steep, flat = (max(slopes, key=lambda m, s=sign: s * slopes[m][0]) for sign in (1, -1))
    widest = slopes[steep] - slopes[flat]
    detail = f"chi-square {q:.1f} with {dof}; {steep} less {flat} {widest[0]:+.3f}, z {widest[0] / _error(widest):.1f}"
    kind = how.replace("normal", "noncentral chi-square")
    return Evidence(name, effect, low, high, kind, float(stats.chi2.sf(q, dof)), 1.0, len(slopes), detail)


def _tipping_slopes(family: Family) -> float | None:
    def beyond(run_sd: float) -> float:
        q, dof = _chi_square(family, run_sd)
        return q - stats.chi2.ppf(LEVEL, dof)

    return float(optimize.brentq(beyond, 0, 10)) if beyond(0) > 0 > beyond(10) else None


def _at_every_size(scores: ModelScores) -> dict[int, dict[str, int]]:
    places = scores.places
    methods = set.intersection(*(set(at) for at in places.values())) if places else set()
    return {n: {m: at[m] for m in order_methods(methods)} for n, at in places.items() if methods}


def larger_less_robust(bench: Bench) -> Found:
    """Take the slope of the relative robust drop over sizes."""

    def family(name: str) -> Family:
        scores = bench.scores(name, ("robust_drop@1", "all_transformations"))
        places = _at_every_size(scores)
        if len(places) < MIN_SIZES:
            raise NotTestable(f"{name}: {len(places)} sizes share a method; a trend needs {MIN_SIZES}")
        if len(places) != len(sizes):
            raise NotTestable(f"{name}: not measured at every size")
        used = [place for at in places.values() for place in at.values()]
        if np.isnan(scores.draws[:, used]).any(axis=1).mean() > 0.5:
            raise NotTestable(f"{name}: nothing is solved by some model in most resamples, and the drop is not defined")
        drawn = 1 - bench.drawn(scores)
        return {"": np.stack([drawn[:, list(at.values())].mean(axis=1) for at in places.values()], axis=-1)}

    sizes = np.array(sorted({r.n_params_base for r in bench.records}), dtype=float)
    families = by_part(bench.datasets("robustness"), family)
    return _summarise(bench, families, partial(_trend, x=np.log10(sizes), bench=bench))


def _trend(name: str, family: Family, x: np.ndarray, bench: Bench) -> Evidence:
    """Return the slope of means over sizes, shape (1 + n_draws, n_sizes): over problems, or a t test over sizes."""
    means = family[""]
    if bench.scope == OTHER:
        fit = stats.linregress(x, means[0])
        found = _over_sizes(name, fit.slope, fit.stderr, len(x), len(x) - 2)
    else:
        weights = (x - x.mean()) / np.sum((x - x.mean()) ** 2)
        found = weakest(name, {"": means @ weights}, bench.how(), n=len(x), detail="")
    if max(abs(found.lower), abs(found.upper)) * np.ptp(x) > 1:
        raise NotTestable(
            f"{name}: the interval [{found.lower:.2g}, {found.upper:.2g}] a decade leaves the range of a share"
        )
    return found


def _over_sizes(name: str, effect: float, error: float, n: int, dof: int) -> Evidence:
    """Return an effect of n sizes with a t test."""
    half = stats.t.ppf((1 + LEVEL) / 2, dof) * error
    p = float(stats.t.sf(effect / error, dof)) if error > 1e-12 else float(effect <= 0)
    effect, lower, upper = map(float, (effect, effect - half, effect + half))
    how = f"t over sizes, {dof} degrees of freedom"
    return Evidence(name, effect, lower, upper, how, _two_sided(p), _two_sided(1 - p), n)


def larger_less_secure(bench: Bench) -> Found:
    """Compare the insecure share at two sizes, paired by method."""
    names = bench.datasets("security")
    if not names:
        raise NotTestable("no share of insecure programs was measured")

    def family(name: str, measure: tuple[str, str] | None = None) -> Family:
        scores = bench.scores(name, measure)
        programs = _count_programs(bench.records, name)
        places = {
            n: {m: place for m, place in at.items() if programs.get((n, m), 0) >= MIN_PROGRAMS}
            for n, at in scores.places.items()
        }
        shared = {(a, b): order_methods(set(places[a]) & set(places[b])) for a, b in combinations(places, 2)}
        if not any(shared.values()):
            raise NotTestable(f"{name}: no method has {MIN_PROGRAMS} valid programs at two sizes")
        small, large = max(shared, key=lambda pair: (len(shared[pair]), pair[1] / pair[0]))
        # Goodness is the secure share: less of it at the large size speaks for the claim.
        drawn = scores.by_model(bench.drawn(scores))
        return {m: weigh(drawn, {(small, m): 1.0, (large, m): -1.0}) for m in shared[small, large]}

    families = by_part(names, family)

    def judge(name: str, family: Family) -> Evidence:
        mean = np.mean(list(family.values()), axis=0)
        found = weakest(name, {"": mean}, bench.how("scenarios"), n=len(family), detail=" ".join(family))
        if max(abs(found.lower), abs(found.upper)) > 1:
            raise NotTestable(f"{name}: the interval leaves the range of a share")
        return found

    found = _summarise(bench, families, judge)
    how = bench.how("scenarios")
    parts = [replace(weakest(m, {"": own}, how, n=1), kind="method") for f in families.values() for m, own in f.items()]
    for name in families:
        settings = dict.fromkeys(
            s.setting for r in bench.records for s in r.scores if s.key[::3] == (name, "insecure_rate")
        )
        settings.pop(DATASETS[name].primary_setting, None)
        for setting in settings:
            with suppress(NotTestable):
                other = judge(setting, family(name, ("insecure_rate", setting)))
                parts.append(replace(other, kind="rules", votes=False))
    pooled = pool(list(families.values()))
    tipping = _tipping(np.mean(list(pooled.values()), axis=0), found.pooled, 2 / len(pooled))
    return replace(found, parts=found.parts + parts, tipping_sd=tipping, is_known=bench.knows_runs)


def _count_programs(records: Sequence[RunRecord], name: str) -> dict[Model, int]:
    """Return the valid programs behind each model's insecure share, over its seeds."""
    found: dict[Model, int] = {}
    for record in records:
        score = primary_score(record, name)
        if score is not None:
            model = (record.n_params_base, record.method)
            found[model] = found.get(model, 0) + (score.n_samples or score.n_items or 0)
    return found


def small_carries_over(bench: Bench) -> Found:
    """Correlate the order of methods at smaller sizes with that at the largest."""
    present = order_methods(record.method for record in bench.records)
    # One order of all methods orders those that two sizes share: the same for every data set.
    orders, _ = draw_orders(len(present), bench.rng(1))
    families = by_part(bench.datasets(*PERFORMANCE), lambda name: _carry_over(bench, name, present, orders))
    judge = partial(_correlation, how=bench.how(), n=len(present))
    found = _summarise_shared(bench, families, judge)
    return replace(found, is_known=bench.knows_runs)


def _summarise_shared(
    bench: Bench, families: dict[str, Family], judge: Callable[[str, Family], Evidence], **more: object
) -> Found:
    """As `_summarise`, pooled over the data sets with a vote that share the most models; parts are all of them."""
    voting = [name for name in families if bench.votes(name)]
    shared = shared_block(bench.records, voting)[1] or voting
    kept = {name: family for name, family in families.items() if name in shared or name not in voting}
    found = _summarise(bench, kept, judge, **more)
    parts = by_part(families, lambda name: replace(judge(name, families[name]), votes=name in voting))
    pooled = replace(found.pooled, detail="; ".join(filter(None, (found.pooled.detail, f"over {', '.join(shared)}"))))
    return replace(found, pooled=pooled, parts=list(parts.values()))


def _carry_over(bench: Bench, name: str, present: list[str], orders: np.ndarray) -> Family:
    scores = bench.scores(name)
    drawn = bench.drawn(scores)[1:]
    usable = [(n, at) for n, at in scores.places.items() if len(at) >= MIN_METHODS]
    if len(usable) < 2:
        raise NotTestable(f"{name}: {len(usable)} sizes have scores of {MIN_METHODS} or more methods; two are needed")
    (_, largest), nulls, draws = usable[-1], [], []
    for stream, (_, at) in enumerate(usable[:-1]):
        shared = [m for m in present if m in at and m in largest]
        small, large = [at[m] for m in shared], [largest[m] for m in shared]
        if len(shared) < MIN_METHODS or np.isnan(spearman(scores.good[small], scores.good[large])):
            continue
        inner = _among(orders, present, shared)
        nulls.append(over_orders(scores.good[small], scores.good[large], inner))
        both = [*small, *large]
        true = noise_free(scores.good[both], drawn[:, both], crc32(f"{name} {stream}".encode()))
        draws.append(spearman(*np.split(true, 2, axis=1)))
    if not nulls:
        raise NotTestable(f"{name}: no smaller size shares {MIN_METHODS} methods with the largest that differ in score")
    return {"null": np.mean(nulls, axis=0), "draws": np.mean(draws, axis=0)}


def _among(orders: np.ndarray, known: Sequence[str], methods: Iterable[str]) -> np.ndarray:
    """Return the orders of some methods that orders of all known ones say, shape (n_orders, n_methods)."""
    return np.argsort(np.argsort(orders[:, [known.index(method) for method in methods]], axis=1), axis=1)


def _correlation(name: str, family: Family, how: str, n: int, detail: str = "") -> Evidence:
    """Return a correlation as evidence, from its values by order of which the first is the observed one."""
    value = float(family["null"][0])
    p_values = (_two_sided(permutation_p(family["null"], side)) for side in ("above", "below"))
    interval = with_value(percentile_interval(family["draws"], LEVEL), value)
    return Evidence(name, value, *interval, how.replace("normal", "noise-free scores"), *p_values, n, detail)


def loss_indicates(bench: Bench) -> Found:
    """Correlate validation loss with every score among the methods of a size, which are permuted alike."""
    if all(record.val_loss is None for record in bench.records):
        raise NotTestable("these runs have no validation loss; a grid trained here measures it")
    names = bench.datasets()
    sizes = sorted({r.n_params_base for r in bench.records})
    labels = {r.n_params_base: r.size for r in bench.records}
    known = order_methods(record.method for record in bench.records)
    methods = np.tile(np.arange(len(known)), (N_MODEL_PERMUTATIONS, 1))
    orders = {n: np.vstack([methods[:1], bench.rng(2 + i).permuted(methods, axis=1)]) for i, n in enumerate(sizes)}

    def by_size(name: str) -> dict[int, Family]:
        try:
            scores = usable_models(bench.scores(name))
        except Refusal as error:
            raise NotTestable(str(error)) from error
        loss, drawn = scores.table["val_loss"].to_numpy(dtype=float), bench.drawn(scores)[1:]
        found = {}
        for stream, (n, at) in enumerate(scores.places.items()):
            place = list(at.values())
            if len(place) < MIN_METHODS or np.ptp(scores.good[place]) < 1e-12 or np.ptp(loss[place]) < 1e-12:
                continue
            inner = _among(orders[n], known, at)
            null = -over_orders(loss[place], scores.good[place], inner)
            losses = np.broadcast_to(-loss[place], (len(drawn), len(place)))
            both, seen = np.concatenate([losses[0], scores.good[place]]), np.hstack([losses, drawn[:, place]])
            true = noise_free(both, seen, crc32(f"{name} {stream}".encode()))
            found[n] = {"null": null, "draws": spearman(*np.split(true, 2, axis=1))}
        if not found:
            raise NotTestable(f"{name}: no size has {MIN_METHODS} methods that differ in loss and in score")
        return found

    whole = by_part(names, by_size)
    families = {name: pool(list(own.values())) for name, own in whole.items()}
    n = len({(r.n_params_base, r.method) for r in bench.records})
    found = _summarise(bench, families, partial(_correlation, how=bench.how(), n=n))
    voting = [own for name, own in whole.items() if bench.votes(name)]
    of_size = {size: [own[size] for own in voting if size in own] for size in sizes}
    parts = [
        replace(_correlation(labels[size], pool(own), bench.how(), len(known)), kind="size")
        for size, own in of_size.items()
        if own
    ]
    if bench.scope == THESE:
        return replace(found, parts=found.parts + parts)
    n = len(parts)
    if n < MIN_SIZES:
        raise NotTestable(f"{n} sizes have correlations; a test over sizes needs {MIN_SIZES}")
    values = [part.effect for part in parts]
    pooled = _over_sizes(POOLED, np.mean(values), stats.sem(values), n, n - 1)
    # Student's t knows neither where a correlation ends, nor that a few sizes may agree by chance.
    lower, upper, p = max(pooled.lower, -1.0), min(pooled.upper, 1.0), max(pooled.p, found.pooled.p)
    return replace(found, pooled=replace(pooled, lower=lower, upper=upper, p=p))
