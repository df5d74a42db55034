"""Verdicts on grids whose truth is known, both ways; the rules as they are written down."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from simulated_grids import LARGEST, SIZES, World, simulate
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.multitest import multipletests

from astraios_analysis.claims.judge import TESTS, decide, holm, judge_claims, judgement_frame
from astraios_analysis.claims.rules import CLAIMS, VERDICT_RULE, VERDICTS
from astraios_analysis.claims.tests import Evidence, NotTestable, _slopes, size_slope
from astraios_analysis.records.frame import METHODS, Score
from astraios_analysis.records.refusal import Refusal

DOCS = (Path(__file__).parents[2] / "docs" / "claims.md").read_text("utf-8")
SAME = {method: 0.6 for method in METHODS}
FLAT = World(amplitude=SAME)


def judge(name, records):
    """One claim's judgement on one grid."""
    (found,) = judge_claims(records, claims=[name], n_draws=400)
    return found


def with_drops(records, slope):
    """Records with a relative drop that changes with the size by so much a decade."""
    rng = np.random.default_rng(8)

    def drops(record):
        value = 0.4 + slope * np.log10(record.n_params_base / 1e5) + 0.005 * rng.standard_normal()
        fields = {"language": "python", "setting": "all_transformations", "source": "measured", "n_items": 100}
        name = "embedded_robust_format"
        return (
            Score(dataset=name, metric="robust_drop@1", value=float(value), stderr=0.01, **fields),
            Score(dataset=name, metric="robust_pass@1", value=0.3, stderr=0.04, **fields),
        )

    return [record.model_copy(update={"scores": record.scores + drops(record)}) for record in records]


def amplitudes(**changes):
    return World(amplitude=SAME | changes)


def security(slope):
    return World(level={"embedded_security": 0.5}, slope={"embedded_security": slope})


# Each claim in a world where it is true, and in one where it is not.
WORLDS = {
    "fft_best": (lambda: simulate(amplitudes(fft=0.3)), lambda: simulate(amplitudes(fft=0.9))),
    "lora_tradeoff": (lambda: simulate(amplitudes(lora=0.3, fft=0.3)), lambda: simulate(amplitudes(lora=0.9))),
    "methods_differ_by_scale": (lambda: simulate(seeds=(0, 1, 2, 3), n_problems=500), lambda: simulate(FLAT)),
    "larger_less_robust": (lambda: with_drops(simulate(), 0.15), lambda: with_drops(simulate(), -0.15)),
    "larger_less_secure": (lambda: simulate(security(-4.0)), lambda: simulate(security(4.0))),
    "small_carries_over": (simulate, lambda: simulate(FLAT)),
    "loss_indicates": (
        simulate,
        lambda: simulate(replace(World(), slope=dict.fromkeys(World().slope, 0.0), level={"embedded_fix": 0.0})),
    ),
}


