"""The bridge: the types of a finished run, records on disk, and one tidy frame for released and trained runs alike.

This module is the only one that `training` imports; it hands on the schema, the registries and the file functions.
"""

from collections.abc import Iterable
from typing import Literal

import numpy as np
import pandas as pd

from astraios_analysis.records.files import (
    FileProblem,
    RecordError,
    check,
    load,
    load_folder,
    record_files,
    save,
    sort_records,
)
from astraios_analysis.records.registry import DATASETS, METRICS, chance_level
from astraios_analysis.records.schema import (
    METHODS,
    SCHEMA_VERSION,
    Cost,
    ProblemCounts,
    Provenance,
    RunRecord,
    Score,
    ValidationPoint,
    known_method,
)

__all__ = [
    "DATASETS",
    "METHODS",
    "METRICS",
    "SCHEMA_VERSION",
    "Cost",
    "FileProblem",
    "ProblemCounts",
    "Provenance",
    "RecordError",
    "RunRecord",
    "Score",
    "ValidationPoint",
    "chance_level",
    "check",
    "known_method",
    "load",
    "load_folder",
    "record_files",
    "save",
    "sort_records",
    "to_frame",
]

RUN_COLUMNS = [
    "grid",
    "run_id",
    "size",
    "method",
    "seed",
    "held_out",
    "n_params",
    "n_params_base",
    "n_params_base_nonembedding",
    "n_params_updated",
    "n_tokens",
    "base_val_loss",
    "val_loss",
    "val_loss_se",
]
COST_COLUMNS = ["seconds", "flop", "peak_memory_bytes"]
SCORE_COLUMNS = [
    "dataset",
    "language",
    "setting",
    "metric",
    "value",
    "stderr",
    "reading_error",
    "chance",
    "n_items",
    "n_samples",
    "n_passed",
    "source",
    "source_file",
]
_INTEGERS = [
    "seed",
    "n_params",
    "n_params_base",
    "n_params_base_nonembedding",
    "n_params_updated",
    "n_tokens",
    "peak_memory_bytes",
    "n_items",
    "n_samples",
    "n_passed",
]
_TEXT = pd.StringDtype(na_value=np.nan)
_FLOATS = [
    "base_val_loss",
    "val_loss",
    "val_loss_se",
    "seconds",
    "flop",
    "value",
    "stderr",
    "reading_error",
    "chance",
]


def to_frame(records: Iterable[RunRecord], per: Literal["score", "run"] = "score") -> pd.DataFrame:
    """Return records as a tidy table.

    Parameters
    ----------
    records : iterable of RunRecord
    per : {"score", "run"}
        One row for each score of each run (a run without scores has none), or one row for each run with its cost.

    Returns
    -------
    DataFrame
        ``grid, run_id, size, method, seed, held_out, n_params, ...``; counts are nullable integers, absent values NA.
    """
    rows = []
    for record in sort_records(records):
        run = {name: getattr(record, name) for name in RUN_COLUMNS}
        if per == "run":
            cost = record.cost or Cost()
            rows.append(run | {name: getattr(cost, name) for name in COST_COLUMNS})
        else:
            rows.extend(run | {name: getattr(score, name) for name in SCORE_COLUMNS} for score in record.scores)
    columns = RUN_COLUMNS + (COST_COLUMNS if per == "run" else SCORE_COLUMNS)
    frame = pd.DataFrame(rows, columns=columns)
    types = {name: "Int64" for name in _INTEGERS if name in columns}
    types |= {name: "float64" for name in _FLOATS if name in columns}
    types |= {name: "bool" for name in columns if name == "held_out"}
    # The same types whatever the rows, so that tables of different grids can be put together and compared.
    return frame.astype({name: types.get(name, _TEXT) for name in columns})
