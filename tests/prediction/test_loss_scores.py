"""Score against loss: the truth of simulated grids comes back, and what says nothing about loss is named."""

from dataclasses import replace

import numpy as np
import pytest
from simulated_grids import LARGEST, World, simulate

from astraios_analysis.prediction.chain import choose_pooling, fit_loss_score, method_effect, usable_models
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
    pearson_logit,
)
from astraios_analysis.scores.models import model_scores
from astraios_analysis.scores.ranks import spearman

BOOTSTRAP = ProblemBootstrap(n_draws=300)
FIX = "embedded_fix"


def scores_of(records, dataset=FIX):
    return model_scores(records, dataset, BOOTSTRAP)


class TestReplicates:
    def test_seeds_become_one_model(self):
        records = simulate()
        found = scores_of(records)
        assert len(found.table) == 28 and set(found.table["n_seeds"]) == {3}
        runs = [r for r in records if (r.method, r.n_params_base) == ("lora", 13_296)]
        row = found.table[(found.table["method"] == "lora") & (found.table["n_params_base"] == 13_296)].iloc[0]
        values = [score.value for r in runs for score in r.scores if score.dataset == FIX]
        assert row["value"] == pytest.approx(np.mean(values)) and row["seed_variance"] == pytest.approx(
            np.var(values, ddof=1)
        )
        assert row["val_loss"] == pytest.approx(np.mean([r.val_loss for r in runs]))

    @pytest.mark.parametrize("name", ["aatk", "mbpp"])
    def test_unknown_data_set(self, name):
        with pytest.raises(ValueError, match=f"no primary score is defined on '{name}'; choose from clone_detection"):
            scores_of(simulate(), name)

    def test_several_grids(self):
        with pytest.raises(ValueError, match="there are 2: other, sim; give one"):
            scores_of(simulate() + simulate(grid="other"))


class TestFit:
    @pytest.mark.parametrize("pooling", ["pooled", "shared_slope"])
    def test_slope_comes_back(self, pooling):
        slopes = [fit_loss_score(scores_of(simulate(seed=s)), pooling).slope_interval(0.95) for s in range(8)]
        assert np.mean([slope for slope, _, _ in slopes]) == pytest.approx(4.0, abs=0.4)
        assert sum(lower <= 4.0 <= upper for _, lower, upper in slopes) >= 6

    def test_chance_floor_and_direction(self):
        world = World(level={"embedded_security": 0.0}, slope={"embedded_security": 5.0})
        fitted = fit_loss_score(scores_of(simulate(world, n_problems=2000), "embedded_security"))
        assert not fitted.higher_is_better and fitted.binomial.chance == 0.5
        loss = np.array([0.5, 1.0, 1.4])
        np.testing.assert_allclose(fitted.curve(loss, "lora"), 1 - world.goodness("embedded_security", loss), atol=0.02)
        assert fitted.slope_interval(0.95)[0] == pytest.approx(5.0, rel=0.15)

    def test_one_method_alone(self):
        fitted = fit_loss_score(scores_of(simulate()), "per_method", "lora")
        assert fitted.methods == ("lora",) and fitted.binomial.n_obs == 4
        with pytest.raises(Refusal, match="ia3 was not fitted on embedded_fix; choose from lora"):
            fitted.curve(np.array([1.0]), "ia3")

    def test_held_out_models_take_no_part(self):
        records = simulate(held_out=(LARGEST,))
        changed = [replace_loss(r, 9.0) if r.held_out else r for r in records]
        assert fit_loss_score(scores_of(records)).loss_range == fit_loss_score(scores_of(changed)).loss_range

    def test_a_new_run_is_covered_as_often_as_asked(self):
        world, hits = World(size_sd=0.2, model_sd=0.1), []
        for seed in range(40):
            records = simulate(world, held_out=(LARGEST,), seed=seed, seeds=(0, 1))
            fitted = fit_loss_score(scores_of(records))
            rng = np.random.default_rng(seed)
            for run in (r for r in records if r.held_out and r.seed == 0):
                drawn = fitted.draw_scores(np.full(500, run.val_loss), run.method, rng)
                value = next(score.value for score in run.scores if score.dataset == FIX)
                hits.append((np.quantile(drawn, [0.1, 0.025]) <= value) & (value <= np.quantile(drawn, [0.9, 0.975])))
        coverage = np.mean(hits, axis=0)
        # Runs of one world share its size effect: about 40 independent looks, and with four sizes its variance is wide.
        assert 0.70 <= coverage[0] <= 0.95 and 0.88 <= coverage[1] <= 1.0

    def test_observation_is_wider_than_the_curve(self):
        fitted = fit_loss_score(scores_of(simulate()))
        drawn = [
            fitted.draw_scores(np.full(2000, 1.0), "lora", np.random.default_rng(0), observation=kind).std()
            for kind in (False, True)
        ]
        assert drawn[0] < drawn[1]
        lower, upper = fitted.band(np.array([1.0]), "lora", 0.95)
        assert lower < fitted.curve(np.array([1.0]), "lora") < upper


