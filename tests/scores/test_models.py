"""Means over seeds, final losses, and what relates scores to losses: values and intervals where the truth is known."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from simulated_grids import World, simulate

from astraios_analysis.records.refusal import Refusal
from astraios_analysis.scores.bootstrap import ProblemBootstrap, percentile_interval, primary_score
from astraios_analysis.scores.losses import final_losses, loss_curves
from astraios_analysis.scores.means import performance_panels
from astraios_analysis.scores.models import (
    ModelScores,
    intervals_over_seeds,
    keep_means,
    keep_seeds,
    model_scores,
    run_noise,
    seed_words,
    usable_models,
)

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
    draws = np.mean([BOOTSTRAP.draws([(run, primary_score(run, SCORE))])[0][0] for run in own], axis=0)
    assert (row["lower"], row["upper"]) == pytest.approx(percentile_interval(draws, 0.95))
    every = model_scores(records, SCORE, BOOTSTRAP).table
    model = every[(every["method"] == "lora") & (every["size"] == own[0].size)].iloc[0]
    assert len(every) == 16 and model["seed_variance"] == pytest.approx(np.var(values, ddof=1))
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


def test_intervals_are_normal_and_means_keep_their_error():
    table = final_losses(simulate(seeds=(0, 1), val_loss_se=0.05), level=0.9)
    half = table["upper"] - table["val_loss"]
    assert half.to_numpy() == pytest.approx(stats.norm.ppf(0.95) * 0.05)
    means, seeds = (keep(table).groupby(["method", "size"])["val_loss"] for keep in (keep_means, keep_seeds))
    assert set(means.size()) == {1} and set(seeds.size()) == {2} and len(means) == 28
    assert means.mean().to_dict() == pytest.approx(seeds.mean().to_dict())


def test_runs_without_losses_are_left_out_or_refused():
    some = simulate(seeds=(0,))
    bare = [record.model_copy(update={"val_loss": None}) for record in some]
    found = final_losses([*some[:3], *bare[3:]])
    # One run a model needs no means.
    assert len(found) == 3 and "kind" not in found
    with pytest.raises(Refusal, match=r"none of these runs has a validation loss .* train a grid"):
        final_losses(bare)
    with pytest.raises(Refusal, match="none of these runs has a validation curve"):
        loss_curves(bare)


FIX = "embedded_fix"


@pytest.mark.parametrize(
    ("records", "message"),
    [
        (lambda: simulate(val_loss=None), "scores but no validation loss, so nothing relates the two"),
        (lambda: simulate(val_loss=1.25), "all models have one loss, 1.25"),
        (lambda: simulate(methods=("lora",), sizes=(13_296,)), "1 model with a loss and a score; 4 are needed"),
        (lambda: simulate(scores=()), "no run has a score"),
        (lambda: simulate(World(level={FIX: -60.0}, slope={FIX: 0.0}), n_problems=5), "no model solves any problem"),
        (lambda: simulate(World(level={FIX: 60.0}, slope={FIX: 0.0})), "every model solves every problem"),
    ],
)
def test_what_says_nothing_about_loss(records, message):
    with pytest.raises(Refusal, match=message):
        usable_models(model_scores(records(), FIX, BOOTSTRAP))


def layout(rng, *, own=0.02, shock=0.15, seeds=3, methods=7, sizes=4, n_draws=300, n_problems=200):
    """Scores of models whose runs of one seed go up and down together, and what they would be on average."""
    rows, draws, runs, truth = [], [], [], []
    for size in range(sizes):
        together = rng.normal(0, shock * (size + 0.1) / sizes, seeds)
        for place in range(methods):
            mean = 0.5 + rng.normal(0, 0.04)
            by_seed = mean + together + rng.normal(0, own, seeds)
            error = np.sqrt(0.25 / n_problems / seeds)
            value = by_seed + rng.normal(0, error * np.sqrt(seeds), seeds)
            draws.append(value.mean() + error * rng.standard_normal(n_draws))
            runs.append(dict(enumerate(value)))
            truth.append(mean)
            row = {"n_params_base": 10**size, "method": str(place), "value": value.mean(), "n_items": n_problems}
            rows.append(row | {"n_seeds": seeds, "sampling_variance": error**2 * seeds})
    scores = ModelScores(SCORE, "pass@1", pd.DataFrame(rows), np.stack(draws, axis=1), ("",) * len(rows), tuple(runs))
    return scores, np.array(truth)


def test_what_the_runs_of_a_seed_share_moves_all_methods_and_cancels_between_them():
    scores, _ = layout(np.random.default_rng(0), methods=3, sizes=1, n_draws=40_000)
    together = np.array([-0.1, 0.02, 0.08])
    same = replace(scores, runs=tuple(dict(enumerate(place + together)) for place in range(3)))
    noise = run_noise(same)
    np.testing.assert_allclose(noise[:, 1:], noise[:, :1].repeat(2, axis=1))
    # The variance of a mean over three, and t of two degrees of freedom.
    widened = stats.t.ppf(0.975, 2) / stats.norm.ppf(0.975)
    assert noise[:, 0].std() == pytest.approx(widened * together.std(ddof=1) / np.sqrt(3), rel=0.02)
    # A run that is off is off on every data set.
    np.testing.assert_array_equal(noise, run_noise(replace(same, dataset="embedded_fix")))
    # Of seeds that only one method has, nothing says that they are shared.
    own = [{f"{place}, {seed}": v for seed, v in runs.items()} for place, runs in enumerate(same.runs)]
    apart = replace(same, runs=tuple(own))
    assert abs(np.corrcoef(run_noise(apart).T)[0, 1]) < 0.02


@pytest.mark.parametrize(("seeds", "methods"), [(3, 7), (2, 7), (2, 2)])
def test_other_runs_are_covered_and_differences_are_as_sure_as_pairs_are(seeds, methods):
    covered, of_pairs, widths = [], [], []
    for number in range(60):
        scores, truth = layout(np.random.default_rng(number), seeds=seeds, methods=methods)
        draws = scores.draws_of_runs()
        apart = (draws[:, ::methods] - draws[:, 1::methods], truth[::methods] - truth[1::methods], of_pairs)
        for values, true, hits in ((draws, truth, covered), apart):
            lower, upper = np.quantile(values, [0.025, 0.975], axis=0)
            hits.append(np.mean((lower <= true) & (true <= upper)))
        widths.append(np.mean(upper - lower))
    assert 0.88 <= np.mean(covered) <= 0.985 and 0.92 <= np.mean(of_pairs) <= 0.98
    # Were seeds of methods independent, they would be three times as wide.
    assert np.mean(widths) < 1.4 * 3.92 * np.sqrt(2 * (0.02**2 + 0.25 / 200) / seeds)
