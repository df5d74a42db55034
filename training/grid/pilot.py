"""Pilots: runs on seeds that no grid has, other text or schedules in turn, and whether a grid can show anything.

Nothing that a grid is trained to find out is looked at here: no correlation of loss and score, no order of methods, no
held-out size. What is looked at: whether scores leave floor and ceiling, and how large differences between sizes and
between methods are beside those between seeds (docs/ladder.md).
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from astraios_analysis.records.frame import METRICS, RunRecord
from astraios_analysis.records.refusal import Refusal
from training.corpus.settings import CorpusSettings
from training.spec.grids import CORPORA, Grid

TEXTS = ("skills", "plain")
"""Base text of pilots: of several skills, or documented functions alone, with the same instructions and words."""

MEASURES: tuple[tuple[str, str, str], ...] = (
    *((f"embedded_{task}", "greedy", "pass@1") for task in ("synthesis", "fix")),
    *((f"embedded_{task}", "greedy", "line_accuracy") for task in ("synthesis", "fix")),
    *((f"embedded_{task}", "choice", "choice_accuracy") for task in ("synthesis", "fix", "explain", "clone", "defect")),
    ("embedded_security", "choice", "preference_auc"),
)
"""Measures that may become headlines: data set, setting and metric."""

THRESHOLDS: Mapping[str, float] = {
    # Share of the cells, size by method, that are three standard errors above chance and below the ceiling.
    "range": 0.6,
    "size_signal": 4.0,
    "size_signal_without_smallest": 3.0,
    "method_signal": 4.0,
    "method_signal_without_fft_ptuning": 2.0,
    # Share of a method's runs that end two standard errors below their own base.
    "below_base": 0.5,
    # Loss of right answers at the largest size over that at the smallest: at most this.
    "answer_loss_ratio": 0.5,
}
"""What a measure, method or task has to reach; fixed before the seeds of the acceptance were trained."""

_APART = ("fft", "ptuning")


def pilot_grid(
    grid: Grid,
    seeds: Sequence[int],
    *,
    text: str = "skills",
    offsets: int | None = None,
    instructions: float | None = None,
) -> Grid:
    """Return a grid of pilots: other seeds, no held-out size, and what is to be tried in place of the grid's own."""
    if text not in TEXTS:
        raise Refusal(f"unknown base text {text!r}; choose from {', '.join(TEXTS)}")
    if clash := sorted(set(seeds) & set(grid.seeds)):
        raise Refusal(f"seed {clash[0]} is one of grid {grid.name!r}; pilots have seeds of their own, from 1000 on")
    # Text of other people's has no base text to be changed.
    corpus = CORPORA.get(grid.data, CorpusSettings())
    if text == "plain":
        corpus = corpus.model_copy(update={"pretraining_mixture": None})
    offsets = grid.loop.position_offsets if offsets is None else offsets
    changes = {
        "name": f"{grid.name}_pilot",
        "seeds": tuple(dict.fromkeys(seeds)),
        "sizes": tuple(size for size in grid.sizes if size.name not in grid.held_out_sizes),
        "held_out_sizes": (),
        "data": corpus.label,
        "loop": grid.loop.model_copy(update={"position_offsets": offsets or None}),
        "pretraining_instructions": grid.pretraining_instructions if instructions is None else instructions,
    }
    return Grid(**{**dict(grid), **changes})


def pilot_rows(records: Iterable[RunRecord]) -> pd.DataFrame:
    """Return pilots as a table, one row a run: what was tried, losses, losses of answers, and scores."""
    rows = []
    for record in records:
        run = (record.provenance.spec or {})["run"]
        corpus = CORPORA.get(run["data"])
        row = {
            "text": run["data"] if corpus is None else TEXTS[corpus.pretraining_mixture is None],
            "position_offsets": run["loop"].get("position_offsets", 0),
            "instructions": run.get("pretraining_instructions", 0.0),
            **{name: getattr(record, name) for name in ("size", "method", "seed")},
            "learning_rate": run["schedule"]["learning_rate"],
            **{name: getattr(record, name) for name in ("base_val_loss", "val_loss", "val_loss_se")},
        }
        for when, losses in (("base_", record.base_task_losses), ("", record.task_losses)):
            row |= {f"{when}loss_{task}": found.loss for task, found in losses.items()}
        scores = {score.key: score for score in record.scores}
        for dataset, setting, metric in MEASURES:
            score = scores.get((dataset, "python", setting, metric))
            name = f"{dataset.removeprefix('embedded_')}_{metric}"
            row |= {} if score is None else {name: score.value, f"{name}_se": score.stderr}
        rows.append(row)
    order = ["text", "position_offsets", "instructions", "seed", "size", "method"]
    return pd.DataFrame(rows).sort_values(order, key=_by_width, ignore_index=True) if rows else pd.DataFrame()


