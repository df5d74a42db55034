"""What data/README.md says is what the tables hold, and the registries that it lists are whole and agree."""

import re
from itertools import product

import pandas as pd
import pytest

from astraios_analysis.records import registry
from astraios_analysis.records.frame import METHODS
from astraios_analysis.records.registry import DATASETS, METRICS, chance_level

TABLES = ("scores.csv", "problem_counts.csv.gz", "security_counts.csv", "parameter_counts.csv")
SIZES = ("1b", "3b", "7b", "16b")
MODELS = {f"{size}-{method}" for size in SIZES for method in METHODS}


@pytest.fixture(scope="module")
def card(released_folder):
    return (released_folder.parent / "README.md").read_text()


def card_rows(card, heading):
    """Return the cells of the first table below a heading."""
    section = card.split(f"{heading}\n", 1)[1]
    lines = re.search(r"(?:^\|.*\n)+", section, re.MULTILINE)[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def names(cell):
    return re.findall(r"`([^`]+)`", cell)


@pytest.mark.parametrize("name", TABLES)
def test_card_lists_the_columns_of_each_table(card, released_folder, name):
    rows = card_rows(card, f"### Columns of `released/{name}`")
    table = pd.read_csv(released_folder / name)
    assert [names(row[0])[0] for row in rows] == list(table)
    assert all(row[1] and row[2] for row in rows)
    files = {names(row[0])[0]: int(row[2]) for row in card_rows(card, "## Files")}
    assert files[f"released/{name}"] == len(table)


def test_card_lists_every_setting(card, table):
    rows = card_rows(card, "## Data sets and settings")
    listed = {pair for row in rows for pair in product(names(row[0]), names(row[1]))}
    assert listed == set(zip(table["dataset"], table["setting"], strict=True))


def test_card_lists_every_metric_with_range_and_direction(card, table):
    directions = {True: "higher", False: "lower", None: "neither"}
    known = {name: METRICS[name] for name in set(table["metric"])}
    expected = {name: [one.describe_range(), directions[one.higher_is_better]] for name, one in known.items()}
    assert {names(row[0])[0]: row[1:3] for row in card_rows(card, "## Metrics")} == expected


def test_card_names_the_primary_measures(card):
    rows = card_rows(card, "## Primary measures")
    listed = {dataset: [cell.strip("`") for cell in row[1:3]] for row in rows for dataset in names(row[0])}
    known = {name: d for name, d in DATASETS.items() if d.suite == "published"}
    assert listed == {name: [d.primary_metric or "none", d.primary_setting or "none"] for name, d in known.items()}


def test_card_lists_the_gaps(card, table):
    for dataset, setting, count, missing in card_rows(card, "## Gaps"):
        name, condition = names(dataset)[0], names(setting)[0]
        present = set(table.loc[(table["dataset"] == name) & (table["setting"] == condition), "model"])
        listed = set(re.findall(r"\d+b-\w+", missing))
        for size in re.findall(r"all of (\d+b)", missing):
            listed |= {f"{size}-{method}" for method in METHODS}
        assert listed == MODELS - present, name
        assert int(count) == len(present)
    assert {names(row[0])[0] for row in card_rows(card, "## Gaps")} == set(table["dataset"])


def test_the_embedded_suite_shares_no_problem_with_the_study():
    pools = {suite: {d.problems for d in DATASETS.values() if d.suite == suite} for suite in ("published", "embedded")}
    assert len(pools["embedded"]) > 1 and not pools["published"] & pools["embedded"]


@pytest.mark.parametrize("name", [name for name, d in DATASETS.items() if d.primary_metric])
def test_primary_measure_is_a_known_metric_of_a_first_file(name):
    dataset = DATASETS[name]
    assert dataset.name == name
    is_less_better = dataset.primary_metric in ("insecure_rate", "cross_entropy")
    assert METRICS[dataset.primary_metric].higher_is_better is not is_less_better
    assert registry.SECOND_FILE not in dataset.primary_setting
    for level in (dataset.chance, dataset.majority):
        assert level is None or 0 <= level < 1


CHANCE = {
    "clone_detection": {"accuracy": 0.5},
    "defect_detection": {"overall_accuracy": 0.5, "overall_macro_f1": None, "no_such_metric": None},
    "humanevalfix_python": {"pass@1": 0.0, "timeout_rate": None},
    "recode_format": {"robust_pass@1": 0.0, "pass@1": 0.0},
    "embedded_explain": {"choice_accuracy": 0.25, "pass@1": None},
    "embedded_clone": {"accuracy": 0.5, "auc": 0.5, "macro_f1": None},
    "embedded_robust_syntax": {"robust_drop@1": None},
    "embedded_security": {"insecure_rate": 0.5},
    "a_new_data_set": {"pass@1": None},
}


@pytest.mark.parametrize("dataset", CHANCE)
def test_chance_level(dataset):
    assert {metric: chance_level(dataset, metric) for metric in CHANCE[dataset]} == CHANCE[dataset]
