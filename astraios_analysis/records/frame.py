"""The bridge: the types of a finished run, records on disk, and one tidy frame for released and trained runs alike.

It hands on the schema, the registries and the file functions.
"""

from collections.abc import Iterable
from typing import Literal

import numpy as np
import pandas as pd

from astraios_analysis.records.files import check, load, load_folder, save, sort_records
from astraios_analysis.records.refusal import FileProblem, RecordError
from astraios_analysis.records.registry import DATASETS, METRICS, chance_level
from astraios_analysis.records.schema import (
    METHODS,
    SCHEMA_VERSION,
    Cost,
    ProblemCounts,
    Provenance,
    RunRecord,
    Score,
    TaskLoss,
    ValidationPoint,
    known_method,
)

_TEXT = pd.StringDtype(na_value=np.nan)
# Columns and their types: the same whatever the rows, so that tables of different grids can be put together.
RUN_COLUMNS = dict.fromkeys(("grid", "run_id", "size", "method"), _TEXT) | {"seed": "Int64", "held_out": "bool"}
RUN_COLUMNS |= dict.fromkeys(("n_params", "n_params_base", "n_params_base_nonembedding", "n_params_updated"), "Int64")
RUN_COLUMNS |= {"n_tokens": "Int64"} | dict.fromkeys(("base_val_loss", "val_loss", "val_loss_se"), "float64")
COST_COLUMNS = {"seconds": "float64", "flop": "float64", "peak_memory_bytes": "Int64"}
SCORE_COLUMNS = dict.fromkeys(("dataset", "language", "setting", "metric"), _TEXT)
SCORE_COLUMNS |= dict.fromkeys(("value", "stderr", "reading_error", "chance"), "float64")
# Of the score's task, on validation problems.
LOSS_COLUMNS = dict.fromkeys(("base_task_loss", "task_loss", "task_loss_se"), "float64")
SCORE_COLUMNS |= dict.fromkeys(("n_items", "n_samples", "n_passed"), "Int64") | {"source": _TEXT, "source_file": _TEXT}


def to_frame(records: Iterable[RunRecord], per: Literal["score", "run"] = "score") -> pd.DataFrame:
    """Return records as a tidy table, sorted; counts are nullable integers, absent values NA.

    It has one row for each score of each run (a run without scores has none), or one for each run with its cost.
    """
    rows = []
    for record in sort_records(records):
        run = {name: getattr(record, name) for name in RUN_COLUMNS}
        if per == "run":
            cost = record.cost or Cost()
            rows.append(run | {name: getattr(cost, name) for name in COST_COLUMNS})
        else:
            for score in record.scores:
                rows.append(run | {name: getattr(score, name) for name in SCORE_COLUMNS} | _task_losses(record, score))
    columns = RUN_COLUMNS | (COST_COLUMNS if per == "run" else SCORE_COLUMNS | LOSS_COLUMNS)
    return pd.DataFrame(rows, columns=list(columns)).astype(columns)


def _task_losses(record: RunRecord, score: Score) -> dict[str, float | None]:
    known = DATASETS.get(score.dataset)
    before, after = (
        losses.get(known.task if known else "") for losses in (record.base_task_losses, record.task_losses)
    )
    values = (before and before.loss, after and after.loss, after and after.stderr)
    return dict(zip(LOSS_COLUMNS, values, strict=True))
