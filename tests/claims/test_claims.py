"""Verdicts on grids whose truth is known, both ways; the rules as they are written down."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from released_counts import FIVE, problem_shares
from scipy.stats import norm, spearmanr
from simulated_grids import LARGEST, SIZES, World, simulate
from statsmodels.stats.multitest import multipletests

from astraios_analysis.claims.judge import decide, judge_claims, judgement_frame, judgement_rows
from astraios_analysis.claims.rules import CLAIMS, OTHER, SCOPES, THESE, VERDICT_RULE, VERDICTS
from astraios_analysis.claims.tests import Evidence, Found, _chi_square
from astraios_analysis.records.frame import METHODS, Score
from astraios_analysis.records.refusal import Refusal

DOCS = (Path(__file__).parents[2] / "docs" / "claims.md").read_text("utf-8")
SAME = {method: 0.6 for method in METHODS}
FLAT = World(amplitude=SAME)


def judge(name, records, scope=THESE):
    """One claim's judgement on one grid, in one scope."""
    (found,) = (j for j in judge_claims(records, claims=[name], n_draws=400) if j.scope == scope)
    return found


def with_drops(records, slope, stderr=0.01, name="embedded_robust_format"):
    """Records with a relative drop that changes with the size by so much a decade."""
    rng = np.random.default_rng(8)

    def drops(record):
        value = 0.4 + slope * np.log10(record.n_params_base / 1e5) + 0.005 * rng.standard_normal()
        fields = {"language": "python", "setting": "all_transformations", "source": "measured", "n_items": 100}
        return (
            Score(dataset=name, metric="robust_drop@1", value=float(value), stderr=stderr, **fields),
            Score(dataset=name, metric="robust_pass@1", value=0.3, stderr=0.04, **fields),
        )

    return [record.model_copy(update={"scores": record.scores + drops(record)}) for record in records]


def without_counts(records):
    bare = {"problems": None, "n_items": None}
    return [r.model_copy(update={"scores": tuple(s.model_copy(update=bare) for s in r.scores)}) for r in records]


def amplitudes(**changes):
    return World(amplitude=SAME | changes)


def security(slope):
    return World(level={"embedded_security": 0.5}, slope={"embedded_security": slope})


LOSSY = replace(World(), level={"embedded_fix": 0.0, "embedded_synthesis": 0.5})
# Each claim in a world where it is true, and in one where it is not.
WORLDS = {
    "fft_best": (lambda: simulate(amplitudes(fft=0.3)), lambda: simulate(amplitudes(fft=0.9))),
    "lora_tradeoff": (lambda: simulate(amplitudes(lora=0.3, fft=0.3)), lambda: simulate(amplitudes(lora=0.9))),
    "methods_differ_by_scale": (
        lambda: simulate(replace(LOSSY, slope={"embedded_fix": 9.0, "embedded_synthesis": 9.0}), n_problems=500),
        lambda: simulate(FLAT),
    ),
    "larger_less_robust": (lambda: with_drops(simulate(), 0.15), lambda: with_drops(simulate(), -0.15)),
    "larger_less_secure": (lambda: simulate(security(-4.0)), lambda: simulate(security(4.0))),
    "small_carries_over": (simulate, lambda: simulate(FLAT)),
    "loss_indicates": (simulate, lambda: simulate(World(slope={"embedded_fix": 0.0}, level={"embedded_fix": 0.0}))),
}
OPPOSITE = {"fft_best", "lora_tradeoff", "larger_less_robust", "larger_less_secure"}


