"""A rate through the loss: forecasts of the loss, then binomial regression of the rate on it, everything by draws.

The curve is logistic in the loss and ends at 1, so that no ceiling is extrapolated, and at a chance level. Groups share
it, have a level each, or a curve each; that and the chance level (of the rate that falls with the loss, so many shares
of its smallest value) are chosen by how well each group's row of smallest loss is predicted from the others. A draw
is a loss of its forecast, a curve of its estimates' distribution, and the scatter of a new rate.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.special import logit, ndtri

from astraios_analysis.curves.mixture import KINDS, Forecast, drawn_forecast
from astraios_analysis.laws.tables import read_labels
from astraios_analysis.prediction.binomial import BinomialFit, fit_rates, mean_rate
from astraios_analysis.prediction.stack import sobol
from astraios_analysis.records.counts import inside_unit_interval
from astraios_analysis.records.notation import count
from astraios_analysis.records.refusal import Refusal

VIA_PROCEDURE = (
    "the loss by its own forecast, the rate by binomial regression on the loss (logistic, ends at 0 and 1); draws of "
    "both, with the scatter of a new rate"
)
_CHANCES = (0.0, 0.5, 0.75, 0.9, 0.95, 0.98)
_CHOSEN = 1.5
SHARING = ("one curve", "own levels", "own curves")
_N_DRAWS = 2048
# Items behind a rate where none are named: the scatter found tells how many it behaves like.
_NOMINAL_ITEMS = 1000.0


@dataclass(frozen=True)
class RateLink:
    """A rate's curve against the loss.

    The curve is of the rate that falls with the loss: of successes where ``is_error``. ``inner`` is the error that it
    made for the smallest losses when they were left out.
    """

    binomial: BinomialFit
    sharing: str
    groups: tuple[str, ...]
    centre: float
    scale: float
    n_items: float
    is_error: bool = False
    inner: float = 0.0

    def forecast(self, group: str, loss: Forecast, rows: pd.DataFrame, n_items: str | float | None) -> Forecast:
        """Forecast rates of rows whose losses are forecast."""
        k = len(self.binomial.theta)
        # Orders of their own, so that draws of loss, curve and scatter do not go together.
        places = sobol(_N_DRAWS, 2 * k + 4)[np.random.default_rng(1).permutation(_N_DRAWS)]
        theta, dispersion, size_variance = self.binomial.draw(places[:, 2:])
        items = items_of(rows, n_items, self.n_items)
        normals = ndtri(np.random.default_rng(2).permutation((np.arange(_N_DRAWS) + 0.5) / _N_DRAWS))
        drawn = {}
        for kind in KINDS:
            losses = loss.draw(places[:, 0], normals, kind)
            columns = []
            for place in range(losses.shape[1]):
                eta = np.einsum("nk,nk->n", self._design(losses[:, place], group), theta)
                if kind == "observation":
                    eta = eta + np.sqrt(size_variance) * ndtri(places[::-1, 1])
                p = np.clip(mean_rate(eta, self.binomial.chance), 1e-9, 1 - 1e-9)
                if kind == "observation":
                    noise = np.sqrt(np.minimum(dispersion, items[place]) / (items[place] * p * (1 - p)))
                    edge = inside_unit_interval(p, items[place])
                    # Beyond the losses fitted, curves err as they did for the smallest losses.
                    noise = np.hypot(noise, self.inner / (p * (1 - p)))
                    columns.append(logit(edge) + np.minimum(noise, 10.0) * ndtri(places[:, 1]))
                else:
                    columns.append(logit(p))
            values = np.stack(columns, axis=1)
            drawn[kind] = -values if self.is_error else values
        weights = {f"{law}>logistic/{self.sharing.replace(' ', '_')}": w for law, w in loss.weights.items()}
        return drawn_forecast(drawn, weights, "logit")

    def _design(self, loss: np.ndarray, group: str) -> np.ndarray:
        return _design((self.centre - loss) / self.scale, np.full(len(loss), group), self.groups, self.sharing)

    def curve(self, loss: np.ndarray, group: str) -> np.ndarray:
        """Return expected rates at losses, shape (n,)."""
        rate = mean_rate(self._design(np.asarray(loss, dtype=float), group) @ self.binomial.theta, self.binomial.chance)
        return 1 - rate if self.is_error else rate


def _design(x: np.ndarray, group: np.ndarray, groups: tuple[str, ...], sharing: str) -> np.ndarray:
    if sharing == "one curve":
        return np.column_stack([np.ones(len(x)), x])
    own = (np.asarray(group)[:, None] == np.array(groups)).astype(float)
    return np.column_stack([own, own * x[:, None] if sharing == "own curves" else x])


def items_of(rows: pd.DataFrame, n_items: str | float | None, otherwise: float) -> np.ndarray:
    """Return the items behind each row's rate: those of a column, one number for all, or what else is told."""
    found = rows.get(n_items, otherwise) if isinstance(n_items, str) else otherwise if n_items is None else n_items
    return np.broadcast_to(np.asarray(found, dtype=float), (len(rows),))


def fit_link(rows: pd.DataFrame, loss: str, rate: str, group: Sequence[str], n_items: str | float | None) -> RateLink:
    """Fit rates against losses, shared among groups in the way that predicts the smallest losses best."""
    if len(rows) < 3:
        raise Refusal(f"{count(len(rows), 'row')} with both {loss} and {rate}; a curve between them needs at least 3")
    labels, items = read_labels(rows, group, ""), items_of(rows, n_items, _NOMINAL_ITEMS)
    x, y = rows[loss].to_numpy(dtype=float), rows[rate].to_numpy(dtype=float)
    is_error = np.polyfit(x, y, 1)[0] > 0
    y = 1 - y if is_error else y
    last = np.array([x[i] == x[labels == labels[i]].min() for i in range(len(x))])
    best = (np.inf, SHARING[0], 0.0)
    for sharing in SHARING if len(set(labels)) > 1 else SHARING[:1]:
        for chance in dict.fromkeys(np.round([share * y.min() for share in _CHANCES], 6)):
            try:
                inner = _fit(x[~last], y[~last], labels[~last], items[~last], sharing, float(chance))
            except (Refusal, np.linalg.LinAlgError):
                continue
            known = last & np.isin(labels, inner.groups)
            told = [inner.curve(x[[i]], labels[i])[0] for i in np.flatnonzero(known)]
            error = float(np.sqrt(np.mean((np.array(told) - y[known]) ** 2)))
            # Less is chosen only where more does not predict better by a tenth.
            best = (error, sharing, float(chance)) if error < 0.9 * best[0] else best
    # The best of several choices errs less than it will.
    inner = _CHOSEN * best[0] if np.isfinite(best[0]) else 0.0
    return replace(_fit(x, y, labels, items, *best[1:]), is_error=bool(is_error), inner=inner)


def _fit(x, y, labels, items, sharing: str, chance: float) -> RateLink:
    groups, centre, scale = tuple(sorted(set(labels))), float(x.mean()), float(x.std()) or 1.0
    design = _design((centre - x) / scale, labels, groups, sharing)
    # Each row is a model of its own: what rows of one size share is not told from their scatter.
    fitted = fit_rates(design, y, items, np.arange(len(x)), chance)
    return RateLink(fitted, sharing, groups, centre, scale, float(items.mean()))
