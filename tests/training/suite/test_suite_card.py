"""The data card says what the registries and the suite say."""

import re
from pathlib import Path

from astraios_analysis.records.frame import DATASETS
from training.published.measures import N_RESAMPLES
from training.suite.measures import LIMITS
from training.suite.problems import PERTURBATIONS
from training.suite.request import SUITE_VERSION

CARD = (Path(__file__).parents[3] / "docs" / "embedded_suite.md").read_text("utf-8")


def rows(header):
    lines = CARD[CARD.index(header) :].splitlines()[2:]
    table = lines[: next((i for i, line in enumerate(lines) if not line.startswith("|")), len(lines))]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def test_data_sets_with_their_primary_measure_size_and_chance():
    listed = {row[0].strip("`"): row for row in rows("| data set |")}
    known = {name: d for name, d in DATASETS.items() if d.suite == "embedded" and d.kind != "answers"}
    assert list(listed) == list(known)
    for name, row in listed.items():
        metric, setting = re.findall(r"`([^`]+)`", row[2]) or (None, None)
        assert (metric, setting) == (known[name].primary_metric, known[name].primary_setting)
        assert (float(row[4]) if row[4] else None) == known[name].chance
        is_half = name.startswith("embedded_robust_") or name == "embedded_security"
        assert int(row[3]) == (100 if is_half else 200)


def test_changes_in_their_order():
    listed, category = {}, ""
    for name, change, _ in rows("| category |"):
        category = name or category
        listed.setdefault(category, []).append(change.strip("`"))
    assert listed == {name: [change.__name__ for change in changes] for name, (_, changes) in PERTURBATIONS.items()}


def test_numbers_in_the_text(problems):
    lengths = [item.n_ops for item in problems["fix"].headline[::2]]
    assert [lengths.count(n) for n in (2, 3, 4)] == [25, 38, 37]
    assert "(25, 38 and 37 of two, three and four operations)" in CARD
    assert f"version {SUITE_VERSION} of the suite" in CARD
    assert f"{N_RESAMPLES:,} times" in CARD
    words = f"{LIMITS.cpu_seconds:g} s of processor time, {LIMITS.wall_seconds:g} s on the clock"
    assert f"{words} and {LIMITS.memory_bytes // 2**20} MiB" in CARD
