"""What runs did cost, from their records, beside what would have been estimated. Importable without torch."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from astraios_analysis.records.frame import RunRecord, load, load_folder
from training.grid.estimates import spent_flop, training_flop
from training.grid.memory import Layout, estimate_memory
from training.spec.run import LoopSettings, RunSpec, closed_form_counts


@dataclass(frozen=True)
class MeasuredCost:
    """One record's cost beside its estimate.

    Attributes
    ----------
    run_id, size, method, data : str
        The run.
    length : int
        The most tokens a row may have.
    steps : int
        Optimiser steps.
    tokens_per_row : float
        Mean tokens of a training row.
    flop, estimated_flop : float
        Operations of training: recorded, and by closed forms for the same tokens.
    flop_spent : float
        Operations estimated to have taken the time.
    seconds : float
        Recorded time, waiting for a busy machine included.
    device_seconds : float
        The same times processes.
    memory_bytes : float or None
        Recorded peak: of tensors on a GPU; on a CPU of the whole process, earlier runs of it included.
    estimated_memory_bytes : float
        Estimated peak of a process.
    scoring_seconds : float
        Time that the record's scores took, not part of ``seconds``; 0 where it has none.
    """

    run_id: str
    size: str
    method: str
    data: str
    length: int
    steps: int
    tokens_per_row: float
    flop: float
    estimated_flop: float
    flop_spent: float
    seconds: float
    device_seconds: float
    memory_bytes: float | None
    estimated_memory_bytes: float
    scoring_seconds: float = 0.0

    def as_row(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


def measured_costs(folder: str | Path) -> list[MeasuredCost]:
    """Return the costs in a folder of records.

    Parameters
    ----------
    folder : str or Path
        Records as the training package writes them.

    Returns
    -------
    list of MeasuredCost
        Those of records that hold time, operations and the run's specification.

    Raises
    ------
    ValueError
        If there is none.
    """
    found = [cost for record in load_folder(folder) if (cost := _cost_of(record)) is not None]
    if not found:
        raise ValueError(
            f"no record in {folder} has time, operations and the run's specification; give a folder of records that "
            "`python -m training grid run` wrote"
        )
    return found


def cost_of_record(path: Path) -> MeasuredCost | None:
    """Return the cost in a record's file; None where it cannot be read or lacks it."""
    try:
        return _cost_of(load(path))
    except ValueError:
        return None


def _cost_of(record: RunRecord) -> MeasuredCost | None:
    cost, provenance = record.cost, record.provenance
    if cost is None or not cost.seconds or not cost.flop or provenance is None or "run" not in provenance.spec:
        return None
    described = provenance.spec
    spec = RunSpec.model_validate_json(json.dumps(described["run"]))
    loop = LoopSettings.model_validate_json(json.dumps(described.get("loop", described["run"].get("loop", {}))))
    counts, n_rows = closed_form_counts(spec.size, spec.tuning), spec.schedule.steps * spec.schedule.global_batch
    layout = Layout(described.get("n_processes", 1))
    return MeasuredCost(
        run_id=record.run_id,
        size=record.size,
        method=record.method,
        data=spec.data,
        length=spec.schedule.sequence_length,
        steps=spec.schedule.steps,
        tokens_per_row=record.n_tokens / n_rows,
        flop=cost.flop,
        estimated_flop=training_flop(counts, spec, record.n_tokens, n_rows),
        flop_spent=spent_flop(counts, spec, record.n_tokens, recomputed=loop.gradient_checkpointing),
        seconds=cost.seconds,
        device_seconds=cost.seconds * layout.n_processes,
        memory_bytes=cost.peak_memory_bytes,
        estimated_memory_bytes=estimate_memory(spec.size, spec.tuning, spec.schedule, loop, layout).total,
        scoring_seconds=sum(taken.get("seconds", 0.0) for taken in described.get("scores", {}).values()),
    )


def pace(measured: Sequence[MeasuredCost]) -> tuple[float, float]:
    """Return how fast runs were: operations a second of a device, and seconds of a step that no operation explains.

    Least squares of relative errors in seconds = flop / rate + steps * overhead. Small models spend most of their time
    between operations, so that one rate for all sizes would be far off at both ends.

    Parameters
    ----------
    measured : sequence of MeasuredCost
        The runs.

    Returns
    -------
    rate, overhead : float
        Operations a second, and seconds a step, 0 at least; with runs of one size the overhead is 0.
    """
    seconds = np.array([cost.device_seconds for cost in measured])
    parts = np.array([[cost.flop_spent, cost.steps] for cost in measured]) / seconds[:, None]
    if len({cost.size for cost in measured}) > 1:
        per_flop, overhead = np.linalg.lstsq(parts, np.ones(len(measured)), rcond=None)[0]
        if per_flop > 0 and overhead > 0:
            return float(1 / per_flop), float(overhead)
    return float(statistics.median(parts[:, 0])), 0.0


def tokens_per_row(measured: Sequence[MeasuredCost], spec: RunSpec) -> float | None:
    """Return the mean tokens of a row on a run's corpus with its longest row; None where none was measured."""
    same = [
        cost.tokens_per_row
        for cost in measured
        if (cost.data, cost.length) == (spec.data, spec.schedule.sequence_length)
    ]
    return statistics.fmean(same) if same else None


def errors_by_size(measured: Sequence[MeasuredCost]) -> list[dict[str, Any]]:
    """Return estimated over measured for every size: operations, seconds and memory.

    Parameters
    ----------
    measured : sequence of MeasuredCost
        The runs.

    Returns
    -------
    list of dict
        By size: medians over its runs of each ratio, and the range of that of seconds. Seconds of a size are
        estimated from the pace of the runs of all other sizes, and of its own where there is no other.
    """
    rows = []
    for size in dict.fromkeys(cost.size for cost in measured):
        mine = [cost for cost in measured if cost.size == size]
        rate, overhead = pace([cost for cost in measured if cost.size != size] or mine)
        seconds = [(cost.flop_spent / rate + cost.steps * overhead) / cost.device_seconds for cost in mine]
        memory = [cost.estimated_memory_bytes / cost.memory_bytes for cost in mine if cost.memory_bytes]
        rows.append(
            {
                "size": size,
                "n_runs": len(mine),
                "flop_ratio": statistics.median(cost.estimated_flop / cost.flop for cost in mine),
                "seconds_ratio_low": min(seconds),
                "seconds_ratio": statistics.median(seconds),
                "seconds_ratio_high": max(seconds),
                "memory_ratio": statistics.median(memory) if memory else None,
            }
        )
    return rows
