"""Rank correlations against scipy, and rankings of methods on records whose order is known."""

from dataclasses import replace

import contrast_worlds
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from astraios_analysis.records import registry as metrics
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.records.registry import DATASETS
from astraios_analysis.scores import ranks
from astraios_analysis.scores.bootstrap import PROBLEM_BOOTSTRAP, ProblemBootstrap

BOOTSTRAP = ProblemBootstrap(n_draws=300)
METHODS = ("fft", "lora", "ptuning", "ia3", "adapterh", "adapterp", "parallel")
DATASET = "recode_format"
FEW_VALUES = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=4, max_size=12)


def make_run(method, n_params, passed, seed=0):
    """A run with one primary score of known per-problem outcomes (1 passed, 0 failed)."""
    return contrast_worlds.make_run(n_params, method, seed, np.asarray(passed, dtype=int), 1, DATASET)


@pytest.fixture(scope="module")
def two_sizes():
    """Five methods at three sizes; a harder subset of ten problems passes each time."""
    passed = {1_000: (2, 4, 5, 7, 8), 3_000: (3, 6, 5, 7, 9), 7_000: (4, 5, 6, 8, 9)}
    return [make_run(m, n, np.arange(10) < k) for n, ks in passed.items() for m, k in zip(METHODS, ks, strict=False)]


class TestStatistics:
    @given(FEW_VALUES)
    def test_equal_scipy_with_ties(self, pairs):
        x, y = np.array(pairs, dtype=float).T
        for ours, theirs in ((ranks.spearman, stats.spearmanr), (ranks.kendall, stats.kendalltau)):
            if np.ptp(x) == 0 or np.ptp(y) == 0:
                assert np.isnan(ours(x, y))
            else:
                assert ours(x, y) == pytest.approx(theirs(x, y).statistic, abs=1e-12)

    @pytest.mark.parametrize("n", [4, 5, 6])
    @pytest.mark.parametrize("tied", [False, True])
    def test_exact_p_of_spearman_equals_a_permutation_test(self, n, tied):
        x, y = np.random.default_rng(10 + n).normal(size=(2, n))
        if tied:
            x[0], y[-1] = x[1], y[0]
        ways = {"permutation_type": "pairings", "alternative": "greater", "n_resamples": np.inf}
        expected = stats.permutation_test((x,), lambda a: abs(stats.spearmanr(a, y).statistic), **ways)
        value, p_value, kind = ranks.rank_correlation(x, y, "spearman")
        assert p_value == pytest.approx(expected.pvalue, abs=1e-12) and kind == "exact permutation"
        assert value == pytest.approx(stats.spearmanr(x, y).statistic)

    def test_orders_of_nine_methods_are_sampled(self):
        x, y = np.random.default_rng(3).normal(size=(2, 9))
        y = x + y
        value, p_value, kind = ranks.rank_correlation(x, y, "kendall")
        exact = stats.kendalltau(x, y, method="exact").pvalue
        assert kind == "sampled permutation" and value == pytest.approx(stats.kendalltau(x, y).statistic)
        assert p_value == pytest.approx(exact, abs=5 * (exact / ranks.N_PERMUTATIONS) ** 0.5)
        # An order that is never drawn has a p-value all the same.
        assert ranks.rank_correlation(np.arange(14), np.arange(14), "kendall")[1] == 1 / (ranks.N_PERMUTATIONS + 1)

    @pytest.mark.parametrize("statistic", ["spearman", "kendall"])
    def test_equal_scores_have_no_order(self, statistic):
        with pytest.raises(Refusal, match="all methods score the same"):
            ranks.rank_correlation(np.full(6, 0.1), np.arange(6), statistic)


@pytest.mark.parametrize("side", ["both", "above", "below"])
def test_share_of_orders_as_extreme_with_the_observed_one_among_them(side):
    null = np.array([0.5, 0.5 - 1e-13, -0.5, 0.1, 0.9, np.nan])
    assert ranks.permutation_p(null, side) == {"both": 4, "above": 3, "below": 4}[side] / 5
    assert ranks.permutation_p(np.array([2.0, *np.zeros(99)]) * (-1 if side == "below" else 1), side) == 0.01
    assert np.isnan(ranks.permutation_p(np.array([np.nan, 0.3]), side))


