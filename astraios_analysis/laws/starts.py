"""Global starts by variable projection: search the non-linear parameters, solve for the linear ones.

Golub and Pereyra (1973). A law that is linear in its amplitudes and floor needs a search over its exponents only, and
each point of the search costs one small least-squares problem with non-negative coefficients.
"""

from itertools import combinations, product

import numpy as np
from scipy.ndimage import generate_binary_structure, minimum_filter
from scipy.optimize import nnls

from astraios_analysis.laws.law import Law, Search
from astraios_analysis.laws.residuals import LawResiduals, to_coordinates

# Of a parameter that least squares puts at its bound of zero: a start inside, this share of the outcome's size.
_INSIDE = 1e-3
# With more columns than this there are too many sets of them.
_MAX_SETS_OF = 4


def find_starts(residuals: LawResiduals, weights: np.ndarray, n_starts: int) -> np.ndarray:
    """Return the most promising starts in unbounded coordinates, best first, shape (s, q); of weights (b, n) (b, s, q).

    Local minima of the search come before other good points. Held parameters keep their value; where the search has
    another form and does not know them, they take it when the search is over.
    """
    law, held = residuals.law, {residuals.law.names[j]: value for j, value in residuals.held.items()}
    search = law.search or _own_search(residuals)
    axes = [(held[name],) if name in held else values for name, values in search.grid.items()]
    values, shape = np.array(list(product(*axes))).reshape(-1, len(axes)), tuple(map(len, axes))
    outcome = residuals.outcome
    with np.errstate(all="ignore"):
        basis = search.basis(residuals.x, values) if search.linear else None
        fitted = None if search.linear else law.function(residuals.x, search.to_theta(None, values))
    found = []
    for own in np.atleast_2d(weights):
        row_weights = residuals.relative(own)
        with np.errstate(all="ignore"):
            if basis is not None:
                coefficients, squares = _solve_linear(search, basis, held, outcome, row_weights)
            else:
                coefficients, squares = None, np.sum(row_weights * (fitted - outcome) ** 2, axis=-1)
        squares = np.where(np.isfinite(squares), squares, np.inf)
        found.append(_starts_at(residuals, search, coefficients, values, _promising(squares.reshape(shape), n_starts)))
    return found[0] if np.ndim(weights) == 1 else np.stack([np.resize(one, (n_starts, one.shape[1])) for one in found])


def _starts_at(residuals: LawResiduals, search: Search, coefficients, values, chosen) -> np.ndarray:
    """Return chosen points of a search as coordinates of the law's free parameters."""
    law = residuals.law
    outcome = residuals.outcome
    coefficients = None if coefficients is None else coefficients[chosen]
    if law.search and coefficients is not None:
        # The other form may take logs of them.
        coefficients = np.maximum(coefficients, _INSIDE * float(np.mean(np.abs(outcome))))
    theta = np.array(search.to_theta(coefficients, values[chosen]), dtype=float)
    for j, value in residuals.held.items():
        theta[:, j] = value
    return to_coordinates(law, _inside(law, theta, [law.index(name) for name in law.linear], outcome))[
        :, residuals.free
    ]


