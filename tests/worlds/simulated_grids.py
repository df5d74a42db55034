"""Grids of records whose truth is known: losses by a law of size, scores by a curve of loss, seeds and problems."""

from dataclasses import dataclass, field

import numpy as np
from scipy.special import expit, logit

from astraios_analysis.records.frame import METHODS, Cost, ProblemCounts, RunRecord, Score
from astraios_analysis.records.registry import DATASETS

SIZES = (13_296, 51_936, 213_000, 727_296)
LARGEST = 2_336_064


@dataclass(frozen=True)
class World:
    """What is true in a simulated grid.

    The loss of a run is ``floor + amplitude[method] * (N / 1e5) ** -exponent`` times exp(noise); the logit of its score
    above chance is ``level[dataset] + slope[dataset] * (1 - loss)``, plus a size effect and a model effect.
    """

    amplitude: dict = field(default_factory=lambda: {m: 0.35 + 0.1 * i for i, m in enumerate(METHODS)})
    exponent: float = 0.2
    floor: float = 0.2
    level: dict = field(default_factory=lambda: {"embedded_synthesis": -0.8, "embedded_fix": -1.5})
    slope: dict = field(default_factory=lambda: {"embedded_synthesis": 3.0, "embedded_fix": 4.0})
    seed_sd: float = 0.01
    size_sd: float = 0.0
    model_sd: float = 0.0
    difficulty_sd: float = 0.0

    def loss(self, method, n_params):
        """Expected validation loss, nats per token."""
        return self.floor + self.amplitude[method] * (np.asarray(n_params, dtype=float) / 1e5) ** -self.exponent

    def goodness(self, dataset, loss, effect=0.0):
        """Expected share of problems solved (or done safely) at a loss."""
        chance = DATASETS[dataset].chance or 0.0
        return chance + (1 - chance) * expit(self.level[dataset] + self.slope[dataset] * (1 - loss) + effect)


def simulate(
    world=None, *, sizes=SIZES, methods=METHODS, seeds=(0, 1, 2), held_out=(), n_problems=200, seed=0, **changes
):
    """Records of a grid in a world; sizes in ``held_out`` are marked so. Keyword arguments replace record fields."""
    world = world or World()
    rng = np.random.default_rng(seed)
    difficulty = {name: world.difficulty_sd * rng.standard_normal(n_problems) for name in world.level}
    records = []
    for n_params in (*sizes, *held_out):
        of_size = {name: world.size_sd * rng.standard_normal() for name in world.level}
        for method in methods:
            of_model = {name: of_size[name] + world.model_sd * rng.standard_normal() for name in world.level}
            for s in seeds:
                loss = float(world.loss(method, n_params) * np.exp(world.seed_sd * rng.standard_normal()))
                drawn = {name: world.goodness(name, loss, of_model[name]) for name in world.level}
                scores = tuple(_score(name, p, difficulty[name], rng) for name, p in drawn.items())
                fields = {"run_id": f"sim-{n_params}-{method}-s{s}", "grid": "sim", "method": method, "seed": s}
                fields |= {"size": f"{n_params // 1000}k", "held_out": n_params in held_out}
                fields |= {"n_params": n_params + 5000, "n_params_base": n_params, "val_loss": loss, "scores": scores}
                fields["n_params_updated"] = n_params if method == "fft" else 100 * (METHODS.index(method) + 1)
                cost = {"seconds": n_params / 1e4, "flop": 6.0 * n_params * 4e5, "peak_memory_bytes": 16 * n_params}
                fields["cost"] = Cost(**cost)
                records.append(RunRecord(**(fields | changes)))
    return records


def make_score(passed, n=20, dataset="humanevalfix_python", metric="pass@1", setting="t0.2,n20", **changes):
    """A measured score from passes by problem, its value their mean; keyword arguments replace fields."""
    n = np.broadcast_to(n, len(passed)).tolist()
    passed = [int(count) for count in passed]
    fields = {"dataset": dataset, "language": "python", "setting": setting, "metric": metric, "source": "measured"}
    fields |= {"value": float(np.mean(np.divide(passed, n))), "n_items": len(passed)}
    fields["problems"] = ProblemCounts(problem_ids=tuple(range(len(n))), n_samples=tuple(n), n_passed=tuple(passed))
    return Score(**(fields | changes))


def _score(name, p, difficulty, rng):
    known = DATASETS[name]
    p = expit(logit(np.clip(p, 1e-12, 1 - 1e-12)) + difficulty)
    passed = (rng.random(len(difficulty)) < p).astype(int)
    if known.primary_metric == "insecure_rate":
        passed = 1 - passed
    fields = {"setting": known.primary_setting, "metric": known.primary_metric}
    return make_score(passed, 1, name, **fields)
