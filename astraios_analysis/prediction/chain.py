"""Score through the validation loss: size to loss by its laws, loss to score by binomial regression.

All methods are validated on the same tokens, so that one curve may serve them all (``pooled``), or every method has its
own level with a common slope (``shared_slope``). The curve is logistic above the data set's chance level; more in
`binomial`. Held-out models take no part. A score that is better when lower is turned round before.

The same curve is loss against performance as a regression (`regress_score`), with its errors: fitted over all sizes
(``pooled``); with a level for each size and a common slope (``within size``), which is what a method would be chosen
by; and for each size alone. The size held out is predicted from its measured losses by the pooled curve of the others.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd
from scipy.special import betaincinv, ndtr, ndtri

from astraios_analysis.prediction.binomial import BinomialFit, fit_rates, mean_rate
from astraios_analysis.prediction.direct import Direct, fit_direct
from astraios_analysis.prediction.outcome import Outcome
from astraios_analysis.prediction.stack import N_DRAWS, SAME, Fresh, seed_order, shuffled, sobol
from astraios_analysis.records.counts import open_ends
from astraios_analysis.records.frame import RunRecord
from astraios_analysis.records.refusal import Refusal, attempt
from astraios_analysis.records.registry import LOSS, METRICS
from astraios_analysis.scores.bootstrap import NO_RESAMPLES, find_score, percentile_interval
from astraios_analysis.scores.models import MIN_MODELS, ModelScores, model_scores, require_measure, usable_models
from astraios_analysis.scores.ranks import measured_datasets

LossPooling = Literal["pooled", "shared_slope"]


@dataclass(frozen=True)
class LossScoreFit:
    """A fitted curve of a share in which more is better against validation loss.

    ``binomial.theta`` holds an intercept (one for each method with ``shared_slope``) at ``loss_centre``, then the slope
    for ``loss_scale`` nats less. ``seed_dispersion`` is the variance between seeds, relative to the binomial variance
    of one run, ``shared_dispersion`` the part of it that runs of one seed share (0 where no model has two seeds), and
    ``carried`` the share of it that the means over seeds have, and so the dispersion.
    """

    dataset: str
    pooling: LossPooling
    methods: tuple[str, ...]
    binomial: BinomialFit
    loss_centre: float
    loss_scale: float
    n_items: float
    seed_dispersion: float
    shared_dispersion: float
    carried: float

    def _link(self, loss: np.ndarray, method: str, theta: np.ndarray) -> np.ndarray:
        """Return link values at losses (n,) by parameters (k,), or by those of each (n, k)."""
        x = (self.loss_centre - np.asarray(loss, dtype=float)) / self.loss_scale
        if self.pooling != "pooled" and method not in self.methods:
            raise Refusal(f"{method} was not fitted on {self.dataset}; choose from {', '.join(self.methods)}")
        place = self.methods.index(method) if self.pooling == "shared_slope" else 0
        return theta[..., place] + theta[..., -1] * x

    def curve(self, loss: np.ndarray, method: str) -> np.ndarray:
        """Return the expected share at losses, shape (n,)."""
        return mean_rate(self._link(loss, method, self.binomial.theta), self.binomial.chance)

    @cached_property
    def _drawn(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        places = sobol(N_DRAWS, 2 * len(self.binomial.theta) + 3)
        # Its own order, so that these draws do not go with those of the loss.
        places = places[np.random.default_rng(1).permutation(N_DRAWS)]
        theta, dispersion, size_variance = self.binomial.draw(places[:, 1:])
        return theta, dispersion, np.sqrt(size_variance) * ndtri(places[:, 0])

    def draw(
        self, loss: np.ndarray, method: str, *, observation: bool, fresh: Fresh = SAME, n_seeds: int = 1
    ) -> np.ndarray:
        """Draw shares at N_DRAWS draws of a loss, each with its own draw of the curve.

        For an observation, what a new size (the same for all methods) and a new run, or the mean of ``n_seeds``,
        scatter on the same problems comes on top.
        """
        theta, dispersion, size_effect = self._drawn
        eta = self._link(loss, method, theta)
        p = mean_rate(eta + size_effect[shuffled(fresh[0])] * observation, self.binomial.chance)
        if not observation:
            return p
        own = np.random.default_rng([13 + fresh[1], *method.encode()]).standard_normal(N_DRAWS)
        # Of what a run scatters by, its seed's part goes the same way for all methods.
        added = 1 / n_seeds - self.carried
        scatter = np.maximum(dispersion + added * self.seed_dispersion, 1e-300)
        share = np.clip(added * self.shared_dispersion / scatter, 0, 1)
        normal = np.sqrt(share) * ndtri(sobol(N_DRAWS, 1)[seed_order(fresh), 0]) + np.sqrt(1 - share) * own
        return _scatter(p, scatter / self.n_items, ndtr(normal))


def _scatter(p: np.ndarray, relative: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Return quantiles, at places in (0, 1), of beta distributions: mean ``p`` and variance ``relative`` p (1 - p)."""
    p = np.clip(p, 1e-9, 1 - 1e-9)
    precision = np.maximum(1 / np.clip(relative, 1e-9, 0.999) - 1, 1e-3)
    return betaincinv(p * precision, (1 - p) * precision, place)


