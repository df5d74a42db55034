"""Rows of a table predicted from other rows of it: the one function behind ``predict`` and ``backtest`` of tables.

The way depends on what is named: a column of models' sizes and one of families (`sizes`), a column of losses that the
outcome goes through (`via`), one law or several inputs (`surfaces`), or else what the table allows (`routes`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product

import numpy as np
import pandas as pd

from astraios_analysis.curves.mixture import KINDS, Forecast, Link
from astraios_analysis.laws.holdouts import reach
from astraios_analysis.laws.law import Law
from astraios_analysis.laws.residuals import Objective, check_range
from astraios_analysis.laws.tables import (
    OF_PERCENT,
    ROLES,
    SOURCE,
    TRAIN,
    read_labels,
    refuse_cells,
    require_columns,
    take_rows,
)
from astraios_analysis.prediction.limits import LEVELS, MAX_REACH, require_reach
from astraios_analysis.prediction.outcome import table_outcome
from astraios_analysis.records.notation import count
from astraios_analysis.records.reading import NOTES
from astraios_analysis.records.refusal import Refusal, require_known
from astraios_analysis.tables.backtest import (
    CURVE_PROCEDURE,
    EXTRAPOLATE,
    Group,
    score_group,
)
from astraios_analysis.tables.routes import TableFit, fit_routes
from astraios_analysis.tables.sizes import SIZE_PROCEDURE, forecast_families, mixed_families
from astraios_analysis.tables.surfaces import HUBER, LAW_PROCEDURE, SURFACE_PROCEDURE, Surface, fit_surface
from astraios_analysis.tables.via import VIA_PROCEDURE, fit_link

# The column of marks that the back-test beside a prediction makes.
SPLIT = "_held_out"
Progress = Callable[[Sequence], Sequence]
Found = list[tuple[Group, Forecast]]


@dataclass(frozen=True)
class Columns:
    """What the columns of a table are, and how its outcome is predicted.

    ``x`` inputs, ``y`` the outcome, ``group`` what tells curves (or methods) apart; ``size`` and ``family`` of models;
    ``law`` alone; ``via`` the loss that the outcome goes through; ``rate`` and ``n_items`` (a column, or a number) of
    outcomes in [0, 1]; ``route`` one of `routes.ROUTES`, by default those that the table allows.
    """

    x: tuple[str, ...]
    y: str
    group: tuple[str, ...] = ()
    size: str | None = None
    family: str | None = None
    law: Law | None = None
    via: str | None = None
    rate: bool = False
    n_items: str | float | None = None
    route: str | None = None
    huber: float | None = None

    def __post_init__(self) -> None:
        """Refuse what does not go together."""
        if (self.size is None) != (self.family is None):
            raise Refusal("the size column and the family column go together: give both, or neither")
        if self.law is not None and len(self.x) != len(self.law.inputs):
            raise Refusal(f"{self.law.name} takes {', '.join(self.law.inputs)}; x names {len(self.x)} columns")
        if self.via == self.y:
            raise Refusal(f"{self.y} does not go through itself; name the column of losses that it goes through (via)")
        if self.is_surface and self.link != "log":
            raise Refusal("rates are predicted from one input; of several predict the loss, or go through it (via)")

    @property
    def link(self) -> Link:
        """Scale on which the outcome is predicted."""
        return "logit" if self.rate or self.n_items is not None else "log"

    @property
    def needed(self) -> tuple[str, ...]:
        """Columns whose values say what is predicted: the inputs, or the models' size."""
        return (self.size,) if self.size else self.x

    @property
    def is_surface(self) -> bool:
        """Whether laws of several inputs predict it, or one law that is named (`surfaces`)."""
        return not (self.via or self.family) and (self.law is not None or len(self.x) > 1)

    @property
    def keys(self) -> list[str]:
        """Columns that tell what is predicted apart."""
        return list(dict.fromkeys([*self.group, *([self.family] if self.family else [])]))

    @property
    def procedure(self) -> str:
        """How it is predicted, in words."""
        if self.via:
            return VIA_PROCEDURE
        if self.family:
            return SIZE_PROCEDURE
        return LAW_PROCEDURE if self.law else SURFACE_PROCEDURE if len(self.x) > 1 else CURVE_PROCEDURE

    def fit_surface(self, rows: pd.DataFrame, laws: Sequence[Law] | None = None) -> Surface:
        """Fit the law, or else laws of several inputs, to rows."""
        # One law is fitted as `fit` does it; of several, none is thought to hold for every row.
        objective = Objective(self.law.residual if self.law else "log", self.huber or (np.inf if self.law else HUBER))
        x, y = rows[list(self.x)].to_numpy(dtype=float), rows[self.y].to_numpy(dtype=float)
        if self.law:
            check_range(self.law, y, self.y)
        return fit_surface(x, y, [self.law] if self.law else laws, objective, self.x)

    def require(self, table: pd.DataFrame, *more: str | None) -> None:
        """Refuse a table that lacks one of the columns."""
        items = self.n_items if isinstance(self.n_items, str) else None
        require_columns(table, (*self.x, self.y, *self.group, self.size, self.family, self.via, items, *more))


