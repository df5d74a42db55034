"""Measured points of a choice: one row a model, with the input that was chosen, and its seeds beside it."""

from collections.abc import Sequence

import pandas as pd

from astraios_analysis.explorer.choices import LOSS, Choice, name_measure
from astraios_analysis.records.frame import RunRecord, to_frame
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.scores.bootstrap import NO_INTERVAL, ProblemBootstrap
from astraios_analysis.scores.losses import final_losses
from astraios_analysis.scores.models import intervals_over_seeds, keep_means, keep_seeds

COLUMNS = ["size", "method", "n_params_base", "x", "value", "lower", "upper", "n_items", "held_out", "n_seeds"]


def outcome_table(records: Sequence[RunRecord], choice: Choice, bootstrap: ProblemBootstrap | None = None):
    """Return the outcome of every model of a grid with intervals, whatever the methods and sizes chosen.

    Parameters
    ----------
    records : sequence of RunRecord
        Of one grid.
    choice : Choice
        Of which ``y``, ``measure`` and ``level`` matter.
    bootstrap : ProblemBootstrap, optional

    Returns
    -------
    DataFrame
        As `losses.final_losses` or `seeds.intervals_over_seeds` have it, the outcome in the column ``value`` and how
        its interval was made in ``interval``.
    """
    if choice.y == LOSS:
        table = final_losses(records, level=choice.level).rename(columns={LOSS: "value"})
        return table.assign(n_items=pd.NA, interval=table["lower"].map(lambda v: NO_INTERVAL if v != v else "normal"))
    # Bootstrapping all scores takes seconds; those of one data set are enough for any measure of it.
    own = [
        record.model_copy(update={"scores": tuple(s for s in record.scores if s.dataset == choice.y)})
        for record in records
    ]
    wanted = {(s.setting, s.metric) for record in own for s in record.scores if name_measure(s) == choice.measure}
    table = intervals_over_seeds(own, level=choice.level, bootstrap=bootstrap)
    keys = zip(table["setting"], table["metric"], strict=True)
    return table[[key in wanted for key in keys]].reset_index(drop=True)


def input_table(records: Sequence[RunRecord], x: str) -> pd.DataFrame:
    """Return an input of each run: ``run_id, size, method, x``."""
    runs = to_frame(records, per="run")
    return runs[["run_id", "size", "method"]].assign(x=runs[x].astype(float))


def chosen_points(
    records: Sequence[RunRecord], choice: Choice, outcomes: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the models and the single seeds of a choice.

    Parameters
    ----------
    records : sequence of RunRecord
    choice : Choice
        Completed (`choices.complete`).
    outcomes : DataFrame
        `outcome_table`.

    Returns
    -------
    models, seeds : DataFrame
        With `COLUMNS` and ``held_out_by``: ``records``, ``choice``, or missing for models that are fitted. A model's x
        is the mean of its runs'.

    Raises
    ------
    Refusal
        If nothing is left.
    """
    inputs = input_table(records, choice.x)
    own = outcomes[outcomes["method"].isin(choice.methods)]
    means = inputs.groupby(["size", "method"], as_index=False)["x"].mean()
    models = keep_means(own).merge(means, on=["size", "method"], how="left")
    seeds = keep_seeds(own).merge(inputs[["run_id", "x"]], on="run_id", how="left")
    tables = []
    for table in (models, seeds):
        table = table[table["x"].notna()]
        table = table if "n_seeds" in table else table.assign(n_seeds=1)
        by = pd.Series(pd.NA, index=table.index, dtype=object)
        by[table["size"].isin(choice.held_out)] = "choice"
        by[table["held_out"].astype(bool)] = "records"
        tables.append(table[[*COLUMNS, "interval"]].assign(held_out_by=by).reset_index(drop=True))
    if tables[0].empty:
        what = "loss" if choice.y == LOSS else f"{choice.y} ({choice.measure})"
        raise Refusal(f"no run of {', '.join(choice.methods)} has {what} and {choice.x}; choose other methods")
    return tables[0], tables[1]