class TestVerdicts:
    @pytest.mark.parametrize("name", list(CLAIMS))
    def test_what_is_true_is_supported(self, name):
        found = judge(name, WORLDS[name][0]())
        assert found.verdict == "supported", found
        assert found.found.pooled.effect > 0 and found.p_corrected < 0.05

    @pytest.mark.parametrize("name", list(CLAIMS))
    def test_what_is_not_true_is_contradicted_or_not_supported(self, name):
        found = judge(name, WORLDS[name][1]())
        assert found.verdict == ("contradicted" if name in OPPOSITE else "not supported"), found

    def test_a_claim_that_one_data_set_contradicts_is_mixed(self):
        better = World(amplitude=SAME | {"fft": 0.3}, slope={"embedded_synthesis": 5.0, "embedded_fix": -2.0})
        found = judge("fft_best", simulate(better, n_problems=400))
        assert found.verdict == "mixed" and found.found.leave_one_out[0] < 0 < found.found.leave_one_out[1]

    def test_true_nulls_are_rarely_supported(self):
        names = ("fft_best", "small_carries_over", "methods_differ_by_scale")
        found = [j for s in range(8) for j in judge_claims(simulate(FLAT, seed=s), claims=names, n_draws=200)]
        # 24 verdicts at 0.05 each, corrected: more than four false ones has a chance below one in a hundred.
        assert sum(j.verdict == "supported" for j in found if j.scope == OTHER) <= 4

    def test_held_out_runs_take_no_part(self):
        records = simulate(held_out=(LARGEST,))
        kept = [record for record in records if not record.held_out]
        one, other = (judgement_frame(judge_claims(runs, n_draws=200)) for runs in (records, kept))
        assert one.equals(other)

    def test_what_lora_costs_counts(self):
        def at_cost(run, factor):
            return run.model_copy(update={"cost": run.cost.model_copy(update={"flop": factor * run.cost.flop})})

        runs = WORLDS["lora_tradeoff"][0]()
        costs = [[at_cost(r, k) if r.method == "lora" else r for r in runs] for k in (0.1, 1e4)]
        cheap, dear = (judge("lora_tradeoff", own) for own in costs)
        assert "cost: flop; without" in cheap.found.pooled.detail
        assert cheap.verdict == "supported" and dear.found.pooled.effect < 0

    def test_a_data_set_below_the_constant_answer_has_no_vote(self):
        flat = {"embedded_explain": -12.0, "embedded_fix": -1.5}
        records = simulate(World(amplitude=SAME, level=flat, slope={"embedded_explain": 0.0, "embedded_fix": 4.0}))
        found = judge("fft_best", records).found
        votes = {p.name: p.votes for p in found.parts if p.kind == "data set"}
        assert votes == {"embedded_fix": True, "embedded_explain": False}
        assert found.leave_one_out is None and found.all_parts.effect != found.pooled.effect
        (other, _) = judge_claims(records, claims=["fft_best"], n_draws=400, all_parts=True)
        assert other.found.pooled.effect == pytest.approx(found.all_parts.effect)

    def test_one_run_a_model_says_nothing_of_others(self):
        records = simulate(amplitudes(fft=0.3), seeds=(0,))
        these, other = judge_claims(records, claims=["fft_best"], n_draws=400)
        assert (these.verdict, other.verdict, other.p_corrected) == ("supported", "not known", None)
        row = judgement_rows([other])[0]
        assert row["interval"] is row["p"] is row["p_corrected"] is None and row["effect"] > 0
        pooled = these.found.pooled
        error = (pooled.upper - pooled.lower) / 2 / norm.ppf(0.975)
        # At the tipping deviation of a run, with four sizes of two models each, the interval would begin at 0.
        assert pooled.effect == pytest.approx(norm.ppf(0.975) * (error**2 + row["tipping_sd"] ** 2 / 2) ** 0.5)


