"""What is said of partly pooled laws: parameters of each group with intervals, as JSON and text."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from astraios_analysis.cli.printing import table_text
from astraios_analysis.laws.forms import Law
from astraios_analysis.laws.objectives import Objective
from astraios_analysis.laws.partial_pooling import LAWS_TO_POOL, PartialPool, pool_partially
from astraios_analysis.laws.tables import Points
from astraios_analysis.records.refusal import Refusal

N_DRAWS = 20_000
# A floor whose posterior is more than half as wide as the range it may lie in has been told little by the data.
_TOLD_LITTLE = 0.5


@dataclass(frozen=True)
class PartialReport:
    """Partly pooled laws with everything that a report of them must say.

    Attributes
    ----------
    law : Law
    pool : PartialPool
    draws : mapping of str to ndarray
        Draws of each parameter.
    level : float
    floor_is_identified : bool
    checklist : mapping of str to str
    """

    law: Law
    pool: PartialPool
    draws: Mapping[str, np.ndarray]
    level: float
    floor_is_identified: bool
    checklist: Mapping[str, str]

    @property
    def group(self) -> None:
        """Return None: there is one fit for all groups."""
        return None

    def _params(self) -> dict[str, dict[str, object]]:
        edges = [(1 - self.level) / 2, 0.5, (1 + self.level) / 2]
        params = {}
        for name, values in self.draws.items():
            lower, value, upper = map(float, np.quantile(values, edges))
            params[name] = {"value": value, "lower": lower, "upper": upper, "level": self.level}
            # A floor that is not known leaves every amplitude and exponent open with it.
            params[name]["identified"] = self.floor_is_identified
        return params

    def warnings(self) -> list[str]:
        """Return what a reader must know before using the parameters."""
        if self.floor_is_identified:
            return []
        return ["not identifiable: the data hardly narrow the floor E, and exponents and amplitudes depend on it"]

    def as_json(self) -> dict[str, object]:
        """Return the report as plain values; ``value`` is the posterior median."""
        pool, best = self.pool, int(np.argmax(self.pool.weights))
        return {
            "law": self.law.name,
            "formula": f"{self.law.formula}, A and alpha of each group drawn towards common ones",
            "params": self._params(),
            "objective": float(pool.squares[best] / 2),
            "n_obs": pool.n_obs,
            "dof": pool.dof,
            "certificate": {
                "method": "posterior over a grid of floors and variance ratios",
                "n_nodes": len(pool.weights),
                "n_effective_nodes": float(1 / np.sum(pool.weights**2)),
                "dof": pool.dof,
                "identified": dict.fromkeys(self.draws, self.floor_is_identified),
                "warnings": self.warnings(),
                "checklist": dict(self.checklist),
            },
        }

    def as_text(self) -> str:
        """Return the report as text for people."""
        percent = f"{100 * self.level:g} %"
        rows = [
            {"parameter": name, "median": p["value"], f"lower {percent}": p["lower"], f"upper {percent}": p["upper"]}
            for name, p in self._params().items()
        ]
        lines = [f"{self.law.name}, partly pooled: {self.law.formula}", "", table_text(pd.DataFrame(rows)), ""]
        lines += [f"warning: {text}" for text in self.warnings()]
        lines += [f"{self.pool.n_obs} points, {len(self.pool.groups)} groups", "", "a report of this fit states"]
        return "\n".join(lines + [f"  {item}: {text}" for item, text in self.checklist.items()])


def partial_report(
    law: Law, points: Points, objective: Objective, *, level: float, seed: int, n_draws: int = N_DRAWS
) -> PartialReport:
    """Fit partly pooled laws and summarise their draws.

    Raises
    ------
    Refusal
        If the law is no power law of one input, or the objective is not least squares of log residuals.
    """
    if law.name not in LAWS_TO_POOL:
        raise Refusal(f"partial pooling is for {', '.join(LAWS_TO_POOL)}, not {law.name}; choose shared or none")
    if objective.is_robust or objective.residual != "log":
        raise Refusal("partial pooling has normal errors of the log: leave out --huber and --residual")
    has_floor = "E" in law.names
    pool = pool_partially(points.x, points.y, points.group, has_floor=has_floor)
    drawn = pool.draw(n_draws, np.random.default_rng(seed))
    amplitudes = drawn.amplitudes()
    draws = {"E": drawn.floor} if has_floor else {}
    draws |= {"alpha": drawn.common_exponent}
    for g, group in enumerate(pool.groups):
        draws |= {f"A[{group}]": amplitudes[:, g], f"alpha[{group}]": drawn.exponent[:, g]}
    draws |= {"sigma": drawn.sigma, "tau": drawn.exponent_deviation}
    # Standard deviation of a uniform distribution over that range.
    prior = float(np.min(points.y)) / np.sqrt(12)
    identified = not has_floor or bool(drawn.floor.std() < _TOLD_LITTLE * prior)
    low, high = pool.x_range
    checklist = {
        "form": f"{points.y_name} = {law.formula} ({law.source}); A[g] and alpha[g] random over groups, E common",
        "objective": "marginal likelihood of normal log residuals; effects integrated by Laplace's approximation",
        "starts": "none: the floor and the variance ratios are integrated over a grid",
        "window": f"{pool.n_obs} points of {len(pool.groups)} groups, {points.x_names[0]} {low:.4g} to {high:.4g}",
        "intervals": f"{100 * level:g} % posterior, {n_draws} draws, seed {seed}",
    }
    return PartialReport(law, pool, draws, level, identified, checklist)
