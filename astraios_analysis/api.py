"""The toolkit: verbs on the runs of a grid or on any table, and what they return.

What a verb returns prints as a table in a terminal and in Jupyter, has ``.table`` and, where there is something to see,
``.plot()``. Commands, notebooks and explorer call these and nothing beneath them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from astraios_analysis.claims.judge import Judgement, judge_claims, judgement_frame
from astraios_analysis.claims.rules import CLAIMS
from astraios_analysis.laws.tables import ROLES
from astraios_analysis.prediction import backtest as backtests
from astraios_analysis.prediction.decide import (
    best_at_size,
    frontier,
    plan_outcome,
    small_model_decisions,
)
from astraios_analysis.prediction.forecast import (
    Fitted,
    Outcome,
    fit_supported,
    record_outcome,
    require_near,
    table_outcome,
)
from astraios_analysis.prediction.limits import KINDS, LEVELS, parse_size, predictable_datasets, require_predictable
from astraios_analysis.records.frame import RunRecord, to_frame
from astraios_analysis.records.grids import PerGrid, load_grids
from astraios_analysis.records.printing import table_text
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.records.registry import LOSS
from astraios_analysis.records.sources import load_records
from astraios_analysis.scores.bootstrap import ProblemBootstrap
from astraios_analysis.scores.models import require_one_grid
from astraios_analysis.scores.ranks import measured_datasets, rank_methods, rank_transfer

Runs = Sequence[RunRecord]


class Result:
    """What a verb returns: prints as its table."""

    table: pd.DataFrame

    def __repr__(self) -> str:
        """Return the table as text."""
        return table_text(self.table)

    def _repr_html_(self) -> str:
        return self.table.to_html(index=False, na_rep="", float_format="{:.4g}".format, border=0)


def load(data: str | Path | None = None, grid: str | None = None) -> list[RunRecord]:
    """Read the runs below a data folder, ordered by grid, size, method and seed.

    Parameters
    ----------
    data : str or Path, optional
        Folder with released tables, record files, or both; ``./data`` by default.
    grid : str, optional
        Keep one grid, such as ``released``; all of them by default.

    Raises
    ------
    RecordError
        If anything in the folder is wrong, or the grid is not in it.
    """
    return load_records(data, None if grid == "all" else grid)


def frame(runs: Runs, per: str = "score") -> pd.DataFrame:
    """Return runs as a tidy table: one row a score, or one row a run.

    Parameters
    ----------
    runs : sequence of RunRecord
    per : {"score", "run"}
    """
    return to_frame(runs, per)


@dataclass(frozen=True, repr=False)
class Prediction(Result):
    """Predicted values, their intervals, the laws averaged and the back-test of the same procedure.

    Attributes
    ----------
    rows : list of dict
        One a quantity, size and method, as ``astraios predict --json`` prints them: ``size, n_params, at, group,
        dataset, method, quantity, metric, value, intervals, reach, weights``. ``value`` is the median of one new run;
        an interval of kind ``observation`` is where it falls, of kind ``mean`` where the law is.
    backtest : DataFrame
        One row a quantity: the runs of the largest size predicted from the smaller ones: ``quantity, n,
        mean_abs_error, persistence_mean_abs_error`` (no change) and ``n_covered`` by 95 % intervals.
    tested : DataFrame
        Those runs, each with its prediction (`prediction.backtest.predict_runs`).
    refused : dict of str to str
        Quantities that must not be predicted, and why.
    """

    rows: list[dict[str, Any]]
    backtest: pd.DataFrame
    tested: pd.DataFrame
    refused: dict[str, str]
    fitted: dict[str, Fitted] = field(default_factory=dict)

    @property
    def table(self) -> pd.DataFrame:
        """One row a quantity, size and method, with prediction intervals: ``value, lower_50, upper_50, ...``, reach."""
        table = []
        for row in self.rows:
            names = ("quantity", "metric", "method", "size", "n_params", "value")
            ends = {}
            for one in row["intervals"]:
                if one["kind"] == "observation":
                    ends |= {f"{end}_{100 * one['level']:g}": one[end] for end in ("lower", "upper")}
            table.append({name: row[name] for name in names} | ends | {"reach": row["reach"]})
        return pd.DataFrame(table)

    @property
    def weights(self) -> pd.DataFrame:
        """Weights of the laws averaged: ``quantity, law, weight``, those below 0.001 left out."""
        rows = [(name, law, w) for name, one in self.fitted.items() for law, w in one.weights.items() if w >= 1e-3]
        return pd.DataFrame(rows, columns=["quantity", "law", "weight"])

    def plot(self) -> Any:
        """Return a Figure: measured points, laws (dashed beyond the sizes fitted), and predictions with intervals."""
        from astraios_analysis.figures.transfer import prediction_panels

        targets = sorted({row["n_params"] for row in self.rows})
        methods = list(dict.fromkeys(row["method"] for row in self.rows))
        return prediction_panels(self.fitted, targets, methods)


def predict(
    runs: Runs | pd.DataFrame,
    size: str | float | Sequence[str | float],
    dataset: str | Sequence[str] | None = None,
    method: str | Sequence[str] | None = None,
    *,
    x: str | None = None,
    y: str | None = None,
    group: str | None = None,
    rate: bool = False,
    force: bool = False,
) -> Prediction:
    """Predict losses and scores of methods at sizes, measured or not.

    Laws and ways to pool methods are averaged by how they predict the largest sizes left out. Everything is fitted
    once, whatever is asked for.

    Parameters
    ----------
    runs : sequence of RunRecord, or DataFrame
        Runs of one grid (held-out ones take no part), or a table of one's own.
    size : str, float, or several
        Parameters of the base model: a measured size, ``"34b"``, ``3.4e10``. Of a table, values of ``x``.
    dataset : str or sequence of str, optional
        Data sets, or ``val_loss``; by default all that can be predicted.
    method : str or sequence of str, optional
        Methods (values of ``group``); all by default.
    x, y, group : str, optional
        Columns of a table: size, outcome and method; rows of one x and group are replicates. By default what
        `read_table` was told.
    rate : bool
        Of a table: y is a rate in (0, 1), not a loss with a floor.
    force : bool
        Allow sizes beyond ten times the fitted range.

    Raises
    ------
    Refusal
        If nothing can be predicted, or a data set that was named cannot.
    """
    methods = _several(method)
    if isinstance(runs, pd.DataFrame):
        outcomes, known = {}, {}
        x, y, group = _roles(runs, x, y, group)
        outcomes[y] = table_outcome(runs, x, y, group, "logit" if rate else "log")
        at = x
    else:
        if x or y or group:
            raise Refusal("x, y and group name columns of a table; give a DataFrame, or leave them out")
        outcomes, known, at = _record_outcomes(runs, dataset, methods)
    sizes = [(str(one), parse_size(str(one), known)) for one in _several(size) or []]
    fitted, refused = {}, {}
    for name, outcome in outcomes.items():
        try:
            if isinstance(outcome, Refusal):
                raise outcome
            one = fit_supported(outcome)
            for _, n_params in sizes:
                require_near(one, n_params, force=force)
            fitted[name] = one
        except Refusal as error:
            refused[name] = str(error).removeprefix(f"{name}: ")
    if not fitted or (refused and dataset is not None):
        listed = "\n".join(f"{name}: {reason}" for name, reason in refused.items())
        raise Refusal(listed or "no data set here has primary scores at three sizes; add runs")
    return _predict(fitted, refused, sizes, methods, at)


def _several(value: Any) -> list | None:
    if value is None or isinstance(value, str) or not isinstance(value, Sequence):
        return None if value is None else [value]
    return list(value)


def _roles(table: pd.DataFrame, x: str | None, y: str | None, group: str | None) -> tuple[str, str, str | None]:
    """Return the columns of a table: as named, or as `read_table` was told."""
    told = table.attrs.get(ROLES, {})
    x, y = x or next(iter(told.get("x", ())), None), y or told.get("y")
    group = group or next(iter(told.get("group", ())), None)
    if not (x and y):
        known = ", ".join(map(str, table.columns))
        raise Refusal(f"name the table's columns with x and y, and group for methods; it has {known}")
    return x, y, group


def _record_outcomes(
    runs: Runs, dataset: str | Sequence[str] | None, methods: list[str] | None
) -> tuple[dict[str, Outcome | Refusal], dict[str, int], str]:
    """Return what can be asked of records: outcomes (or why there is none), labels of sizes, and the axis."""
    require_one_grid(runs)
    names = _several(dataset)
    for name in names or []:
        if name != LOSS:
            require_predictable(runs, name)
    if names is None:
        has_losses = any(run.val_loss is not None and not run.held_out for run in runs)
        names = [LOSS] * has_losses + predictable_datasets(runs)
    present = list(dict.fromkeys(run.method for run in runs))
    for name in methods or []:
        if name not in present:
            raise Refusal(f"unknown tuning method {name!r}; choose from {', '.join(present)}")
    outcomes: dict[str, Outcome | Refusal] = {}
    for name in dict.fromkeys(names):
        try:
            outcomes[name] = record_outcome(runs, name)
        except Refusal as error:
            outcomes[name] = error
    return outcomes, {run.size: run.n_params_base for run in runs}, "n_params_base"


def _predict(fitted, refused, sizes, methods, at) -> Prediction:
    rows, tested, summaries = [], [], []
    for name, one in fitted.items():
        wanted = [method for method in methods or one.methods if method in one.methods]
        missing = [method for method in methods or [] if method not in one.methods]
        if missing and not wanted:
            refused[name] = f"{missing[0]} has no {name} to fit; choose from {', '.join(one.methods)}"
            continue
        rows += [row for label, n_params in sizes for row in _rows(name, one, label, n_params, wanted, at)]
        found = backtests.largest_from_smaller(one.outcome)
        if found is not None:
            tested.append(found.assign(quantity=name))
            summaries.append({"quantity": name, **backtests.describe(found)})
    if not rows:
        raise Refusal("\n".join(refused.values()))
    tests = pd.concat(tested, ignore_index=True) if tested else pd.DataFrame()
    return Prediction(rows, pd.DataFrame(summaries), tests, refused, fitted)


def _rows(name: str, fitted: Fitted, label: str, n_params: float, methods: list[str], at: str) -> list[dict]:
    found, beyond = fitted.intervals(n_params), require_near(fitted, n_params, force=True)
    rows = []
    for method in methods:
        place = fitted.methods.index(method)
        intervals = [
            {"level": level, "kind": kind}
            | {end: float(found.bounds[kind, level][i, place]) for i, end in enumerate(("lower", "upper"))}
            for kind in KINDS
            for level in LEVELS
        ]
        row = {"size": label, "n_params": round(n_params) if n_params >= 1 else n_params, "at": {at: n_params}}
        row |= {"group": method, "dataset": None if name == LOSS else name, "method": method, "quantity": name}
        row |= {"metric": fitted.outcome.metric, "value": float(found.median[place]), "intervals": intervals}
        weights = {law: weight for law, weight in fitted.weights.items() if weight >= 1e-6}
        rows.append(row | {"reach": beyond, "weights": weights, "sizes_fitted": fitted.n_sizes})
    return rows


@dataclass(frozen=True, repr=False)
class Backtest(Result):
    """Sizes held out, predicted from the others, and what the predictions were worth.

    Attributes
    ----------
    groups : list of dict
        One a quantity, as ``astraios backtest --json`` prints them.
    rows : DataFrame
        Every run held out with its prediction: ``quantity, size, n_params, method, seed, value, predicted, error,
        lower_50, ..., persistence, reach``.
    laws : DataFrame
        Each law and pooling alone: ``quantity, law, pooling, weight, aicc, left_out, rmse_log, ...``.
    refused : list of str
    """

    groups: list[dict[str, Any]]
    rows: pd.DataFrame
    laws: pd.DataFrame
    refused: list[str]

    @property
    def table(self) -> pd.DataFrame:
        """One row a quantity: runs, errors of the logarithm beside no change, coverage, interval score."""
        names = ("n_train", "n_test", "rmse_log", "persistence_rmse_log", "mean_abs_pct", "interval_score")
        rows = []
        for group in self.groups:
            coverage = {f"covered_{100 * float(level):g}": share for level, share in group["coverage"].items()}
            rows.append({"quantity": group["group"]["quantity"]} | {n: group[n] for n in names} | coverage)
        return pd.DataFrame(rows)

    def plot(self) -> Any:
        """Return a Figure: what was held out against what was predicted."""
        from astraios_analysis.figures.transfer import backtest_rows

        return backtest_rows(self.rows)[0]


def backtest(
    runs: Runs | pd.DataFrame,
    hold_out: int | None = None,
    dataset: str | Sequence[str] | None = None,
    *,
    x: str | None = None,
    y: str | None = None,
    group: str | None = None,
    rate: bool = False,
    progress: Any = lambda items: items,
) -> Backtest:
    """Hold sizes out, predict them from the others as `predict` does, and score the predictions.

    Parameters
    ----------
    runs : sequence of RunRecord, or DataFrame
        Runs of one grid, or a table of one's own.
    hold_out : int, optional
        How many of the largest sizes are predicted; by default those marked held out, or else the largest one.
    dataset : str or sequence of str, optional
        Data sets, or ``val_loss``; all that are measured by default.
    x, y, group, rate
        As in `predict`; of a table the largest x is held out.
    progress : callable
        Wraps the sequence of quantities, as ``tqdm`` does.

    Raises
    ------
    Refusal
        If no size can be held out, or nothing can be predicted.
    """
    if isinstance(runs, pd.DataFrame):
        x, y, group = _roles(runs, x, y, group)
        outcome = table_outcome(runs, x, y, group, "logit" if rate else "log")
        groups, refused = [backtests.backtest_outcome(outcome, hold_out or 1)], []
    else:
        require_one_grid(runs)
        groups, refused = backtests.backtest_records(runs, hold_out, _several(dataset), progress)
    if not groups:
        raise Refusal("\n".join(refused) or "no data set has scores at three fitted sizes and a held-out one")
    laws = pd.concat([pd.DataFrame(g["laws"]).assign(quantity=g["group"]["quantity"]) for g in groups])
    rows = pd.concat([group["rows"] for group in groups], ignore_index=True)
    return Backtest(groups, rows, laws.reset_index(drop=True), refused)


@dataclass(frozen=True, repr=False)
class Ranking(Result):
    """Methods in order, size by size, and whether the order carries over.

    Attributes
    ----------
    table : DataFrame
        Methods by size with the probability of being first (`scores.ranks.rank_methods`).
    transfer : DataFrame
        Rank correlations of each smaller size with the largest.
    decisions : DataFrame
        What choosing by a smaller size comes to at larger ones: regret, random choice, pairs in the same order.
    best : DataFrame
        With ``size``: the probability that each method is the best there.
    refused : dict of str to str
    """

    table: pd.DataFrame
    transfer: pd.DataFrame
    decisions: pd.DataFrame
    best: pd.DataFrame
    refused: dict[str, str]


def rank(
    runs: Runs,
    size: str | float | None = None,
    dataset: str | Sequence[str] | None = None,
    *,
    level: float = 0.95,
    seed: int = 0,
    force: bool = False,
) -> Ranking:
    """Rank methods at each measured size and, with ``size``, at one that nobody has measured.

    Parameters
    ----------
    runs : sequence of RunRecord
        Of one grid.
    size : str or float, optional
    dataset : str or sequence of str, optional
        All that are measured by default.
    level : float
        Coverage of the intervals.
    seed : int
        Of the bootstrap over problems.
    force : bool
        Allow sizes beyond ten times the fitted range.

    Raises
    ------
    Refusal
        If no run has a primary score, or a data set that was named cannot be ranked.
    """
    names = _several(dataset) or measured_datasets(list(runs))
    options = {"level": level, "bootstrap": ProblemBootstrap(seed=seed)}
    tables: dict[str, list[pd.DataFrame]] = {"ranks": [], "transfer": [], "decisions": [], "best": []}
    refused: dict[str, str] = {}
    n_params = None if size is None else parse_size(str(size), {run.size: run.n_params_base for run in runs})
    for name in names:
        tables["ranks"].append(rank_methods(list(runs), name, **options))
        for kind, function in (("transfer", rank_transfer), ("decisions", small_model_decisions)):
            try:
                tables[kind].append(function(list(runs), name, **options))
            except Refusal as error:
                refused[f"{kind} of {name}"] = str(error)
        if n_params is not None:
            try:
                tables["best"].append(best_at_size(runs, name, n_params, level=level, force=force))
            except Refusal as error:
                if dataset is not None:
                    raise
                refused[f"best method at {size} on {name}"] = str(error)
    if not tables["ranks"]:
        raise Refusal("no run here has a primary score to rank by; add runs with scores, or choose another grid")
    found = {kind: pd.concat(parts, ignore_index=True) if parts else pd.DataFrame() for kind, parts in tables.items()}
    return Ranking(found["ranks"], found["transfer"], found["decisions"], found["best"], refused)


@dataclass(frozen=True, repr=False)
class Verdicts(Result):
    """The study's claims, judged: ``judgements`` with their evidence, ``parts`` one row a claim and part."""

    judgements: list[Judgement]

    @property
    def table(self) -> pd.DataFrame:
        """One row a claim: effect, interval, p-values, verdict, reason."""
        return judgement_frame(self.judgements)

    @property
    def parts(self) -> pd.DataFrame:
        """One row a claim and part."""
        return judgement_frame(self.judgements, parts=True)


