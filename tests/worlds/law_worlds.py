"""Worlds of the laws: their parameters, and a table of losses on a grid of sizes and tokens."""

import numpy as np
import pandas as pd

from astraios_analysis.laws.forms import find_law

# Of a world that a dozen points identify (49 of a large law), and another setting.
THETAS = {
    "power": ([40.0, 0.15], [400.0, 0.34]),
    "power_floor": ([0.7, 400.0, 0.4], [0.3, 5.0, 0.05]),
    "chinchilla": ([1.69, 406.4, 4100.7, 0.34, 0.38], [0.5, 90.0, 2000.0, 0.2, 0.5]),
    "multiplicative": ([0.7, 3000.0, 0.2, 0.2], [1.1, 2000.0, 0.1, 0.2]),
    "skaling": ([1.69, 40000.0, 400000.0, 0.6, 0.7, 0.5], [0.5, 9.0, 30.0, 0.1, 0.2, 1.5]),
    "farseer": (
        [-0.02, 0.8, 0.07, 0.5, 3.0, -0.1, -0.03, -0.5, 0.02],
        [0.01, 0.5, -0.05, -0.1, 6.0, 0.02, 0.02, -1.5, -0.02],
    ),
    "updated_floor": ([0.4, 300.0, 0.4], [0.9, 3.0, 0.02]),
    "updated_additive": ([0.4, 400.0, 300.0, 0.34, 0.5], [0.9, 60.0, 3.0, 0.2, 0.05]),
    "updated_multiplicative": ([0.4, 6000.0, 0.3, 0.2], [0.9, 60.0, 0.2, -0.03]),
    "epochs": ([1.87, 521.0, 1488.0, 0.35, 0.36, 15.4, 5.3], [0.5, 90.0, 2000.0, 0.2, 0.5, 2.0, 1.0]),
    "additive_three": ([1.69, 406.4, 4100.7, 2.0, 0.34, 0.38, 0.4], [0.5, 9.0, 20.0, 2.0, 0.2, 0.5, 0.1]),
    "multiplicative_three": ([0.7, 3000.0, 0.2, 0.2, 0.1], [1.1, 2000.0, 0.1, 0.2, -0.05]),
    "skaling_three": ([1.69, 40000.0, 400000.0, 2.0, 0.6, 0.7, 0.7, 0.5], [0.5, 9.0, 30.0, 2.0, 0.1, 0.2, 0.1, 1.5]),
    "rectified": ([0.5, 50000.0, 4000.0, 0.5], [1.5, 900.0, 3.0, 0.4]),
    "m4": ([0.1, 0.95, 2.0, 20000000.0, 0.9], [0.3, 4.0, 0.6, 20000000000.0, 0.9]),
    "broken": ([0.2, 9.0, 0.1, 0.6, 30000000.0, 0.5], [1.0, 0.5, -0.05, 0.3, 200000000.0, 1.5]),
    "logit_linear": ([0.5, 0.8], [0.3, -0.4]),
    "exponential_link": ([0.75, 2.0, 1.1], [0.9, 30.0, 2.0]),
    "logistic_link": ([0.25, 0.9, 4.0, 2.6], [0.01, 0.7, 1.5, 3.0]),
    "logit_link": ([7.0, -3.0], [0.2, -0.4]),
}


def losses_on_grid(law, theta, noise=0.002, seed=0, n=5, sizes=(1e8, 3e9), tokens=(2e9, 1e11)):
    """N, D and loss of n sizes and n token counts, every pair of them, under a law."""
    grid = np.meshgrid(np.geomspace(*sizes, n), np.geomspace(*tokens, n))
    table = pd.DataFrame({name: axis.ravel() for name, axis in zip("ND", grid, strict=True)})
    noise = np.exp(noise * np.random.default_rng(seed).standard_normal(len(table)))
    return table.assign(loss=find_law(law).function(table.to_numpy(), np.array(theta)) * noise)
