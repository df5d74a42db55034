"""Search of learning rates at one size, with a pilot seed outside the grid, on validation loss.

An under-tuned method is a false result. So each method is trained at the grid's own rate, half and twice that; as long
as the best is the smallest or the largest tried, the range grows on that side. No test score is looked at.

Trials are runs of a grid of their own, with records like all others: an interrupted search goes on, and finished trials
are not trained again.
"""

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveFloat, PositiveInt

from astraios_analysis.records.frame import METHODS, RunRecord, load
from astraios_analysis.records.refusal import Refusal
from training.grid.workers import launch
from training.spec.files import record_path
from training.spec.grids import Grid
from training.spec.run import RunSpec

PILOT_SEED = 1000
"""Seed of trials: no grid has it, so that no run of a grid was ever chosen by."""

FACTOR = 2.0
"""Ratio of neighbouring rates: a rate between two of them is at most a factor of 1.4 away from one."""

_MOST_ROUNDS = 8


class Trial(BaseModel):
    """One tried rate."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    size: str
    seed: NonNegativeInt
    steps: PositiveInt
    virtual_tokens: PositiveInt | None = None
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
    virtual_tokens: Sequence[int] | None = None,
    size: str | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> tuple[Trial, ...]:
    """Try learning rates for the methods of a grid, until the best of each lies inside the range that was tried."""
    chosen = [method for method in METHODS if method in (methods or grid.methods)]
    if virtual_tokens and "ptuning" not in chosen:
        raise Refusal(f"prompt lengths belong to ptuning, and the methods are {', '.join(chosen)}; add ptuning")
    rates = {
        (method, length): start_rates(grid, method, size)
        for method in chosen
        for length in ((virtual_tokens or (None,)) if method == "ptuning" else (None,))
    }
    for _ in range(_MOST_ROUNDS):
        specs = {
            searched: [trial_spec(grid, searched[0], rate, searched[1], size) for rate in sorted(tried)]
            for searched, tried in rates.items()
        }
        launch([spec for of_one in specs.values() for spec in of_one], runs_dir, cache_dir, jobs=jobs, report=report)
        trials = {searched: read_trials(of_one, runs_dir) for searched, of_one in specs.items()}
        more = {searched: grow(of_one) for searched, of_one in trials.items()}
        if not any(more.values()):
            return tuple(trial for of_one in trials.values() for trial in of_one)
        for searched, new in more.items():
            rates[searched] |= new
    open_ends = ", ".join(method for (method, _), new in more.items() if new)
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


def trial_spec(
    grid: Grid, method: str, learning_rate: float, virtual_tokens: int | None = None, size: str | None = None
) -> RunSpec:
    """Return the run that tries a rate: the smallest size or another, the pilot seed, a grid name of its own."""
    changes = {
        "name": f"{grid.name}_search",
        "seeds": (PILOT_SEED,),
        "learning_rates": {method: learning_rate},
    }
    spec = Grid(**{**dict(grid), **changes}).runs([size or grid.sizes[0].name], [method])[0]
    # At every size the rate itself, whatever the grid's rule makes of it there.
    spec = spec.model_copy(update={"schedule": spec.schedule.model_copy(update={"learning_rate": learning_rate})})
    if virtual_tokens is None:
        return spec
    most = spec.size.n_positions - spec.schedule.sequence_length
    if virtual_tokens > most:
        raise Refusal(
            f"a prompt of {virtual_tokens} virtual tokens and rows of {spec.schedule.sequence_length} tokens are more "
            f"than the {spec.size.n_positions} positions of {spec.size.name}; give at most {most}"
        )
    tuning = spec.tuning.model_copy(update={"virtual_tokens": virtual_tokens})
    return spec.model_copy(update={"tuning": tuning})


def grow(trials: Sequence[Trial]) -> set[float]:
    """Return the rates to try next for one method: none once the best lies between two others."""
    losses = [math.inf if trial.val_loss is None else trial.val_loss for trial in trials]
    best = losses.index(min(losses))
    if math.isinf(losses[best]):
        raise Refusal(f"no trial of {trials[0].method!r} gave a validation loss; see why with `grid search` again")
    new = set()
    if best == 0:
        new.add(trials[0].learning_rate / FACTOR)
    if best == len(trials) - 1:
        new.add(trials[-1].learning_rate * FACTOR)
    return new


def read_trials(specs: Sequence[RunSpec], runs_dir: str | Path) -> tuple[Trial, ...]:
    """Return what became of trials, the best of every method marked."""
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
        virtual_tokens=spec.tuning.virtual_tokens,
        learning_rate=spec.schedule.learning_rate,
        val_loss=loss,
        val_loss_se=None if record is None else record.val_loss_se,
        base_val_loss=None if record is None else record.base_val_loss,
        chosen=loss is not None and loss == best[method],
    )
