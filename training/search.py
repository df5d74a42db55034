"""Search of learning rates: every method at the smallest size, with a pilot seed outside the grid, on validation loss.

An under-tuned method is a false result. So each method is trained at rates a factor of two apart; as long as the best
of them is the smallest or the largest tried, the range grows on that side. No test score is looked at.

Trials are runs of a grid of their own, with records like all others: an interrupted search goes on, and finished trials
are not trained again.
"""

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveFloat, PositiveInt

from astraios_analysis.records import METHODS, RunRecord, load
from training.config import RunSpec
from training.grid import Grid
from training.launch import launch
from training.run_files import record_path

PILOT_SEED = 1000
"""Seed of trials: no grid has it, so that no run of a grid was ever chosen by."""

FACTOR = 2.0
"""Ratio of neighbouring rates: a rate between two of them is at most a factor of 1.4 away from one."""

START_RATES: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {
        "fft": (1.6e-2, 3.2e-2, 6.4e-2),
        "lora": (1e-2, 2e-2, 4e-2),
        "ptuning": (5e-3, 1e-2, 2e-2),
        "ia3": (2e-2, 4e-2, 8e-2),
        "adapterh": (1e-2, 2e-2, 4e-2),
        "adapterp": (1e-2, 2e-2, 4e-2),
        "parallel": (1e-2, 2e-2, 4e-2),
    }
)
"""Rates tried first; the range grows until the best rate lies inside it."""

_MOST_ROUNDS = 8


class Trial(BaseModel):
    """One tried rate.

    Attributes
    ----------
    method : str
        Tuning method.
    size : str
        Base model.
    seed : int
        Pilot seed.
    steps : int
        Optimiser steps.
    learning_rate : float
        Peak learning rate.
    val_loss, val_loss_se : float or None
        Validation cross-entropy after the last step and its standard error, in nats per token; None if the training
        failed, by divergence or otherwise.
    base_val_loss : float or None
        The same loss before the first step.
    chosen : bool
        Whether its validation loss is the smallest of the method.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    size: str
    seed: NonNegativeInt
    steps: PositiveInt
    learning_rate: PositiveFloat
    val_loss: float | None
    val_loss_se: float | None
    base_val_loss: float | None
    chosen: bool


def search(
    grid: Grid,
    runs_dir: str | Path,
    cache_dir: str | Path,
    *,
    jobs: int,
    methods: Sequence[str] | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> tuple[Trial, ...]:
    """Try learning rates for the methods of a grid, until the best of each lies inside the range that was tried.

    Parameters
    ----------
    grid : Grid
        The grid the rates are for; its own rates are not used.
    runs_dir, cache_dir : str or Path
        Folders of the trials' records and of models.
    jobs : int
        Worker processes.
    methods : sequence of str, optional
        Tuning methods; all of the grid without it.
    report : callable, optional
        Is given a line of progress at a time.

    Returns
    -------
    tuple of Trial
        Method by method, rates rising.

    Raises
    ------
    ValueError
        If a method is not in the grid, no rate of a method gives a loss, or the best rate of one is still at the edge
        after eight rounds.
    """
    rates = {method: set(START_RATES[method]) for method in METHODS if method in (methods or grid.methods)}
    for _ in range(_MOST_ROUNDS):
        specs = [trial_spec(grid, method, rate) for method, tried in rates.items() for rate in sorted(tried)]
        launch(specs, runs_dir, cache_dir, jobs=jobs, report=report)
        trials = read_trials(specs, runs_dir)
        more = {method: grow([t for t in trials if t.method == method]) for method in rates}
        if not any(more.values()):
            return trials
        for method, new in more.items():
            rates[method] |= new
    open_ends = ", ".join(method for method, new in more.items() if new)
    raise ValueError(
        f"after {_MOST_ROUNDS} rounds the best learning rate of {open_ends} is still the smallest or largest tried; "
        "look at the losses, and change START_RATES in training/search.py"
    )


def trial_spec(grid: Grid, method: str, learning_rate: float) -> RunSpec:
    """Return the run that tries a rate: the grid's smallest size, the pilot seed, a grid name of its own."""
    changes = {
        "name": f"{grid.name}_search",
        "seeds": (PILOT_SEED,),
        "learning_rates": {method: learning_rate},
    }
    return Grid(**{**dict(grid), **changes}).runs([grid.sizes[0].name], [method])[0]


def grow(trials: Sequence[Trial]) -> set[float]:
    """Return the rates to try next for one method: none once the best lies between two others.

    Parameters
    ----------
    trials : sequence of Trial
        Of one method, rates rising.

    Returns
    -------
    set of float
        The next rate beyond the edge that is best, or nothing. A failed trial is an edge like any other, with an
        infinite loss.

    Raises
    ------
    ValueError
        If no trial has a loss.
    """
    losses = [math.inf if trial.val_loss is None else trial.val_loss for trial in trials]
    best = losses.index(min(losses))
    if math.isinf(losses[best]):
        raise ValueError(f"no trial of {trials[0].method!r} gave a validation loss; see why with `grid search` again")
    new = set()
    if best == 0:
        new.add(trials[0].learning_rate / FACTOR)
    if best == len(trials) - 1:
        new.add(trials[-1].learning_rate * FACTOR)
    return new


def read_trials(specs: Sequence[RunSpec], runs_dir: str | Path) -> tuple[Trial, ...]:
    """Return what became of trials, the best of every method marked.

    Parameters
    ----------
    specs : sequence of RunSpec
        As `trial_spec` makes them.
    runs_dir : str or Path
        Folder of their records; a trial without one failed.

    Returns
    -------
    tuple of Trial
        In the order given.
    """
    paths = [record_path(runs_dir, spec.run_id) for spec in specs]
    records = [load(path) if path.exists() else None for path in paths]
    best: dict[str, float] = {}
    for spec, record in zip(specs, records, strict=True):
        if record is not None and record.val_loss is not None:
            best[spec.tuning.method] = min(record.val_loss, best.get(spec.tuning.method, math.inf))
    return tuple(_trial(spec, record, best) for spec, record in zip(specs, records, strict=True))


def write_trials(trials: Sequence[Trial], path: str | Path) -> None:
    """Write trials as CSV, one row a trial; absent losses are empty cells."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.writing")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(Trial.model_fields), lineterminator="\n")
        writer.writeheader()
        writer.writerows(trial.model_dump() for trial in trials)
    partial.replace(target)


def _trial(spec: RunSpec, record: RunRecord | None, best: Mapping[str, float]) -> Trial:
    method, loss = spec.tuning.method, None if record is None else record.val_loss
    return Trial(
        method=method,
        size=spec.size.name,
        seed=spec.seed,
        steps=spec.schedule.steps,
        learning_rate=spec.schedule.learning_rate,
        val_loss=loss,
        val_loss_se=None if record is None else record.val_loss_se,
        base_val_loss=None if record is None else record.base_val_loss,
        chosen=loss is not None and loss == best[method],
    )
