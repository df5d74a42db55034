"""The committed tables of figures against the released ones, both read as plain CSV: every measured number."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from astraios_analysis.figures.gallery import FIGURES, find_spec

ROOT = Path(__file__).parents[2]
STUDY = {
    "clone_detection": ("accuracy", "zero_shot"),
    "defect_detection": ("overall_accuracy", "zero_shot/full2732"),
}
KINDS, LANGUAGES = ("synthesize", "fix", "explain"), ("python", "java")
PROGRAMS = [f"humaneval{task}_{language}" for task in KINDS for language in LANGUAGES]
STUDY |= dict.fromkeys(PROGRAMS, ("pass@1", "t0.2,n20"))
CATEGORIES = ("recode_format", "recode_function", "recode_syntax")
PRIMARY = STUDY | dict.fromkeys(CATEGORIES, ("robust_pass@1", "all_transformations"))
PRIMARY |= {"humaneval_python": ("pass@1", "greedy")}
MODEL = ["size", "method"]
SCORE = ["dataset", "setting", "metric", *MODEL]
ROUNDED = {"rel": 1e-7, "abs": 1e-12}

# Numeric columns that are no measurement: a choice made here (level), the name of a run (seed), a fit (dof), ranks.
NOT_MEASURED = {"refusal", "level", "dof", "n_train_sizes", "n_models", "rank", "seed"}
COUNTED = ["n_params", "n_params_base", "n_params_base_nonembedding", "n_params_updated"]
# What the tests below compare with the released tables, figure by figure.
CHECKED = {
    "updated_parameters": {*COUNTED, "percent_updated"},
    "task_performance": {"n_params_base", "value", "n_items"},
    "mean_performance": {"n_params_base", "value", "n_datasets"},
    "zero_against_one_shot": {"n_params_base", "value", "n_items"},
    "best_method": {"n_params_base", "value", "n_methods"},
    "robustness": {"n_params_base", "value", "n_items"},
    "transformations": {"n_params_base", "value", "lowest", "highest", "n_methods"},
    "security": {"n_params_base", "value", "n_items"},
    "score_scaling": {"n_params_base", "value", "n_items"},
    "small_against_large": {"small", "large", "n_params_small", "n_params_large", "n_methods"},
    "small_model_choices": {"n_params_small", "n_params_large", "value", "n_methods"},
    "backtest": {"n_params_base", "measured", "error", "persistence", "persistence_error"},
}


def twin(name):
    """Return a figure's table of the released models without the mean over code generation, which `test_means` has."""
    table = pd.read_csv(ROOT / "figures" / f"{name}.csv")
    if "grid" in table:
        table = table[table["grid"] == "released"].dropna(axis=1, how="all").reset_index(drop=True)
    return table[table["dataset"] != "mean_generation"] if "dataset" in table else table


@pytest.fixture(scope="module")
def released():
    return pd.read_csv(ROOT / "data" / "released" / "scores.csv", dtype={"size": str})


@pytest.fixture(scope="module")
def counts():
    return pd.read_csv(ROOT / "data" / "released" / "parameter_counts.csv", dtype={"size": str})


@pytest.fixture(scope="module")
def primary(released):
    """Primary scores: {(data set, size, method): value}."""
    parts = [
        released[(released["dataset"] == name) & (released["metric"] == metric) & (released["setting"] == setting)]
        for name, (metric, setting) in PRIMARY.items()
    ]
    rows = pd.concat(parts).set_index(["dataset", *MODEL])
    assert rows.index.is_unique
    return rows["value"]


def assert_equal_rows(drawn, expected, on, columns):
    """The two tables have the same keys, each once, and equal values: not nearly, equal."""
    drawn, expected = (table.set_index(on)[columns].sort_index() for table in (drawn, expected))
    assert drawn.index.is_unique
    pd.testing.assert_frame_equal(drawn, expected, check_exact=True, check_dtype=False)


def test_every_figure_has_its_two_files_and_nothing_else():
    # PDFs are written by a run and not committed.
    files = [path for path in (ROOT / "figures").rglob("*") if path.suffix != ".pdf"]
    stems = {path.stem for path in files}
    grids = {json.loads(path.read_text())["grid"] for path in (ROOT / "data").glob("runs/**/*.json")}
    assert stems >= set(CHECKED) and {find_spec(stem)[1] for stem in stems} == {"", "released", *grids}
    assert len(stems) <= 25
    expected = {f"{stem}.{suffix}" for stem in stems for suffix in ("png", "csv")}
    assert {str(path.relative_to(ROOT / "figures")) for path in files} == expected
    assert min(path.stat().st_size for path in files) > 500