def judge(runs: Runs, claims: str | Sequence[str] | None = None, *, seed: int = 0) -> Verdicts:
    """Judge the study's claims on every grid and suite among the runs.

    Parameters
    ----------
    runs : sequence of RunRecord
    claims : str or sequence of str, optional
        Names of claims; all by default. Corrected p-values are for the claims judged together.
    seed : int
        Of the resamples of problems.

    Raises
    ------
    Refusal
        If a claim is unknown or no run has a score.
    """
    return Verdicts(judge_claims(runs, claims=_several(claims) or tuple(CLAIMS), seed=seed))


@dataclass(frozen=True, repr=False)
class Plan(Result):
    """What to train next: ``table`` ranks runs by how much they narrow the prediction per FLOP.

    Attributes
    ----------
    frontier : DataFrame
        Cost against performance of every model and of predictions at the target (`prediction.decide.frontier`).
    """

    table: pd.DataFrame
    frontier: pd.DataFrame


def plan(
    runs: Runs,
    size: str | float,
    dataset: str | Sequence[str] | None = None,
    method: str | Sequence[str] | None = None,
    *,
    candidate_sizes: Sequence[str | float] = (),
    cost: str = "n_params_updated",
) -> Plan:
    """Rank the runs that could be made next by what they tell of a size, and list cost against performance.

    Parameters
    ----------
    runs : sequence of RunRecord
        Of one grid.
    size : str or float
        The target.
    dataset : str or sequence of str, optional
        What to predict there; ``val_loss`` by default.
    method : str or sequence of str, optional
        Methods of interest; all by default.
    candidate_sizes : sequence of str or float
        Sizes that could be trained, beside the measured ones and one between them and the target.
    cost : str
        Of the frontier: one of `prediction.decide.COSTS`.

    Raises
    ------
    Refusal
        If the runs cannot support it.
    """
    runs = [run for run in runs if not run.held_out]
    names = _several(dataset) or ([LOSS] if any(run.val_loss is not None for run in runs) else [])
    if not names:
        raise Refusal("these runs have no validation loss; name the data set to predict with --dataset")
    known = {run.size: run.n_params_base for run in runs}
    target, more = parse_size(str(size), known), [parse_size(str(one), known) for one in candidate_sizes]
    found = [plan_outcome(runs, name, target, _several(method), more) for name in dict.fromkeys(names)]
    fronts = [frontier(runs, name, cost, target=target) for name in dict.fromkeys(names) if name != LOSS]
    table = pd.concat(found, ignore_index=True)
    return Plan(table, pd.concat(fronts, ignore_index=True) if fronts else pd.DataFrame())


