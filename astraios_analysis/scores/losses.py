"""Validation cross-entropy of runs: final and by step.

Losses are in nats per token, on validation tokens that are the same for all runs of a grid. Standard errors are over
these tokens; they do not cover training again, which takes seeds.
"""

from collections.abc import Sequence

import pandas as pd
from scipy import stats

from astraios_analysis.records.frame import RunRecord, to_frame
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.scores.models import has_several_seeds, with_means

_RUN = ["grid", "run_id", "size", "method", "seed", "held_out"]
_RUN += ["n_params", "n_params_base", "n_params_base_nonembedding", "n_params_updated"]
LOSSES = ["base_val_loss", "val_loss", "val_loss_se"]


def final_losses(records: Sequence[RunRecord], *, level: float = 0.95) -> pd.DataFrame:
    """Return the final validation loss of each run of a grid that has one and, with several seeds, of each model.

    Intervals are normal, from the standard error over validation tokens. All seeds are validated on the same tokens, so
    a mean over seeds keeps their mean standard error rather than a smaller one.
    """
    table = to_frame(records, per="run")
    table = table.loc[table["val_loss"].notna(), [*_RUN, *LOSSES]].reset_index(drop=True)
    if table.empty:
        raise Refusal(
            "none of these runs has a validation loss (released models were published without); train a grid, or add "
            "records with val_loss"
        )
    if has_several_seeds(records):
        table = with_means(table, [], LOSSES)
    half = stats.norm.ppf((1 + level) / 2) * table["val_loss_se"]
    return table.assign(lower=table["val_loss"] - half, upper=table["val_loss"] + half, level=level)


def loss_curves(records: Sequence[RunRecord]) -> pd.DataFrame:
    """Return the validation loss of each run by optimiser step and, with several seeds, of each model.

    Columns ``step, loss, stderr`` beside those of the run; step 0 is the base model.
    """
    rows = [
        {name: getattr(record, name) for name in _RUN} | {"step": p.step, "loss": p.loss, "stderr": p.stderr}
        for record in records
        for p in record.val_curve
    ]
    if not rows:
        raise Refusal("none of these runs has a validation curve; train a grid, or add records with val_curve")
    table = pd.DataFrame(rows).astype({"stderr": float, "seed": "Int64"})
    return with_means(table, ["step"], ["loss"]) if has_several_seeds(records) else table