@pytest.mark.parametrize("name", CHECKED)
def test_no_measured_column_goes_unchecked(name):
    numeric = set(twin(name).select_dtypes("number"))
    assert numeric <= CHECKED[name] | set(FIGURES[name].fitted_columns) | NOT_MEASURED
    assert CHECKED[name] <= set(twin(name))


@pytest.mark.parametrize("name", CHECKED)
def test_parameter_counts(name, counts):
    table = twin(name)
    exact = counts.drop_duplicates("size").set_index("size")["n_params_base"]
    for size, n_params in (("size", "base"), ("size_small", "small"), ("size_large", "large")):
        if size in table and f"n_params_{n_params}" in table:
            known = table[table[size].notna()]
            assert known[f"n_params_{n_params}"].tolist() == exact[known[size]].tolist()


def test_updated_parameters(counts):
    table = twin("updated_parameters")
    assert len(table) == 28
    assert_equal_rows(table, counts, MODEL, COUNTED)
    percent = 100 * table["n_params_updated"] / table["n_params"]
    assert table["percent_updated"].tolist() == pytest.approx(percent.tolist(), **ROUNDED)


# What is drawn of each of these figures' data sets: metrics and settings.
ROBUST = ("pass@1", "nominal"), ("robust_pass@1", "all_transformations"), ("robust_drop@1", "all_transformations")
VALID, RULES = "t0.2,n20,longest_prefix", ("all_rules", "own_weakness")
SHOWN = {
    "task_performance": {name: [choice] for name, choice in PRIMARY.items() if name not in CATEGORIES},
    "zero_against_one_shot": {
        name: [STUDY[name], (STUDY[name][0], STUDY[name][1].replace("zero", "one"))]
        for name in ("clone_detection", "defect_detection")
    },
    "robustness": {name: ROBUST for name in CATEGORIES},
    "security": {"aatk": [("parse_rate", VALID), *(("insecure_rate", f"{VALID},{rules}") for rules in RULES)]},
}


@pytest.mark.parametrize("name", SHOWN)
def test_scores_are_the_released_ones_and_all_of_them(name, released):
    wanted = {(dataset, metric, setting) for dataset, pairs in SHOWN[name].items() for metric, setting in pairs}
    keys = zip(released["dataset"], released["metric"], released["setting"], strict=True)
    expected = released[[key in wanted for key in keys]]
    assert len(expected) >= 27
    assert_equal_rows(twin(name), expected, SCORE, ["value", "n_items", "source"])


def test_shots_are_named_after_their_setting():
    table = twin("zero_against_one_shot")
    assert all(setting.startswith(shots) for setting, shots in zip(table["setting"], table["shots"], strict=True))


def test_transformations(released):
    is_one = ~released["setting"].isin(["nominal", "all_transformations", "mean_over_transformations"])
    is_drop = released["dataset"].isin(CATEGORIES) & (released["metric"] == "robust_drop@1")
    keys = ["dataset", "setting", "size"]
    groups = released[is_one & is_drop].groupby(keys)["value"]
    expected = groups.agg(lowest="min", highest="max", n_methods="count").reset_index()
    table = twin("transformations")
    assert_equal_rows(table, expected, keys, ["lowest", "highest", "n_methods"])
    means = groups.mean()[list(table[keys].itertuples(index=False, name=None))]
    assert table["value"].tolist() == pytest.approx(means.tolist(), **ROUNDED)


def test_mean_performance(primary):
    for row in twin("mean_performance").to_dict("records"):
        names = row["datasets"].split()
        values = [primary[name, row["size"], row["method"]] for name in names]
        assert row["n_datasets"] == len(names) >= 2
        assert row["value"] == pytest.approx(np.mean(values), **ROUNDED)


