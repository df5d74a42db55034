"""Search of learning rates at one size, with a pilot seed outside the grid, on validation loss.

An under-tuned method is a false result. So each method is trained at the grid's own rate, half and twice that; as long
as the best is the smallest or the largest tried, the range grows on that side. No test score is looked at.

Trials are runs of a grid of their own, with records like all others: an interrupted search goes on, and finished trials
are not trained again.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from astraios_analysis.records.frame import METHODS, load
from astraios_analysis.records.refusal import Refusal
from training.grid.workers import Folders, launch
from training.spec.files import record_path
from training.spec.grids import Grid
from training.spec.run import RunSpec

PILOT_SEED = 1000
"""Seed of trials: no grid has it, so that no run of a grid was ever chosen by."""

FACTOR = 2.0
"""Ratio of neighbouring rates: a rate between two of them is at most a factor of 1.4 away from one."""

_MOST_ROUNDS = 8


def search(
    grid: Grid,
    folders: Folders,
    *,
    jobs: int,
    methods: Sequence[str] | None = None,
    size: str | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> pd.DataFrame:
    """Try learning rates for the methods of a grid, until the best of each lies inside the range that was tried.

    Returns a row a trial, as `read_trials`. Raises Refusal where a rate cannot be found.
    """
    rates = {method: start_rates(grid, method, size) for method in METHODS if method in (methods or grid.methods)}
    for _ in range(_MOST_ROUNDS):
        specs = [trial_spec(grid, method, rate, size) for method, tried in rates.items() for rate in sorted(tried)]
        launch(specs, folders, jobs=jobs, report=report)
        trials = read_trials(specs, folders.runs)
        more = {method: grow(own) for method, own in trials.groupby("method", sort=False)}
        if not any(more.values()):
            return trials
        for method, new in more.items():
            rates[method] |= new
    open_ends = ", ".join(method for method, new in more.items() if new)
    raise Refusal(
        f"after {_MOST_ROUNDS} rounds the best learning rate of {open_ends} is still the smallest or largest tried; "
        "look at the losses, and give the grid another rate to start from"
    )


def start_rates(grid: Grid, method: str, size: str | None = None) -> set[float]:
    """Return the rates tried first: what the grid has at that size (default: its first), half of it and twice."""
    own = grid.runs([size or grid.sizes[0].name], [method])[0].schedule.learning_rate
    # Short numbers, so that the rate that is found can be written down.
    own = float(f"{own:.2g}")
    return {own / FACTOR, own, own * FACTOR}


def trial_spec(grid: Grid, method: str, learning_rate: float, size: str | None = None) -> RunSpec:
    """Return the run that tries a rate: the smallest size or another, the pilot seed, a grid name of its own."""
    changes = {"name": f"{grid.name}_search", "seeds": (PILOT_SEED,)}
    spec = Grid(**{**dict(grid), **changes}).runs([size or grid.sizes[0].name], [method])[0]
    # At every size the rate itself, whatever the grid's rule makes of it there.
    return spec.model_copy(update={"schedule": spec.schedule.model_copy(update={"learning_rate": learning_rate})})


def grow(trials: pd.DataFrame) -> set[float]:
    """Return the rates to try next for one method, given its trials by rate: none once the best lies between others."""
    losses = trials["val_loss"].fillna(math.inf).tolist()
    best = losses.index(min(losses))
    if math.isinf(losses[best]):
        method = trials["method"].iloc[0]
        raise Refusal(f"no trial of {method!r} gave a validation loss; see why with `grid search` again")
    first, last = trials["learning_rate"].iloc[[0, -1]]
    return ({first / FACTOR} if best == 0 else set()) | ({last * FACTOR} if best == len(losses) - 1 else set())


def read_trials(specs: Sequence[RunSpec], runs_dir: str | Path) -> pd.DataFrame:
    """Return what became of trials, one row each, the best of every method marked; NaN where there is no loss."""
    rows = []
    for spec in specs:
        path = record_path(runs_dir, spec.run_id)
        record = load(path) if path.exists() else None
        rows.append(
            {
                "method": spec.tuning.method,
                "size": spec.size.name,
                "seed": spec.seed,
                "steps": spec.schedule.steps,
                "learning_rate": spec.schedule.learning_rate,
                **{name: getattr(record, name, None) for name in ("val_loss", "val_loss_se", "base_val_loss")},
            }
        )
    trials = pd.DataFrame(rows).astype(dict.fromkeys(("val_loss", "val_loss_se", "base_val_loss"), "float64"))
    return trials.assign(chosen=trials["val_loss"] == trials.groupby("method")["val_loss"].transform("min"))
