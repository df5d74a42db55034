"""Forecasts of losses that depend on several inputs: laws averaged by inner hold-outs of the rows fitted.

The rows are put in order of each input and of the inputs' product (compute, for N and D) and split at several places;
each law is fitted to the rows below and predicts those above. A law's weight falls with the mean square of its errors,
relative to the other laws', each split counting as one look::

    weight ~ prod over splits of (mean square error in the split)^(-1/2)

How far a law's predictions err is told by the same errors (`laws.holdouts`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, permutations

import numpy as np

from astraios_analysis.curves.mixture import Forecast, mix, student_forecast
from astraios_analysis.laws.engine import LawFit, fit_law
from astraios_analysis.laws.forms import LAWS, product_law
from astraios_analysis.laws.holdouts import MIN_SCATTER, in_order, inner_errors, ordered, reach, width_of
from astraios_analysis.laws.law import Law
from astraios_analysis.laws.residuals import Objective, check_inputs
from astraios_analysis.laws.saved import Curve
from astraios_analysis.prediction.stack import akaike_weights
from astraios_analysis.records.refusal import Refusal

LAW_PROCEDURE = (
    "one law fitted to the training rows as `fit` does it; prediction intervals hold parameter variance (delta method) "
    "and the errors of inner splits of the training rows, in order of each input and of their product, which grow with "
    "the distance beyond the rows fitted; Student's t"
)
SURFACE_PROCEDURE = (
    "laws of these inputs, and of pairs of three, averaged by their errors on inner splits of the training rows, in "
    "order of each input and of their product; each fitted with Huber's loss on log residuals; prediction intervals "
    "hold the laws' differences, parameter variance and the inner errors, which grow with the distance; Student's t"
)
# Laws averaged, by the number of their inputs.
_OF_TWO, _OF_THREE = (
    ("chinchilla", "multiplicative", "skaling"),
    ("additive_three", "multiplicative_three", "skaling_three"),
)
# Of more inputs than this the coupled laws, which take seconds, are left out.
_MANY = 3
# Where Huber's loss turns straight, for laws that are averaged.
HUBER = 1e-3
# A law that fewer inner splits leave enough rows for is not compared.
_MIN_SPLITS = 3
# Laws of a smaller share are left out of an average.
_MIN_SHARE = 1e-3


@dataclass(frozen=True)
class _Member:
    """One law of an average: which columns it takes, its fit and curve, and its inner errors, split by split."""

    columns: tuple[int, ...]
    fit: LawFit
    curve: Curve
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
        parts = {}
        for name, member in zip(self.names, self.members, strict=True):
            curve, width = member.curve, member.curve.width
            x = check_inputs(curve.law, target[:, member.columns])
            with np.errstate(all="ignore"):
                value, spread = curve.at(x, "observation", _order(curve.law, member.columns, target))
                centre = np.log(value) if curve.is_log else value
            if np.all(np.isfinite(centre) & np.isfinite(spread)):
                link = "log" if curve.is_log else "linear"
                parts[name] = student_forecast(centre, spread, width.dof, name, width.near, link)
        parts = {name: part for name, part in parts.items() if self.shares[name] >= _MIN_SHARE}
        if not parts:
            raise Refusal(f"no law has a number at every target ({', '.join(self.names)}); go nearer to the rows")
        return mix(parts, self.shares)

    def reach(self, target: np.ndarray) -> np.ndarray:
        """Return how many times targets (m, d) lie beyond the rows fitted, shape (m,)."""
        return reach(target, self.train.min(axis=0), self.train.max(axis=0))


def fit_surface(
    x: np.ndarray, y: np.ndarray, laws: Sequence[Law] | None, objective: Objective, names: Sequence[str]
) -> Surface:
    """Fit laws to y (n,) at x (n, d), all positive, and weigh them; all that suit the inputs where none is named."""
    x, y = in_order(x, y)
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
    order = _order(law, columns, x)
    found = inner_errors(fitted, order)
    width = width_of(fitted, order, len(fitted.phi), found)
    is_log = fitted.objective.residual == "log"
    curve = Curve(law, fitted.theta, fitted.covariance, width, is_log, fitted.x_range)
    return _Member(columns, fitted, curve, found.errors)


def _order(law: Law, columns: Sequence[int], x: np.ndarray) -> np.ndarray:
    """Return what tells how far rows (n, d) lie out: all inputs, the same for laws that take some of them."""
    return ordered(law, x) if len(columns) == x.shape[1] else x


def _weigh(members: Sequence[_Member]) -> np.ndarray:
    """Return weights of laws by their errors on the inner splits, or by AICc where there are none."""
    squares = np.array([[np.nan if e is None else np.mean(e**2) for e in member.errors] for member in members])
    squares = np.log(np.maximum(squares, MIN_SCATTER**2))
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
        mean_square = max(float(np.mean(fit.residuals**2)), MIN_SCATTER**2)
        scores.append(n * np.log(mean_square) + 2 * k * n / max(n - k - 1, 0.5))
    return akaike_weights(np.array(scores))