def test_best_method(primary):
    table = twin("best_method")
    table = table[(table["kind"] == "measured") & (table["dataset"] != "aatk")]
    assert_equal_rows(table, primary.reset_index(), ["dataset", *MODEL], ["value"])
    sizes = table.groupby(["dataset", "size"])
    assert (table["n_methods"] == sizes["method"].transform("count")).all()
    assert (table["rank"] == sizes["value"].rank(ascending=False, method="min")).all()
    assert sizes["p_best"].sum().to_numpy() == pytest.approx(1.0, abs=1e-6)
    drawn = table[table["is_drawn"].astype(str).eq("True")]
    assert drawn.groupby("dataset")["size"].nunique().eq(1).all() and set(drawn["dataset"]) == set(PRIMARY)


def test_score_scaling(primary, released):
    table = twin("score_scaling")
    measured = table[table["kind"] == "measured"]
    kept = primary[[name in set(table["dataset"]) for name, *_ in primary.index]]
    assert_equal_rows(measured, kept.reset_index(), ["dataset", *MODEL], ["value"])
    n_items = released.groupby("dataset")["n_items"].max()
    assert measured["n_items"].tolist() == n_items[measured["dataset"]].tolist()
    # Data sets with two sizes are left out; so is nothing else.
    n_sizes = primary.reset_index().groupby("dataset")["size"].nunique()
    assert set(table["dataset"]) == set(n_sizes[n_sizes >= 3].index)


def test_small_against_large(primary):
    table = twin("small_against_large")
    fits = table[table["kind"] == "fit"]
    for row in fits.to_dict("records"):
        small, large = (set(primary[row["dataset"]].get(row[f"size_{side}"], {}).index) for side in ("small", "large"))
        assert set(row["methods"].split()) == small & large and row["n_methods"] == len(small & large)
    table = table[table["kind"] == "point"]
    assert set(table["dataset"]) == set(PRIMARY)
    for row in table.to_dict("records"):
        assert row["small"] == primary[row["dataset"], row["size_small"], row["method"]]
        assert row["large"] == primary[row["dataset"], row["size_large"], row["method"]]


def test_order_of_methods(primary):
    statistics = {"spearman": stats.spearmanr, "kendall": stats.kendalltau}
    table = twin("small_model_choices")
    rows = table[table["kind"] == "order"].to_dict("records")
    assert len(rows) > 50
    for row in rows:
        methods = row["methods"].split()
        small, large = ([primary[row["dataset"], row[f"size_{s}"], m] for m in methods] for s in ("small", "large"))
        assert row["n_methods"] == len(methods) >= 4
        assert row["value"] == pytest.approx(statistics[row["statistic"]](small, large).statistic, **ROUNDED)


def test_backtest(primary, counts):
    order = counts.drop_duplicates("size").sort_values("n_params_base")["size"].tolist()
    whole = twin("backtest")
    table = whole[whole["kind"] == "tested"]
    size_of = counts.drop_duplicates("size").set_index("n_params_base")["size"]
    smaller = whole[whole["kind"] == "measured"]
    for row in smaller.to_dict("records"):
        assert row["measured"] == primary[row["dataset"], size_of[row["n_params_base"]], row["method"]]
    assert len(smaller) == 21
    for row in table.to_dict("records"):
        own = primary[row["dataset"]].xs(row["method"], level="method")
        *_, before, largest = [size for size in order if size in own.index]
        assert row["size"] == largest and row["measured"] == own[largest]
        # A rate of 0 or 1 counts as half a problem inside.
        assert row["persistence"] == pytest.approx(own[before], abs=0.01)
        assert row["error"] == pytest.approx(row["predicted"] - row["measured"], abs=1e-7)
        assert row["persistence_error"] == pytest.approx(row["persistence"] - row["measured"], abs=1e-7)
        assert row["covered"] == (row["lower"] <= row["measured"] <= row["upper"])
    assert table.groupby("dataset")["size"].nunique().eq(1).all()
    n_sizes = primary.reset_index().groupby("dataset")["size"].nunique()
    assert set(table["dataset"]) == set(n_sizes[n_sizes >= 3].index)


@pytest.mark.parametrize("damage", [lambda t: t.assign(value=t["value"] + 1e-9), lambda t: t.iloc[1:]])
def test_the_check_of_values_can_fail(released, damage):
    table = twin("task_performance")
    with pytest.raises(AssertionError):
        assert_equal_rows(damage(table), released.merge(table[SCORE]), SCORE, ["value"])
