"""Two methods on the same problems with a known difference: problems, seeds and what they share are drawn anew."""

import numpy as np
from scipy.special import expit
from simulated_grids import make_score

from astraios_analysis.records.frame import RunRecord
from astraios_analysis.records.registry import DATASETS
from astraios_analysis.scores.bootstrap import ProblemBootstrap
from astraios_analysis.scores.contrasts import contrast, measure

SIZE, DATASET = 1_000, "humanevalfix_python"
GAIN, DIFFICULTY, OWN = 0.3, 2.0, 0.7


def make_run(n_params, method, seed, passed, n_samples, dataset=DATASET):
    """A record of a run with one primary score, from passes by problem."""
    known = DATASETS[dataset]
    score = make_score(passed, n_samples, dataset, known.primary_metric, known.primary_setting)
    names = {"run_id": f"sim-{n_params}-{method}-s{seed}", "grid": "sim", "method": method, "size": f"{n_params}"}
    counts = {"n_params": 2 * n_params, "n_params_base": n_params, "n_params_updated": n_params}
    return RunRecord(**names, **counts, seed=seed, held_out=False, scores=(score,))


def world(rng, *, n_problems=164, n_samples=20, seeds=1, run_sd=0.0):
    """Records of the methods lora and fft: logits of problems vary together, by method, and by run."""
    shared = -1.0 + DIFFICULTY * rng.standard_normal(n_problems)
    records = []
    for method, gain in (("lora", 0.0), ("fft", GAIN)):
        of_method = shared + gain + OWN * rng.standard_normal(n_problems)
        for seed in range(seeds):
            passed = rng.binomial(n_samples, expit(of_method + run_sd * rng.standard_normal()))
            records.append(make_run(SIZE, method, seed, passed, n_samples))
    return records


def truth(run_sd=0.0):
    """The expected difference over problems, methods' own difficulties and runs."""
    spread = np.sqrt(DIFFICULTY**2 + OWN**2 + run_sd**2)
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    low, high = (weights @ expit(-1.0 + gain + spread * nodes) / weights.sum() for gain in (0.0, GAIN))
    return high - low


def coverage(n_worlds, scope, *, level=0.95, seed=0, **design):
    """Share of worlds whose interval holds the truth, and mean of reported over observed standard error."""
    expected, hits, errors, found = truth(design.get("run_sd", 0.0)), [], [], []
    for number in range(n_worlds):
        records = world(np.random.default_rng([seed, number]), **design)
        measured = measure(records, DATASET, ProblemBootstrap(n_draws=1000))
        rows = contrast(measured, ((SIZE, "lora"), (SIZE, "fft")), level)
        row = next(row for row in rows if row["scope"] == scope)
        hits.append(row["lower"] <= expected <= row["upper"])
        errors.append(row["stderr"])
        found.append(row["difference"])
    error = float(np.sqrt(np.mean(np.square(errors))) / np.std(found))
    return float(np.mean(hits)), error, float(np.mean(found)) - expected
