"""Choosing a method by small models in simulated worlds: is P(best) right as often as it says, and what is given up?

Seven methods at four sizes (1.1e9 to 15.5e9) score on 164 problems; the target is one new run of each method at 34e9.
The logit of a score is linear in log size, with intercepts, slopes, size effects and run effects drawn for each world.
What is judged is what `astraios predict` and `rank` use: forms averaged by stacking (`stack.fit_stack`).
"""

import numpy as np
import pytest
from scipy.special import expit

from astraios_analysis.prediction.outcome import PooledPoints
from astraios_analysis.prediction.stack import fit_stack
from astraios_analysis.records.counts import inside_unit_interval

SIZES, TARGET = np.array([1.137e9, 3.043e9, 7.327e9, 15.517e9]), 34e9
METHODS = tuple("abcdefg")
N_WORLDS, N_PROBLEMS = 100, 164
LEVELS = np.array([0.5, 0.8, 0.95])
# Spread of intercepts, of slopes per decade, of size effects and of run effects, all on the logit scale.
WORLDS = {
    "shared slopes": (0.3, 0.0, 0.05, 0.05),
    "own slopes": (0.3, 0.3, 0.05, 0.05),
    "noisy": (0.15, 0.1, 0.2, 0.15),
}


def draw_world(rng, spread, slope_sd, size_sd, run_sd):
    """Points to fit, the methods' scores measured at the target, and their expected logits there."""
    x = np.log10(np.append(SIZES, TARGET) / 1e9)
    level = -1.5 + spread * rng.standard_normal((7, 1))
    line = level + (0.8 + slope_sd * rng.standard_normal((7, 1))) * x
    p = expit(line + size_sd * rng.standard_normal(5) + run_sd * rng.standard_normal((7, 5)))
    share = rng.binomial(N_PROBLEMS, p) / N_PROBLEMS
    share = inside_unit_interval(share.ravel(), np.full(share.size, float(N_PROBLEMS))).reshape(share.shape)
    y = share[:, :4].ravel()
    points = PooledPoints(np.tile(SIZES, 7), y, np.repeat(METHODS, 4), 1 / (N_PROBLEMS * y * (1 - y)))
    return points, share[:, 4], line[:, 4]


def pair_accuracy(one, two):
    first, second = np.triu_indices(len(one), 1)
    signs = np.sign(one[first] - one[second]) * np.sign(two[first] - two[second])
    return float(((signs + 1) / 2).mean())


@pytest.mark.parametrize("name", WORLDS)
def test_probability_of_being_best(name):
    claimed, happened, hits, small, law = [], [], [], [], []
    for seed in range(N_WORLDS):
        rng = np.random.default_rng([seed, 3])
        points, measured, line = draw_world(rng, *WORLDS[name])
        drawn = fit_stack(points, "logit").draw(TARGET)["observation"]
        is_best = drawn == drawn.max(axis=1, keepdims=True)
        claimed.append((is_best / is_best.sum(axis=1, keepdims=True)).mean(axis=0))
        happened.append((measured == measured.max()) / np.sum(measured == measured.max()))
        lower, upper = (np.quantile(drawn, q, axis=0) for q in ((1 - LEVELS) / 2, (1 + LEVELS) / 2))
        hits.append(((lower <= measured) & (measured <= upper)).mean(axis=1))
        for found, order in ((small, points.y.reshape(7, 4)[:, 3]), (law, np.median(drawn, axis=0))):
            chosen = int(np.argmax(order))
            regret = expit(line.max()) - expit(line[chosen])
            found.append((chosen == np.argmax(line), regret, pair_accuracy(order, line)))
    claimed, happened = np.array(claimed), np.array(happened)
    print(f"\n{name}: {N_WORLDS} worlds; 50, 80, 95 % intervals covered", (100 * np.mean(hits, axis=0)).round(1))
    brier = np.mean(np.sum((claimed - happened) ** 2, axis=1))
    by_lot = np.mean(np.sum((1 / 7 - happened) ** 2, axis=1))
    print(f"  Brier score of P(best) {brier:.3f}; of one seventh each {by_lot:.3f}")
    for low, high in ((0, 0.05), (0.05, 0.2), (0.2, 0.5), (0.5, 0.8), (0.8, 1.01)):
        inside = (claimed >= low) & (claimed < high)
        if inside.any():
            print(f"  P(best) {low:g} to {min(high, 1):g}: said {claimed[inside].mean():.3f}, was ", end="")
            print(f"{happened[inside].mean():.3f} ({int(inside.sum())} methods)")
    for rule, found in (("best at the largest size", small), ("expected by the laws", law)):
        right, regret, pairs = np.mean(found, axis=0)
        print(
            f"  {rule}: right {100 * right:.0f} %, regret {100 * regret:.2f} points, pairs in order {100 * pairs:.0f} %"
        )
    # Binomial error of the share of worlds in which the favourite was best.
    favourite = claimed.argmax(axis=1)
    said, was = claimed.max(axis=1).mean(), happened[np.arange(N_WORLDS), favourite].mean()
    print(f"  favourite: said {said:.3f}, was {was:.3f}")
    assert abs(said - was) < 3 * np.sqrt(said * (1 - said) / N_WORLDS)
