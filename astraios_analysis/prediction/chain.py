"""Score against validation loss: binomial regression of what models solve on what their loss is.

All methods are validated on the same tokens, so that one curve may serve them all (``pooled``), or every method has its
own level with a common slope (``shared_slope``), or its own line (``per_method``). The curve is logistic above the
data set's chance level; more in `binomial`. Held-out models take no part. A score that is better when lower is turned
round before and back after.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from astraios_analysis.prediction.binomial import BinomialFit, fit_rates, mean_rate, solve_rates
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.records.schema import METHODS
from astraios_analysis.scores.models import ModelScores, usable_models

LossPooling = Literal["pooled", "shared_slope", "per_method"]
POOLINGS: tuple[LossPooling, ...] = ("pooled", "shared_slope", "per_method")
_PROBLEM_DRAWS = 400


@dataclass(frozen=True)
class LossScoreFit:
    """A fitted curve of score against validation loss.

    Attributes
    ----------
    dataset, metric : str
    pooling : {"pooled", "shared_slope", "per_method"}
    methods : tuple of str
        Methods fitted, in the order of their intercepts.
    binomial : BinomialFit
        Its ``theta``: an intercept (one for each method with ``shared_slope``) at ``loss_centre``, then the slope for
        ``loss_scale`` nats less.
    problem_draws : ndarray, shape (n_draws, k)
        ``theta`` for resampled problems.
    loss_centre, loss_scale : float
        Nats per token.
    loss_range : tuple of float
        Smallest and largest loss fitted.
    n_items : float
        Problems behind a score (mean over models).
    seed_dispersion : float
        Variance that one seed adds to the mean over seeds, relative to the binomial variance of one run; 0 where no
        model has two seeds.
    higher_is_better : bool
    """

    dataset: str
    metric: str
    pooling: LossPooling
    methods: tuple[str, ...]
    binomial: BinomialFit
    problem_draws: np.ndarray
    loss_centre: float
    loss_scale: float
    loss_range: tuple[float, float]
    n_items: float
    seed_dispersion: float
    higher_is_better: bool

    def design(self, loss: np.ndarray, method: str) -> np.ndarray:
        """Return regressors at losses (nats per token), shape (n, k).

        Raises
        ------
        Refusal
            If the method was not fitted and methods have their own levels.
        """
        x = (self.loss_centre - np.atleast_1d(np.asarray(loss, dtype=float))) / self.loss_scale
        if self.pooling != "pooled" and method not in self.methods:
            raise Refusal(f"{method} was not fitted on {self.dataset}; choose from {', '.join(self.methods)}")
        return _design(x, np.full(len(x), method), self.methods, self.pooling)

    def curve(self, loss: np.ndarray, method: str) -> np.ndarray:
        """Return the expected score at losses, shape (n,)."""
        return self._value(mean_rate(self.design(loss, method) @ self.binomial.theta, self.binomial.chance))

    def band(self, loss: np.ndarray, method: str, level: float, *, n_draws: int = 2000, seed: int = 0) -> np.ndarray:
        """Return the confidence band of the curve at losses, shape (2, n): on these problems, without scatter."""
        theta = self.binomial.draw(n_draws, np.random.default_rng(seed))[0]
        values = self._value(mean_rate(theta @ self.design(loss, method).T, self.binomial.chance))
        return np.quantile(values, [(1 - level) / 2, (1 + level) / 2], axis=0)

    def draw_scores(
        self, loss: np.ndarray, method: str, rng: np.random.Generator, *, observation: bool = True
    ) -> np.ndarray:
        """Draw scores at draws of a loss: each with its own draw of the curve.

        Parameters
        ----------
        loss : ndarray, shape (n_draws,)
        method : str
        rng : Generator
        observation : bool
            Add what a new size and a new run scatter on the same problems.

        Returns
        -------
        ndarray, shape (n_draws,)
        """
        theta, dispersion, size_variance = self.binomial.draw(len(loss), rng)
        eta = np.einsum("nk,nk->n", self.design(loss, method), theta)
        if observation:
            eta = eta + np.sqrt(size_variance) * rng.standard_normal(len(loss))
        p = mean_rate(eta, self.binomial.chance)
        if observation:
            p = _scatter(p, (dispersion + self.seed_dispersion) / self.n_items, rng)
        return self._value(p)

    def slope_interval(self, level: float, *, n_draws: int = 4000, seed: int = 0) -> tuple[float, float, float]:
        """Return the slope in logits for one nat less, and its interval over models, sizes and problems."""
        rng = np.random.default_rng(seed)
        draws = self.binomial.draw(n_draws, rng)[0][:, -1]
        if len(self.problem_draws):
            shift = self.problem_draws[:, -1] - self.problem_draws[:, -1].mean()
            draws = draws + rng.choice(shift, n_draws)
        lower, upper = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2]) / self.loss_scale
        return float(self.binomial.theta[-1] / self.loss_scale), float(lower), float(upper)

    def _value(self, goodness: np.ndarray) -> np.ndarray:
        return goodness if self.higher_is_better else 1.0 - goodness


def _scatter(p: np.ndarray, relative: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw rates of mean ``p`` and variance ``relative`` p (1 - p) from beta distributions."""
    p = np.clip(p, 1e-9, 1 - 1e-9)
    precision = np.maximum(1 / np.clip(relative, 1e-9, 0.999) - 1, 1e-3)
    return rng.beta(p * precision, (1 - p) * precision)


