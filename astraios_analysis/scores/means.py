"""Mean performance where not every run has every score: which runs and data sets to average over, and their means."""

from collections.abc import Sequence
from itertools import combinations

import pandas as pd

from astraios_analysis.records.frame import RunRecord, Score
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.records.registry import DATASETS, EMBEDDED_DATASETS, MEAN_GENERATION, STUDY_DATASETS, Suite
from astraios_analysis.scores.bootstrap import RESAMPLES, ProblemBootstrap, percentile_interval, primary_score
from astraios_analysis.scores.models import group_models, has_several_seeds, model_scores, with_means

MIN_DATASETS = 2


def shared_block(records: Sequence[RunRecord], datasets: Sequence[str]) -> tuple[list[RunRecord], list[str]]:
    """Return runs and data sets without a gap between them: the choice that averages the most scores.

    Of all sets of at least two of the data sets, with the runs that have primary scores on all of them, the one with
    the largest number of runs times data sets; ties go to more data sets. Both are empty if no run has two.
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
    records: Sequence[RunRecord], *, level: float = 0.95, bootstrap: ProblemBootstrap = RESAMPLES
) -> dict[str, pd.DataFrame]:
    """Average primary scores over the study's data sets, those of code generation, comprehension and robustness.

    By title, with the averaged data sets that have no vote (`ModelScores.has_vote`) as ``no_vote``. Code generation is
    the mean of `records.frame`. The embedded suite has panels of its own: no mean is over both suites. A group with
    nothing to average is left out.
    """
    groups = {
        "Study data sets": STUDY_DATASETS,
        "Code comprehension": [name for name in STUDY_DATASETS if DATASETS[name].kind == "comprehension"],
        "Robustness": _robustness("published"),
        "Embedded suite": EMBEDDED_DATASETS,
        "Embedded robustness": _robustness("embedded"),
    }
    blocks = {title: shared_block(records, datasets) for title, datasets in groups.items()}
    averaged = [(r, score) for r in records if (score := primary_score(r, MEAN_GENERATION)) is not None]
    if averaged:
        parts = (averaged[0][1].source_file or "").split()
        blocks = {"Code generation": ([record for record, _ in averaged], parts)} | blocks
    averages = {name for _, datasets in blocks.values() for name in datasets}
    has_vote = {name: model_scores(records, name, bootstrap).has_vote for name in averages}
    return {
        title: mean_performance(runs, datasets, level=level, bootstrap=bootstrap).assign(
            no_vote=" ".join(name for name in datasets if not has_vote[name])
        )
        for title, (runs, datasets) in blocks.items()
        if runs
    }


def _robustness(suite: Suite) -> list[str]:
    return [name for name, known in DATASETS.items() if (known.kind, known.suite) == ("robustness", suite)]


def mean_performance(
    records: Sequence[RunRecord],
    datasets: Sequence[str],
    *,
    level: float = 0.95,
    bootstrap: ProblemBootstrap = RESAMPLES,
) -> pd.DataFrame:
    """Average each run's primary scores over data sets that all runs share, each with weight one.

    With several seeds, rows of models stand below those of their runs (`models`); held-out sizes are marked.
    """
    if not datasets or not records:
        raise Refusal("a mean needs runs and a data set that all of them share; choose fewer runs or more data sets")
    if len({DATASETS[name].suite for name in datasets if name in DATASETS}) > 1:
        raise Refusal(f"{', '.join(datasets)} are of two suites, whose scores share no mean; choose data sets of one")
    scored = {record.run_id: _scores(record, datasets) for record in records}
    rows = []
    for record, (draws, kinds) in zip(records, bootstrap.mean_draws(list(scored.values())), strict=True):
        lower, upper = percentile_interval(draws, level)
        row = {name: getattr(record, name) for name in ("grid", "run_id", "size", "method", "n_params_base")}
        row["value"] = sum(score.value for _, score in scored[record.run_id]) / len(datasets)
        row |= {"lower": lower, "upper": upper, "level": level, "interval": kinds}
        row |= {"n_datasets": len(datasets), "datasets": " ".join(datasets)}
        rows.append(row | {"held_out": record.held_out, "seed": record.seed})
    runs = pd.DataFrame(rows).astype({"seed": "Int64"})
    if not has_several_seeds(records):
        marked = any(record.held_out for record in records)
        return runs.drop(columns=["seed"] if marked else ["seed", "held_out"])
    models = list(group_models(records).values())
    drawn = bootstrap.mean_draws([[pair for record in own for pair in scored[record.run_id]] for own in models])
    found = [
        (own[0].size, own[0].method, *percentile_interval(draws, level))
        for own, (draws, _) in zip(models, drawn, strict=True)
    ]
    return with_means(runs, [], ["value"], intervals=pd.DataFrame(found, columns=["size", "method", "lower", "upper"]))


def _scores(record: RunRecord, datasets: Sequence[str]) -> list[tuple[RunRecord, Score]]:
    found = {name: primary_score(record, name) for name in datasets}
    missing = [name for name, score in found.items() if score is None]
    if missing:
        raise Refusal(f"{record.run_id} has no primary score on {', '.join(missing)}; leave the run or the set out")
    return [(record, score) for score in found.values() if score is not None]
