"""Score against loss: the truth of simulated grids comes back, and what says nothing about loss is named."""

import numpy as np
import pytest
from simulated_grids import LARGEST, World, simulate

from astraios_analysis.prediction.chain import choose_pooling, fit_loss_score, method_effect
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.scores.bootstrap import ProblemBootstrap
from astraios_analysis.scores.models import model_scores

BOOTSTRAP = ProblemBootstrap(n_draws=300)
FIX = "embedded_fix"


def scores_of(records, dataset=FIX):
    return model_scores(records, dataset, BOOTSTRAP)


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
    def test_one_method_needs_its_name(self):
        with pytest.raises(Refusal, match="needs its name; give method"):
            fit_loss_score(scores_of(simulate()), "per_method")
