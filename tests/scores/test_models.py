"""Means over seeds: their values and their intervals over problems, and ranks of means."""

import numpy as np
import pytest
from simulated_grids import simulate

from astraios_analysis.records.refusal import Refusal
from astraios_analysis.scores.bootstrap import ProblemBootstrap, percentile_interval, primary_score
from astraios_analysis.scores.means import performance_panels
from astraios_analysis.scores.models import intervals_over_seeds, keep_means, keep_seeds, model_scores, seed_words

BOOTSTRAP = ProblemBootstrap(n_draws=300)
SCORE = "embedded_synthesis"


@pytest.fixture(scope="module")
def records():
    return simulate(seeds=(0, 1, 2), methods=("fft", "lora", "ia3", "ptuning"))


@pytest.fixture(scope="module")
def table(records):
    return intervals_over_seeds(records, bootstrap=BOOTSTRAP)


def runs_of(records, method="lora"):
    size = records[0].size
    return [record for record in records if record.method == method and record.size == size]


def row_of(table, method="lora"):
    rows = table[(table["dataset"] == SCORE) & (table["method"] == method) & (table["size"] == table["size"].iloc[0])]
    assert len(rows) == 1
    return rows.iloc[0]


def test_mean_and_interval_are_those_of_draws_averaged_over_seeds(records, table):
    own = runs_of(records)
    row = row_of(keep_means(table))
    assert row["value"] == pytest.approx(np.mean([primary_score(run, SCORE).value for run in own]))
    draws = np.mean([BOOTSTRAP.draws(run, primary_score(run, SCORE))[0] for run in own], axis=0)
    assert (row["lower"], row["upper"]) == pytest.approx(percentile_interval(draws, 0.95))
    assert row["n_seeds"] == 3 and row["val_loss"] == pytest.approx(np.mean([run.val_loss for run in own]))


def test_problems_are_shared_so_more_seeds_do_not_pretend_to_more_problems(records, table):
    # Were problems independent between seeds, the mean of three would have an interval 0.58 times as wide.
    same = [record.model_copy(update={"scores": runs_of(records, record.method)[0].scores}) for record in records]
    wide, narrow = (row_of(keep_means(intervals_over_seeds(r, bootstrap=BOOTSTRAP))) for r in (same, records))
    alone = row_of(intervals_over_seeds(runs_of(records)[:1], bootstrap=BOOTSTRAP))
    assert wide["upper"] - wide["lower"] == pytest.approx(alone["upper"] - alone["lower"])
    assert narrow["upper"] - narrow["lower"] < wide["upper"] - wide["lower"]


def test_every_run_keeps_its_own_row(records, table):
    seeds = keep_seeds(table)
    assert len(seeds) == sum(len(record.scores) for record in records)
    found = seeds[seeds["dataset"] == SCORE].set_index("run_id")["value"]
    assert all(found[record.run_id] == primary_score(record, SCORE).value for record in records)


def test_one_run_a_model_is_left_as_it_is(records):
    some = [record for record in records if record.seed == 1]
    table = intervals_over_seeds(some, bootstrap=BOOTSTRAP)
    assert set(table["run_id"]) == {record.run_id for record in some}
    assert seed_words(table) == "" and len(keep_seeds(table)) == 0
    assert keep_means(table).equals(table)


def test_uneven_seeds_are_said(records):
    some = [record for record in records if record.seed == 0 or record.method == "lora"]
    assert seed_words(intervals_over_seeds(some, bootstrap=BOOTSTRAP)) == "1 to 3 seeds"
    assert seed_words(intervals_over_seeds(records, bootstrap=BOOTSTRAP)) == "3 seeds"


def test_mean_performance_has_models_below_runs(records):
    panel = performance_panels(records, bootstrap=BOOTSTRAP)["Embedded suite"]
    assert len(keep_seeds(panel)) == len(records) and len(keep_means(panel)) == len(records) / 3
    own = keep_seeds(panel)[lambda rows: (rows["method"] == "ia3") & (rows["size"] == records[0].size)]
    mean = keep_means(panel)[lambda rows: (rows["method"] == "ia3") & (rows["size"] == records[0].size)]
    assert mean["value"].item() == pytest.approx(own["value"].mean())
    assert mean["lower"].item() < mean["value"].item() < mean["upper"].item()


def test_seeds_become_one_model(records):
    found = model_scores(records, SCORE, BOOTSTRAP).table
    assert len(found) == 16 and set(found["n_seeds"]) == {3}
    runs = runs_of(records)
    row = found[(found["method"] == "lora") & (found["size"] == records[0].size)].iloc[0]
    values = [primary_score(run, SCORE).value for run in runs]
    assert (row["value"], row["seed_variance"]) == pytest.approx((np.mean(values), np.var(values, ddof=1)))
    assert row["val_loss"] == pytest.approx(np.mean([run.val_loss for run in runs]))


def test_data_sets_without_a_primary_score_are_refused(records):
    with pytest.raises(Refusal, match="unknown data set 'mbpp'; choose from embedded_synthesis, embedded_fix"):
        model_scores(records, "mbpp")
