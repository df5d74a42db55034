"""Which rows of a table to measure next: the batch that narrows predictions at target rows the most for its cost.

What is expected of the log of the outcome at candidates and targets, whose outcomes nobody has measured, is a mixture
over laws and over basins of each law's fit, with the covariance::

    C = sum_b w_b [J_b S_b J_b' + (m_b - m)(m_b - m)'],   S_b = (J'J / s_b^2 + P)^-1

J_b are a law's derivatives in its unbounded parameters, s_b the scatter of its inner errors, drawn towards one percent,
P a weak prior. The next row c is the one with the greatest reduction of the targets' variance, per power of its cost
(V-optimal)::

    sum_t C_tc^2 / (C_cc + s^2) / cost_c^power

and C is conditioned on it, which needs no outcome, before the next is chosen. Where the measured rows are too few to
fit a law, a quadratic surface in the logarithms with a weak prior stands for it, so that the first rows spread.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from astraios_analysis.laws.engine import LawFit
from astraios_analysis.laws.forms import LAWS
from astraios_analysis.laws.law import Law
from astraios_analysis.laws.residuals import Objective
from astraios_analysis.laws.solver import SOLVER_ERRORS, solve
from astraios_analysis.laws.starts import find_starts
from astraios_analysis.laws.tables import SOURCE, evaluate, read_labels, read_numbers, require_columns
from astraios_analysis.records.notation import parse_number
from astraios_analysis.records.reading import NOTES
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.tables.rows import Columns, rows_to_fit
from astraios_analysis.tables.surfaces import HUBER, fit_surface

# Of the cost: 0 takes no account of it, 1 is the reduction per unit of cost (docs/benchmarks).
COST_POWER = 1.0
# Standard deviation of what is known of a law's parameters before it is fitted, in logarithms.
_PRIOR_SD = 3.0
_N_BASINS = 8
# A basin, or a law, of less weight is left out.
_MIN_WEIGHT = 1e-3
_SAME_BASIN = 1e-2
# The surface that stands for laws before any can be fitted.
QUADRATIC = "quadratic"
# What the scatter is expected to be, in logarithms, and how many rows that counts as.
_SCATTER, _PRIOR_DOF = 0.01, 4


@dataclass(frozen=True)
class Expected:
    """What is expected of the log of the outcome at places: covariance (m, m), and a new row's scatter there (m,).

    ``weights`` are those of the laws.
    """

    covariance: np.ndarray
    noise: np.ndarray
    weights: dict[str, float]


def expect(
    train: np.ndarray, y: np.ndarray, places: np.ndarray, laws: Sequence[Law] | None, huber: float, names: Sequence[str]
) -> Expected:
    """Return what rows (n, d) with outcomes (n,) say of the outcomes at places (m, d)."""
    if train.shape[1] == 1:
        laws = laws or [LAWS["power"], LAWS["power_floor"]]
    try:
        surface = fit_surface(train, y, laws, Objective("log", huber), names)
    except Refusal:
        return _expect_little(train, places)
    parts, weights, noise = [], [], 0.0
    for name, member in zip(surface.names, surface.members, strict=True):
        if surface.shares[name] < _MIN_WEIGHT:
            continue
        # As many rows as parameters leave no scatter, and would be taken for all that there is to know.
        dof, near = member.fit.dof, member.curve.width.near
        scatter = (dof * near**2 + _PRIOR_DOF * _SCATTER**2) / (dof + _PRIOR_DOF)
        noise += surface.shares[name] * scatter
        for phi, weight in _basins(member.fit):
            mean, covariance = _at(member.fit, phi, scatter, places[:, member.columns])
            if np.isfinite(mean).all() and np.isfinite(covariance).all():
                parts.append((mean, covariance))
                weights.append(surface.shares[name] * weight)
    if not weights:
        return _expect_little(train, places)
    share, means = np.array(weights) / np.sum(weights), np.array([mean for mean, _ in parts])
    apart = means - share @ means
    covariance = np.einsum("b,bij->ij", share, np.array([own for _, own in parts])) + (share[:, None] * apart).T @ apart
    return Expected(covariance, np.full(len(places), noise), dict(surface.shares))


def _basins(fit: LawFit) -> list[tuple[np.ndarray, float]]:
    """Return minima of a law's fit (q,) with weights by how likely each makes the rows, those that differ."""
    try:
        starts = find_starts(fit.problem, fit.weights, _N_BASINS)
        found = solve(fit.problem, starts, fit.weights, fit.objective)[0]
    except SOLVER_ERRORS:
        return [(fit.phi, 1.0)]
    phis, values = np.vstack([fit.phi, found.phi]), np.append(fit.value, found.objective)
    usable = np.isfinite(values) & np.isfinite(phis).all(axis=1)
    kept: list[tuple[np.ndarray, float]] = []
    residuals: list[np.ndarray] = []
    for row in np.argsort(np.where(usable, values, np.inf), kind="stable")[: usable.sum()]:
        ratio = max(values[row], 1e-300) / max(values[usable].min(), 1e-300)
        weight = float(ratio ** (-0.5 * fit.n_obs))
        residual = fit.problem.evaluate(phis[row])[0]
        scale = np.std(residual) + 1e-12
        if weight >= _MIN_WEIGHT and all(np.abs(residual - other).max() > _SAME_BASIN * scale for other in residuals):
            kept.append((phis[row], weight))
            residuals.append(residual)
    total = sum(weight for _, weight in kept)
    return [(phi, weight / total) for phi, weight in kept]


