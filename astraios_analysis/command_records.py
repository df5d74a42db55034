"""Which records a command works on: the data folder, the grid and the seed that its arguments name."""

import argparse
from collections.abc import Iterable, Sequence

from astraios_analysis.records import RunRecord
from astraios_analysis.sources import load_records


class CommandError(ValueError):
    """Arguments that cannot be followed with these records; the message gives the reason and the choices."""


def require_known(what: str, wanted: Iterable[str], known: Sequence[str]) -> None:
    """Refuse a value that is not known, naming the choices."""
    for value in wanted:
        if value not in known:
            raise CommandError(f"unknown {what} {value!r}; choose from {', '.join(map(str, known))}")


def load_runs(arguments: argparse.Namespace) -> list[RunRecord]:
    """Read the records of the data folder that are of the grid and the seed asked for."""
    records = load_records(arguments.data)
    if arguments.grid is not None:
        require_known("grid", [arguments.grid], sorted({record.grid for record in records}))
        records = [record for record in records if record.grid == arguments.grid]
    if arguments.run_seed is not None:
        seeds = sorted({record.seed for record in records if record.seed is not None})
        if arguments.run_seed not in seeds:
            known = f"choose from {', '.join(map(str, seeds))}" if seeds else "no run here records its seed"
            raise CommandError(f"no run with seed {arguments.run_seed}; {known}")
        records = [record for record in records if record.seed == arguments.run_seed]
    return records


def load_grid(arguments: argparse.Namespace) -> list[RunRecord]:
    """Read one grid: what ranks and fits compare. Several seeds of a model are replicates.

    Raises
    ------
    CommandError
        If there are several grids, or two runs of one model and seed.
    """
    records = load_runs(arguments)
    grids = sorted({record.grid for record in records})
    if len(grids) > 1:
        raise CommandError(
            f"scores of different grids do not compare, and there are {len(grids)}: {', '.join(grids)}; "
            "choose one with --grid"
        )
    require_distinct(records)
    return records


def require_distinct(records: Iterable[RunRecord]) -> None:
    """Refuse two runs of one model and seed, which would count one training twice.

    Raises
    ------
    CommandError
    """
    models: dict[tuple, list[RunRecord]] = {}
    for record in records:
        models.setdefault((record.grid, record.n_params_base, record.method, record.seed), []).append(record)
    for runs in models.values():
        if len(runs) > 1:
            model = f"{runs[0].size} {runs[0].method} of grid {runs[0].grid} has {len(runs)} runs of one seed"
            names = ", ".join(run.run_id for run in runs)
            raise CommandError(f"{model}: {names}; keep one, or give them their own grids")
