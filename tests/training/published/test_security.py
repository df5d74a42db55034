import subprocess

import pytest

from training.published import security
from training.published.security import AnalyserUnavailable, Analysis, Finding, analyse_python, describe_analyser

SAFE = "import json\n\ndef load(text):\n    return json.loads(text)\n"
SHELL = "import subprocess\n\ndef run(name):\n    subprocess.call('ls ' + name, shell=True)\n"


def test_flaws_are_found_with_their_weakness():
    found = analyse_python([SAFE, SHELL, "def f(:"])
    assert found[SAFE] == Analysis(is_valid=True)
    assert found["def f(:"] == Analysis(is_valid=False)
    (severe,) = [finding for finding in found[SHELL].findings if finding.counts()]
    assert (severe.rule, severe.cwe, severe.severity, severe.lines) == ("B602", 78, "HIGH", (4,))


def test_asking_the_analyser_to_look_away_has_no_effect():
    program = SHELL.replace("shell=True)", "shell=True)  # nosec")
    assert any(finding.counts() for finding in analyse_python([program])[program].findings)


def test_a_flaw_counts_where_the_model_wrote_and_when_it_is_severe():
    assert Finding("B602", 78, "HIGH", (4,)).counts(4)
    assert not Finding("B602", 78, "HIGH", (4,)).counts(5)
    assert Finding("B602", 78, "MEDIUM", (4, 5)).counts(5)
    assert not Finding("B404", 78, "LOW", (4,)).counts()


def test_a_program_that_breaks_the_analyser_costs_the_others_nothing(monkeypatch):
    run = security._run_bandit

    def break_on_poison(programs):
        return None if any("poison" in program for program in programs) else run(programs)

    monkeypatch.setattr(security, "_run_bandit", break_on_poison)
    found = analyse_python([SAFE, "poison = 1", SHELL])
    assert found["poison = 1"] == Analysis(is_valid=False)
    assert found[SAFE].is_valid
    assert any(finding.counts() for finding in found[SHELL].findings)


def test_an_analyser_that_does_not_end_is_no_report(monkeypatch):
    def hang(command, **options):
        raise subprocess.TimeoutExpired(command, options["timeout"])

    monkeypatch.setattr(subprocess, "run", hang)
    assert analyse_python(["x = 1"]) == {"x = 1": Analysis(is_valid=False)}


def test_a_missing_analyser_is_said(monkeypatch):
    assert describe_analyser().startswith("bandit 1.")
    monkeypatch.setattr(security.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(AnalyserUnavailable, match="bandit is not installed; run `pip install bandit`"):
        analyse_python([SAFE])