class TestVerdicts:
    @pytest.mark.parametrize("name", list(CLAIMS))
    def test_what_is_true_is_supported(self, name):
        found = judge(name, WORLDS[name][0]())
        assert found.verdict == "supported", found
        assert found.overall.effect > 0 and found.p_holm < 0.05 and found.n_claims == 1

    @pytest.mark.parametrize("name", list(CLAIMS))
    def test_what_is_not_true_is_not_supported(self, name):
        found = judge(name, WORLDS[name][1]())
        assert found.verdict == "not supported", found

    def test_a_claim_that_one_data_set_contradicts_is_mixed(self):
        better = World(amplitude=SAME | {"fft": 0.3}, slope={"embedded_synthesis": 5.0, "embedded_fix": -2.0})
        assert judge("fft_best", simulate(better, n_problems=400)).verdict == "mixed"

    def test_true_nulls_are_rarely_supported(self):
        names = ("fft_best", "small_carries_over", "methods_differ_by_scale")
        found = [j for s in range(12) for j in judge_claims(simulate(FLAT, seed=s), claims=names, n_draws=200)]
        # 36 verdicts at 0.05 each, corrected: more than five false ones has a chance below one in a thousand.
        assert (
            sum(j.verdict == "supported" for j in found) <= 3 and sum(j.verdict != "not supported" for j in found) <= 8
        )

    def test_held_out_runs_take_no_part(self):
        records = simulate(held_out=(LARGEST,))
        assert judgement_frame(judge_claims(records, n_draws=200)).equals(
            judgement_frame(judge_claims([r for r in records if not r.held_out], n_draws=200))
        )

    def test_lora_that_updates_much_is_no_trade_off(self):
        records = [
            r.model_copy(update={"n_params_updated": r.n_params_base // 5}) if r.method == "lora" else r
            for r in WORLDS["lora_tradeoff"][0]()
        ]
        found = judge("lora_tradeoff", records)
        assert found.verdict == "not supported" and "LoRA updates at most 20.00%" in found.overall.detail


class TestNotTestable:
    @pytest.mark.parametrize(
        ("name", "records", "reason"),
        [
            ("fft_best", lambda: simulate(methods=METHODS[1:]), "fft has no score at a size with another method"),
            ("fft_best", lambda: simulate(methods=METHODS[:2]), "fft is measured beside 1 other methods; 3 are needed"),
            ("lora_tradeoff", lambda: simulate(methods=METHODS[2:]), "no size has both LoRA and full fine-tuning"),
            ("methods_differ_by_scale", lambda: simulate(sizes=SIZES[:2]), "0 methods with 3 or more sizes"),
            ("larger_less_robust", simulate, "nothing of the kind was measured"),
            ("larger_less_secure", simulate, "parse rates are not security scores"),
            ("larger_less_secure", lambda: simulate(security(4.0), sizes=SIZES[:2]), "2 sizes; a trend and its error"),
            ("small_carries_over", lambda: simulate(sizes=SIZES[:1]), "1 sizes have scores of 4 or more methods"),
            ("loss_indicates", lambda: simulate(val_loss=None), "these runs have no validation loss"),
            ("loss_indicates", lambda: simulate(val_loss=2.0), "all models have one loss, 2"),
        ],
    )
    def test_reasons(self, name, records, reason):
        found = judge(name, records())
        assert found.verdict == "not testable here" and found.overall is None and found.p_holm is None
        assert reason in found.reason

    def test_unknown_claim(self):
        with pytest.raises(Refusal, match="unknown claim 'best'; choose from fft_best, lora_tradeoff"):
            judge_claims(simulate(), claims=["best"])

    def test_no_scores(self):
        with pytest.raises(Refusal, match="no run here has a score on one"):
            judge_claims(simulate(scores=()))


@pytest.fixture(scope="module")
def found(released_records):
    return judge_claims(released_records)


class TestReleased:
    def test_every_claim_has_a_verdict(self, found):
        assert [j.claim.name for j in found] == list(CLAIMS)
        assert {j.verdict for j in found} <= set(VERDICTS) and {(j.records, j.suite) for j in found} == {
            ("released", "published")
        }
        missing = [j.claim.name for j in found if j.verdict == "not testable here"]
        assert missing == ["loss_indicates"] and {j.n_claims for j in found} == {6}

    def test_p_values_are_corrected_together(self, found):
        tested = [j for j in found if j.overall]
        peer = multipletests([j.overall.p_value for j in tested], method="holm")[1]
        np.testing.assert_allclose([j.p_holm for j in tested], peer)

    def test_tables(self, found):
        whole, parts = judgement_frame(found), judgement_frame(found, parts=True)
        assert len(whole) == 7 and whole["effect"].notna().sum() == 6
        assert set(parts.loc[parts["claim"] == "larger_less_robust", "part"]) == {
            "recode_format",
            "recode_function",
            "recode_syntax",
        }

    def test_both_grids_are_judged_apart(self, released_records, found):
        both = judge_claims([*released_records, *simulate()])
        assert [(j.grid, j.records) for j in both[::7]] == [("released", "released"), ("sim", "trained")]
        assert judgement_frame(both[:7]).equals(judgement_frame(found))


class TestRules:
    def test_every_claim_has_a_test(self):
        assert list(TESTS) == list(CLAIMS)

    def test_the_document_says_what_the_code_does(self):
        words = " ".join(re.sub(r"\*\*|\n- |\n  ", " ", DOCS).split())
        for claim in CLAIMS.values():
            assert f"### `{claim.name}`" in words
            for text in (claim.statement, claim.effect, claim.unit, claim.rule):
                assert text in words
        assert re.sub(r"\W+", " ", VERDICT_RULE).strip() in re.sub(r"\W+", " ", words)

    def test_holm(self):
        p = np.random.default_rng(0).random(9) ** 3
        np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1])
        assert holm([]).shape == (0,)

    @pytest.mark.parametrize(
        ("p_holm", "p_parts", "verdict"),
        [
            (0.01, [(0.2, 1.0), (0.3, 1.0)], "supported"),
            (0.01, [(0.001, 1.0), (1.0, 0.01)], "mixed"),
            (0.2, [(0.01, 1.0), (0.9, 1.0)], "mixed"),
            (0.2, [(0.04, 1.0), (0.04, 1.0)], "not supported"),
            (0.2, [(1.0, 0.001)], "not supported"),
        ],
    )
    def test_decision(self, p_holm, p_parts, verdict):
        parts = [Evidence(f"part{i}", 0.1, 0.0, 0.2, "t", *p, 4) for i, p in enumerate(p_parts)]
        assert decide(p_holm, parts)[0] == verdict

    def test_slope_agrees_with_a_regression(self):
        means = pd.Series([0.1, 0.25, 0.2, 0.4], index=[1e3, 1e4, 1e5, 1e6])
        found = size_slope("x", means)
        assert found.effect == pytest.approx(np.polyfit(np.log10(means.index), means, 1)[0])
        assert found.lower < found.effect < found.upper and found.p_opposite == 1.0
        with pytest.raises(NotTestable, match="2 sizes; a trend and its error need 3"):
            size_slope("x", means[:2])

    # The formula's common slope lies within the levels of sizes.
    @pytest.mark.filterwarnings("ignore:The design matrix is rank-deficient")
    def test_slopes_agree_with_an_analysis_of_variance(self):
        rng = np.random.default_rng(2)
        cells = [(n, m) for n in SIZES for m in METHODS[:5] if (n, m) not in ((SIZES[0], "fft"), (SIZES[3], "lora"))]
        table = pd.DataFrame(cells, columns=["n_params_base", "method"]).assign(z=rng.normal(size=len(cells)))
        table = table.assign(x=np.log10(table["n_params_base"]), size=table["n_params_base"].astype(str))
        levels, slopes = (ols(f"z ~ size + method{more}", table).fit() for more in ("", " + method:x - x"))
        peer = anova_lm(levels, slopes).iloc[1]
        evidence = _slopes("x", table)
        assert evidence.p_value == pytest.approx(peer["Pr(>F)"]) and evidence.n == len(cells)
        assert evidence.interval == f"F, {int(peer['df_diff'])} and {int(peer['df_resid'])} degrees of freedom"
