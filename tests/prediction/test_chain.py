"""Score against loss: the truth of simulated grids comes back, and what says nothing about loss is named."""

import numpy as np
import pytest
from simulated_grids import LARGEST, World, simulate

from astraios_analysis.prediction.chain import choose_pooling, fit_loss_score
from astraios_analysis.prediction.stack import N_DRAWS
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.scores.bootstrap import ProblemBootstrap
from astraios_analysis.scores.models import model_scores

BOOTSTRAP = ProblemBootstrap(n_draws=300)
FIX = "embedded_fix"


def scores_of(records, dataset=FIX):
    return model_scores(records, dataset, BOOTSTRAP)


class TestFit:
    def test_slope_comes_back(self):
        fits = [fit_loss_score(scores_of(simulate(seed=s)), "shared_slope") for s in range(8)]
        slopes = np.array([fit.binomial.theta[-1] / fit.loss_scale for fit in fits])
        errors = np.array([np.sqrt(fit.binomial.covariance[-1, -1]) / fit.loss_scale for fit in fits])
        assert slopes.mean() == pytest.approx(4.0, abs=0.4) and np.sum(np.abs(slopes - 4.0) <= 2 * errors) >= 6
        curve, run = (fits[0].draw(np.full(N_DRAWS, 1.0), "lora", observation=kind).std() for kind in (False, True))
        assert 0 < curve < run
        with pytest.raises(Refusal, match="dora was not fitted on embedded_fix; choose from fft, lora"):
            fits[0].curve(np.array([1.0]), "dora")

    def test_chance_floor_and_direction(self):
        world = World(level={"embedded_security": 0.0}, slope={"embedded_security": 5.0})
        fitted = fit_loss_score(scores_of(simulate(world, n_problems=2000), "embedded_security"))
        assert fitted.binomial.chance == 0.5
        loss = np.array([0.5, 1.0, 1.4])
        np.testing.assert_allclose(fitted.curve(loss, "lora"), world.goodness("embedded_security", loss), atol=0.02)
        assert fitted.binomial.theta[-1] / fitted.loss_scale == pytest.approx(5.0, rel=0.15)

    def test_a_new_run_is_covered_as_often_as_asked(self):
        world, hits = World(size_sd=0.2, model_sd=0.1), []
        for seed in range(24):
            records = simulate(world, held_out=(LARGEST,), seed=seed, seeds=(0, 1))
            fitted = fit_loss_score(scores_of(records))
            for run in (r for r in records if r.held_out and r.seed == 0):
                drawn = fitted.draw(np.full(N_DRAWS, run.val_loss), run.method, observation=True)
                value = next(score.value for score in run.scores if score.dataset == FIX)
                hits.append((np.quantile(drawn, [0.1, 0.025]) <= value) & (value <= np.quantile(drawn, [0.9, 0.975])))
        coverage = np.mean(hits, axis=0)
        # Runs of one world share its size effect: about 24 independent looks, and with four sizes its variance is wide.
        assert 0.66 <= coverage[0] <= 0.97 and 0.86 <= coverage[1] <= 1.0


SHIFTED = [
    run.model_copy(update={"val_loss": run.val_loss + 0.6 * (run.method in ("fft", "ia3"))})
    for run in simulate(n_problems=1000)
]


@pytest.mark.parametrize(
    ("records", "pooling"),
    [
        (simulate(n_problems=1000), "pooled"),
        (SHIFTED, "shared_slope"),
        (simulate(sizes=(13_296, 51_936)), "pooled"),
    ],
    ids=["methods share a curve", "methods differ at equal loss", "two sizes leave no choice"],
)
def test_methods_have_levels_of_their_own_where_they_need_them(records, pooling):
    assert choose_pooling(scores_of(records)) == pooling