@dataclass(frozen=True)
class SurfaceFit:
    """Laws of several inputs, or one law, fitted to each group of a table, once it is asked for."""

    columns: Columns
    surfaces: dict[str, Surface] = field(default_factory=dict)

    def forecast(self, group: Group) -> Forecast:
        """Forecast a group's target rows."""
        if group.label not in self.surfaces:
            self.surfaces[group.label] = self.columns.fit_surface(group.train)
        return self.surfaces[group.label].forecast(group.test[list(self.columns.x)].to_numpy(dtype=float))

    @property
    def train(self) -> np.ndarray:
        """Inputs fitted, shape (n, d)."""
        return np.concatenate([surface.train for surface in self.surfaces.values()])

    def predict(self, x: np.ndarray, levels: Sequence[float]) -> pd.DataFrame:
        """Predict every group at inputs (n, d): the inputs, ``group, value, lower, upper, level, kind, reach``."""
        parts, inputs = [], dict(zip(self.columns.x, x.T, strict=True))
        for label, surface in self.surfaces.items():
            found, beyond = surface.forecast(x), surface.reach(x)
            for kind, level in product(KINDS, levels):
                own = inputs | {"group": label, "value": found.median}
                own |= dict(zip(("lower", "upper"), found.interval(level, kind), strict=True))
                parts.append(pd.DataFrame(own | {"level": level, "kind": kind, "reach": beyond}))
        return pd.concat(parts, ignore_index=True)


# What is kept of a fit, to be asked again.
Fitted = TableFit | SurfaceFit


def forecast_rows(
    train: pd.DataFrame,
    target: pd.DataFrame,
    columns: Columns,
    fitted: Fitted | None,
    progress: Progress = lambda items: items,
    refused: dict[str, str] | None = None,
) -> Found:
    """Forecast target rows, which need no outcome, from training rows; one pair a group, targets as its ``test``.

    ``fitted`` is what `fit_table` makes of the training rows. A group that laws of several inputs cannot be fitted to
    is named in ``refused``, with the reason.
    """
    if columns.via:
        return _forecast_via(train, target, columns, progress)
    if columns.family:
        if columns.link != "log":
            raise Refusal("families are predicted on the scale of log losses; rates go by --group, without a family")
        return forecast_families(train, target, columns.x[0], columns.y, columns.group, columns.size, columns.family)
    groups = _groups(train, target, columns.group)
    if isinstance(fitted, SurfaceFit):
        return _by_laws(groups, fitted, progress, {} if refused is None else refused)
    return [(one, fitted.forecast(one.label, one.test[columns.x[0]].to_numpy(dtype=float))) for one in groups]


