"""How large a difference between sizes or methods must be for pilots to show it: simulated, before any is trained.

A run's value is its size's, plus its base's deviation (seed), plus its method's and its own; then 200 problems are
answered with that chance. `python tests/benchmarks/power_of_pilots.py` prints the tables of docs/ladder.md.
"""

import numpy as np
import pandas as pd

from training.grid.pilot import method_signal, size_signal

N_SEEDS, N_PROBLEMS, N_WORLDS = 3, 200, 400
SIZES, METHODS = ("32x2", "56x3", "88x4", "128x4"), tuple("abcdefg")
MIDDLE = 0.5


def world(rng, *, between_sizes=0.0, between_methods=0.0, between_seeds=0.03, methods=METHODS, sizes=SIZES):
    """Records of one design whose sizes and methods lie evenly, with the given standard deviations."""

    def even(n, deviation):
        places = np.arange(n) - (n - 1) / 2
        return places / places.std(ddof=1) * deviation

    shape = (len(sizes), len(methods), N_SEEDS)
    chances = MIDDLE + even(shape[0], between_sizes)[:, None, None]
    chances = chances + even(shape[1], between_methods)[None, :, None]
    # Half of the variance between runs is their base's.
    base, own = (rng.normal(0, between_seeds / np.sqrt(2), size) for size in ((shape[0], 1, N_SEEDS), shape))
    values = rng.binomial(N_PROBLEMS, np.clip(chances + base + own, 0.02, 0.98)) / N_PROBLEMS
    places = pd.MultiIndex.from_product([sizes, methods, range(N_SEEDS)], names=["size", "method", "seed"])
    return pd.Series(values.ravel(), places, name="value").reset_index()


def signals(signal, seed=0, **effects):
    """The signal of many simulated pilots."""
    rng = np.random.default_rng(seed)
    return np.array([signal(world(rng, **effects)) for _ in range(N_WORLDS)])


def power(signal, name, thresholds, deviations=(0.0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15), **given):
    """Share of pilots that reach each threshold, by the true deviation and that between seeds."""
    rows = []
    for between_seeds in (0.02, 0.04):
        for deviation in deviations:
            found = signals(signal, **{f"between_{name}": deviation}, between_seeds=between_seeds, **given)
            reached = {f"at least {t:g}": np.mean(found >= t) for t in thresholds}
            rows.append(
                {"SD of seeds": between_seeds, f"SD of {name}": deviation, "median": np.median(found), **reached}
            )
    return pd.DataFrame(rows)


if __name__ == "__main__":
    print("sizes (four, the smallest left out), seven methods, three seeds")
    print(power(size_signal, "sizes", (2, 3, 4)).round(2).to_string(index=False))
    print("methods (five, without fft and ptuning), four sizes, three seeds")
    print(power(method_signal, "methods", (1, 2, 4), methods=METHODS[:5]).round(2).to_string(index=False))
