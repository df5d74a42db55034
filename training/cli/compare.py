"""The action ``grid compare``: whether the records of a grid that was trained twice agree."""

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from astraios_analysis.records.frame import RunRecord, load
from training.cli.shared import add_choice, chosen_specs, note, records_folder, table
from training.spec.files import record_path
from training.spec.run import RunSpec

COMPARE_HELP = """\
Hold the records of a grid against others of the same runs: losses before and after tuning, the whole validation curve,
and scores. The same specification and seed on the same kind of machine give the same numbers; on another kind, sums are
rounded in another order.
"""

COMPARE_EPILOG = """\
The table goes to standard output: for every run in both folders the largest difference of losses and of scores. Runs
that only one folder has are counted on standard error.

Exit status: 0 when all losses agree; 1 when some do not; 2 for wrong arguments, or when no run is in both folders.

examples:
  python -m training grid compare --preset mini
  python -m training grid compare --preset mini --seed 0 --runs build/again --with data/runs/mini --tolerance 1e-4
"""

LOSS_TOLERANCE = 1e-3
"""Largest difference of losses that counts as the same, in nats per token."""


@dataclass(frozen=True)
class Difference:
    """How far two records of one run are apart.

    Attributes
    ----------
    run_id : str
        The run.
    loss : float
        Largest difference of a validation loss, in nats per token; infinite where one of them lacks a point.
    score : float or None
        Largest difference of a score that both have; None where they share none.
    processors : tuple of str or None
        Kind of processor that each was trained on; None where the record does not say.
    """

    run_id: str
    loss: float
    score: float | None
    processors: tuple[str | None, str | None]


def add_compare_action(actions: Any) -> None:
    """Add the action to the sub-parsers of ``python -m training grid``."""
    compared = actions.add_parser(
        "compare",
        help="hold a grid's records against committed ones",
        description=COMPARE_HELP,
        epilog=COMPARE_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_choice(compared)
    compared.add_argument(
        "--with", dest="other", metavar="DIR", type=Path, help="the other records (default: data/runs/PRESET)"
    )
    compared.add_argument(
        "--tolerance",
        metavar="NATS",
        type=float,
        default=LOSS_TOLERANCE,
        help=f"largest difference of losses (default: {LOSS_TOLERANCE:g})",
    )
    compared.set_defaults(command=_compare, parser=compared)


def differences(specs: Sequence[RunSpec], runs_dir: str | Path, other_dir: str | Path) -> Iterator[Difference]:
    """Yield how far the records of runs in two folders are apart, for those that both folders have.

    Parameters
    ----------
    specs : sequence of RunSpec
        The runs.
    runs_dir, other_dir : str or Path
        Folders of records.

    Yields
    ------
    Difference
        In the order given.

    Raises
    ------
    RecordError
        If a record cannot be read.
    """
    for spec in specs:
        paths = [record_path(folder, spec.run_id) for folder in (runs_dir, other_dir)]
        if all(path.exists() for path in paths):
            yield difference(*map(load, paths))


def difference(one: RunRecord, other: RunRecord) -> Difference:
    """Return how far two records of one run are apart."""
    losses = [_losses(record) for record in (one, other)]
    shared_scores = [{score.key: score.value for score in record.scores} for record in (one, other)]
    keys = shared_scores[0].keys() & shared_scores[1].keys()
    return Difference(
        run_id=one.run_id,
        loss=_largest(losses[0], losses[1], losses[0].keys() | losses[1].keys()),
        score=_largest(shared_scores[0], shared_scores[1], keys) if keys else None,
        processors=(one.provenance.processor, other.provenance.processor),
    )


def _losses(record: RunRecord) -> dict[Any, float]:
    ends = {"before": record.base_val_loss, "after": record.val_loss}
    return {name: loss for name, loss in ends.items() if loss is not None} | {
        point.step: point.loss for point in record.val_curve
    }


def _largest(one: dict[Any, float], other: dict[Any, float], keys: Any) -> float:
    return max((abs(one.get(key, math.inf) - other.get(key, -math.inf)) for key in keys), default=0.0)


def _compare(arguments: argparse.Namespace) -> int:
    specs = chosen_specs(arguments)
    runs_dir, other = records_folder(arguments), arguments.other or Path("data/runs") / arguments.preset
    found = list(differences(specs, runs_dir, other))
    if not found:
        raise ValueError(
            f"none of the {len(specs)} runs has a record both in {runs_dir} and in {other}; "
            "train them with `grid run`, or name the folders with --runs and --with"
        )
    print(table([{"run_id": d.run_id, "loss": f"{d.loss:.2g}", "score": _shown(d.score)} for d in found]))
    apart = [d for d in found if not d.loss <= arguments.tolerance]
    if len(found) < len(specs):
        note(f"{len(specs) - len(found)} of {len(specs)} runs are not in both folders")
    note(
        f"{len(found) - len(apart)} of {len(found)} runs have losses within {arguments.tolerance:g} nats per token; "
        f"the largest difference is {max(d.loss for d in found):.2g}"
    )
    for pair in sorted({tuple(str(name or "an unknown kind") for name in d.processors) for d in apart}):
        if len(set(pair)) > 1:
            note(f"trained on {pair[0]} and on {pair[1]}: kinds of processors round differently")
    return 1 if apart else 0


def _shown(score: float | None) -> str:
    return "-" if score is None else f"{score:.2g}"