def _design(x: np.ndarray, method: np.ndarray, methods: tuple[str, ...], pooling: LossPooling) -> np.ndarray:
    if pooling == "shared_slope":
        return np.column_stack([np.asarray(method)[:, None] == np.array(methods), x]).astype(float)
    return np.column_stack([np.ones(len(x)), x])


def fit_loss_score(scores: ModelScores, pooling: LossPooling = "pooled", method: str | None = None) -> LossScoreFit:
    """Regress a data set's score on validation loss.

    Parameters
    ----------
    scores : ModelScores
    pooling : {"pooled", "shared_slope", "per_method"}
    method : str, optional
        The one method to fit, for ``per_method``.

    Raises
    ------
    Refusal
        If the scores cannot be related to loss, or the models are too few.
    """
    kept = usable_models(scores)
    if pooling == "per_method":
        if method is None:
            raise Refusal("a fit of one method needs its name; give method")
        kept = usable_models(kept.keep((kept.table["method"] == method).to_numpy()))
    table = kept.table
    methods = tuple(name for name in METHODS if name in set(table["method"]))
    loss, n_items = table["val_loss"].to_numpy(dtype=float), table["n_items"].to_numpy(dtype=float)
    centre, scale = float(loss.mean()), float(loss.std())
    design = _design((centre - loss) / scale, table["method"].to_numpy(), methods, pooling)
    chance = kept.chance
    rates = kept.goodness(table["value"].to_numpy(dtype=float))
    try:
        fitted = fit_rates(design, rates, n_items, table["n_params_base"].to_numpy(), chance)
    except Refusal as error:
        raise Refusal(f"{scores.dataset}: {error}") from error
    drawn = kept.goodness(kept.draws[:_PROBLEM_DRAWS])
    known = ~np.isnan(drawn).any(axis=1)
    problem_draws = solve_rates(design, drawn[known], n_items, chance, fitted.theta)[0]
    return LossScoreFit(
        dataset=kept.dataset,
        metric=kept.metric,
        pooling=pooling,
        methods=methods,
        binomial=fitted,
        problem_draws=problem_draws,
        loss_centre=centre,
        loss_scale=scale,
        loss_range=(float(loss.min()), float(loss.max())),
        n_items=float(n_items.mean()),
        seed_dispersion=_seed_dispersion(table, design @ fitted.theta, chance),
        higher_is_better=kept.higher_is_better,
    )