def _design(x: np.ndarray, method: np.ndarray, methods: tuple[str, ...], pooling: LossPooling) -> np.ndarray:
    """Return regressors at losses x (n,) of one method each, or of one for all."""
    own = method[:, None] == np.array(methods) if pooling == "shared_slope" else np.ones((1, 1))
    return np.column_stack([np.broadcast_to(own, (len(x), own.shape[1])), x]).astype(float)


def fit_loss_score(scores: ModelScores, pooling: LossPooling = "pooled") -> LossScoreFit:
    """Regress a data set's score on validation loss."""
    kept = usable_models(scores)
    table = kept.table
    methods = tuple(dict.fromkeys(table["method"]))
    loss, n_items = table["val_loss"].to_numpy(dtype=float), table["n_items"].to_numpy(dtype=float)
    centre, scale = float(loss.mean()), float(loss.std())
    design = _design((centre - loss) / scale, table["method"].to_numpy(), methods, pooling)
    chance = kept.chance
    try:
        fitted = fit_rates(design, kept.good, n_items, table["n_params_base"].to_numpy(), chance)
    except Refusal as error:
        raise Refusal(f"{scores.dataset}: {error}") from error
    shared = table.assign(seed_variance=table["seed_variance"] * kept.together)
    seeds = (_seed_dispersion(of, design @ fitted.theta, chance) for of in (table, shared))
    # A model of one seed says nothing of their variance.
    carried = float((1 / table["n_seeds"][table["seed_variance"].notna()].astype(float)).mean())
    carried = 1.0 if np.isnan(carried) else carried
    return LossScoreFit(kept.dataset, pooling, methods, fitted, centre, scale, float(n_items.mean()), *seeds, carried)


def _seed_dispersion(table: pd.DataFrame, eta: np.ndarray, chance: float) -> float:
    """Return the variance over seeds relative to the binomial."""
    known = table["seed_variance"].notna().to_numpy()
    if not known.any():
        return 0.0
    p = mean_rate(eta, chance)[known]
    n_seeds = table["n_seeds"].to_numpy(dtype=float)[known]
    relative = table["seed_variance"].to_numpy(dtype=float)[known] * table["n_items"].to_numpy(dtype=float)[known]
    return float(np.sum((n_seeds - 1) * relative) / np.sum((n_seeds - 1) * np.maximum(p * (1 - p), 1e-6)))


def choose_pooling(scores: ModelScores) -> LossPooling:
    """Choose between one curve for all methods and one level for each by what predicts the largest fitted size best.

    The sizes that are not held out are split once more: the largest of them is predicted, from its measured losses,
    by curves fitted to the smaller ones. With fewer than three sizes none is tried, and ``pooled`` has fewer
    parameters.
    """
    kept = usable_models(scores)
    sizes = np.unique(kept.table["n_params_base"])
    errors: dict[LossPooling, float] = {}
    is_last = (kept.table["n_params_base"] == sizes[-1]).to_numpy()
    for pooling in ("pooled", "shared_slope") if len(sizes) >= 3 else ():
        try:
            fitted = fit_loss_score(kept.keep(~is_last), pooling)
        except Refusal:
            continue
        test = kept.keep(is_last & kept.table["method"].isin(fitted.methods).to_numpy())
        pairs = zip(test.table["val_loss"], test.table["method"], strict=True)
        predicted = np.array([fitted.curve(np.array([loss]), method)[0] for loss, method in pairs])
        if len(predicted):
            errors[pooling] = float(np.sqrt(np.mean((predicted - test.good) ** 2)))
    # The first of equals, which has fewer parameters.
    return min(errors, key=errors.__getitem__) if len(errors) == 2 else "pooled"


