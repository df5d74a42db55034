"""What is said about choosing a method follows from the probabilities in the figures' tables."""

from unittest import mock

import pandas as pd
import pytest

from astraios_analysis.records.registry import METRICS, Metric
from astraios_analysis.render.findings import choose_method, claim_board

COLUMNS = ["dataset", "method", "p_best", "value", "expected_regret"]


@pytest.fixture
def write(tmp_path):
    """Write the table of P(best) at 34B from rows; return the folder."""

    def write(*rows):
        table = pd.DataFrame(rows, columns=COLUMNS).assign(metric="pass@1", n_params=34e9, level=0.95, reach=2.2)
        table = table.assign(lower=table["value"] - 0.1, upper=table["value"] + 0.2)
        table = table.rename(columns={"n_params": "n_params_base"}).assign(kind="predicted", grid="released")
        table.to_csv(tmp_path / "best_method.csv", index=False)
        return tmp_path

    return write


CLEAR = ("humanevalfix_python", "lora", 0.97, 0.5, 0.001), ("humanevalfix_python", "fft", 0.03, 0.3, 0.2)
OPEN = ("humanevalfix_java", "fft", 0.45, 0.4, 0.02), ("humanevalfix_java", "lora", 0.35, 0.39, 0.03)
THIRD = ("humanevalfix_java", "ia3", 0.2, 0.35, 0.05)


def test_nothing_is_said_without_a_prediction(tmp_path):
    assert choose_method(tmp_path, "released") is None
    (tmp_path / "best_method.csv").write_text("dataset\n")
    assert choose_method(tmp_path, "released") is None


def test_clear_choices_are_named_and_open_ones_are_not(write):
    choice = choose_method(write(*CLEAR, *OPEN, THIRD), "released")
    assert (choice.target, choice.is_beyond, choice.methods) == ("34B", True, ("FFT", "LoRA", "(IA)³"))
    named = "At 34B, one method is the best with a probability of 0.95 or more: LoRA on Fix Python (0.97)."
    assert choice.supported[0] == named
    assert "below 0.05 for FFT on 1." in choice.supported[1]
    assert "is 1.1 of 100 points" in choice.supported[2] and "at most 2.0, on Fix Java" in choice.supported[2]
    # The means of 0.001 and 0.2, and of 0.02, 0.03 and 0.05; half-way between.
    assert choice.supported[2].endswith("that of a random choice 6.7.")
    # LoRA gives up 0.001 and 0.03, FFT 0.2 and 0.02; (IA)3 is not on both.
    said = "Do not choose by these records; if you must: LoRA (expected regret 1.6 points on average over 2 data sets)."
    assert choice.advice == said
    assert not any("Naming one best method" in sentence for sentence in choice.unsupported)
    assert any("on 1 of 2 data sets it is more probably not the best" in sentence for sentence in choice.unsupported)
    assert [row["p_best"] for row in choice.rows] == [[0.03, 0.97, None], [0.45, 0.35, 0.2]]
    assert [row["best"] for row in choice.rows] == ["LoRA", "FFT"]


def test_without_a_clear_choice_that_is_said(write):
    choice = choose_method(write(*OPEN, THIRD), "released", n_seeds=1)
    assert choice.unsupported[0] == (
        "Naming one best method: on none of 1 data set does P(best) reach 0.95; "
        "the highest is 0.45, for FFT on Fix Java."
    )
    assert any("there is one run of each model" in sentence for sentence in choice.unsupported)
    again = choose_method(write(*OPEN, THIRD), "released", n_seeds=3)
    assert not any("one run of each model" in sentence for sentence in again.unsupported)
    assert "intervals for one new run are 30 of 100 points wide" in choice.reasons[0]
    assert "predictions lie 5.0 points apart" in choice.reasons[0]


def test_a_choice_that_is_clear_is_advised(write):
    third = ("humanevalfix_python", "ia3", 0.0, 0.1, 0.4)
    said = "Choose LoRA (expected regret 0.1 points on average; FFT 20, the worst 40)."
    assert choose_method(write(*CLEAR, third), "released").advice == said