def _seed_dispersion(table: pd.DataFrame, eta: np.ndarray, chance: float) -> float:
    """Return the variance over seeds relative to the binomial, less what means over seeds carry of it."""
    known = table["seed_variance"].notna().to_numpy()
    if not known.any():
        return 0.0
    p = mean_rate(eta, chance)[known]
    n_seeds = table["n_seeds"].to_numpy(dtype=float)[known]
    relative = table["seed_variance"].to_numpy(dtype=float)[known] * table["n_items"].to_numpy(dtype=float)[known]
    relative = np.sum((n_seeds - 1) * relative) / np.sum((n_seeds - 1) * np.maximum(p * (1 - p), 1e-6))
    return float(relative * np.mean(1 - 1 / n_seeds))


def choose_pooling(scores: ModelScores) -> tuple[LossPooling, dict[str, float]]:
    """Choose between one curve for all methods and one level for each by what predicts the largest fitted size best.

    The sizes that are not held out are split once more: the largest of them is predicted, from its measured losses,
    by curves fitted to the smaller ones.

    Returns
    -------
    pooling : {"pooled", "shared_slope"}
        With fewer than three sizes ``pooled``, which has fewer parameters.
    errors : dict of str to float
        Root mean squared error of the score of each candidate; empty where none could be tried.
    """
    kept = usable_models(scores)
    sizes = np.unique(kept.table["n_params_base"])
    errors: dict[str, float] = {}
    is_last = (kept.table["n_params_base"] == sizes[-1]).to_numpy()
    for pooling in ("pooled", "shared_slope") if len(sizes) >= 3 else ():
        try:
            fitted = fit_loss_score(kept.keep(~is_last), pooling)
        except Refusal:
            continue
        rows = kept.table[is_last & kept.table["method"].isin(fitted.methods).to_numpy()]
        pairs = zip(rows["val_loss"], rows["method"], strict=True)
        predicted = np.array([fitted.curve(np.array([loss]), method)[0] for loss, method in pairs])
        if len(rows):
            errors[pooling] = float(np.sqrt(np.mean((predicted - rows["value"].to_numpy(dtype=float)) ** 2)))
    if len(errors) < 2:
        return "pooled", errors
    return ("pooled" if errors["pooled"] <= errors["shared_slope"] else "shared_slope"), errors


def method_effect(scores: ModelScores) -> tuple[float, int, int]:
    """Test whether methods score differently at equal loss: quasi-likelihood F test of their own levels against one.

    Returns
    -------
    p_value : float
    numerator_dof, denominator_dof : int

    Raises
    ------
    Refusal
        If the models are too few.
    """
    one, own = (fit_loss_score(scores, pooling) for pooling in ("pooled", "shared_slope"))
    kept = usable_models(scores)
    rates, n_items = kept.goodness(kept.table["value"].to_numpy()), kept.table["n_items"].to_numpy()
    deviances, scatter = [], 0.0
    for fitted in (one, own):
        x = (fitted.loss_centre - kept.table["val_loss"].to_numpy()) / fitted.loss_scale
        design = _design(x, kept.table["method"].to_numpy(), fitted.methods, fitted.pooling)
        p = np.clip(mean_rate(design @ fitted.binomial.theta, fitted.binomial.chance), 1e-12, 1 - 1e-12)
        deviances.append(-2 * float(np.sum(n_items * (rates * np.log(p) + (1 - rates) * np.log1p(-p)))))
        scatter = float(np.sum(n_items * (rates - p) ** 2 / (p * (1 - p))))
    more, dof = len(own.methods) - 1, len(rates) - len(own.methods) - 1
    if more < 1 or dof < 1:
        raise Refusal(f"{scores.dataset}: {len(rates)} models of {len(own.methods)} methods leave nothing to test")
    statistic = max(deviances[0] - deviances[1], 0.0) / more / (scatter / dof)
    return float(stats.f.sf(statistic, more, dof)), more, dof