def resolve_linear(residuals: LawResiduals, phi: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return coordinates (b, q) with the free linear parameters solved for, the others as they are.

    A floor or an amplitude that another fit has put at its bound has no gradient there; solved for, it moves.
    """
    law = residuals.law
    free = [j for j in range(len(law.parameters)) if law.names[j] in law.linear and j not in residuals.held]
    if not free:
        return phi
    theta = residuals.theta(phi)
    outcome = residuals.outcome
    with np.errstate(all="ignore"):
        columns = np.swapaxes(law.gradient(residuals.x, theta), -1, -2)
        others = [law.index(name) for name in law.linear if law.index(name) not in free]
        rest = outcome - np.einsum("bm,bmn->bn", theta[:, others], columns[:, others, :])
        row_weights = residuals.relative(weights)
        # Columns of one length: amplitudes of inputs in their own units span many decades.
        length = np.sqrt(np.sum(row_weights * columns[:, free, :] ** 2, axis=-1))
        basis = columns[:, free, :] / length[:, :, None]
        weighted = basis * row_weights
        matrix = np.matmul(weighted, np.swapaxes(basis, 1, 2))
        usable = np.isfinite(matrix).all(axis=(1, 2)) & np.isfinite(rest).all(axis=1)
        solved = np.full((len(theta), len(free)), np.nan)
        right = np.matmul(weighted, rest[:, :, None])[:, :, 0]
        solved[usable] = non_negative_least_squares(matrix[usable], right[usable])[0]
        size = np.sqrt(np.sum(row_weights * outcome**2))
        theta[:, free] = np.maximum(solved, _INSIDE * size) / length
        moved = to_coordinates(law, theta)[:, residuals.free]
    return np.where(np.isfinite(moved).all(axis=1, keepdims=True), moved, phi)


def _own_search(residuals: LawResiduals) -> Search:
    """Return the search of a law in its own form: a grid over its non-linear parameters."""
    law = residuals.law
    first = residuals.x if residuals.x.ndim == 1 else residuals.x[:, 0]
    low, high = np.log(first.min()), np.log(first.max())
    linear = [law.index(name) for name in law.linear]
    others = [j for j in range(len(law.parameters)) if j not in linear]
    grid = {}
    for j in others:
        values = np.array(law.parameters[j].search, dtype=float)
        along = law.parameters[j].search_in == "input"
        grid[law.names[j]] = tuple(np.exp(low + values * (high - low)) if along else values)

    def to_theta(coefficients, values):
        theta = np.ones((len(values), len(law.parameters)))
        theta[:, others] = values
        if coefficients is not None:
            theta[:, linear] = coefficients
        return theta

    def basis(x, values):
        return np.swapaxes(law.gradient(x, to_theta(None, values)), -1, -2)[:, linear, :]

    return Search(law.linear, grid, basis, to_theta)


def _solve_linear(search: Search, columns, held, outcome, weights):
    """Solve for the linear coefficients at each point of the search, shape (g, m), and return the squares left."""
    free = [i for i, name in enumerate(search.linear) if name not in held]
    coefficients = np.array([[held.get(name, 0.0) for name in search.linear]]).repeat(len(columns), axis=0)
    rest = outcome - np.einsum("gm,gmn->gn", coefficients, columns)
    basis = columns[:, free, :]
    weighted = basis * weights
    total = np.sum(weights * rest**2, axis=-1)
    if not free:
        return coefficients, total
    coefficients[:, free], gained = non_negative_least_squares(
        np.matmul(weighted, np.swapaxes(basis, 1, 2)), np.matmul(weighted, rest[:, :, None])[:, :, 0]
    )
    return coefficients, total - gained


def non_negative_least_squares(matrix: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Solve small non-negative least squares exactly, many at once, from their normal equations.

    The best of all sets of positive coefficients, at most 2^m - 1 of them. Given ``X' W X`` (g, m, m) and ``X' W y``
    (g, m); returns coefficients (g, m) and by how much the squares are less than ``y' W y`` (g,).
    """
    n_columns = right.shape[1]
    coefficients, gained = np.zeros(right.shape), np.full(len(right), -np.inf)
    rows = np.arange(len(right))
    if n_columns > _MAX_SETS_OF:
        return _solve_one_by_one(matrix, right)
    for size in range(n_columns, 0, -1):
        for members in map(list, combinations(range(n_columns), size)):
            inner = matrix[np.ix_(rows, members, members)]
            # Collinear columns, as of a tiny exponent, stay solvable.
            inner += (1e-13 * np.einsum("gii->gi", inner) + 1e-300)[:, :, None] * np.eye(size)
            target = right[np.ix_(rows, members)]
            solved = np.linalg.solve(inner, target[:, :, None])[:, :, 0]
            gain = np.sum(solved * target, axis=1)
            better = (gain > gained[rows]) & np.all(solved >= 0, axis=1)
            chosen = rows[better]
            gained[chosen], coefficients[chosen] = gain[better], 0.0
            coefficients[np.ix_(chosen, members)] = solved[better]
        if size == n_columns:
            # Where all coefficients are positive no smaller set can fit better.
            rows = rows[~np.isfinite(gained)]
            if not len(rows):
                break
    return coefficients, gained


def _solve_one_by_one(matrix: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Solve non-negative least squares with many columns by the active-set method of Lawson and Hanson (1974)."""
    coefficients = np.zeros(right.shape)
    for row, (square, target) in enumerate(zip(matrix, right, strict=True)):
        if np.all(np.isfinite(square)) and np.all(np.isfinite(target)):
            values, axes = np.linalg.eigh(square)
            values = np.sqrt(np.maximum(values, 1e-14 * values[-1] + 1e-300))
            coefficients[row] = nnls((axes * values).T, (axes.T @ target) / values)[0]
    gained = 2 * np.sum(coefficients * right, axis=1)
    return coefficients, gained - np.einsum("gk,gkl,gl->g", coefficients, matrix, coefficients)


def _promising(squares: np.ndarray, n_starts: int) -> np.ndarray:
    """Return flat positions of local minima, best first, filled up with the best other points."""
    neighbours = generate_binary_structure(squares.ndim, 1)
    lowest = minimum_filter(squares, footprint=neighbours, mode="constant", cval=np.inf)
    is_minimum = np.isfinite(squares) & (squares == lowest)
    flat, minima = squares.ravel(), np.flatnonzero(is_minimum.ravel())
    minima = minima[np.argsort(flat[minima], kind="stable")][:n_starts]
    if len(minima) < n_starts:
        others = np.setdiff1d(np.argsort(flat, kind="stable")[: 2 * n_starts], minima, assume_unique=True)
        minima = np.concatenate([minima, others[np.argsort(flat[others], kind="stable")][: n_starts - len(minima)]])
    return minima


def _inside(law: Law, theta: np.ndarray, linear: list[int], outcome: np.ndarray) -> np.ndarray:
    """Move linear parameters strictly inside their bounds."""
    theta = theta.copy()
    size = float(np.mean(np.abs(outcome))) or 1.0
    for j in linear:
        parameter = law.parameters[j]
        low = parameter.lower + _INSIDE * size if np.isfinite(parameter.lower) else -np.inf
        high = (
            parameter.upper - _INSIDE * (parameter.upper - parameter.lower) if np.isfinite(parameter.upper) else np.inf
        )
        theta[:, j] = np.clip(theta[:, j], min(low, high), high)
    return theta