class TestNotTestable:
    @pytest.mark.parametrize(
        ("name", "records", "reason"),
        [
            ("fft_best", lambda: simulate(methods=METHODS[1:]), "fft has no score at a size with another method"),
            ("fft_best", lambda: simulate(methods=METHODS[:2]), "fft is measured beside 1 other methods; 3 are needed"),
            ("lora_tradeoff", lambda: simulate(methods=METHODS[2:]), "lora has no score at a size with another"),
            ("methods_differ_by_scale", lambda: simulate(sizes=SIZES[:2]), "2 sizes with 7 methods at all of them; 3"),
            ("methods_differ_by_scale", lambda: without_counts(simulate()), "scores have neither counts nor errors"),
            ("larger_less_robust", simulate, "nothing of the kind was measured"),
            ("larger_less_robust", lambda: with_drops(simulate(sizes=SIZES[:3]), 0.1), "3 sizes share a method; a tr"),
            ("larger_less_robust", lambda: with_drops(simulate(), 0.1, stderr=5.0), "leaves the range of a share"),
            ("larger_less_secure", simulate, "no share of insecure programs was measured"),
            ("larger_less_secure", lambda: simulate(security(4.0), sizes=SIZES[:1]), "30 valid programs at two sizes"),
            ("larger_less_secure", lambda: simulate(security(4.0), n_problems=9), "30 valid programs at two sizes"),
            ("small_carries_over", lambda: simulate(sizes=SIZES[:1]), "1 sizes have scores of 4 or more methods"),
            ("loss_indicates", lambda: simulate(val_loss=None), "these runs have no validation loss"),
            ("loss_indicates", lambda: simulate(val_loss=2.0), "all models have one loss, 2"),
        ],
    )
    def test_reasons(self, name, records, reason):
        found = judge(name, records())
        assert found.verdict == "not testable here" and found.found is None and found.p_corrected is None
        assert reason in found.reason

    def test_a_drop_that_some_size_lacks_takes_no_part(self):
        whole = with_drops(simulate(sizes=(*SIZES, 9 * SIZES[-1])), -0.15)
        part = with_drops([r for r in whole if r.n_params_base > SIZES[0]], 0.0, name="embedded_robust_syntax")
        some = [r for r in whole if r.n_params_base == SIZES[0]]
        alone, both = (judge("larger_less_robust", runs) for runs in (whole, some + part))
        assert both.found.pooled.effect == alone.found.pooled.effect and both.verdict == "contradicted"

    def test_correlations_that_agree_over_sizes_end_at_1_and_are_no_surer_than_permutations(self):
        these, other = judge_claims(simulate(n_problems=400), claims=["loss_indicates"], n_draws=300)
        assert other.found.pooled.effect == other.found.pooled.upper == 1
        assert other.found.pooled.p >= these.found.pooled.p > 0 and other.verdict == "supported"

    def test_runs_without_scores_are_refused(self):
        with pytest.raises(Refusal, match="no run here has a score on one"):
            judge_claims(simulate(scores=()))


@pytest.fixture(scope="module")
def found(released_records):
    return judge_claims(released_records)


@pytest.fixture(scope="module")
def scores(released_folder):
    """Primary scores of code generation, by data set, size and method; no code of the project reads them."""
    table = pd.read_csv(released_folder / "scores.csv")
    table = table[(table["metric"] == "pass@1") & (table["setting"] == "t0.2,n20")]
    return table.pivot_table(index=["dataset", "size"], columns="method", values="value")


