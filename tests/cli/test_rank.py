"""``astraios rank``."""

import pytest


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
