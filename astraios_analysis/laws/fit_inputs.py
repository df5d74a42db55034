"""What can be fitted: points, weights and held parameters are checked here, before any arithmetic."""

from collections.abc import Collection, Mapping

import numpy as np

from astraios_analysis.laws.forms import Law
from astraios_analysis.laws.objectives import Objective
from astraios_analysis.records.refusal import Refusal


def check_inputs(law: Law, x: np.ndarray) -> np.ndarray:
    """Return inputs as an array of shape (n,) or (n, d).

    Raises
    ------
    Refusal
        If the law takes another number of inputs, or one is not positive and finite.
    """
    x = np.asarray(x, dtype=float)
    d = len(law.inputs)
    if x.ndim == 2 and x.shape[1] == 1 and d == 1:
        x = x[:, 0]
    given = 1 if x.ndim <= 1 else x.shape[-1]
    if given != d or x.ndim > 2:
        raise Refusal(f"{law.name} takes {d} input{'s' if d > 1 else ''} ({', '.join(law.inputs)}), not {given}")
    wrong = ~(np.isfinite(x) & (x > 0))
    if np.any(wrong):
        raise Refusal(f"inputs of {law.name} must be positive and finite; one is {x[wrong][0]:g}: leave it out")
    return np.atleast_1d(x)


def check_points(
    law: Law, objective: Objective, x: np.ndarray, y: np.ndarray, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return inputs, outcomes and weights as arrays; refuse what is missing, not positive, or of another length."""
    x, y = check_inputs(law, x), np.asarray(y, dtype=float)
    weights = np.ones(len(y)) if weights is None else np.asarray(weights, dtype=float)
    if not len(x) == len(y) == len(weights):
        raise Refusal(f"x, y and weights must have one length; they have {len(x)}, {len(y)} and {len(weights)}")
    if not np.all(np.isfinite(y)):
        raise Refusal(f"an outcome is {y[~np.isfinite(y)][0]:g}; leave missing points out before fitting")
    if objective.residual == "log" and np.any(y <= 0):
        raise Refusal(f"an outcome is {y[y <= 0][0]:g} and has no log; use linear residuals, or leave it out")
    if not (np.all(np.isfinite(weights)) and np.all(weights >= 0)):
        raise Refusal("weights must be finite and not negative")
    return x, y, weights


def check_fixed(law: Law, fixed: Mapping[str, float]) -> dict[int, float]:
    """Return held parameters by position; refuse unknown ones and values outside the bounds."""
    held = {}
    for name, value in fixed.items():
        if name not in law.names:
            raise Refusal(f"{law.name} has no parameter {name!r}; it has {', '.join(law.names)}")
        parameter = law.parameters[law.index(name)]
        if not parameter.lower <= value <= parameter.upper:
            raise Refusal(f"{name} is held at {value:g}, outside {parameter.lower:g} to {parameter.upper:g}")
        held[law.index(name)] = float(value)
    return held


def check_count(law: Law, x: np.ndarray, weights: np.ndarray, held: Collection[int]) -> None:
    """Refuse points that leave no degree of freedom, or fewer distinct inputs than parameters."""
    used = weights > 0
    n_free, n_obs = len(law.parameters) - len(held), int(used.sum())
    if n_obs - n_free < 1:
        raise Refusal(
            f"{n_obs} points leave no degree of freedom for the {n_free} parameters of {law.name}; "
            f"give at least {n_free + 1} points, a law with fewer parameters, or hold some"
        )
    n_distinct = len(np.unique(x[used], axis=0))
    if n_distinct < n_free:
        raise Refusal(
            f"{n_distinct} distinct value{'s' if n_distinct != 1 else ''} of {', '.join(law.inputs)} cannot identify "
            f"the {n_free} parameters of {law.name}; measure more, or choose a law with fewer parameters"
        )
