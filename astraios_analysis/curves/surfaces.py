"""Forecasts of losses that depend on several inputs: laws averaged by inner hold-outs of the rows fitted.

The rows are put in order of each input and of the inputs' product (compute, for N and D) and split at several places;
each law is fitted to the rows below and predicts those above. A law's weight falls with the mean square of its errors,
relative to the other laws', each split counting as one look::

    weight ~ prod over splits of (mean square error in the split)^(-1/2)

The variance of a law's errors grows with the distance beyond the last row fitted, in log units of what orders them::

    variance = near^2 + (growth x distance)^2

Both are fitted to its inner errors by maximum likelihood. Errors of one split are alike, so that the variance is known
as by few looks only: a law's predictions are Student's t with as many degrees of freedom as a direction has splits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, permutations

import numpy as np

from astraios_analysis.curves.forecast import Forecast, mix, student_forecast
from astraios_analysis.laws.engine import LawFit, fit_law, fit_subsets
from astraios_analysis.laws.forms import LAWS
from astraios_analysis.laws.law import Law
from astraios_analysis.laws.residuals import Objective, check_inputs
from astraios_analysis.laws.surfaces import product_law
from astraios_analysis.records.refusal import Refusal

LAW_PROCEDURE = (
    "one law fitted to the training rows with Huber's loss on log residuals; prediction intervals hold parameter "
    "variance (delta method) and the errors of inner splits of the training rows, in order of each input and of their "
    "product, which grow with the distance beyond the rows fitted; Student's t"
)
SURFACE_PROCEDURE = (
    "laws of these inputs, and of pairs of three, averaged by their errors on inner splits of the training rows, in "
    "order of each input and of their product; each fitted with Huber's loss on log residuals; prediction intervals "
    "hold the laws' differences, parameter variance and the inner errors, which grow with the distance; Student's t"
)
INNER_SHARES = (0.5, 0.6, 0.7, 0.8, 0.9)
# Laws averaged, by the number of their inputs.
_OF_TWO, _OF_THREE = (
    ("chinchilla", "multiplicative", "skaling"),
    ("additive_three", "multiplicative_three", "skaling_three"),
)
# Of more inputs than this the coupled laws, which take seconds, are left out.
_MANY = 3
_NEAR_GRID, _GROWTH_GRID = np.geomspace(0.3, 10, 25), np.concatenate([[0.0], np.geomspace(1e-3, 1.0, 40)])
# Log residuals below this are rounding.
_MIN_SCATTER = 1e-9
# A law that fewer inner splits leave enough rows for is not compared.
_MIN_SPLITS = 3
# Laws of a smaller share are left out of an average.
_MIN_SHARE = 1e-3


@dataclass(frozen=True)
class _Member:
    """One law of an average: which columns it takes, its fit, how its errors grow, and these, split by split."""

    columns: tuple[int, ...]
    fit: LawFit
    near: float
    growth: float
    errors: list[np.ndarray | None]


@dataclass(frozen=True)
class Surface:
    """Laws fitted to outcomes at inputs (n, d), with names that say their columns, and each one's share."""

    train: np.ndarray
    members: tuple[_Member, ...]
    names: tuple[str, ...]
    shares: dict[str, float]

    def forecast(self, target: np.ndarray) -> Forecast:
        """Return predictive distributions at targets (m, d), all positive."""
        distance, parts = distance_beyond(self.train, target), {}
        for name, member in zip(self.names, self.members, strict=True):
            centre, variance = _log_prediction(member.fit, check_inputs(member.fit.law, target[:, member.columns]))
            if np.all(np.isfinite(centre) & np.isfinite(variance)):
                spread = np.sqrt(variance + member.near**2 + (member.growth * distance) ** 2)
                parts[name] = student_forecast(centre, spread, len(INNER_SHARES), name, member.near)
        parts = {name: part for name, part in parts.items() if self.shares[name] >= _MIN_SHARE}
        if not parts:
            raise Refusal(f"no law has a number at every target ({', '.join(self.names)}); go nearer to the rows")
        return mix(parts, self.shares)

    def reach(self, target: np.ndarray) -> np.ndarray:
        """Return how many times an input of each target lies beyond those fitted, the worst of them; 1 within."""
        low, high = self.train.min(axis=0), self.train.max(axis=0)
        return np.maximum(np.maximum(target / high, low / target).max(axis=1), 1.0)