def fit_table(train: pd.DataFrame, columns: Columns, progress: Progress = lambda items: items) -> Fitted | None:
    """Fit the routes of a table in one input, or laws of several; None where families or losses are between."""
    if columns.via or columns.family:
        return None
    if columns.is_surface:
        return SurfaceFit(columns)
    group = list(columns.group)
    outcome = table_outcome(train, columns.x[0], columns.y, group, columns.link, columns.n_items)
    return fit_routes(outcome, columns.route, progress)


def _groups(train: pd.DataFrame, target: pd.DataFrame, names: Sequence[str]) -> list[Group]:
    """Return the groups of the targets with their training rows."""
    if not names:
        return [Group({}, train, target)]
    known, found = dict(list(train.groupby(list(names), sort=False))), []
    for key, rows in target.groupby(list(names), sort=False):
        if key in known:
            found.append(Group(dict(zip(names, map(str, key), strict=True)), known[key], rows))
    return found


def _by_laws(groups: Sequence[Group], fitted: SurfaceFit, progress: Progress, refused: dict[str, str]) -> Found:
    found = []
    for group in progress(groups):
        try:
            found.append((group, fitted.forecast(group)))
        except Refusal as error:
            refused[group.label] = str(error)
    if not found:
        raise Refusal("; ".join(refused.values()) or "no group has rows to predict and rows to predict them from")
    return found


def _forecast_via(train: pd.DataFrame, target: pd.DataFrame, columns: Columns, progress: Progress) -> Found:
    """Forecast losses, then outcomes given them."""
    measured = train[train[columns.via].notna()]
    of_losses = replace(columns, y=columns.via, via=None, rate=False, n_items=None)
    losses = forecast_rows(measured, target, of_losses, fit_table(measured, of_losses, progress), progress)
    both = measured[measured[columns.y].notna()]
    link = fit_link(both, columns.via, columns.y, list(columns.group), columns.n_items)
    return [(one, link.forecast(one.label, loss, one.test, columns.n_items)) for one, loss in losses]


def backtest_table(
    rows: pd.DataFrame,
    columns: Columns,
    split: str,
    progress: Progress = lambda items: items,
    levels: Sequence[float] = LEVELS,
) -> tuple[list[dict], pd.DataFrame, dict[str, str]]:
    """Predict the rows (`rows_to_fit`) that ``split`` marks extrapolate from those it marks train, and score them.

    Returns one dict a group (`backtest.score_group`), a row for every row predicted (`predicted_rows`), and the groups
    that are not back-tested, with the reasons.
    """
    # What goes through a loss may not have been measured everywhere.
    rows = rows[(rows[split] == TRAIN) | rows[columns.y].notna()]
    labels = read_labels(rows, columns.keys, "")
    known, asked = dict.fromkeys(labels), set(labels[(rows[split] == EXTRAPOLATE).to_numpy()])
    if not asked:
        raise Refusal(f"no row is marked {EXTRAPOLATE} in column {split!r}; mark the rows to predict")
    refused = {label: f"nothing is marked {EXTRAPOLATE}" for label in known if label not in asked}
    if not columns.family:
        # Smaller models of a family may be in groups of their own; other groups without targets take no part.
        rows = pd.concat([rows[labels == label] for label in known if label in asked])
    is_train = rows[split] == TRAIN
    fitted = fit_table(rows[is_train], columns, progress)
    found = forecast_rows(rows[is_train], rows[~is_train], columns, fitted, progress, refused)
    if not found:
        raise Refusal("no group has rows to predict and rows to predict them from")
    scored = [score_group(group, forecast, columns.y, columns.n_items) for group, forecast in found]
    parts = [
        predicted_rows(group, one, columns, levels).assign(reach=_reach(group, columns, fitted)) for group, one in found
    ]
    return scored, pd.concat(parts, ignore_index=True), refused


