"""Mean performance where not every run has every score: which runs and data sets to average over."""

from collections.abc import Sequence
from itertools import combinations

import pandas as pd

from astraios_analysis.metrics import DATASETS, EMBEDDED_DATASETS, STUDY_DATASETS, Suite
from astraios_analysis.records import RunRecord
from astraios_analysis.scores import ProblemBootstrap, mean_performance, primary_score

MIN_DATASETS = 2


def shared_block(records: Sequence[RunRecord], datasets: Sequence[str]) -> tuple[list[RunRecord], list[str]]:
    """Return runs and data sets without a gap between them: the choice that averages the most scores.

    Of all sets of at least two of the data sets, with the runs that have primary scores on all of them, the one with
    the largest number of runs times data sets; ties go to more data sets.

    Parameters
    ----------
    records : sequence of RunRecord
    datasets : sequence of str

    Returns
    -------
    list of RunRecord
    list of str
        Both empty if no run has two of the data sets.
    """
    has = {name: {r.run_id for r in records if primary_score(r, name) is not None} for name in datasets}
    best: tuple[int, int, tuple[str, ...]] = (0, 0, ())
    for n in range(MIN_DATASETS, len(datasets) + 1):
        for chosen in combinations(datasets, n):
            runs = set.intersection(*(has[name] for name in chosen))
            if runs:
                best = max(best, (len(runs) * n, n, chosen), key=lambda item: item[:2])
    chosen = best[2]
    return [r for r in records if chosen and all(r.run_id in has[name] for name in chosen)], list(chosen)


def performance_panels(
    records: Sequence[RunRecord], *, level: float = 0.95, bootstrap: ProblemBootstrap | None = None
) -> dict[str, pd.DataFrame]:
    """Average primary scores over the study's data sets, the comprehension sets and the robustness sets.

    The embedded suite has panels of its own: no mean is over both suites.

    Returns
    -------
    dict of str to DataFrame
        Title of a panel and its `scores.mean_performance`; a group with nothing to average is left out.
    """
    groups = {
        "Study data sets": STUDY_DATASETS,
        "Code comprehension": [name for name in STUDY_DATASETS if DATASETS[name].kind == "comprehension"],
        "Robustness": _robustness("published"),
        "Embedded suite": EMBEDDED_DATASETS,
        "Embedded robustness": _robustness("embedded"),
    }
    blocks = {title: shared_block(records, datasets) for title, datasets in groups.items()}
    bootstrap = bootstrap or ProblemBootstrap()
    return {
        title: mean_performance(runs, datasets, level=level, bootstrap=bootstrap)
        for title, (runs, datasets) in blocks.items()
        if runs
    }


def _robustness(suite: Suite) -> list[str]:
    return [name for name, known in DATASETS.items() if (known.kind, known.suite) == ("robustness", suite)]