@dataclass(frozen=True)
class Chain:
    """Laws of the loss against size, and the curve of the score against the loss."""

    curve: LossScoreFit
    losses: Direct

    def weights_of(self, method: str) -> dict[str, float]:
        """Weights by the law of a method's loss and the curve after it; none where it has no way through the loss."""
        own = self.losses.weights_of(method) if method in self.methods else {}
        return {f"{name}>logistic/{self.curve.pooling}": weight for name, weight in own.items()}

    @property
    def methods(self) -> tuple[str, ...]:
        """Methods whose scores follow from their losses."""
        known = self.losses.methods if self.curve.pooling == "pooled" else self.curve.methods
        return tuple(method for method in self.losses.methods if method in known)

    def draw(self, n_params: float, fresh: Fresh = SAME) -> dict[str, dict[str, np.ndarray]]:
        """Draw shares in which more is better, by kind and method, each of shape (N_DRAWS,)."""
        found: dict[str, dict[str, np.ndarray]] = {}
        for kind, losses in self.losses.draw(n_params, fresh).items():
            found[kind] = {
                method: self.curve.draw(losses[:, place], method, observation=kind == "observation", fresh=fresh)
                for place, method in enumerate(self.losses.methods)
                if method in self.methods
            }
        return found


def fit_chain(scores: ModelScores, losses: Outcome) -> Chain:
    """Fit both steps of the way through the loss."""
    return Chain(fit_loss_score(scores, choose_pooling(scores)), fit_direct(losses))


POOLED, WITHIN = "pooled", "within size"


@dataclass(frozen=True)
class LossRegression:
    """A data set's score on a loss: parameters, the pooled curve, and the held-out size.

    ``table``: one row a scope and parameter: ``dataset, on, scope, parameter, value, lower, upper, level, n_models,
    n_sizes``. Parameters: slope, in logits per nat less; midpoint, the loss half way from chance to 1; dispersion, 1
    where models scatter like independent problems; size_sd, of the size effect, in logits. NaN is: not known.
    ``held_out``: one row a model held out, or of the largest size: ``size, method, loss, measured, predicted, lower,
    upper, covered``, with intervals of means over as many seeds as were measured. ``models``: those fitted.
    """

    dataset: str
    on: str
    level: float
    table: pd.DataFrame
    held_out: pd.DataFrame
    models: pd.DataFrame
    fitted: LossScoreFit
    metric: str
    higher_is_better: bool

    def curve(self, losses: Sequence[float]) -> pd.DataFrame:
        """Return the pooled curve with its confidence band: ``loss, value, lower, upper``, in units of the score."""
        rows = []
        for loss in losses:
            drawn = self.fitted.draw(np.full(N_DRAWS, float(loss)), self.fitted.methods[0], observation=False)
            value = self.fitted.curve(np.array([loss]), self.fitted.methods[0])[0]
            rows.append((loss, *_turn(self.higher_is_better, value, *percentile_interval(drawn, self.level))))
        return pd.DataFrame(rows, columns=["loss", "value", "lower", "upper"])


def _turn(higher_is_better: bool, value: float, lower: float, upper: float) -> tuple[float, float, float]:
    return (value, lower, upper) if higher_is_better else (1 - value, 1 - upper, 1 - lower)


def regress_score(
    records: Sequence[RunRecord],
    dataset: str,
    on: str = LOSS,
    *,
    level: float = 0.95,
) -> LossRegression:
    """Regress a data set's primary score on a loss of the same runs, ``val_loss`` or one of a task's answers."""
    metric, _ = require_measure(records, dataset)
    if not METRICS[metric].is_bounded:
        raise Refusal(f"{dataset} is measured by {METRICS[metric].label}, and shares alone are regressed on a loss")
    scores = _on(model_scores(records, dataset, NO_RESAMPLES), records, dataset, on)
    kept = usable_models(scores)
    fitted, rows = fit_loss_score(scores), []
    n_sizes = kept.table["n_params_base"].nunique()
    _add(rows, POOLED, fitted.binomial, fitted, level, n_sizes)
    scopes = {WITHIN: kept}
    for n_params, own in kept.table.groupby("n_params_base", sort=True):
        scopes[f"at {own['size'].iloc[0]}"] = kept.keep((kept.table["n_params_base"] == n_params).to_numpy())
    for scope, chosen in scopes.items():
        with suppress(Refusal):
            found = _within(chosen, fitted)
            _add(rows, scope, found, fitted, level, chosen.table["n_params_base"].nunique())
    table = pd.DataFrame(rows).assign(dataset=dataset, on=on, level=level)
    first = ["dataset", "on", "scope", "parameter", "value", "lower", "upper", "level", "n_models", "n_sizes"]
    held_out = _hold_out(scores, level)
    return LossRegression(
        dataset, on, level, table[first], held_out, kept.table, fitted, scores.metric, scores.higher_is_better
    )


def regress_all(
    records: Sequence[RunRecord], datasets: Sequence[str] | None = None, on: str = LOSS, *, level: float = 0.95
) -> tuple[dict[str, LossRegression], dict[str, str]]:
    """Run `regress_score` for data sets, all that are measured by default: what was found, and why others were not."""
    names = measured_datasets(list(records)) if datasets is None else datasets
    return attempt(names, lambda name: regress_score(records, name, on, level=level))


