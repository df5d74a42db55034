"""Score through the validation loss: size to loss by its laws, loss to score by binomial regression.

All methods are validated on the same tokens, so that one curve may serve them all (``pooled``), or every method has its
own level with a common slope (``shared_slope``). The curve is logistic above the data set's chance level; more in
`binomial`. Held-out models take no part. A score that is better when lower is turned round before.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd
from scipy.special import ndtri

from astraios_analysis.prediction.binomial import BinomialFit, fit_rates, mean_rate
from astraios_analysis.prediction.points import PooledPoints
from astraios_analysis.prediction.stack import N_DRAWS, Stack, fit_stack, sobol
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.scores.models import ModelScores, usable_models

LossPooling = Literal["pooled", "shared_slope"]


@dataclass(frozen=True)
class LossScoreFit:
    """A fitted curve of a share in which more is better against validation loss.

    ``binomial.theta`` holds an intercept (one for each method with ``shared_slope``) at ``loss_centre``, then the slope
    for ``loss_scale`` nats less. ``seed_dispersion`` is the variance that one seed adds to the mean over seeds,
    relative to the binomial variance of one run; 0 where no model has two seeds.
    """

    dataset: str
    pooling: LossPooling
    methods: tuple[str, ...]
    binomial: BinomialFit
    loss_centre: float
    loss_scale: float
    n_items: float
    seed_dispersion: float

    def design(self, loss: np.ndarray, method: str) -> np.ndarray:
        """Return regressors at losses (nats per token), shape (n, k)."""
        x = (self.loss_centre - np.atleast_1d(np.asarray(loss, dtype=float))) / self.loss_scale
        if self.pooling != "pooled" and method not in self.methods:
            raise Refusal(f"{method} was not fitted on {self.dataset}; choose from {', '.join(self.methods)}")
        return _design(x, np.array([method]), self.methods, self.pooling)

    def curve(self, loss: np.ndarray, method: str) -> np.ndarray:
        """Return the expected share at losses, shape (n,)."""
        return mean_rate(self.design(loss, method) @ self.binomial.theta, self.binomial.chance)

    @cached_property
    def _drawn(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        places = sobol(N_DRAWS, 2 * len(self.binomial.theta) + 3)
        # Its own order, so that these draws do not go with those of the loss.
        places = places[np.random.default_rng(1).permutation(N_DRAWS)]
        theta, dispersion, size_variance = self.binomial.draw(places[:, 1:])
        return theta, dispersion, np.sqrt(size_variance) * ndtri(places[:, 0])

    def draw(self, loss: np.ndarray, method: str, *, observation: bool) -> np.ndarray:
        """Draw shares at N_DRAWS draws of a loss, each with its own draw of the curve.

        For an observation, what a new size (the same for all methods) and a new run scatter on the same problems comes
        on top.
        """
        theta, dispersion, size_effect = self._drawn
        eta = np.einsum("nk,nk->n", self.design(loss, method), theta)
        p = mean_rate(eta + size_effect * observation, self.binomial.chance)
        if not observation:
            return p
        rng = np.random.default_rng([13, *method.encode()])
        return _scatter(p, (dispersion + self.seed_dispersion) / self.n_items, rng)


def _scatter(p: np.ndarray, relative: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw rates of mean ``p`` and variance ``relative`` p (1 - p) from beta distributions."""
    p = np.clip(p, 1e-9, 1 - 1e-9)
    precision = np.maximum(1 / np.clip(relative, 1e-9, 0.999) - 1, 1e-3)
    return rng.beta(p * precision, (1 - p) * precision)


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
    seeds = _seed_dispersion(table, design @ fitted.theta, chance)
    return LossScoreFit(kept.dataset, pooling, methods, fitted, centre, scale, float(n_items.mean()), seeds)


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
    losses: Stack

    @property
    def weights(self) -> dict[str, float]:
        """Weights by the law of the loss and the curve after it."""
        return {f"{name}>logistic/{self.curve.pooling}": weight for name, weight in self.losses.weights.items()}

    def draw(self, n_params: float) -> dict[str, dict[str, np.ndarray]]:
        """Draw shares in which more is better, by kind and method, each of shape (N_DRAWS,)."""
        found: dict[str, dict[str, np.ndarray]] = {}
        for kind, losses in self.losses.draw(n_params).items():
            known = self.losses.methods if self.curve.pooling == "pooled" else self.curve.methods
            found[kind] = {
                method: self.curve.draw(losses[:, place], method, observation=kind == "observation")
                for place, method in enumerate(self.losses.methods)
                if method in known
            }
        return found


def fit_chain(scores: ModelScores, losses: PooledPoints) -> Chain:
    """Fit both steps of the way through the loss."""
    return Chain(fit_loss_score(scores, choose_pooling(scores)), fit_stack(losses, "log"))
