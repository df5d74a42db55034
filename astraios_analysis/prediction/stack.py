"""Choose among laws and poolings on the points that are fitted, and average them: stacking over left-out sizes.

Every form is fitted to the smaller sizes and predicts the largest one left, then the second largest, as long as three
sizes remain to fit. Weights maximise the log score of the mixture on what was left out (Yao et al. 2018), each size
counting as one look, because its methods share what is peculiar to it; and one more look is taken up by Akaike weights
of the small-sample criterion on all points. Where no size can be left out, Akaike weights stand alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import logit, logsumexp

from astraios_analysis.prediction.pool import Pool
from astraios_analysis.prediction.pool_fits import Form, fit_form, forms_of
from astraios_analysis.prediction.pooled_points import MIN_SIZES, Link, PooledPoints
from astraios_analysis.records.refusal import Refusal

MAX_LEFT_OUT = 3
_EM_STEPS = 500


@dataclass(frozen=True)
class FormScore:
    """How one form did on the points that were fitted.

    Attributes
    ----------
    form : Form
    aicc : float
        Of all points; infinite where there are too few for the form.
    left_out : float
        Mean log density of the sizes left out, of log loss or of a share's logit; NaN where none could be.
    weight : float
    """

    form: Form
    aicc: float
    left_out: float
    weight: float


@dataclass(frozen=True)
class Stack:
    """Forms fitted to the same points, with weights.

    Attributes
    ----------
    pools : tuple of Pool
    scores : tuple of FormScore
        In the order of ``pools``.
    n_left_out : int
        Sizes that the weights were learnt from.
    """

    pools: tuple[Pool, ...]
    scores: tuple[FormScore, ...]
    n_left_out: int

    @property
    def weights(self) -> dict[str, float]:
        """Weight of each form, by name."""
        return {score.form.name: score.weight for score in self.scores}

    @property
    def methods(self) -> tuple[str, ...]:
        """Methods fitted."""
        return self.pools[0].methods

    @property
    def x_range(self) -> tuple[float, float]:
        """Smallest and largest size fitted."""
        return self.pools[0].x_range

    def draw(
        self, methods: Sequence[str], n_params: float, n_draws: int, rng: np.random.Generator, *, observation: bool
    ) -> np.ndarray:
        """Draw outcomes of methods at one size together, each draw from one form (`Pool.draw`)."""
        chosen = rng.choice(len(self.pools), size=n_draws, p=[score.weight for score in self.scores])
        drawn = np.empty((n_draws, len(methods)))
        for index, pool in enumerate(self.pools):
            own = np.flatnonzero(chosen == index)
            if len(own):
                drawn[own] = pool.draw(methods, n_params, len(own), rng, observation=observation)
        return drawn


def fit_stack(points: PooledPoints, link: Link, *, seed: int = 0) -> Stack:
    """Fit every form to points and weigh them by how they predict sizes left out, and by AICc.

    Parameters
    ----------
    points : PooledPoints
    link : {"log", "logit"}
    seed : int

    Raises
    ------
    Refusal
        If no form can be fitted.
    """
    fitted, refusal = _fit_all(points, link, forms_of(link, len(set(points.method))), seed)
    if not fitted:
        raise refusal or Refusal("no form can be fitted to these points")
    criteria = np.array([criterion for _, _, criterion in fitted])
    densities = _left_out_densities(points, link, [form for form, _, _ in fitted], seed)
    weights = _weigh(akaike_weights(criteria), densities)
    mean = np.mean([d.mean(axis=1) for d in densities], axis=0) if densities else np.full(len(fitted), np.nan)
    scores = [
        FormScore(form, criterion, float(m), float(w))
        for (form, _, criterion), m, w in zip(fitted, mean, weights, strict=True)
    ]
    return Stack(tuple(pool for _, pool, _ in fitted), tuple(scores), len(densities))


def _fit_all(points, link, forms, seed):
    found, refusal = [], None
    for form in forms:
        try:
            found.append((form, *fit_form(points, link, form, seed=seed)))
        except Refusal as error:
            # What the simplest form is refused for is what the points lack.
            refusal = refusal or error
    return found, refusal


def akaike_weights(criteria: np.ndarray) -> np.ndarray:
    """Return Akaike weights of criteria, equal ones where none is finite."""
    finite = np.isfinite(criteria)
    if not finite.any():
        return np.full(len(criteria), 1 / len(criteria))
    relative = np.where(finite, np.exp(-(criteria - criteria[finite].min()) / 2), 0.0)
    return relative / relative.sum()


def _left_out_densities(points, link, forms, seed) -> list[np.ndarray]:
    """Return log densities of points left out, one array (forms, methods) for each size."""
    found = []
    sizes = np.unique(points.n_params)
    for place in range(len(sizes) - 1, MIN_SIZES - 1, -1)[:MAX_LEFT_OUT]:
        train, test = points.keep(points.n_params < sizes[place]), points.keep(points.n_params == sizes[place])
        fitted = {form: pool for form, pool, _ in _fit_all(train, link, forms, seed)[0]}
        known = np.isin(test.method, train.method)
        if not known.any() or not fitted:
            continue
        test, nothing = test.keep(known), np.full(int(known.sum()), -np.inf)
        own = [log_density(fitted[form], test) if form in fitted else nothing for form in forms]
        found.append(np.array(own))
    return found


def log_density(pool: Pool, test: PooledPoints) -> np.ndarray:
    """Return the log density of new runs at one size, each by itself, on the scale of log losses or logits, (n,).

    Exact but for a loss's line, which is taken as normal in its logarithm.
    """
    mean, covariance = pool.posterior(test.method.tolist(), test.n_params)
    variance = np.einsum("hii->hi", covariance)
    more = pool.points.seed_variance * max(0.0, 1 / test.n_seeds - 1 / pool.points.n_seeds)
    scatter = (pool.sigma_size**2 + pool.sigma_run**2)[:, None] + pool.noise_factor[:, None] * pool.noise_at(mean)
    if pool.link == "log":
        line = pool.floors(test.method.tolist()) + np.exp(mean)
        variance, centre, value = variance * (np.exp(mean) / line) ** 2, np.log(line), np.log(test.y)
    else:
        centre, value = mean, logit(test.y)
    total = variance + scatter + more
    by_version = -0.5 * (np.log(2 * np.pi * total) + (value - centre) ** 2 / total)
    return logsumexp(by_version, axis=0) - np.log(len(by_version))


def _weigh(prior: np.ndarray, densities: Sequence[np.ndarray]) -> np.ndarray:
    """Return weights that maximise the log score of the mixture, with the prior as one more look."""
    weights = np.maximum(prior, 1e-12)
    weights = weights / weights.sum()
    for _ in range(_EM_STEPS if densities else 0):
        shares = prior.copy()
        for density in densities:
            joint = np.log(np.maximum(weights, 1e-300))[:, None] + density
            shares += np.exp(joint - logsumexp(joint, axis=0)).mean(axis=1)
        weights = shares / (1 + len(densities))
    return weights / weights.sum()
