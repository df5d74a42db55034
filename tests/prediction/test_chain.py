"""Score against loss: statsmodels and the truth of simulated grids come back, held-out sizes are not seen."""

import numpy as np
import pytest
import statsmodels.api as sm
from simulated_grids import LARGEST, World, make_score, simulate

import astraios_analysis as aa
from astraios_analysis.prediction.chain import POOLED, WITHIN, choose_pooling, fit_loss_score, regress_score
from astraios_analysis.prediction.stack import N_DRAWS
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.scores.bootstrap import ProblemBootstrap
from astraios_analysis.scores.models import model_scores

BOOTSTRAP = ProblemBootstrap(n_draws=300)
FIX = "embedded_fix"


def scores_of(records, dataset=FIX):
    return model_scores(records, dataset, BOOTSTRAP)


def _move(score, off):
    """The score of a run that is better or worse on all problems."""
    n = score.n_items
    passed = np.arange(n) < round(n * np.clip(score.value + off, 0, 1))
    return make_score(passed, 1, score.dataset, score.metric, score.setting)


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

    def test_what_the_runs_of_a_seed_share_goes_the_same_way_for_all_methods(self):
        records, off = simulate(n_problems=1000), {0: -0.1, 1: 0.0, 2: 0.1}
        moved = [r.model_copy(update={"scores": tuple(_move(s, off[r.seed]) for s in r.scores)}) for r in records]
        correlations = []
        for runs in (records, moved):
            fitted = fit_loss_score(scores_of(runs))
            pair = [fitted.draw(np.full(N_DRAWS, 0.6), method, observation=True) for method in ("fft", "lora")]
            line = fitted.draw(np.full(N_DRAWS, 0.6), "fft", observation=False)
            correlations.append(np.corrcoef(pair - line)[0, 1])
        assert correlations[0] < 0.3 and correlations[1] > 0.8

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
    [(simulate(n_problems=1000), "pooled"), (SHIFTED, "shared_slope"), (simulate(sizes=(13_296, 51_936)), "pooled")],
    ids=["methods share a curve", "methods differ at equal loss", "two sizes leave no choice"],
)
def test_methods_have_levels_of_their_own_where_they_need_them(records, pooling):
    assert choose_pooling(scores_of(records)) == pooling


EXPLAIN = "embedded_explain"


def world(**changes):
    fields = {"level": {FIX: -0.5}, "slope": {FIX: 3.0}, "seed_sd": 0.02} | changes
    return World(**fields)


def slope_of(fit, scope=POOLED):
    table = fit.table[fit.table["parameter"] == "slope"].set_index("scope")
    return table.loc[scope]


@pytest.fixture(scope="module")
def trained():
    return simulate(world(level={FIX: -0.5, EXPLAIN: -0.5}, slope={FIX: 3.0, EXPLAIN: 3.0}), held_out=(LARGEST,))


@pytest.mark.parametrize("scope", [POOLED, WITHIN])
def test_without_a_chance_level_it_is_the_glm_of_statsmodels(trained, scope):
    # The embedded task has a chance level of 1e-4, which the GLM has not.
    fit = regress_score(trained, FIX)
    models, n = fit.models, fit.models["n_items"].to_numpy(dtype=float)
    sizes = np.unique(models["n_params_base"])
    level = (models["n_params_base"].to_numpy()[:, None] == sizes).astype(float)
    level = np.ones((len(models), 1)) if scope == POOLED else level
    design = np.column_stack([level, -models["val_loss"]])
    glm = sm.GLM(models["value"], design, family=sm.families.Binomial(), var_weights=n).fit(scale="X2")
    found = slope_of(fit, scope)
    assert found["value"] == pytest.approx(glm.params.iloc[-1], rel=5e-3)
    if scope == WITHIN:
        # Here nothing is between sizes: errors are those of the GLM, t for t.
        dispersion = fit.table.set_index(["scope", "parameter"])["value"][scope, "dispersion"]
        assert dispersion == pytest.approx(glm.scale, rel=0.02)
        assert (found["upper"] - found["lower"]) / 2 == pytest.approx(glm.bse.iloc[-1] * 2.07, rel=0.15)


@pytest.mark.parametrize("size_sd", [0.0, 0.3])
def test_worlds_with_a_known_slope(size_sd):
    hits, found, width = ({POOLED: [], WITHIN: []} for _ in range(3))
    for seed in range(80):
        fit = regress_score(simulate(world(size_sd=size_sd, model_sd=0.1), seeds=(0,), seed=seed), FIX)
        for scope in hits:
            row = slope_of(fit, scope)
            hits[scope].append(row["lower"] <= 3.0 <= row["upper"])
            found[scope].append(row["value"])
            width[scope].append(row["upper"] - row["lower"])
            assert row["lower"] < row["value"] < row["upper"]
    for scope in hits:
        # Two degrees of freedom say little of the size effect: intervals over all sizes are wide.
        assert np.mean(hits[scope]) >= 0.87, scope
        assert np.median(width[scope]) / (2 * 1.96 * np.std(found[scope])) < (1.6 if scope == WITHIN else 2.5), scope
        assert np.median(found[scope]) == pytest.approx(3.0, abs=0.25), scope


def test_the_held_out_size_is_predicted_and_not_seen(trained):
    def spoil(run):
        scores = tuple(s.model_copy(update={"value": 0.0, "problems": None}) for s in run.scores)
        return run.model_copy(update={"scores": scores})

    found = aa.regress(trained, score=FIX, on="val_loss")
    assert "within size" in repr(found) and list(found.fits) == [FIX] and len(found.plot().axes) == 1
    fit, again = found.fits[FIX], regress_score([spoil(r) if r.held_out else r for r in trained], FIX)
    assert fit.held_out["size"].nunique() == 1 and len(fit.held_out) == len(found.held_out) == 7
    assert fit.held_out["covered"].mean() > 0.5
    truth = world().goodness(FIX, fit.held_out["loss"].to_numpy(dtype=float))
    assert np.abs(fit.held_out["predicted"] - truth).max() < 0.08
    assert again.table.equals(fit.table) and again.held_out["predicted"].equals(fit.held_out["predicted"])
    # Where none is marked, the largest is held out.
    kept = [run for run in trained if not run.held_out]
    assert set(regress_score(kept, FIX).held_out["size"]) == {max(kept, key=lambda run: run.n_params_base).size}


def test_means_over_seeds_fall_into_the_intervals_as_often_as_these_say():
    options = {"held_out": (LARGEST,), "seeds": (0, 1, 2, 3)}
    worlds = (simulate(world(seed_sd=0.2, model_sd=0.1, size_sd=0.2), seed=seed, **options) for seed in range(25))
    covered = [regress_score(runs, FIX, level=0.5).held_out["covered"].mean() for runs in worlds]
    # Models of a size are covered together; intervals of one run, wider, covered 91 %.
    assert 0.4 < np.mean(covered) < 0.75


def test_the_curve_begins_at_chance(trained):
    curve = regress_score(trained, EXPLAIN).curve([0.3, 0.6, 30.0])
    assert curve["value"].is_monotonic_decreasing and curve["value"].iloc[-1] == pytest.approx(0.25, abs=1e-3)
    assert ((curve["lower"] <= curve["value"]) & (curve["value"] <= curve["upper"])).iloc[:2].all()
