"""Scores of untuned base models: what tuning starts from, and whether a measure tells base models apart at all."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from training.grid.bases import load_base, run_corpus
from training.spec.run import RunSpec
from training.suite.renewal import take_measures
from training.suite.request import Scoring


def base_scores(
    spec: RunSpec, cache_dir: str | Path, scoring: Scoring, *, progress: bool | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the scores of a run's untuned base model on the embedded suite, in no record.

    Prompts are in the layout of tuning, which a base model that was trained on documented functions alone has never
    seen; ``embedded_completion`` is its own task, the body of a function from header and docstring.

    Parameters
    ----------
    spec : RunSpec
        A run of the size and seed; its method does not matter.
    cache_dir : str or Path
        Folder of base models; one that is not there is trained first.
    scoring : Scoring
        Which measures.
    progress : bool or None
        Progress bars on standard error: always, never, or (None) where that is a terminal.

    Yields
    ------
    dict
        ``size, seed, n_params_base, dataset, setting, metric, value, stderr, n_items``, one for each score.
    """
    base = load_base(spec, cache_dir)
    base.model.to("cuda" if torch.cuda.is_available() else "cpu")
    described = {"size": spec.size.name, "seed": spec.seed, "n_params_base": base.model.num_parameters()}
    corpus = run_corpus(spec.data)
    taken = take_measures(
        base.model,
        base.tokenizer,
        corpus,
        scoring.measures,
        unsafe=scoring.unsafe,
        is_base=True,
        progress=progress,
    )
    names = ("dataset", "setting", "metric", "value", "stderr", "n_items")
    for measure in taken:
        for score in measure.scores:
            yield described | {name: getattr(score, name) for name in names}