def fit_surface(
    x: np.ndarray, y: np.ndarray, laws: Sequence[Law] | None, objective: Objective, names: Sequence[str]
) -> Surface:
    """Fit laws to y (n,) at x (n, d), all positive, and weigh them; all that suit the inputs where none is named."""
    asked = [(law, tuple(range(len(law.inputs)))) for law in laws] if laws else candidates(x)
    members, found, reasons = [], [], []
    for law, columns in asked:
        try:
            member = _fit_member(law, columns, x, y, objective)
        except Refusal as error:
            reasons.append(str(error))
            continue
        members.append(member)
        found.append(law.name if len(columns) == x.shape[1] and law.name != "epochs" else _name(law, columns, names))
    if not members:
        raise Refusal("; ".join(dict.fromkeys(reasons)))
    return Surface(x, tuple(members), tuple(found), dict(zip(found, map(float, _weigh(members)), strict=True)))


def candidates(x: np.ndarray) -> list[tuple[Law, tuple[int, ...]]]:
    """Return laws of inputs (n, d) with the columns that each takes; a column of one value tells nothing.

    Of three inputs also the laws of each pair, and that of repeated tokens wherever a column can be the unique part of
    another; of more, the laws of each pair and of three that are quick to fit, and a product of powers of all.
    """
    varied = np.flatnonzero((x != x[:1]).any(axis=0)).tolist()
    d = len(varied)
    if d < 2:
        raise Refusal(
            f"{d} of {x.shape[1]} inputs differ between rows: laws are averaged for two or more; name a law with --law"
        )
    quick = d > _MANY
    of_two, of_three = (names[: -1 if quick else None] for names in (_OF_TWO, _OF_THREE))
    found = [(LAWS[name], pair) for pair in combinations(varied, 2) for name in of_two]
    found += [(LAWS[name], three) for three in combinations(varied, 3) for name in of_three]
    if quick:
        found.append((product_law(d), tuple(varied)))
    elif d == _MANY:
        # Rounding aside, what is unique is a part of the whole.
        parts = [order for order in permutations(varied) if np.all(x[:, order[2]] <= 1.001 * x[:, order[1]])]
        found += [(LAWS["epochs"], order) for order in parts]
    return found


def _name(law: Law, columns: tuple[int, ...], names: Sequence[str]) -> str:
    return f"{law.name}({', '.join(names[i] for i in columns)})"


def _fit_member(law: Law, columns: tuple[int, ...], x: np.ndarray, y: np.ndarray, objective: Objective) -> _Member:
    fitted = fit_law(law, x[:, columns], y, objective=objective, must_converge=False)
    errors, distances = inner_errors(fitted, x, columns)
    # A few rows far off (early checkpoints) are not what the far end scatters by: the median, scaled to a normal's.
    scatter = max(1.4826 * float(np.median(np.abs(fitted.residuals))), _MIN_SCATTER)
    usable = [e for e in errors if e is not None]
    near, growth = fit_growth(
        np.concatenate([*usable, np.empty(0)]),
        np.concatenate([*(d for e, d in zip(errors, distances, strict=True) if e is not None), np.empty(0)]),
        scatter,
    )
    return _Member(columns, fitted, near, growth, errors)