def _reach(group: Group, columns: Columns, fitted: Fitted | None) -> np.ndarray:
    """Return how many times the furthest input of each target lies beyond the rows it is predicted from; 1 within."""
    at, known = (rows[list(columns.needed)].to_numpy(dtype=float) for rows in (group.test, group.train))
    ends = fitted.range_of(group.label) if isinstance(fitted, TableFit) else (known.min(axis=0), known.max(axis=0))
    return reach(at, *ends)


def predicted_rows(
    group: Group, forecast: Forecast, columns: Columns, levels: Sequence[float] = LEVELS
) -> pd.DataFrame:
    """Return targets with their predictions: keys, inputs, ``measured`` (where known), ``value, lower_50, ...``."""
    names = [*columns.keys, *([columns.size] if columns.size else []), *columns.x]
    found = group.test[[name for name in dict.fromkeys(names) if name in group.test]].reset_index(drop=True)
    if columns.y in group.test:
        found = found.assign(measured=group.test[columns.y].to_numpy(dtype=float), last=_last(group, columns))
    found = found.assign(value=forecast.median)
    for level in levels:
        lower, upper = forecast.interval(level)
        found = found.assign(**{f"lower_{100 * level:g}": lower, f"upper_{100 * level:g}": upper})
    return found


def _last(group: Group, columns: Columns) -> float:
    """Return the outcome of no change: that of the group's furthest training row."""
    known = group.train[group.train[columns.y].notna()]
    furthest = np.argmax(np.log(known[list(columns.needed)].to_numpy(dtype=float)).sum(axis=1))
    return float(known[columns.y].iloc[furthest])


def targets(train: pd.DataFrame, columns: Columns, asked: Sequence[Mapping[str, float]]) -> pd.DataFrame:
    """Return rows to predict: every group at every place asked for, which names values of columns.

    A family's model, whose size is asked for, is predicted at each of the table's inputs where none is asked for.
    """
    keys = columns.keys
    if columns.family:
        keys = [name for name in keys if train.groupby([columns.family, name])[columns.size].nunique().max() > 1]
        keys = list(dict.fromkeys([*keys, columns.family]))
    groups = train[keys].drop_duplicates() if keys else pd.DataFrame(index=[0])
    needed, parts = list(columns.needed), []
    for place in asked:
        for name in place:
            if name not in (*needed, *columns.x, *keys):
                raise Refusal(
                    f"{name!r} is no input here; --at names {', '.join(dict.fromkeys([*needed, *columns.x]))}"
                )
            if name not in keys and not isinstance(place[name], float):
                raise Refusal(f"{name} is {place[name]!r} at a place to predict; give a positive number, such as 7e9")
        missing = [name for name in needed if name not in place]
        if missing:
            raise Refusal(f"--at gives no {missing[0]}; give {','.join(f'{name}=...' for name in needed)}")
        rows = groups.assign(**place)
        if columns.family and columns.x[0] not in place:
            rows = rows.merge(train[[columns.x[0]]].drop_duplicates().sort_values(columns.x[0]), how="cross")
        parts.append(rows)
    return pd.concat(parts, ignore_index=True)