def _at(fit: LawFit, phi: np.ndarray, variance: float, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and covariance of the log of a law at places."""
    scale = fit.problem.scale
    x = places / scale if len(scale) > 1 else places[:, 0] / scale[0]
    there = replace(fit.problem, x=x, target=np.zeros(len(places)), residual="log")
    mean, slope = there.evaluate(phi)
    rows = replace(fit.problem, residual="log").evaluate(phi)[1][:, fit.weights > 0]
    information = rows @ rows.T / variance + np.eye(len(phi)) / _PRIOR_SD**2
    covariance = slope.T @ np.linalg.solve(information, slope)
    return mean, covariance


def _expect_little(train: np.ndarray, places: np.ndarray) -> Expected:
    """Return what a quadratic surface in the logarithms says, of which nothing but a weak prior is known."""
    logs = np.log(np.vstack([train, places]))
    z = (logs - logs.mean(axis=0)) / (logs.std(axis=0) + 1e-12)
    first, second = np.triu_indices(z.shape[1])
    design = np.column_stack([np.ones(len(z)), z, z[:, first] * z[:, second] / 4])
    rows, at = design[: len(train)], design[len(train) :]
    noise = _SCATTER**2
    information = rows.T @ rows / noise + np.eye(design.shape[1])
    covariance = at @ np.linalg.solve(information, at.T)
    return Expected(covariance, np.full(len(places), noise), {QUADRATIC: 1.0})


def choose_batch(
    expected: Expected, n_candidates: int, cost: np.ndarray, budget: float, power: float = COST_POWER
) -> list[tuple[int, float]]:
    """Choose candidates, the first places of what is expected, until the budget buys no more; the rest are targets.

    Returns each one's position, and the root mean variance of the targets once it is measured, in order of choice.
    """
    covariance, left = expected.covariance.copy(), budget
    targets = np.arange(n_candidates, len(covariance))
    is_open, chosen = np.ones(n_candidates, dtype=bool), []
    while True:
        usable = np.flatnonzero(is_open & (cost <= left * (1 + 1e-9)))
        gain = (covariance[np.ix_(targets, usable)] ** 2).sum(axis=0)
        gain = gain / (covariance[usable, usable] + expected.noise[usable])
        if not len(usable) or gain.max() <= 0:
            return chosen
        best = int(usable[np.argmax(gain / cost[usable] ** power)])
        column = covariance[:, best].copy()
        covariance -= np.outer(column, column) / (column[best] + expected.noise[best])
        is_open[best], left = False, left - cost[best]
        chosen.append((best, _error(covariance, targets)))


def _error(covariance: np.ndarray, targets: np.ndarray) -> float:
    return float(np.sqrt(np.maximum(np.diag(covariance)[targets], 0.0).mean()))


@dataclass(frozen=True)
class Pool:
    """A table of measured rows and candidates, and target rows, read: inputs, outcomes, labels, costs.

    ``row`` are the rows' positions in the table, ``notes`` what was left out of it.
    """

    row: np.ndarray
    x: np.ndarray
    y: np.ndarray
    label: np.ndarray
    cost: np.ndarray
    target: np.ndarray
    target_label: np.ndarray
    notes: list[str]

    @property
    def measured(self) -> np.ndarray:
        """Which rows have an outcome."""
        return np.isfinite(self.y)


def read_pool(table: pd.DataFrame, target: pd.DataFrame, columns: Columns, cost: str, split: str | None = None) -> Pool:
    """Read the rows (`rows_to_fit`): those without an outcome are candidates."""
    rows = rows_to_fit(table, columns, split, may_be_blank=True)
    require_columns(target, (*columns.x, *columns.group), "the table of target rows")
    named = target.attrs.get(SOURCE, "the target rows")
    places = np.column_stack([read_numbers(target, name, named, positive=True) for name in columns.x])
    labels = read_labels(rows, columns.group, ""), read_labels(target, columns.group, named)
    if not set(labels[1]) <= set(labels[0]):
        missing = next(one for one in labels[1] if one not in set(labels[0]))
        raise Refusal(f"no row to measure is of the target's group {missing!r}; add rows of it, or leave --group out")
    where = table.attrs.get(SOURCE, "the table")
    price = read_numbers(rows.assign(_cost=evaluate(cost, rows)), "_cost", where, positive=True)
    # Positions, also in a table whose index says something else.
    row = table.index.get_indexer(rows.index) if table.index.is_unique else rows.index.to_numpy()
    x, y = np.column_stack([rows[name] for name in columns.x]), rows[columns.y].to_numpy(dtype=float)
    return Pool(row, x, y, labels[0], price, places, labels[1], rows.attrs[NOTES])


def parse_money(text: str, pool: Pool) -> tuple[float, float]:
    """Return what new rows may cost: an amount, or a share of what all rows cost, those measured counted.

    Beside it is what the measured rows cost.
    """
    spent, whole = float(pool.cost[pool.measured].sum()), float(pool.cost.sum())
    share = text.strip().endswith("%")
    try:
        amount = float(parse_number(text.strip().rstrip("%")))
    except Refusal:
        amount = 0.0
    if not 0 < amount < np.inf or (share and amount > 100):
        raise Refusal(f"budget {text!r} is not understood; give a share of the table's cost (10%), or an amount (1e21)")
    left = amount / 100 * whole - spent if share else amount
    if left < pool.cost[~pool.measured].min(initial=np.inf):
        had = f"the measured rows are {100 * spent / whole:.3g} % of the table's cost" if share else "no amount is left"
        if pool.measured.all():
            raise Refusal("every row is measured; add rows to choose from, with the outcome left blank")
        least = f"{pool.cost[~pool.measured].min():.4g}"
        raise Refusal(f"budget {text} buys no row: {had}, the cheapest candidate costs {least}; give a larger one")
    return left, spent


def expect_pool(pool: Pool, columns: Columns) -> tuple[np.ndarray, Expected]:
    """Return the candidates' rows (n,), and what is expected at them and, after them, at the targets.

    Groups have laws of their own; the weights are means over groups.
    """
    candidates = np.flatnonzero(~pool.measured)
    label = np.concatenate([pool.label[candidates], pool.target_label])
    places = np.vstack([pool.x[candidates], pool.target])
    whole = Expected(np.zeros((len(places), len(places))), np.ones(len(places)), {})
    laws, groups = [columns.law] if columns.law else None, dict.fromkeys(pool.target_label)
    for name in groups:
        own, train = np.flatnonzero(label == name), pool.measured & (pool.label == name)
        found = expect(pool.x[train], pool.y[train], places[own], laws, columns.huber or HUBER, columns.x)
        whole.covariance[np.ix_(own, own)], whole.noise[own] = found.covariance, found.noise
        for law, share in found.weights.items():
            whole.weights[law] = whole.weights.get(law, 0.0) + share / len(groups)
    return candidates, whole


def plan_batch(
    pool: Pool, columns: Columns, budget: float, power: float = COST_POWER
) -> tuple[pd.DataFrame, float, dict[str, float]]:
    """Propose rows to measure, in order of choice: ``row, cost, total_cost, error_after``.

    Rows are counted from 1, as in a file; ``error_after`` is the root mean variance of the targets' logs once the row
    is measured. Beside them are the error now, and the weights of the laws.
    """
    candidates, expected = expect_pool(pool, columns)
    chosen = choose_batch(expected, len(candidates), pool.cost[candidates], budget, power)
    rows = np.array([candidates[place] for place, _ in chosen], dtype=int)
    table = {"row": pool.row[rows] + 1, "cost": pool.cost[rows], "total_cost": np.cumsum(pool.cost[rows])}
    found = pd.DataFrame(table | {"error_after": [error for _, error in chosen]})
    now = _error(expected.covariance, np.arange(len(candidates), len(expected.covariance)))
    return found, now, expected.weights
