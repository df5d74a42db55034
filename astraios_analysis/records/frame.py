"""The bridge: the types of a finished run, records on disk, and one tidy frame for released and trained runs alike.

It hands on the schema, the registries and the file functions. Two scores are made when records are read: the mean over
code generation (`with_mean`) and losses of right answers. The counts of a run's data sets add up problem by problem, so
that whatever resamples problems resamples the mean of all of them jointly. Which data sets they are follows from the
whole grid and from nothing that is asked for later.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
import pandas as pd

from astraios_analysis.records.files import check, load, load_folder, save, sort_records
from astraios_analysis.records.notation import count, find_alike
from astraios_analysis.records.refusal import FileProblem, RecordError
from astraios_analysis.records.registry import ANSWERS, DATASETS, MEAN_GENERATION, METRICS, chance_level
from astraios_analysis.records.schema import (
    METHODS,
    SCHEMA_VERSION,
    Cost,
    ProblemCounts,
    Provenance,
    RunRecord,
    Score,
    TaskLoss,
    ValidationPoint,
    known_method,
)

_TEXT = pd.StringDtype(na_value=np.nan)
# Columns and their types: the same whatever the rows, so that tables of different grids can be put together.
RUN_COLUMNS = dict.fromkeys(("grid", "run_id", "size", "method"), _TEXT) | {"seed": "Int64", "held_out": "bool"}
RUN_COLUMNS |= dict.fromkeys(("n_params", "n_params_base", "n_params_base_nonembedding", "n_params_updated"), "Int64")
RUN_COLUMNS |= {"n_tokens": "Int64"} | dict.fromkeys(("base_val_loss", "val_loss", "val_loss_se"), "float64")
COST_COLUMNS = {"seconds": "float64", "flop": "float64", "peak_memory_bytes": "Int64"}
SCORE_COLUMNS = dict.fromkeys(("dataset", "language", "setting", "metric"), _TEXT)
SCORE_COLUMNS |= dict.fromkeys(("value", "stderr", "reading_error", "chance"), "float64")
SCORE_COLUMNS |= dict.fromkeys(("n_items", "n_samples", "n_passed"), "Int64") | {"source": _TEXT, "source_file": _TEXT}


def to_frame(records: Iterable[RunRecord], per: Literal["score", "run"] = "score") -> pd.DataFrame:
    """Return records as a tidy table, sorted; counts are nullable integers, absent values NA.

    It has one row for each score of each run (a run without scores has none), or one for each run with its cost.
    """
    rows = []
    for record in sort_records(records):
        run = {name: getattr(record, name) for name in RUN_COLUMNS}
        if per == "run":
            cost = record.cost or Cost()
            rows.append(run | {name: getattr(cost, name) for name in COST_COLUMNS})
        else:
            for score in record.scores:
                rows.append(run | {name: getattr(score, name) for name in SCORE_COLUMNS})
    columns = RUN_COLUMNS | (COST_COLUMNS if per == "run" else SCORE_COLUMNS)
    return pd.DataFrame(rows, columns=list(columns)).astype(columns)


_MEAN = DATASETS[MEAN_GENERATION]
_MIN_PARTS = 2


def averaged_datasets(records: Iterable[RunRecord]) -> tuple[str, ...]:
    """Return the HumanEvalPack sets of one grid that its mean is over; none where fewer than two are complete.

    They are those measured for all of the grid's methods at every size at which any of them is measured for all.
    """
    having: dict[str, dict[int, set[str]]] = {name: {} for name in _MEAN.parts}
    methods = set()
    for record in records:
        methods.add(record.method)
        for name in _MEAN.parts:
            if _primary(record, name):
                having[name].setdefault(record.n_params_base, set()).add(record.method)
    full = {name: {n for n, found in sizes.items() if found == methods} for name, sizes in having.items()}
    everywhere = set().union(*full.values())
    found = tuple(name for name in _MEAN.parts if everywhere and full[name] == everywhere)
    return found if len(found) >= _MIN_PARTS else ()


def with_mean(records: Sequence[RunRecord]) -> list[RunRecord]:
    """Return the runs of any grids, each that has all of its grid's averaged data sets with their mean as a score."""
    parts = {grid: averaged_datasets(r for r in records if r.grid == grid) for grid in {r.grid for r in records}}
    return [_with_mean(record, parts[record.grid]) for record in records]


