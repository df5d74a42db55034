"""Mean performance where not every run has every score: which runs and data sets to average over."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from astraios_analysis.records.frame import RunRecord
from astraios_analysis.records.registry import DATASETS, EMBEDDED_DATASETS, STUDY_DATASETS, Suite
from astraios_analysis.scores.bootstrap import (
    ProblemBootstrap,
    mean_draws,
    mean_performance,
    percentile_interval,
    primary_score,
)
from astraios_analysis.scores.seeds import average, group_models, has_several_seeds, with_means

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
        Title of a panel and its `scores.mean_performance`, with held-out sizes marked and, where models have several
        seeds, a row for each model below those of its runs (`seeds`); a group with nothing to average is left out.
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
        title: _mean_over_seeds(runs, datasets, level, bootstrap) for title, (runs, datasets) in blocks.items() if runs
    }


def _robustness(suite: Suite) -> list[str]:
    return [name for name, known in DATASETS.items() if (known.kind, known.suite) == ("robustness", suite)]


def _mean_over_seeds(
    records: Sequence[RunRecord], datasets: Sequence[str], level: float, bootstrap: ProblemBootstrap
) -> pd.DataFrame:
    runs = mean_performance(records, datasets, level=level, bootstrap=bootstrap)
    if any(record.held_out for record in records):
        runs["held_out"] = [record.held_out for record in records]
    if not has_several_seeds(records):
        return runs
    runs = runs.assign(seed=pd.array([record.seed for record in records], dtype="Int64"))
    runs["held_out"] = [record.held_out for record in records]
    intervals = []
    for own in group_models(records).values():
        scored = [[score for name in datasets if (score := primary_score(record, name))] for record in own]
        drawn = [mean_draws(record, scores, bootstrap)[0] for record, scores in zip(own, scored, strict=True)]
        intervals.append((own[0].size, own[0].method, *percentile_interval(np.mean(drawn, axis=0), level)))
    bounds = pd.DataFrame(intervals, columns=["size", "method", "lower", "upper"])
    means = average(runs.drop(columns=["lower", "upper"]), [], ["value"])
    return with_means(runs, means.merge(bounds, on=["size", "method"], validate="one_to_one"))