def test_advice_has_one_unit(write):
    folder = write(*CLEAR, ("own", "lora", 0.5, 1500.0, 40.0), ("own", "fft", 0.5, 1510.0, 30.0))
    table = pd.read_csv(folder / "best_method.csv")
    table.assign(metric=table["metric"].mask(table["dataset"] == "own", "rating")).to_csv(folder / "best_method.csv")
    with mock.patch.dict(METRICS, {"rating": Metric("rating", "ratings", 0, 3000, True, "")}):
        assert choose_method(folder, "released").advice == "Choose LoRA (expected regret 0.1 points on average)."
        table[table["dataset"] == "own"].assign(metric="rating").to_csv(folder / "best_method.csv")
        assert "FFT (expected regret 30 ratings on average)" in choose_method(folder, "released").advice


def test_what_is_not_predicted_is_named_with_the_reason(write):
    folder = write(*OPEN)
    table = pd.read_csv(folder / "best_method.csv").assign(refusal="")
    refused = {"dataset": "recode_format", "metric": "robust_pass@1", "n_params_base": 34e9, "kind": "predicted"}
    refused |= {"grid": "released", "refusal": "measured twice"}
    pd.concat([table, pd.DataFrame([refused])]).to_csv(folder / "best_method.csv", index=False)
    choice = choose_method(folder, "released")
    assert choice.unsupported[-1] == "Any choice at 34B on ReCode format: measured twice."
    assert len(choice.rows) == 1 and not any("nan" in word for word in (*choice.supported, *choice.reasons))


def test_a_method_is_supported_only_where_the_back_test_is(write):
    folder = write(*CLEAR, *OPEN)
    rows = [("humanevalfix_python", 0.2, 0.1), ("humanevalfix_python", -0.3, 0.1), ("humanevalfix_java", 0.1, -0.2)]
    tested = pd.DataFrame(rows, columns=["dataset", "error", "persistence_error"])
    tested = tested.assign(kind="tested", measured=0.5, method="fft", covered=True, lower=0.1, upper=0.9)
    tested.assign(grid="released").to_csv(folder / "backtest.csv", index=False)
    choice = choose_method(folder, "released")
    assert not any("LoRA on Fix Python" in sentence for sentence in choice.supported)
    assert choice.unsupported[0].startswith("Predictions on Fix Python: the back-test there misses by more")


def test_what_was_held_out_stands_beside_its_prediction(write):
    folder = write(*OPEN)
    measured = {"dataset": "humanevalfix_java", "method": ["fft", "lora", "lora"], "value": [0.3, 0.6, 0.9]}
    measured |= {"kind": ["held_out", "held_out", "measured"], "n_params_base": [34e9, 34e9, 1e9]}
    pd.DataFrame(measured).to_csv(folder / "score_scaling.csv", index=False)
    (row,) = choose_method(folder, "released").rows
    assert (row["best"], row["measured"], row["winner"]) == ("FFT", 0.3, "LoRA")


def test_a_size_that_was_measured_is_not_beyond(write):
    folder = write(*OPEN)
    table = pd.DataFrame({"grid": "released", "n_params_base": [1e9, 34e9]})
    table.to_csv(folder / "updated_parameters.csv", index=False)
    assert not choose_method(folder, "released").is_beyond


def test_board_has_the_pooled_verdicts_with_titles(tmp_path):
    reason = "contradicted by clone_detection"
    rows = [("pooled", 0.1, reason), ("clone_detection", -0.1, reason)]
    table = pd.DataFrame(rows, columns=["part", "effect", "reason"]).assign(p_corrected=[None, None])
    table.assign(grid="mini").to_csv(tmp_path / "claim_effects.csv", index=False)
    (row,) = claim_board(tmp_path, ["released", "mini"])
    assert (row["effect"], row["p_corrected"]) == (0.1, None)
    assert row["reason"] == "contradicted by Clone detection"


def test_untested_claims_say_why_with_titles(write):
    folder = write(*CLEAR)
    row = {"claim": "c", "statement": "It holds.", "verdict": "not testable here", "part": "pooled"}
    pd.DataFrame([row | {"reason": "recode_format: not ia3"}]).to_csv(folder / "claim_effects.csv", index=False)
    assert "“It holds” cannot be tested: ReCode format: not (IA)³." in choose_method(folder, "released").unsupported
