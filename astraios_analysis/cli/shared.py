"""Which records a command works on: the data folder, the grid and the seed that its arguments name."""

import argparse
from collections.abc import Iterable, Sequence

from astraios_analysis.records.frame import RunRecord
from astraios_analysis.records.printing import say
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.records.released import GRID as RELEASED
from astraios_analysis.records.sources import load_records


def require_known(what: str, wanted: Iterable[str], known: Sequence[str]) -> None:
    """Refuse a value that is not known, naming the choices."""
    for value in wanted:
        if value not in known:
            raise Refusal(f"unknown {what} {value!r}; choose from {', '.join(map(str, known))}")


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
            raise Refusal(f"no run with seed {arguments.run_seed}; {known}")
        records = [record for record in records if record.seed == arguments.run_seed]
    return records


def load_grid(arguments: argparse.Namespace) -> list[RunRecord]:
    """Read one grid: what ranks and fits compare. Several seeds of a model are replicates.

    Where no grid is named and there are several, it is the only one that has scores on the data sets asked for, or else
    that of the released models; which one it is goes to standard error.

    Raises
    ------
    Refusal
        If it is not clear which grid is meant, or there are two runs of one model and seed.
    """
    records = load_runs(arguments)
    grids = sorted({record.grid for record in records})
    if len(grids) > 1:
        chosen = _meant(records, grids, arguments)
        records = [record for record in records if record.grid == chosen]
        say(f"grid {chosen}; there {'is' if len(grids) == 2 else 'are'} also {_others(grids, chosen)} (--grid NAME)")
    require_distinct(records)
    return records


def _meant(records: Sequence[RunRecord], grids: Sequence[str], arguments: argparse.Namespace) -> str:
    asked = getattr(arguments, "dataset", None) or []
    wanted = {asked} if isinstance(asked, str) else set(asked)
    having = {record.grid for record in records if wanted & {score.dataset for score in record.scores}}
    if len(having) == 1:
        return having.pop()
    if RELEASED in grids:
        return RELEASED
    raise Refusal(
        f"scores of different grids do not compare, and there are {len(grids)}: {', '.join(grids)}; "
        "choose one with --grid"
    )


def _others(grids: Sequence[str], chosen: str) -> str:
    return ", ".join(grid for grid in grids if grid != chosen)


def require_distinct(records: Iterable[RunRecord]) -> None:
    """Refuse two runs of one model and seed, which would count one training twice.

    Raises
    ------
    Refusal
    """
    models: dict[tuple, list[RunRecord]] = {}
    for record in records:
        models.setdefault((record.grid, record.n_params_base, record.method, record.seed), []).append(record)
    for runs in models.values():
        if len(runs) > 1:
            model = f"{runs[0].size} {runs[0].method} of grid {runs[0].grid} has {len(runs)} runs of one seed"
            names = ", ".join(run.run_id for run in runs)
            raise Refusal(f"{model}: {names}; keep one, or give them their own grids")
