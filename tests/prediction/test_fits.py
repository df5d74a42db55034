"""Fits against certified data, statsmodels, and worlds whose truth is known; what cannot be fitted is refused."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import expit, logit
from statsmodels.regression.mixed_linear_model import MixedLM

from astraios_analysis.laws.forms import LOGIT_LINEAR, decades
from astraios_analysis.prediction.fits import fit, fit_by, solve
from astraios_analysis.records.refusal import Refusal

SIZES = np.array([1.137e9, 3.043e9, 7.327e9, 15.517e9])
METHODS = ("fft", "lora", "ptuning", "ia3", "adapterh", "adapterp", "parallel")
IDENTITY = replace(LOGIT_LINEAR, name="line", link=np.asarray, unlink=np.asarray, regressor=np.asarray)

# NIST StRD, Norris: pairs of y and x; certified to 15 digits.
NORRIS = """0.1 0.2 338.8 337.4 118.1 118.2 888.0 884.6 9.2 10.1 228.1 226.5 668.5 666.3 998.5 996.3 449.1 448.6 778.9
777.0 559.2 558.2 0.3 0.4 0.1 0.6 778.1 775.5 668.8 666.9 339.3 338.0 448.9 447.5 10.8 11.6 557.7 556.0
228.3 228.1 998.0 995.8 888.8 887.6 119.6 120.2 0.3 0.3 0.6 0.3 557.6 556.8 339.3 339.1 888.0 887.2 998.5
999.0 778.9 779.0 10.2 11.1 117.6 118.3 228.9 229.2 668.4 669.1 449.2 448.9 0.2 0.5"""


def grid(n_methods, n_sizes, rng, size_sd=0.1, run_sd=0.05, slope=1.0):
    """Sizes, scores and methods of a full grid in which the pooled law is true."""
    sizes = np.geomspace(1e9, 16e9, n_sizes)
    z = rng.normal(-1.5, 0.3, (n_methods, 1)) + slope * decades(sizes)
    z = z + rng.normal(0, size_sd, n_sizes) + rng.normal(0, run_sd, (n_methods, n_sizes))
    methods = [METHODS[m] if n_methods <= len(METHODS) else f"m{m}" for m in range(n_methods)]
    return np.tile(sizes, n_methods), expit(z.ravel()), np.repeat(methods, n_sizes)


def as_frame(cells):
    """Rows for `fit_by` from {method: sizes}; scores follow a noisy line."""
    rng = np.random.default_rng(5)
    rows = [(m, x, expit(-1.5 + decades(x) + rng.normal(0, 0.1)), 164, False) for m, xs in cells.items() for x in xs]
    return pd.DataFrame(rows, columns=["method", "n_params_base", "value", "n_items", "held_out"])


class TestOneMethod:
    @pytest.mark.parametrize("sizes", [SIZES, SIZES[:3], 1e9 * np.array([1, 1.001, 1.002, 1.003, 1.004])], ids=len)
    def test_equals_least_squares_of_statsmodels(self, sizes):
        y = expit(-1.5 + decades(sizes) + np.random.default_rng(0).normal(0, 0.1, len(sizes)))
        ours = fit(LOGIT_LINEAR, sizes, y, ["lora"] * len(sizes))
        theirs = sm.OLS(logit(y), sm.add_constant(decades(sizes))).fit()
        np.testing.assert_allclose(ours.theta, theirs.params, rtol=1e-10)
        np.testing.assert_allclose(ours.covariance, theirs.cov_params(), rtol=1e-8)
        assert (ours.dof, ours.residual_dof, ours.pooling) == (theirs.df_resid, 0, "per_method")
        assert ours.size_variance == pytest.approx(theirs.scale, rel=1e-10)
        assert ours.r_squared == pytest.approx(theirs.rsquared, rel=1e-10)

    @pytest.mark.parametrize("level", [0.5, 0.8, 0.95])
    def test_intervals_equal_those_of_statsmodels(self, level):
        targets = np.array([5e8, 4e9, 34e9])
        y = expit(-1.5 + decades(SIZES) + np.random.default_rng(1).normal(0, 0.1, 4))
        ours = fit(LOGIT_LINEAR, SIZES, y)
        theirs = sm.OLS(logit(y), sm.add_constant(decades(SIZES))).fit()
        theirs = theirs.get_prediction(sm.add_constant(decades(targets)))
        design = ours.design(targets, "all")
        for observation, name in ((False, "mean"), (True, "obs")):
            half = ours.half_width(design, level, observation=observation)
            expected = theirs.summary_frame(alpha=1 - level)
            lower, upper = expected[f"{name}_ci_lower"], expected[f"{name}_ci_upper"]
            np.testing.assert_allclose(design @ ours.theta - half, lower, rtol=1e-10)
            np.testing.assert_allclose(design @ ours.theta + half, upper, rtol=1e-10)

    def test_certified_line_of_norris(self):
        y, x = np.array(NORRIS.split(), dtype=float).reshape(-1, 2).T
        _, design, theta = solve(IDENTITY, x, y, np.array(["all"] * len(x)))
        np.testing.assert_allclose(theta, [-0.262323073774029, 1.00211681802045], rtol=1e-11)
        deviation = np.sqrt(np.sum((y - design @ theta) ** 2) / (len(x) - 2))
        assert deviation == pytest.approx(0.884796396144373, rel=1e-12)
        np.testing.assert_allclose(fit(IDENTITY, x, y).theta, theta)

    def test_constant_scores_have_no_slope(self):
        found = fit(LOGIT_LINEAR, SIZES, np.full(4, 0.3))
        np.testing.assert_allclose(found.theta, [logit(0.3), 0], atol=1e-12)
        assert np.isnan(found.r_squared)


class TestPooled:
    def test_is_least_squares_with_an_intercept_for_each_method(self):
        x, y, group = grid(7, 4, np.random.default_rng(2))
        found = fit(LOGIT_LINEAR, x, y, group)
        dummies = pd.get_dummies(pd.Categorical(group, METHODS), dtype=float).assign(b=decades(x))
        np.testing.assert_allclose(found.theta, sm.OLS(logit(y), dummies).fit().params, rtol=1e-10)
        assert found.names == (*(f"a[{m}]" for m in METHODS), "b")
        assert (found.n_obs, found.n_sizes, found.dof, found.residual_dof) == (28, 4, 2, 18)
        assert found.x_range == (pytest.approx(1e9), pytest.approx(16e9))

    def test_recovers_a_world_without_noise(self):
        x, y, group = grid(5, 4, np.random.default_rng(3), 0.0, 0.0, slope=0.7)
        found = fit(LOGIT_LINEAR, x, y, group)
        z = found.design(np.array([1e9]), "lora") @ found.theta
        assert found.theta[-1] == pytest.approx(0.7, abs=1e-10)
        assert expit(z[0]) == pytest.approx(y[(group == "lora") & (x == x.min())][0], abs=1e-12)
        assert found.size_variance == pytest.approx(0, abs=1e-20)
        assert found.r_squared == pytest.approx(1)

    def test_recovers_the_parameters_of_a_noisy_world_on_average(self):
        fits = [fit(LOGIT_LINEAR, *grid(7, 4, np.random.default_rng(seed))) for seed in range(200)]
        slopes = np.array([found.theta[-1] for found in fits])
        error = slopes.std() / np.sqrt(len(slopes))
        assert slopes.mean() == pytest.approx(1.0, abs=4 * error)
        assert np.mean([f.covariance[-1, -1] for f in fits]) == pytest.approx(slopes.var(), rel=0.3)
        assert np.mean([f.residual_variance for f in fits]) == pytest.approx(0.05**2, rel=0.1)
        assert np.mean([f.size_variance for f in fits]) == pytest.approx(0.1**2, rel=0.3)

    def test_variance_components_equal_restricted_maximum_likelihood(self):
        x, y, group = grid(6, 40, np.random.default_rng(4), 0.2, 0.1)
        found = fit(LOGIT_LINEAR, x, y, group)
        dummies = pd.get_dummies(pd.Series(group), dtype=float).assign(b=decades(x))
        mixed = MixedLM(logit(y), dummies, groups=x).fit(reml=True)
        assert found.residual_variance == pytest.approx(mixed.scale, rel=1e-3)
        assert found.size_variance == pytest.approx(float(np.asarray(mixed.cov_re)[0, 0]), rel=1e-3)
        expected = np.asarray(mixed.cov_params())[6, 6]
        assert found.covariance[-1, -1] == pytest.approx(expected, rel=1e-2)

    @pytest.mark.parametrize(("n_methods", "n_sizes"), [(1, 3), (2, 4), (7, 3), (7, 4)])
    def test_replication_of_a_full_grid_is_its_number_of_methods(self, n_methods, n_sizes):
        x, y, group = grid(n_methods, n_sizes, np.random.default_rng(6))
        assert fit(LOGIT_LINEAR, x, y, group)._variance_terms[2] == pytest.approx(n_methods)

    def test_lines_are_never_better_known_than_their_points(self):
        x, y, group = grid(7, 3, np.random.default_rng(7), size_sd=0.0)
        found = fit(LOGIT_LINEAR, x, y, group)
        # Taking out the mean residual of each size leaves a size mean square of nothing.
        design = np.concatenate([found.design(x[group == m], m) for m in METHODS])
        residual = (logit(y) - design @ found.theta).reshape(7, 3)
        exact = fit(LOGIT_LINEAR, x, expit(design @ found.theta + (residual - residual.mean(axis=0)).ravel()), group)
        assert exact.size_variance == 0
        assert exact.residual_variance == pytest.approx(found.residual_variance)
        least = stats.t.ppf(0.975, 1) * np.sqrt(exact.residual_variance / 7)
        assert np.all(exact.half_width(exact.design(4e9, "fft"), 0.95, observation=True) > least)

    def test_draws_have_the_mean_covariance_and_tails_of_a_t_distribution(self):
        found = fit(LOGIT_LINEAR, *grid(2, 12, np.random.default_rng(8)))
        draws = found.draw(40_000, np.random.default_rng(9))
        spread = np.sqrt(np.diag(found.covariance))
        np.testing.assert_allclose(draws.mean(axis=0), found.theta, atol=0.03 * spread.max())
        expected = found.covariance * found.dof / (found.dof - 2)
        np.testing.assert_allclose(np.cov(draws.T), expected, atol=0.05 * expected.max())
        scaled = (draws - found.theta) / spread
        assert stats.kstest(scaled[:, -1], stats.t(found.dof).cdf).pvalue > 0.01
        assert stats.kstest(scaled[:, -1], stats.norm.cdf).pvalue < 0.01


class TestInvariance:
    @settings(max_examples=25, deadline=None)
    @given(order=st.permutations(range(12)), names=st.permutations(METHODS), factor=st.floats(1e-3, 1e3))
    def test_order_names_and_unit_of_size_change_nothing(self, order, names, factor):
        x, y, group = grid(4, 3, np.random.default_rng(10))
        renamed = dict(zip(METHODS, names, strict=True))
        first = fit(LOGIT_LINEAR, x, y, group)
        moved = [renamed[g] for g in group[order]]
        second = fit(LOGIT_LINEAR, x[order] * factor, y[order], moved)
        for method in first.groups:
            before, after = first.design(40e9, method), second.design(40e9 * factor, renamed[method])
            np.testing.assert_allclose(before @ first.theta, after @ second.theta, rtol=1e-7)
            for observation in (True, False):
                widths = [f.half_width(d, 0.8, observation=observation) for f, d in ((first, before), (second, after))]
                np.testing.assert_allclose(*widths, rtol=1e-7)

    def test_failure_rates_mirror_success_rates(self):
        x, y, group = grid(4, 3, np.random.default_rng(11))
        passing, failing = fit(LOGIT_LINEAR, x, y, group), fit(LOGIT_LINEAR, x, 1 - y, group)
        np.testing.assert_allclose(passing.theta, -failing.theta, rtol=1e-9)
        np.testing.assert_allclose(passing.covariance, failing.covariance, rtol=1e-9)


class TestRefusals:
    @pytest.mark.parametrize(
        ("x", "y", "group", "message"),
        [
            ([1e9], [0.1], None, "1 size leave.*at least 3 sizes"),
            ([1e9, 2e9, 2e9], [0.1, 0.2, 0.3], None, "2 sizes leave no degree of freedom"),
            ([], [], None, "0 sizes"),
            ([1e9, 2e9, 3e9], [0.1, np.nan, 0.3], None, "a score is missing or not finite"),
            ([1e9, np.inf, 3e9], [0.1, 0.2, 0.3], None, "a size is missing or not finite"),
            ([1e9, 0.0, 3e9], [0.1, 0.2, 0.3], None, "sizes must be positive; the smallest is 0"),
            ([1e9, -2e9, 3e9], [0.1, 0.2, 0.3], None, "sizes must be positive; the smallest is -2e"),
            ([1e9, 2e9, 3e9], [0.1, 1.2, 0.3], None, "score 1.2 has no finite value"),
            ([1e9, 2e9, 3e9], [0.1, 0.0, 0.3], None, "score 0 has no finite.*inside_unit_interval"),
            ([1e9, 2e9, 3e9], [0.1, 0.2], None, "one length; they have 3, 2 and 3"),
            ([1e9, 2e9, 3e9], [0.1, 0.2, 0.3], ["a", "b"], "one length; they have 3, 3 and 2"),
            ([1e9, 2e9, 3e9], [0.1, 0.2, 0.3], ["a", "b", "c"], "a and b, c share no size"),
            ([1e9, 2e9, 3e9, 4e9], [0.1, 0.2, 0.3, 0.4], ["a", "a", "b", "b"], "a and b share no size"),
        ],
    )
    def test_unusable_points(self, x, y, group, message):
        with pytest.raises(Refusal, match=message):
            fit(LOGIT_LINEAR, np.array(x), np.array(y), group)

    def test_methods_linked_by_a_chain_of_sizes_are_fitted(self):
        group = ["a", "b", "a", "c", "b", "c"]
        found = fit(LOGIT_LINEAR, np.array([1, 2, 2, 3, 3, 4]) * 1e9, np.linspace(0.1, 0.4, 6), group)
        assert (found.dof, found.residual_dof) == (2, 0)

    def test_group_that_was_not_fitted(self):
        with pytest.raises(Refusal, match="no fit for 'ia3'; it was fitted to all"):
            fit(LOGIT_LINEAR, SIZES, np.full(4, 0.2)).design(1e9, "ia3")

    @pytest.mark.parametrize("size", [0.0, -1e9, np.inf, np.nan])
    def test_size_to_predict(self, size):
        with pytest.raises(Refusal, match="sizes must be positive and finite"):
            fit(LOGIT_LINEAR, SIZES, np.full(4, 0.2)).design(np.array([1e9, size]), "all")

    @pytest.mark.parametrize("level", [0, 1, 1.5, 95, np.nan])
    def test_level(self, level):
        found = fit(LOGIT_LINEAR, SIZES, np.full(4, 0.2))
        with pytest.raises(Refusal, match=r"level is .*between 0 and 1"):
            found.half_width(found.design(1e9, "all"), level, observation=True)


class TestFitBy:
    def test_four_sizes_stand_alone(self):
        frame = as_frame({"lora": SIZES, "ia3": SIZES})
        fits = fit_by(frame, LOGIT_LINEAR)
        assert {m: (f.pooling, f.groups, f.dof) for m, f in fits.items()} == {
            m: ("per_method", (m,), 2) for m in ("lora", "ia3")
        }
        assert set(f.pooling for f in fit_by(frame, LOGIT_LINEAR, pooling="pooled").values()) == {"pooled"}

    def test_three_sizes_are_pooled(self):
        fits = fit_by(as_frame({"lora": SIZES[:3], "ia3": SIZES[:3]}), LOGIT_LINEAR)
        assert fits["lora"] is fits["ia3"]
        assert (fits["lora"].pooling, fits["lora"].dof, list(fits)) == ("pooled", 1, ["lora", "ia3"])

    def test_mixed_methods_get_what_their_sizes_allow(self):
        fits = fit_by(as_frame({"lora": SIZES, "ia3": SIZES[:3], "fft": SIZES[2:]}), LOGIT_LINEAR)
        assert {m: f.pooling for m, f in fits.items()} == {"lora": "per_method", "ia3": "pooled", "fft": "pooled"}
        assert fits["ia3"] is fits["fft"]
        assert (fits["ia3"].groups, fits["ia3"].n_sizes) == (("lora", "ia3", "fft"), 4)

    def test_held_out_rows_take_no_part(self):
        frame = as_frame({"lora": SIZES, "ia3": SIZES, "fft": SIZES[:2]})
        frame["held_out"] = frame["n_params_base"] == SIZES[-1]
        changed = frame.assign(value=frame["value"].where(~frame["held_out"], 0.999))
        before, after = fit_by(frame, LOGIT_LINEAR), fit_by(changed, LOGIT_LINEAR)
        assert (before["lora"].pooling, before["lora"].x_range[1]) == ("pooled", SIZES[2])
        np.testing.assert_array_equal(before["lora"].theta, after["lora"].theta)
        np.testing.assert_array_equal(before["lora"].covariance, after["lora"].covariance)
        used = fit_by(changed.assign(held_out=False), LOGIT_LINEAR, pooling="pooled")
        assert abs(before["lora"].theta[-1] - used["lora"].theta[-1]) > 0.5

    @pytest.mark.parametrize("held_out", [True, False])
    def test_nothing_to_fit(self, held_out):
        frame = as_frame({"lora": SIZES}).assign(held_out=True)
        with pytest.raises(Refusal, match="no point is left to fit"):
            fit_by(frame if held_out else frame.iloc[:0], LOGIT_LINEAR)

    def test_a_refused_method_is_named(self):
        with pytest.raises(Refusal, match="ia3: 2 sizes leave"):
            fit_by(as_frame({"lora": SIZES, "ia3": SIZES[:2]}), LOGIT_LINEAR, pooling="per_method")

    def test_scores_of_nothing_passed_are_fitted(self):
        frame = as_frame({"lora": SIZES}).assign(value=[0.0, 0.01, 0.05, 1.0])
        assert np.all(np.isfinite(fit_by(frame, LOGIT_LINEAR)["lora"].theta))
