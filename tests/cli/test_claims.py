"""Claims at the command line."""

import json

import pytest
from simulated_grids import simulate

from astraios_analysis.claims.rules import CLAIMS
from astraios_analysis.cli.main import main
from astraios_analysis.records import frame as records

KEYS = "records grid suite claim statement verdict effect interval p_value p_opposite n detail p_holm n_claims reason"


@pytest.fixture
def run(capsys, tmp_path):
    """Write records, run the command on them: (exit code, standard output, standard error)."""

    def run(*arguments, runs=()):
        for record in runs:
            records.save(record, tmp_path / "runs")
        code = main(["claims", *arguments, "--data", str(tmp_path)])
        return code, *capsys.readouterr()

    return run


def test_json_is_what_was_promised(run):
    code, out, _ = run("--json", runs=simulate())
    found = json.loads(out, parse_constant=pytest.fail)
    assert code == 0 and [one["claim"] for one in found] == list(CLAIMS)
    for one in found:
        assert list(one) == [*KEYS.split(), "rule", "parts"] and one["records"] == "trained"
        assert (one["effect"] is None) == (one["verdict"] == "not testable here") == (one["parts"] == [])
    tested = [one for one in found if one["effect"]]
    assert {one["n_claims"] for one in found} == {len(tested)}
    assert all(
        one["interval"]["lower"] <= one["interval"]["upper"] and one["interval"]["level"] == 0.95 for one in tested
    )


def test_table_and_parts(run):
    code, out, err = run("--claim", "fft_best", "--claim", "larger_less_secure", "--parts", runs=simulate())
    assert code == 0 and out.startswith("Trained models, grid sim, embedded data sets\n")
    assert "Full fine-tuning performs best. Supported" in out and "embedded_fix" in out
    assert "Not testable here" in out and "corrected over the 1 claims tested together" in err


def test_rules_need_no_records(run):
    code, out, _ = run("--rules")
    assert code == 0 and all(name in out for name in CLAIMS) and "Holm-corrected" in out


def test_refusals(run):
    runs = simulate(sizes=(13_296,), seeds=(0,))
    code, out, err = run("--claim", "best", runs=runs)
    assert (code, out) == (2, "") and err.startswith("unknown claim 'best'; choose from fft_best")
    code, _, err = run(runs=[runs[0].model_copy(update={"run_id": "twin"})])
    assert code == 2 and "13k fft of grid sim has 2 runs of one seed: sim-13296-fft-s0, twin; keep one" in err