def _weigh(members: Sequence[_Member]) -> np.ndarray:
    """Return weights of laws by their errors on the inner splits, or by AICc where there are none."""
    squares = np.array([[np.nan if e is None else np.mean(e**2) for e in member.errors] for member in members])
    squares = np.log(np.maximum(squares, _MIN_SCATTER**2))
    n_splits = np.isfinite(squares).sum(axis=1)
    if len(members) == 1 or n_splits.max() < _MIN_SPLITS:
        return _akaike([member.fit for member in members])
    # A law with many parameters lacks the splits that leave few rows: it is compared with the others where it has one.
    common = squares[np.argmax(n_splits)]
    found = np.full(len(members), np.inf)
    for row, own in enumerate(squares):
        shared = np.isfinite(own) & np.isfinite(common)
        if shared.sum() >= _MIN_SPLITS:
            found[row] = 0.5 * n_splits.max() * np.mean((own - common)[shared])
    shares = np.exp(-(found - found.min()))
    return shares / shares.sum()


def _akaike(fits: Sequence[LawFit]) -> np.ndarray:
    scores = []
    for fit in fits:
        k, n = len(fit.phi) + 1, fit.n_obs
        mean_square = max(float(np.mean(fit.residuals**2)), _MIN_SCATTER**2)
        scores.append(n * np.log(mean_square) + 2 * k * n / max(n - k - 1, 0.5))
    shares = np.exp(-0.5 * (np.array(scores) - min(scores)))
    return shares / shares.sum()


def _log_prediction(fitted: LawFit, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    with np.errstate(all="ignore"):
        value = fitted.law.function(x, fitted.theta)
        slope = fitted.law.gradient(x, fitted.theta) / value[:, None]
        return np.log(value), np.maximum(np.einsum("ni,ij,nj->n", slope, fitted.covariance, slope), 0.0)


def directions(x: np.ndarray) -> np.ndarray:
    """Return what orders rows: the log of each input, and of their product where there are several, shape (k, n)."""
    logs = np.log(x).T
    return logs if len(logs) == 1 else np.vstack([logs, logs.sum(axis=0)])


def distance_beyond(train: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return how far targets lie beyond the training rows, in log units, shape (m,); 0 within them.

    It is counted along the direction in which most targets lie beyond; inputs alone decide, no outcome.
    """
    last, at = directions(train).max(axis=1)[:, None], directions(target)
    chosen = int(np.argmax((at > last).mean(axis=1)))
    return np.maximum(at[chosen] - last[chosen], 0.0)


def inner_errors(fitted: LawFit, x: np.ndarray, columns: Sequence[int]) -> tuple[list, list]:
    """Return, split by split, log errors of predicting the far rows, and how far each lies beyond the rows fitted.

    Errors are None where a split's near rows cannot be fitted. The splits are those of x (n, d), of which the law takes
    some columns: they are the same for all laws.
    """
    nears, fars, distances = [], [], []
    for along in directions(x[:, np.ptp(x, axis=0) > 0]):
        order = np.argsort(along, kind="stable")
        for share in INNER_SHARES:
            near, far = np.split(order, [int(share * len(order))])
            nears.append(np.isin(np.arange(len(x)), near))
            fars.append(far)
            distances.append(np.maximum(along[far] - along[near].max(initial=-np.inf), 0.0))
    inputs, y, errors = check_inputs(fitted.law, x[:, columns]), fitted.problem.outcome, []
    for theta, far in zip(fit_subsets(fitted, np.array(nears)), fars, strict=True):
        with np.errstate(all="ignore"):
            error = np.log(fitted.law.function(inputs[far], theta) / y[far])
        errors.append(error if len(error) and np.all(np.isfinite(error)) else None)
    return errors, distances


def fit_growth(errors: np.ndarray, distances: np.ndarray, scatter: float) -> tuple[float, float]:
    """Fit ``near`` and ``growth`` of the errors' variance by maximum likelihood over a grid.

    ``near`` lies between 0.3 and 10 times the scatter of the residuals, and is it where there are no errors.
    """
    if not len(errors):
        return scatter, 0.0
    near, growth = (g.ravel() for g in np.meshgrid(_NEAR_GRID * scatter, _GROWTH_GRID, indexing="ij"))
    variance = near[:, None] ** 2 + (growth[:, None] * distances) ** 2
    best = int(np.argmin(np.sum(np.log(variance) + errors**2 / variance, axis=1)))
    return float(near[best]), float(growth[best])
