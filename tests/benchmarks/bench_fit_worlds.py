"""Coverage and bias of pooled power laws in simulated worlds: 28 runs, seven methods at four sizes, a known law."""

import numpy as np
import pytest
from scipy import stats

from astraios_analysis.laws.partial_pooling import pool_partially

SIZES = np.array([1.137e9, 3.043e9, 7.327e9, 15.517e9])
CENTRE = float(np.exp(np.log(SIZES).mean()))
N_METHODS, N_WORLDS, TARGET, EXPONENT = 7, 500, 34e9, 0.3
LEVELS = np.array([0.5, 0.8, 0.95])
FIRST_SEED = 50_000


@pytest.mark.parametrize(
    ("floor", "tau", "noise"), [(0.0, 0.0, 0.01), (0.0, 0.03, 0.01), (0.4, 0.0, 0.01), (0.4, 0.03, 0.01)]
)
def test_coverage_and_bias(floor, tau, noise):
    covered, medians = np.zeros((4, 3)), []
    method, x = np.repeat(np.arange(N_METHODS), 4), np.tile(SIZES, N_METHODS)
    for seed in range(FIRST_SEED, FIRST_SEED + N_WORLDS):
        rng = np.random.default_rng(seed)
        exponents = EXPONENT + tau * rng.normal(size=N_METHODS)
        amplitudes = np.exp(np.log(0.6) + rng.normal(0, 0.2, N_METHODS))
        y = (floor + amplitudes[method] * (x / CENTRE) ** -exponents[method]) * np.exp(rng.normal(0, noise, len(x)))
        pool = pool_partially(x, y, method, has_floor=floor > 0, exponents="partial" if tau else "shared")
        draws = pool.draw(2000, rng)
        medians.append(np.median(draws.common_exponent))
        truth = floor + amplitudes[3] * (TARGET / CENTRE) ** -exponents[3]
        new = draws.observations([TARGET], "3", rng)[:, 0]
        curve = draws.curves([TARGET], "3")[:, 0]
        pairs = (
            (draws.common_exponent, EXPONENT),
            (draws.exponent[:, 2], exponents[2]),
            (curve, truth),
            (new, truth * np.exp(rng.normal(0, noise))),
        )
        for row, (values, true) in enumerate(pairs):
            ends = np.quantile(values, [(1 - LEVELS) / 2, (1 + LEVELS) / 2], axis=0)
            covered[row] += (ends[0] <= true) & (true <= ends[1])
    bias = np.mean(medians) / EXPONENT - 1
    print(f"\nfloor {floor}, tau {tau}, noise {noise}: coverage of 50, 80, 95 % intervals, bias {100 * bias:.2f} %")
    for name, row in zip(
        ("common exponent", "a method's exponent", "curve at 34e9", "new run at 34e9"), covered, strict=True
    ):
        print(f"  {name}: {', '.join(f'{share:.3f}' for share in row / N_WORLDS)}")
    assert abs(bias) < 0.02
    assert np.all(covered >= stats.binom.ppf(0.0005, N_WORLDS, LEVELS))
    assert np.all(covered <= stats.binom.ppf(0.9995, N_WORLDS, LEVELS))