class TestReleased:
    def test_every_claim_has_two_verdicts(self, found):
        assert [(j.claim.name, j.scope) for j in found] == [(name, scope) for name in CLAIMS for scope in SCOPES]
        assert {j.verdict for j in found} <= set(VERDICTS)
        missing = {j.claim.name for j in found if j.verdict == "not testable here"}
        assert missing == {"loss_indicates"}
        # No interval excludes its effect.
        for parts in (False, True):
            table = judgement_frame(found, parts=parts).dropna(subset=["lower"])
            assert (table["lower"] <= table["effect"]).all() and (table["effect"] <= table["upper"]).all()
            assert len(table) >= 6
        # Clone and defect detection have no vote, nor have greedy scores and other rules.
        for part in (part for judgement in found if judgement.found for part in judgement.found.parts):
            is_mute = part.name in ("clone_detection", "defect_detection", "humaneval_python") or part.kind == "rules"
            assert part.votes is not is_mute, part

    def test_p_values_are_corrected_within_a_scope(self, found):
        for scope in SCOPES:
            tested = [j for j in found if j.scope == scope and j.p_corrected is not None]
            peer = multipletests([j.found.pooled.p for j in tested], method="holm")[1]
            np.testing.assert_allclose([j.p_corrected for j in tested], peer)

    def test_neither_another_grid_nor_what_else_is_asked_changes_anything(self, released_records, found):
        both = judge_claims([*released_records, *simulate()], claims=["larger_less_robust", "fft_best"])
        assert [(j.grid, j.records) for j in both[::4]] == [("released", "released"), ("sim", "trained")]
        assert judgement_rows(both[:4]) == judgement_rows([*found[6:8], *found[:2]])

    def test_interactions_are_those_of_another_program(self, released_folder, found, scores):
        """Slopes and their covariance from the counts, with pandas and numpy only."""
        wide = problem_shares(released_folder)
        x = np.log10([1_137_207_296, 3_043_311_104, 7_327_263_232])
        x = (x - x.mean()) / np.sum((x - x.mean()) ** 2)
        slopes = sum(w * wide[size] for w, size in zip(x, ("1b", "3b", "7b"), strict=True))[list(METHODS)]
        contrast = slopes["fft"] - slopes["parallel"]
        assert contrast.mean() / contrast.sem() > 5
        others = slopes.drop(columns="fft").sub(slopes["fft"], axis=0)
        q = others.mean() @ np.linalg.solve(others.cov() / len(others), others.mean())
        assert q == pytest.approx(61, abs=2)
        pooled = next(j for j in found if j.claim.name == "methods_differ_by_scale").found.pooled
        said = re.match(r"chi-square ([\d.]+) with 6; fft less parallel \+([\d.]+), z ([\d.]+)", pooled.detail)
        assert float(said[1]) == pytest.approx(q, rel=0.08) and pooled.p < 1e-9
        assert float(said[2]) == pytest.approx(contrast.mean(), abs=6e-4)
        assert float(said[3]) == pytest.approx(contrast.mean() / contrast.sem(), abs=0.4) and float(said[3]) > 5

    def test_orders_are_those_of_another_program(self, found, scores):
        sizes = [scores.xs(size, level="size").loc[FIVE] for size in ("1b", "3b", "7b")]
        each = [spearmanr(small.loc[name], sizes[2].loc[name])[0] for small in sizes[:2] for name in FIVE]
        pooled = next(j for j in found if j.claim.name == "small_carries_over").found.pooled
        assert pooled.effect == pytest.approx(np.mean(each)) == pytest.approx(0.468, abs=5e-4)
        assert pooled.p == pytest.approx(0.0028, abs=2e-4)
        means = [size.mean() for size in sizes]
        assert spearmanr(means[1], means[2])[0] == pytest.approx(0.893, abs=5e-4)

    def test_methods_compare_as_in_another_program(self, found, scores):
        these = found[0].found
        sets = [name for name in scores.index.unique("dataset") if name.startswith("humaneval")]
        lora = [(scores.loc[name]["fft"] - scores.loc[name]["lora"]).dropna().mean() for name in sets]
        assert these.pooled.effect == pytest.approx(np.mean(lora), abs=1e-6) == pytest.approx(0.0045, abs=5e-5)
        assert these.pooled.p == pytest.approx(0.027, abs=0.01)
        sizes = {part.name: part for part in these.parts if part.kind == "size"}
        small = scores.xs("1b", level="size").loc[FIVE].mean()
        assert sizes["1b"].effect == pytest.approx(small["fft"] - small["lora"], abs=1e-6)
        assert sizes["1b"].p_opposite < 0.01 and sizes["7b"].p < 0.01

    def test_robustness_falls_less_with_size_on_these_models(self, found):
        these, other = (j for j in found if j.claim.name == "larger_less_robust")
        pooled = these.found.pooled
        assert these.verdict == "contradicted" and other.verdict == "not supported"
        assert [pooled.effect, pooled.lower, pooled.upper] == pytest.approx([-0.110, -0.171, -0.049], abs=4e-3)

    def test_security_is_paired(self, found, released_folder):
        these = next(j for j in found if j.claim.name == "larger_less_secure")
        counts = pd.read_csv(released_folder / "security_counts.csv")
        own = counts[(counts["completion"] == "longest_prefix") & counts["rules_in_scope"].notna()]
        sums = own.groupby(["size", "method"])[["n_valid", "n_insecure_in_scope"]].sum()
        share = (sums["n_insecure_in_scope"] / sums["n_valid"]).unstack("size")
        assert these.found.pooled.effect == pytest.approx((share["16b"] - share["1b"]).dropna().mean(), abs=1e-6)
        assert these.verdict == "not supported" and these.found.pooled.n == 3
        uncut = next(p for p in these.found.parts if p.name == "t0.2,n20,uncut,all_rules")
        assert [uncut.effect, uncut.lower, uncut.upper] == pytest.approx([0.032, -0.036, 0.104], abs=4e-3)
        assert not uncut.votes