def _by_width(column: pd.Series) -> pd.Series:
    return column.str.partition("x")[0].astype(int) if column.name == "size" else column


def size_signal(table: pd.DataFrame) -> float:
    """Return how far sizes are apart beside seeds: SD of sizes' means / (pooled SD over seeds / sqrt n_seeds).

    The unit is the base, because the methods of one size and seed share it: the mean over methods. Its square is the
    F statistic of sizes. ``table`` has the columns size, method, seed and value.
    """
    bases = table.groupby(["size", "seed"])["value"].mean().unstack("seed")
    between = bases.mean(axis=1).std(ddof=1) * np.sqrt(bases.shape[1])
    return _ratio(between, np.sqrt(bases.var(axis=1, ddof=1).mean()))


def _ratio(one: float, other: float) -> float:
    """Return a ratio; NaN where one size, method or seed leaves nothing to divide by."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.divide(one, other))


def method_signal(table: pd.DataFrame) -> float:
    """Return how far methods are apart within bases: SD of methods' means of a size / SD of what is left of a run.

    Left of a run is its value less its base's mean over methods and its method's deviation from it, since methods are
    compared on the same base and what a base brings is common to them. Both are pooled over sizes. Without any
    difference between methods it is about 1 / sqrt n_seeds.
    """
    runs = table.set_index(["size", "seed", "method"])["value"].unstack("method")
    within = runs.sub(runs.mean(axis=1), axis=0)
    means = within.groupby("size").mean()
    left = within - means.reindex(within.index, level="size")
    n_free = (runs.shape[1] - 1) * (len(runs) - len(means))
    return _ratio(np.sqrt(means.var(axis=1, ddof=1).mean() * n_free), np.sqrt((left.to_numpy() ** 2).sum()))


def acceptance(table: pd.DataFrame) -> pd.DataFrame:
    """Return what the pilots of one design say about the grid, a row a criterion with its threshold beside it.

    ``table`` is that of `pilot_rows`. Signals are taken of scores, and of the logarithm of the loss of right answers,
    which sizes change by ratios.
    """
    smallest, largest = table.sort_values("size", key=_by_width)["size"].iloc[[0, -1]]
    rows: list[tuple[str, str, float]] = []
    answers = [column for column in table if column.startswith("loss_")]
    measured = {column: np.log(table[column]) for column in answers}
    for dataset, _, metric in MEASURES:
        name = f"{dataset.removeprefix('embedded_')}_{metric}"
        if name not in table:
            continue
        measured[name] = table[name]
        cells = table.groupby(["size", "method"])[[name, f"{name}_se"]].mean().to_numpy()
        # Errors of a cell are those of one run: its seeds answer the same problems.
        inside = (cells @ (1, -3) > (METRICS[metric].chance or 0.0)) & (cells @ (1, 3) < 1)
        rows.append(("range", name, float(inside.mean())))
    for name, values in measured.items():
        given = table[["size", "method", "seed"]].assign(value=values)
        rows += [
            ("size_signal", name, size_signal(given)),
            ("size_signal_without_smallest", name, size_signal(given[given["size"] != smallest])),
            ("method_signal", name, method_signal(given)),
            ("method_signal_without_fft_ptuning", name, method_signal(given[~given["method"].isin(_APART)])),
        ]
    gained = table["base_val_loss"] - table["val_loss"] > 2 * table["val_loss_se"]
    rows += [
        ("below_base", str(method), float(share)) for method, share in gained.groupby(table["method"]).mean().items()
    ]
    for column in answers:
        by_size = table.groupby("size")[column].mean()
        ratio = by_size[largest] / by_size[smallest] if len(by_size) > 1 else np.nan
        rows.append(("answer_loss_ratio", column.removeprefix("loss_"), float(ratio)))
    found = pd.DataFrame(rows, columns=["criterion", "of", "value"])
    found["threshold"] = found["criterion"].map(THRESHOLDS)
    is_most = found["criterion"] == "answer_loss_ratio"
    found["reached"] = np.where(is_most, found["value"] <= found["threshold"], found["value"] >= found["threshold"])
    # Of what these pilots cannot tell, nothing is said.
    return found.assign(reached=found["reached"].where(found["value"].notna()))


def write_table(table: pd.DataFrame, path: str | Path) -> None:
    """Write a table of pilots or trials as CSV, in full precision."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False, lineterminator="\n")
