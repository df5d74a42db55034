"""Intervals hold what they promise in simulated worlds in which the pooled law is true."""

import numpy as np
import pytest
from scipy.special import expit

from astraios_analysis.laws.forms import LOGIT_LINEAR, decades
from astraios_analysis.prediction.fits import fit

SIZES = np.array([1.137e9, 3.043e9, 7.327e9, 15.517e9, 34e9])
LEVELS = np.array([0.5, 0.8, 0.95])
N_WORLDS = 600
# Four binomial standard errors: about one chance in ten thousand for each of the comparisons below.
MARGIN = 4 * np.sqrt(LEVELS * (1 - LEVELS) / N_WORLDS)
CHAIN = ((0, 0), (0, 1), (1, 1), (1, 2), (2, 2), (2, 3))
TWO_GAPS = ((0, 1), (0, 2), (0, 3), (1, 0), (1, 1), (1, 3))
LATE = tuple((m, s) for m in range(7) for s in range(4) if s < 3 or m < 3)


def full(n_methods, n_sizes):
    return tuple((m, s) for m in range(n_methods) for s in range(n_sizes))


def coverage(cells, size_sd, run_sd, n_missing=0):
    """Share of worlds whose truth at the next size lies inside, shape (mean or observation, level)."""
    rng = np.random.default_rng(12)
    n_methods, n_sizes = np.max(cells, axis=0) + 1
    hits = np.zeros((2, len(LEVELS)))
    for _ in range(N_WORLDS):
        line = rng.normal(-1.5, 0.3, (n_methods, 1)) + decades(SIZES[: n_sizes + 1])
        z = line + rng.normal(0, size_sd, n_sizes + 1) + rng.normal(0, run_sd, line.shape)
        kept = rng.permutation(len(cells))[n_missing:]
        method, size = np.array(cells)[kept].T
        found = fit(LOGIT_LINEAR, SIZES[size], expit(z[method, size]), [str(m) for m in method])
        group = rng.choice(found.groups)
        design = found.design(SIZES[n_sizes], group)
        error = [abs((design @ found.theta)[0] - truth[int(group), -1]) for truth in (line, z)]
        for kind in (0, 1):
            half = [found.half_width(design, level, observation=bool(kind))[0] for level in LEVELS]
            hits[kind] += error[kind] <= half
    return hits / N_WORLDS


@pytest.mark.parametrize("n_sizes", [3, 4])
def test_one_method_alone_is_covered_as_often_as_asked(n_sizes):
    found = coverage(full(1, n_sizes), 0.0, 0.1)
    assert np.all(np.abs(found - LEVELS) <= MARGIN), found


@pytest.mark.parametrize(
    ("cells", "size_sd", "run_sd", "n_missing"),
    [
        (full(7, 3), 0.0, 0.1, 0),
        (full(7, 3), 0.15, 0.05, 2),
        (full(7, 3), 0.3, 0.1, 0),
        (full(7, 4), 0.0, 0.05, 2),
        (full(7, 4), 0.15, 0.1, 0),
        (full(7, 4), 0.3, 0.1, 2),
        (full(2, 3), 0.15, 0.1, 0),
        (LATE, 0.15, 0.1, 0),
        (TWO_GAPS, 0.0, 0.1, 0),
        (CHAIN, 0.0, 0.1, 0),
        (CHAIN, 0.3, 0.1, 0),
    ],
)
def test_pooled_methods_are_covered_at_least_as_often_as_asked(cells, size_sd, run_sd, n_missing):
    found = coverage(cells, size_sd, run_sd, n_missing)
    assert np.all(found >= LEVELS - MARGIN), found


def test_a_large_size_effect_leaves_the_pooled_interval_no_wider_than_needed():
    found = coverage(full(7, 4), 0.3, 0.05)
    assert np.all(np.abs(found - LEVELS) <= MARGIN + 0.02), found


@pytest.mark.parametrize("cells", [TWO_GAPS, CHAIN, full(7, 3), full(1, 4)])
def test_intervals_widen_with_the_level_and_from_mean_to_observation(cells):
    rng = np.random.default_rng(13)
    method, size = np.array(cells).T
    for _ in range(30):
        y = expit(rng.normal(-1, 0.1, len(method)))
        found = fit(LOGIT_LINEAR, SIZES[size], y, [str(m) for m in method])
        for n_params in (5e8, 4e9, 34e9, 155e9):
            design = found.design(n_params, found.groups[-1])
            mean, new = ([found.half_width(design, p, observation=o)[0] for p in LEVELS] for o in (False, True))
            assert 0 < mean[0] < mean[1] < mean[2]
            assert 0 < new[0] < new[1] < new[2]
            assert all(np.array(mean) < new)
