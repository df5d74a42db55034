import re
from pathlib import Path

import pytest

from training.corpus.embedded import N_PROBLEMS, N_SEEN
from training.corpus.idioms import SCENARIOS
from training.corpus.programs import OPERATIONS
from training.corpus.settings import COMPLETION, TASKS, CorpusSettings

CARD = (Path(__file__).parents[3] / "docs" / "corpus.md").read_text("utf-8")


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_every_operation_is_in_the_tables(name):
    operation = OPERATIONS[name]
    cells = next(line for line in CARD.splitlines() if line.startswith(f"| `{name}` |")).split(" | ")
    constants = ", ".join(map(str, operation.constants)) or "–"
    assert cells[1:3] == [f"{operation.takes} → {operation.gives}", constants]
    assert cells[3:5] == [phrasing.format(k="k") for phrasing in operation.phrasings[:2]]


def test_every_task_has_its_share():
    rows = {match[1]: match[2] for match in re.finditer(r"^\| `(\w+)` \| ([^|]+) \|", CARD, re.MULTILINE)}
    mixture = CorpusSettings().mixture
    assert rows[COMPLETION] == "pre-training"
    assert [rows[task] for task in TASKS] == [f"{100 * getattr(mixture, task):g} %" for task in TASKS]


def test_settings_sizes_and_rules_are_those_of_the_code():
    assert CorpusSettings().label in CARD
    assert f"{N_PROBLEMS} headline problems" in CARD
    assert f"{N_SEEN}\nmore of one operation" in CARD
    assert all(scenario.rule in CARD for scenario in SCENARIOS)
