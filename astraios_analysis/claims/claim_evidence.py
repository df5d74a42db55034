"""Evidence for or against a claim: an effect with an interval, and p-values of the claim and of its opposite."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import stats

from astraios_analysis.claims.rules import LEVEL
from astraios_analysis.records.frame import RunRecord
from astraios_analysis.records.registry import DATASETS, Suite
from astraios_analysis.scores.bootstrap import ProblemBootstrap, primary_score
from astraios_analysis.scores.models import ModelScores, model_scores


class NotTestable(ValueError):
    """What a claim's rule needs and the records lack."""


@dataclass(frozen=True)
class Evidence:
    """What one part of the records, or all of them, says about a claim.

    Attributes
    ----------
    name : str
        The part; ``overall`` for all of them together.
    effect, lower, upper : float
        Positive values speak for the claim. The interval covers `claim_rules.LEVEL`.
    interval : str
        Kind of the interval.
    p_value, p_opposite : float
        Two-sided, for the claim and for its opposite.
    n : int
        Models or sizes that the test rests on.
    detail : str
        What else a reader should know: the strongest other method, the methods compared.
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


@dataclass
class Bench:
    """The runs that one judgement is about, and resamples of their problems.

    Attributes
    ----------
    records : list of RunRecord
        Runs of one grid, none held out.
    suite : {"published", "embedded"}
    bootstrap : ProblemBootstrap
    seed : int
    """

    records: list[RunRecord]
    suite: Suite
    bootstrap: ProblemBootstrap
    seed: int = 0
    _scores: dict[tuple, ModelScores] = field(default_factory=dict, repr=False)

    def datasets(self, *kinds: str) -> list[str]:
        """Return the suite's data sets of these kinds (all kinds by default) on which a run has a primary score."""
        known = [
            d for d in DATASETS.values() if d.suite == self.suite and d.primary_metric and d.kind in (kinds or [d.kind])
        ]
        return [d.name for d in known if any(primary_score(record, d.name) is not None for record in self.records)]

    def scores(self, dataset: str, measure: tuple[str, str] | None = None) -> ModelScores:
        """Return a data set's scores, one row a model; computed once."""
        key = (dataset, measure)
        if key not in self._scores:
            self._scores[key] = model_scores(self.records, dataset, self.bootstrap, measure)
        return self._scores[key]

    def rng(self, stream: int) -> np.random.Generator:
        """Return the random numbers of a test; the same whatever else is tested."""
        return np.random.default_rng([self.seed, stream])


def draws_interval(draws: np.ndarray) -> tuple[float, float]:
    """Return the percentile interval of draws; NaN draws are left out."""
    known = draws[~np.isnan(draws)]
    if not len(known):
        return float("nan"), float("nan")
    lower, upper = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(lower), float(upper)


def one_sided(value: float, draws: np.ndarray) -> float:
    """Return the one-sided p-value of a positive effect, normal with the standard deviation of its draws."""
    error = float(np.nanstd(draws)) if np.any(~np.isnan(draws)) else float("nan")
    if np.isnan(error):
        raise NotTestable("a score has neither counts nor a standard error, so its differences cannot be judged")
    if error < 1e-12:
        return 0.0 if value > 1e-12 else 1.0
    return float(stats.norm.sf(value / error))


def two_sided(p: float) -> float:
    """Return twice a one-sided p-value, at most 1."""
    return float(min(1.0, 2 * p))


def size_slope(name: str, sizes: np.ndarray, means: np.ndarray, detail: str = "") -> Evidence:
    """Regress means by size on log10 of the size, with a t test over sizes.

    Parameters
    ----------
    name : str
    sizes, means : ndarray, shape (n_sizes,)
        Base parameters, and what is averaged over methods there.

    Raises
    ------
    NotTestable
        If there are fewer than three sizes.
    """
    if len(sizes) < 3:
        raise NotTestable(f"{name}: {len(sizes)} sizes; a trend and its error need 3")
    x = np.log10(sizes)
    x = x - x.mean()
    slope = float(x @ means / (x @ x))
    residual = means - means.mean() - slope * x
    dof = len(sizes) - 2
    error = float(np.sqrt(residual @ residual / dof / (x @ x)))
    half = float(stats.t.ppf((1 + LEVEL) / 2, dof)) * error
    p = float(stats.t.sf(slope / error, dof)) if error > 1e-12 else float(slope <= 0)
    interval = f"t over sizes, {dof} degrees of freedom"
    return Evidence(
        name, slope, slope - half, slope + half, interval, two_sided(p), two_sided(1 - p), len(sizes), detail
    )


def balanced_means(scores: ModelScores, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Average values at each size over the methods measured at every size.

    Parameters
    ----------
    scores : ModelScores
    values : ndarray, shape (n_models,)

    Returns
    -------
    sizes, means : ndarray, shape (n_sizes,)
    methods : list of str

    Raises
    ------
    NotTestable
        If no method is measured at every size.
    """
    table = scores.table.assign(shown=values)
    wide = table.pivot_table(index="n_params_base", columns="method", values="shown").sort_index()
    complete = wide.dropna(axis="columns")
    if complete.shape[1] == 0:
        raise NotTestable(f"{scores.dataset}: no method is measured at every size")
    return complete.index.to_numpy(dtype=float), complete.mean(axis=1).to_numpy(), list(complete.columns)


def gather(names: Sequence[str], test: Callable[[str], Evidence]) -> list[Evidence]:
    """Test every part that can be tested.

    Raises
    ------
    NotTestable
        If none can, with the reasons.
    """
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
