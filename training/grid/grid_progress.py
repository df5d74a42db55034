"""How long the rest of a grid takes, from what its finished runs took. Importable without torch."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from training.grid.estimates import spent_flop
from training.grid.measured_costs import MeasuredCost, cost_of_record, pace, tokens_per_row
from training.spec.files import record_path, run_state
from training.spec.run import RunSpec, closed_form_counts

# One run tells nothing about sizes that differ from its own.
_LEAST_FINISHED = 2


@dataclass(frozen=True)
class GridProgress:
    """What is left of a grid.

    Attributes
    ----------
    seconds_left : tuple of float or None
        Of every run, in the order given: 0 for finished ones; None where too few are finished to tell.
    """

    seconds_left: tuple[float | None, ...]

    def grid_seconds(self, n_running: int) -> float | None:
        """Return the time until all are done with so many runs at a time; None where it is not known."""
        if None in self.seconds_left or not any(self.seconds_left):
            return None
        return max(sum(self.seconds_left) / max(1, n_running), *self.seconds_left)


def progress_of(specs: Sequence[RunSpec], runs_dir: str | Path) -> GridProgress:
    """Return what is left of a grid, by the pace of its finished runs.

    Parameters
    ----------
    specs : sequence of RunSpec
        The runs.
    runs_dir : str or Path
        Folder of their records; one that cannot be read counts as finished and tells nothing about the pace.

    Returns
    -------
    GridProgress
        Training and scores of every run, less what its last checkpoint has.
    """
    is_done = [record_path(runs_dir, spec.run_id).exists() for spec in specs]
    measured = [
        cost
        for spec, done in zip(specs, is_done, strict=True)
        if done and (cost := cost_of_record(record_path(runs_dir, spec.run_id))) is not None
    ]
    if len(measured) < _LEAST_FINISHED:
        return GridProgress(tuple(0.0 if done else None for done in is_done))
    rate, overhead = pace(measured)
    scored = sum(cost.scoring_seconds for cost in measured) / len(measured)
    left = [
        0.0 if done else _seconds(spec, measured, rate, overhead) * _share_left(spec, runs_dir) + scored
        for spec, done in zip(specs, is_done, strict=True)
    ]
    return GridProgress(tuple(left))


def describe_time(seconds: float) -> str:
    """Return a time as people say it: ``1 h 05 min``."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"


def _seconds(spec: RunSpec, measured: Sequence[MeasuredCost], rate: float, overhead: float) -> float:
    same = [cost for cost in measured if (cost.size, cost.method) == (spec.size.name, spec.tuning.method)]
    if same:
        # Another seed of the same cell.
        return sum(cost.seconds for cost in same) / len(same)
    length = tokens_per_row(measured, spec) or spec.schedule.sequence_length
    n_tokens = round(length * spec.schedule.steps * spec.schedule.global_batch)
    counts = closed_form_counts(spec.size, spec.tuning)
    flop = spent_flop(counts, spec, n_tokens, recomputed=spec.loop.gradient_checkpointing)
    return flop / rate + spec.schedule.steps * overhead


def _share_left(spec: RunSpec, runs_dir: str | Path) -> float:
    saved = re.match(r"(\d+) steps saved", run_state(runs_dir, spec.run_id).detail)
    return 1 - int(saved[1]) / spec.schedule.steps if saved else 1.0