def rows_to_fit(
    table: pd.DataFrame,
    columns: Columns,
    split: str | None = None,
    marks: Sequence[str] = (TRAIN,),
    *,
    may_be_blank: bool = False,
) -> pd.DataFrame:
    """Return the rows that take part in a fit and, with more ``marks`` of ``split``, those to predict (`take_rows`).

    Where the outcome ``may_be_blank``, rows without one are there, too.
    """
    split, where = split or table.attrs.get(ROLES, {}).get("split"), table.attrs.get(SOURCE, "the table")
    columns.require(table, split)
    is_loss = bool(columns.via) or columns.link == "log"
    items = [columns.n_items] if isinstance(columns.n_items, str) else []
    rows = take_rows(
        table,
        [*columns.x, *(name for name in columns.needed if name not in columns.x)],
        columns.via or columns.y,
        columns.keys,
        split,
        marks=marks,
        numbers=[columns.y, *items],
        blank=[columns.via, columns.y, *items] if columns.via else [columns.y] * may_be_blank,
        positive=is_loss,
        against=columns.needed[0] if is_loss and len(columns.needed) == 1 else None,
    )
    for name in items:
        refuse_cells(rows, name, rows[name] < 1, where, "1 or more; a rate has at least one item")
    if columns.n_items is not None and not items and columns.n_items < 1:
        raise Refusal(f"n_items is {columns.n_items:g}; a rate has at least one item")
    notes, is_train = rows.attrs[NOTES], rows[split] == TRAIN if split else pd.Series(True, index=rows.index)
    if columns.via:
        refuse_cells(rows, columns.y, ~is_train & rows[columns.y].isna(), where, "a finite number")
        refuse_cells(rows, columns.y, ~rows[columns.y].fillna(0).between(0, 1), where, "between 0 and 1", OF_PERCENT)
        lost = is_train & rows[columns.via].isna()
        notes = [*notes, *([f"{count(int(lost.sum()), 'row')} without {columns.via} left out"] if lost.any() else [])]
        rows, is_train = rows[~lost], is_train[~lost]
    train = rows[is_train]
    if columns.family:
        notes = notes + mixed_families(train, columns.x[0], columns.y, columns.group, columns.size, columns.family)
    if columns.is_surface:
        same = [name for name in columns.x if train[name].nunique() == 1]
        notes = notes + [
            f"{name} is {train[name].iloc[0]:g} in every row: it tells nothing, and takes no part" for name in same
        ]
    rows.attrs[NOTES] = notes
    return rows


def predict_places(
    train: pd.DataFrame,
    columns: Columns,
    asked: Sequence[Mapping[str, float]],
    methods: Sequence[str] | None = None,
    *,
    force: bool = False,
    refused: dict[str, str] | None = None,
    levels: Sequence[float] = LEVELS,
) -> tuple[list[dict], Fitted | None]:
    """Predict every group (or those named) at places, as rows of `api.Prediction`, in the order of the places.

    Beside them is what was fitted, save for families and what goes through a loss.
    """
    ask = targets(train, columns, asked)
    for name in columns.needed:
        for value in ask[name].unique():
            try:
                require_reach(float(value), (float(train[name].min()), float(train[name].max())), force=force)
            except Refusal as error:
                # What is odd about the table may be why.
                odd = [note for note in train.attrs.get(NOTES, []) if note.startswith("warning")]
                raise Refusal(". ".join([str(error), *odd])) from None
    # Of families, models have no prediction of their own.
    keys = [name for name in columns.keys if name in ask]
    labels = read_labels(ask, keys, "")
    if methods:
        require_known("/".join(keys) or "group", methods, dict.fromkeys(labels))
        ask, labels = (own[np.isin(labels, methods)] for own in (ask, labels))
    fitted, refused = fit_table(train, columns), {} if refused is None else refused
    found = forecast_rows(train, ask, columns, fitted, refused=refused)
    end = fitted.outcome.end if isinstance(fitted, TableFit) else np.asarray
    rows = []
    for group, one in found:
        ends = {(kind, level): end(np.array(one.interval(level, kind))) for kind in KINDS for level in levels}
        own = _rows(group, one, columns, ends, _reach(group, columns, fitted))
        far = [f"{row['size']} lies {row['reach']:.4g} times" for row in own if row["reach"] > MAX_REACH and not force]
        rows += [row for row in own if row["reach"] <= MAX_REACH or force]
        if far:
            refused[group.label] = (
                f"{', '.join(far)} beyond its own rows; the limit is {MAX_REACH:g} times. Add rows nearer to it, or "
                "insist with --force"
            )
    if not rows:
        reasons = [f"{label}: {why}" for label, why in refused.items()]
        raise Refusal("\n".join(reasons) or "no group of the table has rows enough to be predicted")
    if columns.family:
        lacking = dict.fromkeys(labels).keys() - {row["method"] for row in rows} - refused.keys()
        why = f"its models share no {columns.x[0]} asked for, so that no line joins them"
        refused |= {label: why for label in dict.fromkeys(labels) if label in lacking}
    places = [tuple(place) for place in ask[list(columns.needed)].to_numpy(dtype=float)]
    order = {place: i for i, place in reversed(list(enumerate(places)))}
    return sorted(rows, key=lambda row: order[tuple(row["at"][name] for name in columns.needed)]), fitted


