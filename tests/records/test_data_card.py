"""What data/README.md says about columns, rows, settings, metrics and gaps is what the tables hold."""

import re
from itertools import product

import pandas as pd
import pytest

from astraios_analysis.records.frame import METHODS
from astraios_analysis.records.registry import DATASETS, METRICS

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
