"""Runs of one model with several seeds: every seed's score, and the mean over seeds with its interval.

A size and a method make a model; seeds repeat its training. Tables of several seeds have a column ``kind``: rows of
kind ``seed`` are runs, and rows of kind ``mean`` are models. Tables of one run a model have no such column, and each
row is both.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from astraios_analysis.records.frame import RunRecord, Score, to_frame
from astraios_analysis.scores.bootstrap import (
    NO_INTERVAL,
    PROBLEM_BOOTSTRAP,
    ProblemBootstrap,
    percentile_interval,
    problem_pool,
    problem_statistics,
    score_intervals,
)

MODEL = ["grid", "size", "n_params_base", "method", "held_out"]
SEED, MEAN = "seed", "mean"
SEED_COLUMNS = ["kind", "seed", "n_seeds"]
_KEYS = ["dataset", "language", "setting", "metric"]
_LOSSES = ["base_val_loss", "val_loss", "val_loss_se"]
_OF_ONE_RUN = ["run_id", "seed", "stderr", "n_samples", "n_passed", "source_file"]


def group_models(records: Iterable[RunRecord]) -> dict[tuple, list[RunRecord]]:
    """Return the runs of each model, in the order of the first of them; the key has the fields `MODEL`."""
    models: dict[tuple, list[RunRecord]] = {}
    for record in records:
        models.setdefault(tuple(getattr(record, name) for name in MODEL), []).append(record)
    return models


def has_several_seeds(records: Iterable[RunRecord]) -> bool:
    """Whether any model was trained more than once."""
    return any(len(runs) > 1 for runs in group_models(records).values())


def intervals_over_seeds(
    records: Sequence[RunRecord], *, level: float = 0.95, bootstrap: ProblemBootstrap | None = None
) -> pd.DataFrame:
    """Return scores with intervals: of runs or, where models have several seeds, of their means.

    Parameters
    ----------
    records : sequence of RunRecord
        Runs of one grid.
    level : float
        Coverage of the intervals.
    bootstrap : ProblemBootstrap, optional

    Returns
    -------
    DataFrame
        With one run a model, `scores.score_intervals`. With several seeds, the scores of runs without intervals and,
        below them, their means with intervals, told apart by ``kind``; a mean is over the ``n_seeds`` runs that have
        the score. Intervals resample the problems of all seeds together. They cover the choice of problems; how far
        seeds scatter is in the rows of kind ``seed``.
    """
    bootstrap = bootstrap or ProblemBootstrap()
    if not has_several_seeds(records):
        return score_intervals(records, level=level, bootstrap=bootstrap)
    runs = to_frame(records).assign(level=level, interval=NO_INTERVAL)
    found = []
    for own in group_models(records).values():
        for key, scored in _scores_by_key(own).items():
            draws, kind = _mean_draws(scored, bootstrap)
            found.append((own[0].size, own[0].method, *key, *percentile_interval(draws, level), kind))
    keys = ["size", "method", *_KEYS]
    intervals = pd.DataFrame(found, columns=[*keys, "lower", "upper", "interval"])
    means = average(runs.drop(columns="interval"), _KEYS, ["value", *_LOSSES], ["n_items"])
    means = means.merge(intervals, how="left", on=keys, validate="one_to_one")
    missing = {"lower": float("nan"), "upper": float("nan")}
    return with_means(runs.assign(**missing), means)


def _scores_by_key(runs: Iterable[RunRecord]) -> dict[tuple, list[tuple[RunRecord, Score]]]:
    found: dict[tuple, list[tuple[RunRecord, Score]]] = {}
    for record in runs:
        for score in record.scores:
            found.setdefault(score.key, []).append((record, score))
    return found


def _mean_draws(scored: list[tuple[RunRecord, Score]], bootstrap: ProblemBootstrap) -> tuple[np.ndarray, str]:
    """Return bootstrap draws of the mean over runs of one score, and how they were made."""
    statistics = [problem_statistics(record, score) for record, score in scored]
    shapes = {None if one is None else one.shape for one in statistics}
    if len(shapes) == 1 and None not in shapes and len(statistics[0]) == 1:
        # Resampling is linear in plain rates: the mean over seeds first is the same and takes one product.
        weights = bootstrap.weights(problem_pool(scored[0][1].dataset), statistics[0].shape[1])
        return weights @ np.mean(statistics, axis=0)[0], PROBLEM_BOOTSTRAP
    drawn, kinds = zip(*(bootstrap.draws(record, score) for record, score in scored), strict=True)
    return np.mean(drawn, axis=0), "; ".join(dict.fromkeys(kinds))


def average(
    table: pd.DataFrame, keys: Sequence[str], values: Sequence[str], counts: Sequence[str] = ()
) -> pd.DataFrame:
    """Return one row for each model and key: means of ``values``, rounded means of ``counts``, and ``n_seeds``.

    What belongs to one run (its name, seed, counts of outcomes) is missing; the rest is the first run's.
    """
    by = [*MODEL, *keys]
    groups = table.groupby(by, sort=False, dropna=False)
    means = groups[list(values)].mean()
    for name in counts:
        means[name] = groups[name].mean().astype(float).round().astype("Int64")
    means["n_seeds"] = groups.size()
    first = groups.head(1).set_index(by).drop(columns=[*values, *counts])
    return first.join(means).reset_index().drop(columns=_OF_ONE_RUN, errors="ignore")


def with_means(runs: pd.DataFrame, means: pd.DataFrame) -> pd.DataFrame:
    """Put the rows of runs and of models below one another, told apart by ``kind``."""
    means = means.reindex(columns=[*runs.columns, "n_seeds"]).astype(runs.dtypes.to_dict())
    runs = runs.assign(n_seeds=1)
    table = pd.concat([runs.assign(kind=SEED), means.assign(kind=MEAN)], ignore_index=True)
    return table.astype({"n_seeds": "Int64"})


def keep_means(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a table that stand for models: means over seeds, or runs where there is one a model."""
    return table[table["kind"] == MEAN].reset_index(drop=True) if "kind" in table else table


def keep_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of single runs beside which there is a mean; none where each model has one run."""
    return table[table["kind"] == SEED] if "kind" in table else table.iloc[:0]


def seed_words(table: pd.DataFrame) -> str:
    """Say how many runs a mean is over: ``3 seeds``, ``1 to 3 seeds``, or nothing where there is one run a model."""
    if "kind" not in table or table.empty:
        return ""
    n = keep_means(table)["n_seeds"]
    few, many = int(n.min()), int(n.max())
    return f"{many} seed{'s' if many > 1 else ''}" if few == many else f"{few} to {many} seeds"