def _on(scores: ModelScores, records: Sequence[RunRecord], dataset: str, on: str) -> ModelScores:
    """Return scores with another loss in place of the validation loss."""
    if on == LOSS or scores.table.empty:
        return scores
    found: dict[tuple, list[float]] = {}
    known, measure = {}, require_measure(records, dataset)
    for record in records:
        losses = getattr(record, "task_losses", {})
        known |= losses
        if on in losses and find_score(record, dataset, *measure) is not None:
            found.setdefault((record.n_params_base, record.method), []).append(losses[on].loss)
    if not found:
        raise Refusal(f"no run has a loss {on!r}; choose from {', '.join((LOSS, *known))}")
    models = zip(scores.table["n_params_base"], scores.table["method"], strict=True)
    return replace(scores, table=scores.table.assign(val_loss=[float(np.mean(found.get(m, [np.nan]))) for m in models]))


def _within(kept: ModelScores, fitted: LossScoreFit) -> BinomialFit:
    """Fit a level for each size and a common slope, over the sizes at which losses and scores differ."""
    table = kept.table
    size, loss = table["n_params_base"].to_numpy(), table["val_loss"].to_numpy(dtype=float)
    sizes = [n for n in np.unique(size) if np.ptp(kept.good[size == n]) > 0 and np.ptp(loss[size == n]) > 0]
    rows = np.isin(size, sizes)
    if rows.sum() < MIN_MODELS:
        raise Refusal(f"{kept.dataset}: {rows.sum()} models differ in loss and score within their size; add methods")
    x = (fitted.loss_centre - loss[rows]) / fitted.loss_scale
    design = np.column_stack([size[rows][:, None] == np.array(sizes), x]).astype(float)
    n_items = table["n_items"].to_numpy(dtype=float)[rows]
    return fit_rates(design, kept.good[rows], n_items, size[rows], fitted.binomial.chance)


def _add(rows: list[dict], scope: str, found: BinomialFit, fitted: LossScoreFit, level: float, n_sizes: int) -> None:
    """Add rows of one fit's parameters."""
    theta, dispersion, size_variance = found.draw(sobol(N_DRAWS, 2 * len(found.theta) + 2))
    slopes = theta[:, -1] / fitted.loss_scale
    parameters = {"slope": (float(found.theta[-1] / fitted.loss_scale), slopes)}
    if scope == POOLED:
        middle, tail = _midpoint(found.theta[None], fitted)[0], (1 - level) / 2
        # Where the slope may be 0 the curve may reach half way anywhere.
        drawn = _midpoint(theta, fitted) if np.mean(slopes <= 0) <= tail else np.full(len(theta), np.nan)
        parameters["midpoint"] = (np.nan if np.isnan(drawn).all() else float(middle), drawn)
        parameters["size_sd"] = (float(np.sqrt(found.size_variance)), np.sqrt(size_variance))
    parameters["dispersion"] = (found.dispersion, dispersion)
    for name, (value, drawn) in parameters.items():
        lower, upper = percentile_interval(drawn, level)
        row = {"scope": scope, "parameter": name, "value": value, "lower": lower, "upper": upper}
        rows.append(row | {"n_models": found.n_obs, "n_sizes": n_sizes})


def _midpoint(theta: np.ndarray, fitted: LossScoreFit) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return fitted.loss_centre + fitted.loss_scale * theta[:, 0] / theta[:, 1]


def _hold_out(scores: ModelScores, level: float) -> pd.DataFrame:
    """Predict the models that are held out, or else those of the largest size, from the others' curve."""
    columns = ["size", "method", "loss", "measured", "predicted", "lower", "upper", "covered"]
    table = scores.table[scores.table["val_loss"].notna()]
    is_test = table["held_out"].astype(bool)
    if not is_test.any():
        is_test = table["n_params_base"] == table["n_params_base"].max()
    chosen = set(table.index[is_test])
    try:
        fitted = fit_loss_score(scores.keep(np.array([place not in chosen for place in scores.table.index])))
    except Refusal:
        return pd.DataFrame(columns=columns)
    rows = []
    for row in table[is_test].to_dict("records"):
        loss, n_seeds = np.full(N_DRAWS, row["val_loss"]), max(int(row["n_seeds"]), 1)
        drawn = fitted.draw(loss, fitted.methods[0], observation=True, n_seeds=n_seeds)
        ends = open_ends(np.array(percentile_interval(drawn, level)), row["n_items"])
        centre, low, high = _turn(scores.higher_is_better, float(np.median(drawn)), *map(float, ends))
        covered = bool(low <= row["value"] <= high)
        rows.append((row["size"], row["method"], row["val_loss"], row["value"], centre, low, high, covered))
    return pd.DataFrame(rows, columns=columns)