def with_answers(record: RunRecord) -> RunRecord:
    """Return a run with the losses of its tasks' right answers as scores of data sets of their own."""
    own = [
        Score(
            dataset=name,
            language=DATASETS[name].language,
            setting=ANSWERS,
            metric="cross_entropy",
            value=found.loss,
            stderr=found.stderr,
            # Tokens: of how many problems they are is not recorded. The error is over problems.
            n_items=found.n_targets,
            source="measured",
        )
        for task, found in record.task_losses.items()
        if (name := f"answers_{task}") in DATASETS
    ]
    return record.model_copy(update={"scores": (*record.scores, *own)}) if own else record


def warn_of_models(records: Sequence[RunRecord]) -> list[str]:
    """Return what looks wrong about models: sizes of several parameter counts, methods whose names hardly differ."""
    found = []
    for grid in dict.fromkeys(record.grid for record in records):
        own, counts = [record for record in records if record.grid == grid], {}
        for record in own:
            counts.setdefault(record.size, set()).add(record.n_params_base)
        wide = {size: sorted(several) for size, several in counts.items() if len(several) > 1}
        if wide:
            size, several = next(iter(wide.items()))
            found.append(
                f"warning: grid {grid}: {count(len(wide), 'size')} with several numbers of base parameters, such as "
                f"{size!r} with {' and '.join(f'{n:,}' for n in several)}; methods are compared at one number: correct "
                "n_params_base if the base is the same"
            )
        found += [
            f"warning: grid {grid}: {alike} are methods of their own; write them alike if they are one"
            for alike in find_alike(record.method for record in own)
        ]
    return found


def describe_mean(records: Iterable[RunRecord]) -> str:
    """Say what a grid's mean over code generation is over; nothing where it has none."""
    named = {score.source_file for record in records for score in record.scores if score.dataset == MEAN_GENERATION}
    titles = [DATASETS[name].title for name in (named.pop() or "").split()] if named else []
    return f"{MEAN_GENERATION}: mean over {', '.join(titles)}, problems resampled jointly" if titles else ""


def _primary(record: RunRecord, name: str) -> Score | None:
    wanted = (name, DATASETS[name].primary_setting, DATASETS[name].primary_metric)
    return next((score for score in record.scores if (score.dataset, score.setting, score.metric) == wanted), None)


def _with_mean(record: RunRecord, names: Sequence[str]) -> RunRecord:
    scores = [score for name in names if (score := _primary(record, name))]
    if not scores or len(scores) < len(names) or _primary(record, MEAN_GENERATION):
        return record
    problems = _add([score.problems for score in scores])
    errors = [score.stderr for score in scores]
    mean = Score(
        dataset=MEAN_GENERATION,
        language="several",
        setting=_MEAN.primary_setting,
        metric=_MEAN.primary_metric,
        value=sum(score.value for score in scores) / len(scores) if problems is None else _share(problems),
        # Without counts nothing says how errors go together; the mean of errors is the most they can come to.
        stderr=sum(errors) / len(errors) if problems is None and None not in errors else None,
        chance=0.0,
        n_items=min(score.n_items for score in scores),
        problems=problems,
        source="measured",
        source_file=" ".join(names),
    )
    return record.model_copy(update={"scores": (*record.scores, mean)})


def _add(parts: Sequence[ProblemCounts | None]) -> ProblemCounts | None:
    """Return counts whose share of passes is, problem by problem, the mean of the parts'; None if they do not match."""
    if any(part is None for part in parts) or len({len(part.problem_ids) for part in parts}) > 1:
        return None
    samples, passed = [], []
    for place in range(len(parts[0].problem_ids)):
        common = math.lcm(*(part.n_samples[place] for part in parts))
        samples.append(common * len(parts))
        passed.append(sum(part.n_passed[place] * common // part.n_samples[place] for part in parts))
    return ProblemCounts(problem_ids=parts[0].problem_ids, n_samples=tuple(samples), n_passed=tuple(passed))


def _share(problems: ProblemCounts) -> float:
    shares = [k / n for k, n in zip(problems.n_passed, problems.n_samples, strict=True)]
    return sum(shares) / len(shares)
