"""Methods at two sizes whose expected scores lie on, or round, a known line; all answer the same problems."""

import numpy as np
from contrast_worlds import make_run
from scipy.optimize import brentq
from scipy.special import expit

from astraios_analysis.scores.bootstrap import ProblemBootstrap
from astraios_analysis.scores.transfer import transfer_slopes

SMALL, LARGE, DATASET = 1_000, 7_000, "humanevalfix_python"
METHODS = ("fft", "lora", "ptuning", "ia3", "adapterh", "adapterp", "parallel")
DIFFICULTY, OWN, LEVEL = 2.0, 0.5, 0.4
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(60)


def _logit_of(mean):
    """The logit of an average problem at which a mean share of all problems is expected."""
    spread = np.hypot(DIFFICULTY, OWN)
    return brentq(lambda a: _WEIGHTS @ expit(a + spread * _NODES) / _WEIGHTS.sum() - mean, -12, 12)


def world(rng, *, slope=1.2, scatter=0.0, spread=0.05, n_problems=164, n_samples=20):
    """Records, and the slope over these methods' expected scores."""
    small = 0.2 + spread * np.linspace(-1.5, 1.5, len(METHODS))
    large = LEVEL + slope * (small - 0.2) + scatter * rng.standard_normal(len(METHODS))
    shared, records = DIFFICULTY * rng.standard_normal(n_problems), []
    for n_params, means in ((SMALL, small), (LARGE, large)):
        for method, mean in zip(METHODS, means, strict=True):
            logits = _logit_of(mean) + shared + OWN * rng.standard_normal(n_problems)
            records.append(make_run(n_params, method, 0, rng.binomial(n_samples, expit(logits)), n_samples))
    return records, float(np.polyfit(small, large, 1)[0])


def slope_coverage(n_worlds, *, seed=0, **design):
    """Share of worlds with a slope, share of those whose interval holds it, median error, and least squares' error."""
    hits, errors, naive = [], [], []
    for number in range(n_worlds):
        records, truth = world(np.random.default_rng([seed, number]), **design)
        row = transfer_slopes(records, DATASET, bootstrap=ProblemBootstrap(n_draws=1000)).iloc[0]
        if np.isnan(row["slope"]):
            continue
        hits.append(row["slope_lower"] <= truth <= row["slope_upper"])
        errors.append(row["slope"] - truth)
        value = {(r.n_params_base, r.method): r.scores[0].value for r in records}
        x, y = ([value[n, method] for method in METHODS] for n in (SMALL, LARGE))
        naive.append(np.polyfit(x, y, 1)[0] - truth)
    return len(hits) / n_worlds, float(np.mean(hits)), float(np.median(errors)), float(np.median(naive))