class TestRankMethods:
    def test_ranks_values_ties_and_how_each_interval_was_made(self):
        passed = {"fft": 3, "lora": 8, "ia3": 8, "ptuning": 5}
        records = [make_run(method, 1_000, np.arange(10) < k) for method, k in passed.items()]
        table = ranks.rank_methods(records, DATASET, bootstrap=BOOTSTRAP).set_index("method")
        assert table["rank"].to_dict() == {"lora": 1, "ia3": 1, "ptuning": 3, "fft": 4}
        assert table["value"].to_dict() == {"lora": 0.8, "ia3": 0.8, "ptuning": 0.5, "fft": 0.3}
        assert np.all(table["lower"] <= table["value"]) and np.all(table["value"] <= table["upper"])
        assert table["p_best"]["lora"] == table["p_best"]["ia3"] > 0.4
        bare = make_run("lora", 1_000, np.arange(10) < 4)
        score = bare.scores[0].model_copy(update={"problems": None, "stderr": 0.1})
        bare = bare.model_copy(update={"scores": (score,)})
        table = ranks.rank_methods([records[0], bare], DATASET, bootstrap=BOOTSTRAP).set_index("method")
        assert table["interval"].to_dict() == {"fft": PROBLEM_BOOTSTRAP, "lora": "normal, bootstrap standard error"}

    def test_methods_that_pass_equally_often_in_a_resample_share_it(self):
        # They fail on different problems: equal counts are a tie, in whatever order the floating-point sum is taken.
        first, second = np.ones(30), np.ones(30)
        first[:7], second[-7:] = 0, 0
        records = [make_run("fft", 1_000, first), make_run("lora", 1_000, second)]
        weights = BOOTSTRAP.weights("humaneval", 30) * 30
        difference = np.rint(weights @ first) - np.rint(weights @ second)
        expected = np.mean(np.where(difference == 0, 0.5, difference > 0))
        table = ranks.rank_methods(records, DATASET, bootstrap=BOOTSTRAP).set_index("method")
        assert np.mean(difference == 0) > 0.05
        assert table["p_best"]["fft"] == pytest.approx(expected, abs=1e-12)

    def test_probabilities_add_up_at_each_size(self, released_records):
        sizes = (table := ranks.rank_all(released_records, bootstrap=BOOTSTRAP)).groupby(["dataset", "size"])
        np.testing.assert_allclose(sizes["p_best"].sum(), 1)
        assert sizes["rank"].min().eq(1).all()
        assert list(dict.fromkeys(table["dataset"])) == ranks.measured_datasets(released_records)

    @pytest.mark.parametrize(("higher_is_better", "best"), [(True, "adapterh"), (False, "fft")])
    def test_fewest_failures_are_best_where_lower_is_better(self, two_sizes, monkeypatch, higher_is_better, best):
        known = metrics.METRICS["robust_pass@1"]
        monkeypatch.setitem(metrics.METRICS, known.name, replace(known, higher_is_better=higher_is_better))
        table = ranks.rank_methods(two_sizes, DATASET, bootstrap=BOOTSTRAP)
        first = table[table["rank"] == 1]
        assert first.set_index("size")["method"].to_dict() == dict.fromkeys(("1000", "3000", "7000"), best)
        assert first["p_best"].min() > 0.5

    def test_seeds_are_averaged_and_their_scatter_is_in_the_draws(self):
        outcomes = {"fft": (4, 6), "lora": (3, 5), "ia3": (2, 2), "parallel": (1, 1)}
        runs = [(method, n, seed) for method, passes in outcomes.items() for seed, n in enumerate(passes)]
        records = [make_run(method, 1_000, np.arange(10) < n, seed) for method, n, seed in runs]
        table, alone = (ranks.rank_methods(runs, DATASET, bootstrap=BOOTSTRAP) for runs in (records, records[::2]))
        table, alone = table.set_index("method"), alone.set_index("method")
        assert table["value"].to_dict() == pytest.approx({"fft": 0.5, "lora": 0.4, "ia3": 0.2, "parallel": 0.1})
        assert set(table["n_seeds"]) == {2} and set(table["interval"]) == {f"{PROBLEM_BOOTSTRAP} and seeds"}
        # What the runs of a seed share, here a fifth, makes them no less sure than one run; of apart seeds it does.
        renamed = [run.model_copy(update={"seed": 10 * place + run.seed}) for place, run in enumerate(records)]
        apart = ranks.rank_methods(renamed, DATASET, bootstrap=BOOTSTRAP).set_index("method")
        assert 0.5 < apart["p_best"]["fft"] < alone["p_best"]["fft"] < table["p_best"]["fft"]
        assert table[["lower", "upper"]].stack().between(0, 1).all()


