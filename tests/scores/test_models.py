"""Means over seeds: their values and their intervals over problems, and ranks of means."""

import numpy as np
import pytest
from simulated_grids import simulate

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
    values = [primary_score(run, SCORE).value for run in own]
    row = row_of(keep_means(table))
    draws = np.mean([BOOTSTRAP.draws(run, primary_score(run, SCORE))[0] for run in own], axis=0)
    assert (row["lower"], row["upper"]) == pytest.approx(percentile_interval(draws, 0.95))
    models = model_scores(records, SCORE, BOOTSTRAP).table
    model = models[(models["method"] == "lora") & (models["size"] == own[0].size)].iloc[0]
    assert len(models) == 16 and model["seed_variance"] == pytest.approx(np.var(values, ddof=1))
    for found in (row, model):
        assert found["value"] == pytest.approx(np.mean(values)) and found["n_seeds"] == 3
        assert found["val_loss"] == pytest.approx(np.mean([run.val_loss for run in own]))


def test_problems_are_shared_so_more_seeds_do_not_pretend_to_more_problems(records, table):
    # Were problems independent between seeds, the mean of three would have an interval 0.58 times as wide.
    same = [record.model_copy(update={"scores": runs_of(records, record.method)[0].scores}) for record in records]
    wide, narrow = (row_of(keep_means(intervals_over_seeds(r, bootstrap=BOOTSTRAP))) for r in (same, records))
    alone = row_of(intervals_over_seeds(runs_of(records)[:1], bootstrap=BOOTSTRAP))
    assert wide["upper"] - wide["lower"] == pytest.approx(alone["upper"] - alone["lower"])
    assert narrow["upper"] - narrow["lower"] < wide["upper"] - wide["lower"]


def test_runs_stand_beside_the_means_of_their_models(records, table):
    seeds = keep_seeds(table)
    assert len(seeds) == sum(len(record.scores) for record in records)
    found = seeds[seeds["dataset"] == SCORE].set_index("run_id")["value"]
    assert all(found[record.run_id] == primary_score(record, SCORE).value for record in records)
    panel = performance_panels(records, bootstrap=BOOTSTRAP)["Embedded suite"]
    means = keep_means(panel).set_index(["size", "method"])
    assert (len(keep_seeds(panel)), len(means)) == (len(records), len(records) / 3)
    of_runs = keep_seeds(panel).groupby(["size", "method"])["value"].mean()
    assert means["value"].to_dict() == pytest.approx(of_runs.to_dict())
    assert ((means["lower"] < means["value"]) & (means["value"] < means["upper"])).all()


def test_seeds_are_said_where_there_are_several(records, table):
    uneven, single = ([r for r in records if r.seed == 1 or r.method == more] for more in ("lora", ""))
    uneven, single = (intervals_over_seeds(some, bootstrap=BOOTSTRAP) for some in (uneven, single))
    assert [seed_words(own) for own in (table, uneven, single)] == ["3 seeds", "1 to 3 seeds", ""]
    assert len(single["run_id"].unique()) == len(records) / 3
    assert len(keep_seeds(single)) == 0 and keep_means(single).equals(single)