def interval_of(loss, drawn, rng, statistic):
    """The interval of 200 resamples of models; a draw of scores each, or one for all."""
    index = rng.integers(len(loss), size=(200, len(loss)))
    goodness = np.take_along_axis(np.broadcast_to(drawn, index.shape), index, axis=1)
    resampled = (loss[index], goodness, np.full(index.shape, 100.0))
    return correlation_interval(resampled, [np.arange(len(loss))], statistic, 0.95)


def correlation(loss, score, statistic):
    both = spearman(loss, score) if statistic == "spearman" else pearson_logit(loss, score, np.full(len(loss), 100.0))
    return float(both)


def solve_one(record):
    """The record with one problem solved."""
    problems = record.scores[0].problems
    passed = problems.model_copy(update={"n_passed": (1, *problems.n_passed[1:])})
    score = record.scores[0].model_copy(update={"problems": passed, "value": 1 / len(passed.n_passed)})
    return record.model_copy(update={"scores": (score,)})


def replace_loss(record, loss):
    return record.model_copy(update={"val_loss": loss})


class TestChoice:
    def test_one_curve_where_methods_share_it(self):
        assert choose_pooling(scores_of(simulate(n_problems=1000)))[0] == "pooled"
        assert method_effect(scores_of(simulate()))[0] > 0.01

    def test_own_levels_where_methods_differ_at_equal_loss(self):
        records = simulate(n_problems=1000)
        shifted = [replace_loss(r, r.val_loss + 0.6) if r.method in ("fft", "ia3") else r for r in records]
        pooling, errors = choose_pooling(scores_of(shifted))
        assert pooling == "shared_slope" and errors["shared_slope"] < errors["pooled"]
        assert method_effect(scores_of(shifted))[0] < 1e-4

    def test_two_sizes_leave_no_choice(self):
        assert choose_pooling(scores_of(simulate(sizes=(13_296, 51_936)))) == ("pooled", {})


class TestRefusals:
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

    def test_released_models_have_no_losses(self, released_records):
        with pytest.raises(Refusal, match="no validation loss, so nothing relates the two"):
            loss_correlations(released_records, bootstrap=BOOTSTRAP)

    def test_one_method_needs_its_name(self):
        with pytest.raises(Refusal, match="needs its name; give method"):
            fit_loss_score(scores_of(simulate()), "per_method")


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
            lower, upper, interval = interval_of(loss, score[None], rng, "pearson_logit")
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
            lower, upper, _ = interval_of(loss, weights @ passed.T.astype(float), rng, statistic)
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

    def test_pearson_on_the_logit(self):
        loss = np.array([0.5, 1.0, 1.5, 2.0])
        assert pearson_logit(loss, 1 / (1 + np.exp(loss)), np.full(4, 200.0)) == pytest.approx(-1)
        assert np.isnan(pearson_logit(loss, np.full(4, 0.5), np.full(4, 200.0)))