class TestRules:
    def test_the_document_says_what_the_code_does(self):
        words = " ".join(re.sub(r"\*\*|\n- |\n  ", " ", DOCS).split())
        for claim in CLAIMS.values():
            assert f"### `{claim.name}`" in words
            for text in (claim.statement, claim.effect, claim.unit, claim.rule):
                assert text in words
        assert re.sub(r"\W+", " ", VERDICT_RULE).strip() in re.sub(r"\W+", " ", words)

    def test_the_document_shows_the_verdicts_of_today(self, found):
        for these, other in zip(found[::2], found[1::2], strict=True):
            row = next(line for line in DOCS.splitlines() if line.startswith(f"| `{these.claim.name}` | released |"))
            cells = [cell.strip() for cell in row.strip("|").split("|")]
            assert cells[3].split(":")[0].split(";")[0] == these.verdict, row
            assert cells[4].split(":")[0].split(";")[0] == other.verdict, row

    @pytest.mark.parametrize(
        ("p", "p_parts", "leave_one_out", "verdict"),
        [
            ((0.01, 1.0), [(0.2, 1.0), (0.3, 1.0)], (0.05, 0.2), "supported"),
            ((0.01, 1.0), [(0.2, 1.0), (0.3, 1.0)], (-0.05, 0.2), "mixed"),
            ((0.01, 1.0), [(0.001, 1.0), (1.0, 0.01)], (0.05, 0.2), "mixed"),
            ((0.2, 1.0), [(0.01, 1.0), (0.9, 1.0)], None, "mixed"),
            ((0.2, 1.0), [(0.04, 1.0), (0.04, 1.0)], None, "not supported"),
            ((1.0, 0.2), [(1.0, 0.001)], None, "not supported"),
            ((1.0, 0.01), [(1.0, 0.001)], (-0.2, -0.1), "contradicted"),
            ((1.0, 0.01), [(0.001, 1.0)], (-0.2, -0.1), "mixed"),
        ],
    )
    def test_decision(self, p, p_parts, leave_one_out, verdict):
        sign = 1 if p[1] == 1.0 else -1
        parts = [Evidence(f"part{i}", 0.1, 0.0, 0.2, "t", *one, 4) for i, one in enumerate(p_parts)]
        pooled = Evidence("pooled", sign * 0.1, -0.3, 0.3, "t", *p, 4)
        assert decide(Found(pooled, parts, leave_one_out), *p)[0] == verdict

    def test_slopes_of_methods_that_solve_nothing_take_their_freedom_along(self):
        rng = np.random.default_rng(2)
        family = {m: rng.normal(size=401) for m in "ab"} | {m: np.zeros(401) for m in "cd"}
        mean = np.mean(list(family.values()), axis=0)
        q, dof = _chi_square({m: own - mean for m, own in family.items()} | {"_run": np.ones(401)})
        assert dof == 2 and q > 0
