"""Claims at the command line."""

from itertools import product

import pytest
from simulated_grids import simulate

from astraios_analysis.claims.rules import CLAIMS, SCOPES
from astraios_analysis.records import frame as records

KEYS = "claim scope effect interval p p_opposite n detail p_corrected verdict parts leave_one_out all_parts tipping_sd"
KEYS += " reason records grid suite n_claims statement unit rule"


@pytest.fixture
def folder(tmp_path):
    def write(runs):
        for record in runs:
            records.save(record, tmp_path / "runs")
        return tmp_path

    return write


def test_json_is_what_was_promised(as_json, folder):
    found, _ = as_json("claims", data=folder(simulate()))
    assert [(one["claim"], one["scope"]) for one in found] == list(product(CLAIMS, SCOPES))
    for one in found:
        assert list(one) == KEYS.split() and one["records"] == "trained"
        assert (one["effect"] is None) == (one["verdict"] == "not testable here") == (one["parts"] == [])
    for scope in SCOPES:
        tested = [one for one in found if one["scope"] == scope and one["effect"] is not None]
        assert {one["n_claims"] for one in tested} == {len(tested)}
        for one in tested:
            interval = one["interval"]
            assert interval["lower"] <= one["effect"] <= interval["upper"] and interval["level"] == 0.95
            assert {"part", "kind", "votes", "effect", "interval", "p"} <= set(one["parts"][0])


def test_table_and_parts(run, folder):
    named = ("--claim", "fft_best", "--claim", "larger_less_secure")
    code, out, err = run("claims", *named, "--parts", data=folder(simulate()))
    assert code == 0 and out.startswith("Trained models, grid sim, embedded data sets\n")
    assert "across scales. These models: supported; pooled, it is clear" in " ".join(out.split())
    assert "embedded_fix" in out and "not testable here" in out and "over all claims tested in a scope" in err
    assert "all_parts" in out.splitlines()[2] and " size " in out


def test_rules_need_no_records(run):
    code, out, _ = run("claims", "--rules")
    assert code == 0 and all(name in out for name in CLAIMS) and "Holm-corrected" in out


def test_two_runs_of_one_seed_are_refused(refusal, folder):
    runs = simulate(sizes=(13_296,), seeds=(0,))
    message = refusal("claims", data=folder([*runs, runs[0].model_copy(update={"run_id": "twin"})]))
    assert "13k fft of grid sim has 2 runs of one seed: sim-13296-fft-s0, twin; keep one" in message
