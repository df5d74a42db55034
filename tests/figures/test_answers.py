"""What a figure answers is what its table says."""

import re
from pathlib import Path
from unittest import mock

import pandas as pd
import pytest

from astraios_analysis.figures.gallery import FIGURES, find_spec
from astraios_analysis.records.registry import _CHOSEN, METRICS, Metric

RATING = {"rating": Metric("rating", "rating", 0, 3000, True, "")}
TWINS = sorted((Path(__file__).parents[2] / "figures").glob("*.csv"))


def answer(figure, table):
    return FIGURES[figure].say(table)


@pytest.mark.parametrize("path", TWINS, ids=lambda path: path.stem)
def test_every_table_is_answered_in_a_sentence(path):
    table = pd.read_csv(path)
    answered = find_spec(path.stem)[0].say(table)
    n_grids = table["grid"].nunique() if "grid" in table else 1
    assert answered.endswith(".") and len(answered) < 900 * n_grids
    assert not re.search(r"\bnan\b", answered)


def models(*rows):
    """A table of scores: size, base parameters, method, value."""
    return pd.DataFrame(rows, columns=["size", "n_params_base", "method", "value"])


def test_growth_compares_the_same_methods_at_both_ends():
    table = models(("1b", 1, "fft", 0.1), ("1b", 1, "lora", 0.2), ("3b", 3, "lora", 0.5), ("3b", 3, "fft", 0.6))
    other = table.assign(dataset="humanevalfix_java", value=[0.2, 0.2, 0.1, 0.1])
    scores = pd.concat([table.assign(dataset="humanevalfix_python"), other]).assign(metric="pass@1")
    losses = table.assign(dataset="answers_fix", value=[2.0, 3.0, 0.5, 0.75], metric="cross_entropy")
    # Of a rating more is better.
    more = table.assign(dataset="own", value=[2.0, 3.0, 4.0, 6.0], metric="rating")
    with mock.patch.dict(METRICS, RATING):
        said = answer("task_performance", pd.concat([scores, losses, more]))
    assert "rises on 1 of 2 data sets" in said
    assert "loss falls on 1 of 1: Answers of fix (to 25 %); what is no share rises on 1 of 1: own (to 200 %)." in said
    assert "Fix Python (+40.0); not on Fix Java (-10.0)" in said


def test_held_out_sizes_take_no_part_in_answers():
    table = models(("1b", 1, "fft", 2.0), ("1b", 1, "lora", 3.0), ("3b", 3, "fft", 1.0), ("3b", 3, "lora", 0.5))
    table = table.rename(columns={"value": "val_loss"}).assign(kind="run", held_out=[False, False, True, True])
    said = "At 1b, from 2 (FFT) to 3 (LoRA) nats per token; FFT has the lowest loss at 1 of 1 sizes."
    assert answer("cross_entropy", table) == said


def test_backtest_counts_intervals_of_shares():
    columns = ["error", "persistence_error", "lower", "upper", "covered"]
    rows = [(0.1, 0.2, 0.0, 0.5, True), (-0.3, 0.0, 0.1, 0.2, False)]
    table = pd.DataFrame(rows, columns=columns).assign(dataset="a", measured=0.5, kind="tested", method="fft")
    said = answer("backtest", table)
    assert "missed by 20 of 100 points on average (no change: 10)" in said
    assert "1 of 2 prediction intervals cover, 30 wide" in said
    # An error of 90 of another unit is none of 100 points, whether the unit has a largest value or not.
    other = table.assign(dataset="rated", measured=1500.0, error=90.0)
    with mock.patch.dict(METRICS, RATING), mock.patch.dict(_CHOSEN, {"rated": {"primary_metric": "rating"}}):
        assert said == answer("backtest", pd.concat([table, other]))
    # The fitted sizes and the curve are no test; a data set without a vote does not count.
    mute = table.assign(has_vote=False, dataset="b", error=9.0)
    assert said[:-1] in answer("backtest", pd.concat([table, table.assign(kind="line", error=9.0), mute]))


def test_grids_that_share_a_figure_are_answered_one_by_one():
    table = pd.DataFrame({"size": "1b", "method": "lora", "n_params_base": 1, "percent_updated": [0.1, 0.3]})
    both = answer("updated_parameters", table.assign(grid=["released", "own"]))
    assert both.startswith("Released models: Apart from full fine-tuning, 0.1 % of") and ". Grid own: Apart" in both
    assert answer("updated_parameters", table[:1].assign(grid="own")).startswith("Apart from")


def test_small_model_choices_are_weighed_against_a_random_choice():
    columns = ["dataset", "has_vote", "is_drawn", "rule", "is_right", "regret", "regret_random"]
    small, fix = "best at the smaller size", ("humanevalfix_python", True, True)
    rows = [(*fix, small, True, 0.0, 0.1), (*fix, small, False, 0.05, 0.1), (*fix, "predicted", False, 1.0, 1.0)]
    rows.append(("recode_format", True, True, small, True, 0.01, 0.02))
    rows.append(("clone_detection", False, True, small, True, 1, 1))
    said = answer("small_model_choices", pd.DataFrame(rows, columns=columns).assign(metric="pass@1", kind="choice"))
    assert "generation 1 of 2 cases, 2.5 points (a random choice 10.0)" in said
    assert "robustness 1 of 1 cases, 1.0 points (a random choice 2.0)" in said
    assert "comprehension" not in said and "No vote: Clone detection" in said
    # What is measured in two units has no mean.
    both = pd.DataFrame(rows[:2], columns=columns).assign(metric=["perplexity", "cross_entropy"], kind="choice")
    said = answer("small_model_choices", both)
    assert "1 of 1 cases, with a mean regret of 0 " in said and "0 of 1 cases, with a mean regret of 0.05 " in said


def test_many_or_few_methods_are_said_in_few_words():
    rows = {"dataset": "val_loss", "scope": "these models", "size": "1b", "method_a": "fft", "difference": 1.0}
    many = pd.DataFrame({"method_b": [f"own_{n}" for n in range(29)]}).assign(**rows, lower=0.5, upper=1.5)
    assert answer("contrasts", many).endswith("at 1b all 29 others worse.")
    alone = models(("1b", 1, "lora", 2.0), ("3b", 3, "lora", 1.0)).rename(columns={"value": "val_loss"})
    assert answer("cross_entropy", alone.assign(kind="run")) == "At 3b, 1 (LoRA) nats per token."


def test_what_is_equal_or_not_known_is_said_to_be():
    table = models(("1b", 1, "fft", 0.1), ("1b", 1, "lora", 0.2)).assign(percent_updated=[100.0, 1.0], flop=2.0)
    assert answer("updated_parameters", table).endswith(" At 1b, FLOP do not differ.")
    rows = {"dataset": "val_loss", "scope": "these models", "size": "1b", "method_a": "fft", "method_b": "lora"}
    table = pd.DataFrame([rows | {"difference": 0.1, "lower": float("nan"), "upper": float("nan")}])
    assert answer("contrasts", table).endswith("at 1b no interval is known.")
