"""``astraios rank``, ``compare``, ``transfer`` and ``regress``."""

import csv
import io

import pytest

FIELDS = ["method_a", "method_b", "size", "n_params", "dataset", "difference", "stderr", "lower", "upper", "level"]
FIELDS += ["scope", "tipping_sd", "interval"]


def test_json_has_these_models_first(as_json):
    found, notes = as_json("compare", "lora", "fft", "--size", "7b")
    assert [row["scope"] for row in found] == ["these models", "other models"]
    assert all(list(row) == FIELDS for row in found) and found[1]["stderr"] is None
    assert "mean_generation: mean over Synthesize Python" in notes


def test_csv_is_printed_or_written(run, released_data, tmp_path):
    _, out, _ = run("compare", "lora", "fft", "--csv", data=released_data)
    printed = list(csv.DictReader(io.StringIO(out)))
    assert len(printed) == 6 and list(printed[0]) == FIELDS
    run("compare", "lora", "fft", "--csv", tmp_path / "a.csv", "--plot", tmp_path / "a.png", data=released_data)
    assert (tmp_path / "a.csv").read_text() == out and (tmp_path / "a.png").stat().st_size > 1000


def test_table_says_where_they_cross_and_what_a_run_scatters(run, released_data):
    code, out, _ = run("compare", "lora", "fft", data=released_data)
    assert code == 0 and "nan" not in out
    assert "fft is ahead from 1.89e+09 base parameters on (95 % interval of the crossing" in out
    assert "SD of one run on mean_generation: 0.0047" in out and "not known; see tipping_sd" in out


def test_transfer(as_json, run, released_data):
    found, _ = as_json("transfer", "--dataset", "mean_generation")
    assert [(row["size_small"], row["size_large"]) for row in found] == [("1b", "3b"), ("1b", "7b"), ("3b", "7b")]
    assert all(row["slope_lower"] < row["slope"] < row["slope_upper"] for row in found)
    named = ("--dataset", "recode_format", "--dataset", "recode_syntax")
    code, out, err = run("transfer", "--small", "1b", "--large", "7b", *named, data=released_data)
    assert code == 0 and "nan" not in out and "recode_syntax" not in out and "by the choice of problems alone" in err


def test_regress(run, as_json, simulated):
    code, out, _ = run("regress", data=simulated)
    assert code == 0 and "within size" in out and "predicted from the others' curve" in out
    found, _ = as_json("regress", "--dataset", "embedded_fix", data=simulated)
    assert {row["parameter"] for row in found["parameters"]} == {"slope", "midpoint", "size_sd", "dispersion"}
    assert len(found["held_out"]) == 7


def test_differences_whose_error_nobody_knows_are_shown(run, simulated):
    code, out, _ = run("compare", "lora", "fft", "--dataset", "val_loss", data=simulated)
    these, others = out.split("\n\n")[1:4:2]
    assert code == 0 and these.splitlines()[0].split() == others.splitlines()[0].split()
    assert these.splitlines()[1].split()[3:6] == ["-"] * 3


class TestRank:
    def test_all_data_sets(self, run, released_data):
        code, out, err = run("rank", data=released_data)
        assert code == 0 and "nan" not in out
        out, decisions = out.split("\nChoosing by a smaller size")
        ranks, transfer = out.split("\nOrder of methods at a smaller size against the largest\n")
        assert "pair_accuracy" in decisions
        assert "p_best" in ranks and "p_holm" in transfer and "p_value" not in transfer
        assert all(name in part for name in ("clone_detection", "recode_syntax") for part in (ranks, transfer))
        assert "95 % intervals of scores over problems" in err

    def test_json(self, as_json):
        found, _ = as_json("rank", "--dataset", "humanevalsynthesize_java", "--dataset", "recode_format")
        assert list(found) == ["ranks", "transfer", "decisions"]
        rules = {row["rule"] for row in found["decisions"]}
        assert rules == {"best at the smaller size", "predicted from sizes up to it"}
        assert {row["dataset"] for row in found["ranks"]} == {"humanevalsynthesize_java", "recode_format"}
        best = [row for row in found["ranks"] if row["dataset"] == "recode_format" and row["size"] == "16b"]
        assert best[0]["rank"] == 1 and sum(row["p_best"] for row in best) == pytest.approx(1)
        assert {row["size_large"] for row in found["transfer"]} == {"7b", "16b"}
        assert all(-1 <= row["lower"] <= row["upper"] <= 1 and 0 < row["p_value"] <= 1 for row in found["transfer"])

    def test_level_and_seed(self, as_json, own_grid):
        folder = own_grid(sizes=(51_936,))

        def widths(*options):
            rows = as_json("rank", *options, data=folder)[0]["ranks"]
            return [row["upper"] - row["lower"] for row in rows], {row["level"] for row in rows}

        (wide, _), (narrow, level), (other, _) = widths(), widths("--level", "0.5"), widths("--seed", "7")
        assert level == {0.5} and all(a > b for a, b in zip(wide, narrow, strict=True)) and other != wide

    def test_one_size_is_ranked_but_not_compared(self, as_json, own_grid):
        found, notes = as_json("rank", data=own_grid(sizes=(51_936,)))
        assert len(found["ranks"]) == 5 and found["transfer"] == []
        assert "no transfer of embedded_fix: 1 size(s) have scores of 4 or more methods" in notes

    def test_no_scores_at_all(self, refusal, own_grid):
        message = refusal("rank", data=own_grid(scored=lambda method: False))
        assert "no run here has a loss or a score to rank by" in message
