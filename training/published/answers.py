"""Yes/no answers: the published rule that reads them out of a text, and what is counted over them.

The rule and the sub-sample are those of the study's notebook (`evaluation/eval_code_comprehension.ipynb` of
bigcode-project/astraios) and of its branch of the evaluation harness.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.published.measures import N_RESAMPLES, SEED

INVALID = -1
"""Prediction of an answer that the rule cannot read. It counts as wrong, and as a label of its own in macro F1."""

_ANSWER_MARK = "\nAnswer:"
_LABELS = (INVALID, 0, 1)


@dataclass(frozen=True)
class AnswerRule:
    """How an answer is read where its first clause says neither yes nor no.

    Attributes
    ----------
    positive, negative : tuple of str
        Phrases, in small letters, that mean yes and no wherever they occur; the positive ones are looked for first.
    """

    positive: tuple[str, ...]
    negative: tuple[str, ...]


CLONE_RULE = AnswerRule(("there is a", "ere is a"), ("there is no",))
DEFECT_RULE = AnswerRule(("there is a", "ere is a", "has a defect", "contains a defect"), ("there is no defect",))


def read_answer(text: str, rule: AnswerRule) -> int:
    """Read a prediction out of a generated text.

    What follows the last line that begins with "Answer:" counts. Its first clause, up to a comma or a full stop,
    decides if it holds "yes" or "no" and not the other, also inside a word; then the rule's phrases do.

    Parameters
    ----------
    text : str
        What was generated, with its prompt or without.
    rule : AnswerRule
        Phrases that count.

    Returns
    -------
    int
        1 for yes, 0 for no, `INVALID` where it says neither.
    """
    answer = text.rsplit(_ANSWER_MARK, 1)[-1].lower()
    clause = answer.replace(",", ".").split(".", 1)[0]
    says_yes, says_no = "yes" in clause, "no" in clause
    if says_yes != says_no:
        return int(says_yes)
    if any(phrase in answer for phrase in rule.positive):
        return 1
    return 0 if any(phrase in answer for phrase in rule.negative) else INVALID


def draw_subsample(labels: Sequence[int], n_positive: int, n_negative: int, seed: int = 0) -> list[int] | None:
    """Items of the published sub-sample: negatives are drawn first, then positives, with Python's generator.

    Parameters
    ----------
    labels : sequence of int
        True label of each item, 0 or 1.
    n_positive, n_negative : int
        Items wanted of each label.
    seed : int
        Seed; the study's is 0.

    Returns
    -------
    list of int or None
        Places of the items, in their order; None where there are too few of a label.
    """
    places = {label: [place for place, found in enumerate(labels) if found == label] for label in (0, 1)}
    if len(places[0]) < n_negative or len(places[1]) < n_positive:
        return None
    rng = random.Random(seed)
    negatives = rng.sample(range(len(places[0])), n_negative)
    positives = rng.sample(range(len(places[1])), n_positive)
    return sorted([places[0][i] for i in negatives] + [places[1][i] for i in positives])


def score_answers(labels: Sequence[int], predictions: Sequence[int]) -> tuple[dict[str, float], dict[str, float]]:
    """Accuracy, macro F1 and valid rate of predictions, with standard errors over items.

    Parameters
    ----------
    labels : sequence of int, shape (n_items,)
        True labels, 0 or 1.
    predictions : sequence of int, shape (n_items,)
        1, 0 or `INVALID`.

    Returns
    -------
    values, stderr : dict of str to float
        By metric: ``overall_accuracy`` (invalid answers wrong), ``overall_macro_f1`` (mean of F1 over the labels that
        occur among labels and predictions, `INVALID` one of them), ``valid_rate``, ``valid_accuracy`` and
        ``valid_f1`` (of label 1; both among valid answers, absent where there are none), ``predicted_positive_rate``.

    Raises
    ------
    ValueError
        If there are no items, or as many labels as predictions are not given.
    """
    if len(labels) != len(predictions) or not len(labels):
        raise ValueError(f"{len(labels)} labels and {len(predictions)} predictions; give one of each for every item")
    cells = np.zeros((2, len(_LABELS)))
    for label, prediction in zip(labels, predictions, strict=True):
        cells[label, _LABELS.index(prediction)] += 1
    values = {name: float(value[0]) for name, value in _count_metrics(cells[None]).items() if np.isfinite(value[0])}
    # A resample of items is a draw of how many fall into each cell.
    n_items = len(labels)
    draws = np.random.default_rng(SEED).multinomial(n_items, cells.ravel() / n_items, size=N_RESAMPLES)
    resampled = _count_metrics(draws.reshape(-1, *cells.shape).astype(float))
    return values, {name: float(np.nanstd(resampled[name], ddof=1)) for name in values}


def _count_metrics(cells: np.ndarray) -> dict[str, np.ndarray]:
    """Metrics of tables of counts, shape (n_tables, true label, prediction in the order of `_LABELS`)."""
    n_items = cells.sum(axis=(1, 2))
    right = cells[:, 0, 1] + cells[:, 1, 2]
    n_valid = cells[:, :, 1:].sum(axis=(1, 2))
    true = np.stack([np.zeros(len(cells)), cells[:, 0].sum(axis=1), cells[:, 1].sum(axis=1)], axis=1)
    predicted = cells.sum(axis=1)
    hits = np.stack([np.zeros(len(cells)), cells[:, 0, 1], cells[:, 1, 2]], axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        # F1 is 2 hits / (true + predicted); not a number for a label that does not occur.
        f1 = 2 * hits / (true + predicted)
        valid_true = cells[:, 1, 1:].sum(axis=1)
        valid_f1 = 2 * cells[:, 1, 2] / (valid_true + predicted[:, 2])
        valid_f1 = np.where((n_valid > 0) & ~np.isfinite(valid_f1), 0.0, valid_f1)
        return {
            "overall_accuracy": right / n_items,
            "overall_macro_f1": np.nanmean(f1, axis=1),
            "valid_rate": n_valid / n_items,
            "valid_accuracy": right / n_valid,
            "valid_f1": valid_f1,
            "predicted_positive_rate": predicted[:, 2] / n_items,
        }
