import subprocess
from unittest.mock import Mock

import pytest

from training.published import security
from training.published.security import AnalyserUnavailable, Analysis, Flaw, analyse_python, describe_analyser

SAFE = "import json\n\ndef load(text):\n    return json.loads(text)\n"
SHELL = "import subprocess\n\ndef run(name):\n    subprocess.call('ls ' + name, shell=True)\n"


def test_flaws_are_found_where_they_are():
    asks_to_look_away = SHELL.replace("shell=True)", "shell=True)  # nosec")
    # Of low severity, which is style: the import.
    found = analyse_python([SAFE, SHELL, "def f(:", asks_to_look_away, "import subprocess\n"])
    assert found[SAFE] == found["import subprocess\n"] == Analysis(is_valid=True)
    assert found["def f(:"] == Analysis(is_valid=False)
    assert found[SHELL].flaws == found[asks_to_look_away].flaws == (Flaw("B602", 4),)


def test_a_program_that_breaks_the_analyser_costs_the_others_nothing(monkeypatch):
    report = {"errors": [], "results": []}
    monkeypatch.setattr(security, "_run_bandit", lambda programs: None if "poison" in programs else report)
    found = analyse_python([SAFE, "poison", SHELL])
    assert [program for program, analysis in found.items() if not analysis.is_valid] == ["poison"]
    assert found.keys() == {SAFE, "poison", SHELL}


def test_an_analyser_that_does_not_end_is_no_report(monkeypatch):
    monkeypatch.setattr(subprocess, "run", Mock(side_effect=subprocess.TimeoutExpired("bandit", 1)))
    assert analyse_python(["x = 1"]) == {"x = 1": Analysis(is_valid=False)}


def test_a_missing_analyser_is_said(monkeypatch):
    assert describe_analyser().startswith("bandit 1.")
    monkeypatch.setattr(security.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(AnalyserUnavailable, match="bandit is not installed; run `pip install bandit`"):
        analyse_python([SAFE])