class TestRankTransfer:
    def test_smaller_sizes_are_compared_with_the_largest(self, two_sizes):
        table = ranks.rank_transfer(two_sizes[::-1], DATASET, bootstrap=BOOTSTRAP)
        rows = table[["size_small", "size_large", "statistic", "n_methods"]].to_numpy().tolist()
        assert rows == [[f"{s}000", "7000", name, 5] for s in (1, 3) for name in ("spearman", "kendall")]
        np.testing.assert_allclose(table["value"], [1, 1, 0.9, 0.8])
        np.testing.assert_allclose(table["p_value"], [2 / 120, 2 / 120, 10 / 120, 10 / 120])

    def test_identical_outcomes_at_both_sizes_correlate_in_every_resample(self):
        rng = np.random.default_rng(4)
        outcomes = {method: rng.random(40) < p for method, p in zip(METHODS, np.linspace(0.2, 0.8, 7), strict=True)}
        records = [make_run(method, n, passed) for n in (1_000, 7_000) for method, passed in outcomes.items()]
        table = ranks.rank_transfer(records, DATASET, bootstrap=BOOTSTRAP)
        np.testing.assert_allclose(table[["value", "lower", "upper"]], 1)
        # Resampled ranks still differ from the observed ones: only joint resampling gives exactly 1 above.
        assert np.all(table["ceiling"] < 0.999)

    def test_released_data(self, released_records):
        table = ranks.transfer_all(released_records, bootstrap=BOOTSTRAP)
        assert set(table["dataset"]) == set(ranks.measured_datasets(released_records)) - {"aatk"}
        assert np.all((table["ceiling"] > 0) & (table["ceiling"] <= 1))
        assert np.all((table["lower"] >= -1) & (table["upper"] <= 1))
        assert np.all(table["methods"].str.split().str.len() == table["n_methods"])
        # No interval excludes its value, and p-values are corrected.
        for name in ("value", "estimate"):
            assert ((table["lower"] <= table[name]) & (table[name] <= table["upper"])).all()
        rows = table[table["statistic"] == "spearman"]
        np.testing.assert_allclose(rows["p_holm"], multipletests(rows["p_value"], method="holm")[1])

    @pytest.mark.parametrize(("rho", "noise", "most"), [(0.0, 0.3, 0.98), (0.95, 0.3, 0.995), (0.95, 0.7, 1.0)])
    def test_noise_free_scores_cover_the_true_correlation(self, rho, noise, most):
        rng, covered, widths = np.random.default_rng(3), [], []
        for _ in range(120):
            true = rng.multivariate_normal([0, 0], [[1, rho], [rho, 1]], size=7).T.ravel()
            good = true + noise * rng.standard_normal(14)
            draws = ranks.noise_free(good, good + noise * rng.standard_normal((300, 14)), seed=1)
            lower, upper = np.quantile(ranks.spearman(draws[:, :7], draws[:, 7:]), [0.025, 0.975])
            covered.append(lower <= ranks.spearman(true[:7], true[7:]) <= upper)
            widths.append(upper - lower)
        # Where noise is two thirds of the spread, seven methods say little, and the interval says so.
        assert 0.9 <= np.mean(covered) <= most and np.mean(widths) < (1.0 if noise < 0.5 else 1.6)

    @pytest.mark.parametrize("n_passed", [(0, 0, 3, 0, 0, 0, 0), (0, 0, 0, 0, 0, 0, 0), (9, 0, 8, 9, 9, 8, 9)])
    def test_orders_of_noise_free_scores_do_not_hang_on_how_a_machine_rounds(self, n_passed):
        rng, n_items = np.random.default_rng(5), 200
        passed = np.arange(n_items)[:, None] < np.array(n_passed)
        drawn = passed[rng.integers(0, n_items, (500, n_items))].mean(axis=1)
        orders = []
        for off in (0, 1e-15):
            changed = drawn * (1 + off * rng.standard_normal(drawn.shape))
            twice = np.hstack([changed, changed[:, ::-1]])
            orders.append(np.argsort(ranks.noise_free(twice.mean(axis=0), twice)[:, :7], axis=1))
        np.testing.assert_array_equal(*orders)
        # Where nothing is known, every method is as often the first as any other.
        tied = [i for i, count in enumerate(n_passed) if count == 0]
        if len(tied) > 1:
            lowest = np.bincount(orders[0][:, 0], minlength=7)[tied]
            assert lowest.min() > 0.5 * 500 / len(tied)

    def test_the_seed_fixes_the_interval(self, two_sizes):
        resamples = [ProblemBootstrap(n_draws=200, seed=seed) for seed in (0, 0, 1)]
        one, same, other = (ranks.rank_transfer(two_sizes, DATASET, bootstrap=own) for own in resamples)
        assert one.equals(same) and one["value"].equals(other["value"]) and not one["lower"].equals(other["lower"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda runs, run: ranks.rank_methods(runs, "recode_docstring"),
            "no run that is not held out has recode_docstring",
        ),
        (lambda runs, run: ranks.rank_methods([*runs, run], DATASET), "1000 fft has two runs of one seed"),
        (
            lambda runs, run: ranks.rank_methods([*runs, run.model_copy(update={"grid": "other"})], DATASET),
            "scores of different grids do not compare, and there are 2",
        ),
        (
            lambda runs, run: ranks.rank_transfer(runs[:8], DATASET),
            r"recode_format: 1 size\(s\) have scores of 4 or more",
        ),
        (lambda runs, run: ranks.transfer_all(runs[:8]), "no data set has scores of four or more methods at two sizes"),
        (
            lambda runs, run: ranks.rank_transfer([*runs[1:5], *(r for r in runs[10:] if r.method != "lora")], DATASET),
            "recode_format: no smaller size shares 4 methods with the largest",
        ),
    ],
)
def test_refusals(two_sizes, call, message):
    with pytest.raises(Refusal, match=message):
        call(two_sizes, make_run("fft", 1_000, np.arange(10) < 3).model_copy(update={"run_id": "again"}))


def test_measured_data_sets_keep_the_order_of_the_study(released_records):
    found = ranks.measured_datasets(released_records[::-1])
    assert found == [name for name, d in DATASETS.items() if d.suite == "published" and name != "recode_docstring"]
    assert ranks.measured_datasets([]) == []


def test_held_out_runs_take_no_part_in_ranks_and_a_size_without_an_order_has_no_row():
    passed = {3_000: (0, 1), 7_000: (0, 1), 20_000: (6, -1), 1_000: (-1, 0)}
    low, high, large, floor = (
        [make_run(m, n, np.arange(10) <= first + step * i) for i, m in enumerate(METHODS)]
        for n, (first, step) in passed.items()
    )
    records, held_out = low + high, [record.model_copy(update={"held_out": True}) for record in large]
    for call in (ranks.rank_methods, ranks.rank_transfer):
        assert call(records + held_out, DATASET).equals(call(records, DATASET))
    assert ranks.measured_datasets(held_out) == []
    assert set(ranks.rank_transfer(records + large, DATASET)["n_params_large"]) == {20_000}
    assert set(ranks.rank_transfer(floor + records, DATASET)["n_params_small"]) == {3_000}