@dataclass(frozen=True, repr=False)
class Drawing(Result):
    """A figure, and the table of what it shows."""

    figure: Any
    table: pd.DataFrame

    def plot(self) -> Any:
        """Return the figure."""
        return self.figure


def grids(data: str | Path | None = None, grid: str = "all", **options: Any) -> PerGrid[Any]:
    """Read the runs below a data folder, grid by grid, as figures are drawn from them: what a notebook begins with.

    Parameters
    ----------
    data : str or Path, optional
        Folder with released tables, record files, or both; ``./data`` by default.
    grid : str
        One grid, or ``all``.
    **options
        ``level`` (coverage of intervals), ``target`` (size to predict at), ``cost`` (that performance is weighed by).

    Raises
    ------
    RecordError
        If anything in the folder is wrong, holds no record, or the grid is not in it.
    """
    from astraios_analysis.figures.gallery import Tables

    return load_grids(data, grid).map(Tables, **options)


def draw(name: str, runs: Runs | PerGrid[Any], folder: str | Path | None = None, **options: Any) -> Any:
    """Draw one of the figures from the runs of a grid, or from those of several (`grids`) into a folder.

    Parameters
    ----------
    name : str
        Such as ``score_scaling``; a wrong one is answered with the list.
    runs : sequence of RunRecord, or PerGrid
    folder : str or Path, optional
        Of several grids: where PDF, PNG and the table as CSV are written; a grid that lacks the figure is named.
    **options
        Of one grid: ``level``, ``target`` and ``cost`` as in `grids`.

    Returns
    -------
    Drawing or Gallery

    Raises
    ------
    Refusal
        If there is no such figure, or the runs do not hold what it shows.
    """
    from astraios_analysis.figures import gallery

    if isinstance(runs, PerGrid):
        return gallery.draw(name, runs, folder or "figures")
    return Drawing(*gallery.draw_by_name(name, list(runs), **options))
