"""Paired contrasts and slopes of large on small in simulated worlds: do 95 % intervals hold the truth that often?"""

import pytest
import transfer_worlds
from contrast_worlds import coverage

from astraios_analysis.scores.contrasts import OTHER, THESE

WORLDS = {
    "problems, 20 samples": (THESE, {}),
    "problems, greedy": (THESE, {"n_samples": 1}),
    "4 seeds, runs scatter by 0.3 logits": (OTHER, {"seeds": 4, "run_sd": 0.3}),
    "4 seeds, greedy": (OTHER, {"seeds": 4, "run_sd": 0.3, "n_samples": 1}),
    "3 seeds, runs do not scatter": (OTHER, {"seeds": 3}),
}
LINES = {
    "on a line": {},
    "round a line": {"scatter": 0.03},
    "steep": {"slope": 2.0, "scatter": 0.02, "spread": 0.03},
    "little spread": {"spread": 0.02},
}


@pytest.mark.parametrize("name", WORLDS)
def test_contrasts(name):
    scope, design = WORLDS[name]
    covered, ratio, bias = coverage(1000, scope, **design)
    print(f"\n{name} ({scope}): covered {covered:.3f}, error reported / observed {ratio:.2f}, bias {100 * bias:+.2f}")


@pytest.mark.parametrize("name", LINES)
def test_slopes(name):
    found, covered, error, naive = transfer_worlds.coverage(500, **LINES[name])
    print(f"\n{name}: slopes {found:.2f}, covered {covered:.3f}, bias {error:+.3f} (least squares {naive:+.3f})")