def _rows(
    group: Group, forecast: Forecast, columns: Columns, ends: dict[tuple, np.ndarray], beyond: np.ndarray
) -> list[dict]:
    names = list(dict.fromkeys([*columns.needed, *columns.x]))
    shared = {"quantity": columns.y, "metric": columns.y, "weights": forecast.weights}
    shared |= {"sizes_fitted": int(group.train[columns.needed[0]].nunique())}
    rows = []
    for place, value in enumerate(forecast.median):
        at = {name: float(group.test[name].iloc[place]) for name in names}
        size = ",".join(f"{name}={at[name]:g}" for name in columns.needed)
        size = size if len(columns.needed) > 1 else f"{at[columns.needed[0]]:g}"
        own = {key: (low[place], high[place]) for key, (low, high) in ends.items()}
        rows.append(answer_row(group.label, float(value), own, size=size, at=at, reach=float(beyond[place]), **shared))
    return rows


def answer_row(
    group: str,
    value: float,
    ends: Mapping[tuple[str, float], Sequence[float]],
    *,
    size: str,
    at: Mapping[str, float],
    quantity: str,
    metric: str,
    reach: float,
    weights: Mapping[str, float],
    sizes_fitted: int,
    dataset: str | None = None,
) -> dict:
    """Return one answer as ``astraios predict --json`` prints it; ``ends`` by kind and level."""
    first = next(iter(at.values()))
    row = {"size": size, "n_params": round(first) if first >= 1 else first, "at": dict(at), "group": group}
    row |= {"dataset": dataset, "method": group, "quantity": quantity, "metric": metric, "value": value}
    row["intervals"] = [
        {"level": level, "kind": kind, "lower": float(low), "upper": float(high)}
        for (kind, level), (low, high) in ends.items()
    ]
    weights = {law: weight for law, weight in weights.items() if weight >= 1e-6}
    return row | {"reach": reach, "weights": weights, "sizes_fitted": sizes_fitted}


def mark_largest(train: pd.DataFrame, columns: Columns, n_largest: int = 1) -> pd.DataFrame:
    """Mark in a column `SPLIT` what a back-test holds out: each group's largest inputs, each family's largest model.

    Of several inputs it is the tenth of the rows with the largest product of the inputs.
    """
    if columns.family:
        of, key = train[columns.size], [columns.family]
    elif len(columns.x) > 1:
        of, key = np.log(train[list(columns.x)]).sum(axis=1), list(columns.group)
    else:
        of, key = train[columns.x[0]], list(columns.group)
    parts = [train] if not key else [rows for _, rows in train.groupby(key, sort=False)]
    marks = pd.Series(TRAIN, index=train.index)
    for rows in parts:
        own = of[rows.index]
        values = np.sort(own.unique())
        n = n_largest if len(columns.x) == 1 else max(len(values) // 10, 1)
        if len(values) > n:
            marks[own.index[own >= values[-n]]] = EXTRAPOLATE
    if (marks == TRAIN).all():
        raise Refusal(f"{n_largest} of the largest {of.name or 'inputs'} held out leave nothing to fit; hold out fewer")
    return train.assign(**{SPLIT: marks})


def test_rows(
    train: pd.DataFrame, columns: Columns, levels: Sequence[float] = LEVELS
) -> tuple[pd.DataFrame | None, str | None]:
    """Predict what `mark_largest` holds out; return the predicted rows, or why there are none."""
    try:
        _, rows, _ = backtest_table(mark_largest(train, columns), columns, SPLIT, levels=levels)
    except Refusal as error:
        return None, str(error)
    return rows, None
