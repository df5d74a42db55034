"""A law fitted to each of many groups at once: searched one by one, polished side by side."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from astraios_analysis.laws.fit import N_STARTS, LawFit, choose, make_problem
from astraios_analysis.laws.fit_inputs import check_count, check_points
from astraios_analysis.laws.forms import Law
from astraios_analysis.laws.huber_scale import solve
from astraios_analysis.laws.objectives import Objective
from astraios_analysis.laws.residuals import LawResiduals
from astraios_analysis.laws.solver import Solution
from astraios_analysis.laws.starts import find_starts
from astraios_analysis.records.refusal import Refusal


@dataclass(frozen=True)
class GroupFits:
    """One fit a group, without anything shared between them.

    Attributes
    ----------
    fits : dict of str to LawFit
        Groups that could be fitted, in the order of the data.
    refused : dict of str to str
        Groups that could not, and why.
    """

    fits: dict[str, LawFit]
    refused: dict[str, str]


def fit_groups(
    law: Law,
    x: np.ndarray,
    y: np.ndarray,
    group: Sequence,
    *,
    objective: Objective | None = None,
    n_starts: int = N_STARTS,
    must_converge: bool = True,
) -> GroupFits:
    """Fit a law to each group of points by itself.

    Parameters
    ----------
    law : Law
    x : ndarray, shape (n,) or (n, d)
    y : ndarray, shape (n,)
    group : sequence, shape (n,)
        Label of each point.
    objective : Objective, optional
        Least squares on the law's own residual scale by default.
    n_starts : int
        Starts to polish in each group.
    must_converge : bool
        Refuse groups whose solver stops with a gradient; otherwise their fits are kept and say so.
    """
    objective = objective or Objective(residual=law.residual)
    x, y, labels = np.asarray(x, dtype=float), np.asarray(y, dtype=float), np.asarray(group)
    if not len(x) == len(y) == len(labels):
        raise Refusal(f"x, y and group must have one length; they have {len(x)}, {len(y)} and {len(labels)}")
    problems, starts, refused = {}, {}, {}
    for label in dict.fromkeys(labels.tolist()):
        own = labels == label
        try:
            own_x, own_y, weights = check_points(law, objective, x[own], y[own], None)
            check_count(law, own_x, weights, ())
        except Refusal as error:
            refused[label] = str(error)
            continue
        problems[label] = make_problem(law, own_x, own_y, objective, {})
        starts[label] = find_starts(problems[label], weights, n_starts)
    fits = {}
    for label, solution, sigma in _polish(law, problems, starts, objective):
        weights = np.ones(problems[label].target.shape)
        try:
            fits[label] = choose(problems[label], solution, sigma, weights, objective, must_converge=must_converge)
        except Refusal as error:
            refused[label] = str(error)
    return GroupFits(fits, refused)


def _polish(law: Law, problems: dict, starts: dict, objective: Objective):
    """Minimise all groups' problems in one batch; yield each group's minima."""
    if not problems:
        return
    n = max(len(problem.target) for problem in problems.values())
    owner = np.concatenate([np.full(len(starts[label]), k) for k, label in enumerate(problems)])
    # Rows that pad short groups repeat their first point with weight zero.
    rows = [np.r_[np.arange(len(p.target)), np.zeros(n - len(p.target), int)] for p in problems.values()]
    weights = np.stack([np.arange(n) < len(p.target) for p in problems.values()]).astype(float)
    batch = LawResiduals(
        law,
        np.stack([p.x[r] for p, r in zip(problems.values(), rows, strict=True)])[owner],
        np.stack([p.target[r] for p, r in zip(problems.values(), rows, strict=True)])[owner],
        objective.residual,
        np.ones(len(law.inputs)),
    )
    solution, sigma = solve(batch, np.concatenate(list(starts.values())), weights[owner], objective)
    for k, label in enumerate(problems):
        own = owner == k
        yield (
            label,
            Solution(*(getattr(solution, name)[own] for name in Solution.__dataclass_fields__)),
            sigma[own],
        )
