"""Correlation of score and loss on grids whose truth is known; what says nothing about loss is named."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import logit
from simulated_grids import World, simulate

from astraios_analysis.records.counts import inside_unit_interval
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.scores.bootstrap import ProblemBootstrap
from astraios_analysis.scores.correlations import (
    AT_CHANCE,
    DOES_NOT_FOLLOW,
    FOLLOWS,
    HARDLY_VARIES,
    NOT_ESTIMABLE,
    correlation_interval,
    judge,
    loss_correlation,
    loss_correlations,
)
from astraios_analysis.scores.models import model_scores, usable_models
from astraios_analysis.scores.ranks import pearson, spearman

BOOTSTRAP = ProblemBootstrap(n_draws=300)
FIX = "embedded_fix"


def scores_of(records, dataset=FIX):
    return model_scores(records, dataset, BOOTSTRAP)


STATISTICS = {"spearman": spearman, "pearson_logit": pearson}


def shown(rates, statistic):
    """Rates of 100 problems, on the scale of a statistic."""
    return logit(inside_unit_interval(rates, 100)) if statistic == "pearson_logit" else rates


def interval_of(loss, drawn, rng, statistic, value):
    """The interval of 200 resamples of models; a draw of scores each, or one for all."""
    index = rng.integers(len(loss), size=(200, len(loss)))
    goodness = np.take_along_axis(np.broadcast_to(drawn, index.shape), index, axis=1)
    return correlation_interval(
        loss[index],
        shown(goodness, statistic),
        [np.arange(len(loss))],
        STATISTICS[statistic],
        value,
        0.95,
    )


def correlation(loss, rates, statistic):
    return float(STATISTICS[statistic](loss, shown(rates, statistic)))


def solve_one(record):
    """The record with one problem solved."""
    problems = record.scores[0].problems
    passed = problems.model_copy(update={"n_passed": (1, *problems.n_passed[1:])})
    score = record.scores[0].model_copy(update={"problems": passed, "value": 1 / len(passed.n_passed)})
    return record.model_copy(update={"scores": (score,)})


class TestUsableModels:
    @pytest.mark.parametrize(
        ("records", "message"),
        [
            (lambda: simulate(val_loss=None), "scores but no validation loss, so nothing relates the two"),
            (lambda: simulate(val_loss=1.25), "all models have one loss, 1.25"),
            (lambda: simulate(methods=("lora",), sizes=(13_296,)), "1 models have a loss and a score; 4 are needed"),
            (lambda: simulate(scores=()), "no run has a score"),
            (
                lambda: simulate(World(level={FIX: -60.0}, slope={FIX: 0.0}), n_problems=5),
                "no model solves any problem",
            ),
            (lambda: simulate(World(level={FIX: 60.0}, slope={FIX: 0.0})), "every model solves every problem"),
        ],
    )
    def test_what_says_nothing_about_loss(self, records, message):
        with pytest.raises(Refusal, match=message):
            usable_models(scores_of(records()))


class TestCorrelation:
    def test_a_score_that_follows_loss(self):
        found = loss_correlations(simulate(), bootstrap=BOOTSTRAP)
        assert set(found["verdict"]) == {FOLLOWS} and set(found["scope"]) == {"all", "within_size", "within_method"}
        assert (
            (found["lower"] <= found["upper"]).all() and (found["upper"] < 0).all() and (found["p_value"] < 0.01).all()
        )

    def test_an_error_rate_is_turned_round(self):
        world = World(level={"embedded_security": 0.0}, slope={"embedded_security": 5.0})
        found = loss_correlation(scores_of(simulate(world), "embedded_security"), n_draws=200)
        assert (found["value"] < -0.5).all() and set(found["verdict"]) == {FOLLOWS}

    def test_a_score_without_relation(self):
        found = loss_correlation(scores_of(simulate(World(level={FIX: 0.0}, slope={FIX: 0.0}))), n_draws=300)
        assert set(found["verdict"]) == {DOES_NOT_FOLLOW} and found["p_value"].min() > 0.01

    def test_a_score_at_chance(self):
        world = World(level={"embedded_clone": -9.0}, slope={"embedded_clone": 0.0})
        found = loss_correlation(scores_of(simulate(world), "embedded_clone"), n_draws=200)
        assert set(found["verdict"]) == {AT_CHANCE}

    def test_known_correlations_are_covered(self):
        rng, true, hits = np.random.default_rng(0), -0.6, []
        for _ in range(100):
            loss, noise = rng.standard_normal((2, 28))
            score = 0.5 + 0.05 * (true * loss + np.sqrt(1 - true**2) * noise)
            lower, upper, interval = interval_of(
                loss, score[None], rng, "pearson_logit", correlation(loss, score, "pearson_logit")
            )
            assert not interval.startswith(NOT_ESTIMABLE)
            hits.append(lower <= true <= upper)
        assert 0.85 <= np.mean(hits) <= 0.99

    @pytest.mark.parametrize("statistic", ["spearman", "pearson_logit"])
    def test_scores_near_a_floor_claim_no_relation_that_is_not_there(self, statistic):
        rng, claims, excluded = np.random.default_rng(1), 0, 0
        for _ in range(100):
            loss = rng.standard_normal(28)
            passed = rng.random((28, 100)) < 0.0005 * np.exp(rng.standard_normal((28, 1)))
            if not passed.any():
                continue
            weights = rng.multinomial(100, np.full(100, 0.01), size=200) / 100
            lower, upper, _ = interval_of(
                loss,
                weights @ passed.T.astype(float),
                rng,
                statistic,
                correlation(loss, passed.mean(axis=1), statistic),
            )
            claims += upper < 0 or lower > 0
            excluded += not lower <= correlation(loss, passed.mean(axis=1), statistic) <= upper
        # With constant resamples left out 24 (spearman) and 28 of 87 intervals lay beside 0.
        assert claims <= 2 and excluded == 0

    def test_what_hardly_varies_is_not_estimable(self):
        # One problem of 200 is solved, by one model alone: resampled, both are missing in every third draw.
        records = simulate(World(level={FIX: -60.0}, slope={FIX: 0.0}), seeds=(0,))
        scores = scores_of([solve_one(r) if i == 5 else r for i, r in enumerate(records)])
        found = loss_correlation(scores, n_draws=200)
        assert found["interval"].str.startswith(f"{NOT_ESTIMABLE}: scores do not differ in ").all()
        assert (found["lower"] == -1).all() and (found["upper"] == 1).all()
        assert set(found["n_groups"]) == {1} and set(found["verdict"]) == {AT_CHANCE}
        varied = scores_of(simulate(n_problems=1000))
        assert judge(varied, found) == HARDLY_VARIES

    def test_size_alone_is_no_relation_within_sizes(self):
        # Every method has one loss curve, so that among methods of a size only noise is left.
        world = replace(World(), amplitude={m: 0.6 for m in World().amplitude})
        found = loss_correlation(scores_of(simulate(world)), n_draws=300).set_index(["scope", "statistic"])
        assert found.loc[("all", "spearman"), "value"] < -0.7
        assert abs(found.loc[("within_size", "spearman"), "value"]) < 0.5
        assert found.loc[("within_size", "spearman"), "p_value"] > 0.01

    def test_no_p_value_is_zero(self):
        # Every model follows the loss: of 28! orders none of the 99 drawn is as extreme as the observed one.
        scores = scores_of(simulate(World(seed_sd=0.0), n_problems=5000))
        found = loss_correlation(scores, n_draws=50, n_permutations=99).set_index(["scope", "statistic"])
        assert found.loc["all", "p_value"].to_numpy() == pytest.approx(1 / 100)
