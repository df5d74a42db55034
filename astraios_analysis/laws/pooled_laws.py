"""One law over many groups: shared exponents and floor, with one amplitude a group, as a law of its own.

A pooled law takes one more input, the number of the group, and has the parameter ``A[lora]`` where the law has ``A``.
Whatever fits, profiles or resamples a law does so with a pooled one.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from astraios_analysis.laws.forms import GROUP, Law
from astraios_analysis.records.refusal import Refusal


def own_parameters(law: Law) -> tuple[str, ...]:
    """Return the parameters that each group has its own of: the amplitudes, which are linear and no floor.

    Raises
    ------
    Refusal
        If the law has none.
    """
    own = tuple(name for name in law.linear if name != "E")
    if not own:
        raise Refusal(f"{law.name} has no amplitude that groups could have their own of; fit groups apart (none)")
    # One amplitude a group: a law with two terms in it shares the second.
    return own[:1]


def pool_law(law: Law, groups: Sequence[str]) -> Law:
    """Return a law over groups, whose last input is the group's position, counted from 1.

    Parameters
    ----------
    law : Law
    groups : sequence of str
        Names of the groups, at least two.
    """
    if len(groups) < 2:
        raise Refusal(f"pooling needs at least two groups; there is {len(groups)}")
    (own,) = own_parameters(law)
    place, n_groups, k = law.index(own), len(groups), len(law.parameters)
    template = law.parameters[place]
    parameters = (
        *(p for p in law.parameters if p.name != own),
        *(replace(template, name=f"{own}[{group}]", meaning=f"{template.meaning}, {group}") for group in groups),
    )
    shared = [j for j in range(k) if j != place]
    order = np.array([*shared, place])

    def function(x: np.ndarray, theta: np.ndarray) -> np.ndarray:
        inputs, full, _ = _spread(law, place, n_groups, x, np.asarray(theta, dtype=float))
        return law.function(inputs, full)[..., 0]

    def gradient(x: np.ndarray, theta: np.ndarray) -> np.ndarray:
        inputs, full, member = _spread(law, place, n_groups, x, np.asarray(theta, dtype=float))
        base = law.gradient(inputs, full)[..., 0, :]
        found = np.zeros((*base.shape[:-2], k - 1 + n_groups, base.shape[-2]))
        found[..., : k - 1, :] = np.swapaxes(base[..., shared], -1, -2)
        belongs = member[..., None, :] == np.arange(n_groups)[:, None]
        found[..., k - 1 :, :] = belongs * base[..., None, :, place]
        return np.swapaxes(found, -1, -2)

    def rescale(theta: np.ndarray, scale: np.ndarray) -> np.ndarray:
        theta = np.asarray(theta, dtype=float)
        moved = theta.copy()
        for g in range(n_groups):
            one = np.empty((*theta.shape[:-1], k))
            one[..., order] = np.concatenate([theta[..., : k - 1], theta[..., k - 1 + g, None]], axis=-1)
            one = law.rescale(one, scale[:-1])
            moved[..., : k - 1], moved[..., k - 1 + g] = one[..., shared], one[..., place]
        return moved

    return Law(
        name=f"{law.name}, pooled",
        formula=f"{law.formula}, one {own} a group",
        parameters=parameters,
        function=function,
        gradient=gradient,
        source=law.source,
        inputs=(*law.inputs, GROUP),
        outcome=law.outcome,
        residual=law.residual,
        linear=tuple(p.name for p in parameters if p.name in law.linear or p.name.startswith(f"{own}[")),
        rescale=rescale if law.rescale else None,
    )


def _spread(law: Law, place: int, n_groups: int, x: np.ndarray, theta: np.ndarray):
    """Return inputs and parameters point by point, (..., n, 1[, d]) and (..., n, k), and the points' groups."""
    k = len(law.parameters)
    shared = [j for j in range(k) if j != place]
    member = np.asarray(x[..., -1], dtype=int) - 1
    inputs = x[..., 0, None] if len(law.inputs) == 1 else x[..., None, :-1]
    full = np.empty((*np.broadcast_shapes(theta.shape[:-1], member.shape[:-1]), member.shape[-1], k))
    full[..., shared] = theta[..., None, : k - 1]
    amplitudes = np.broadcast_to(theta[..., k - 1 :], (*full.shape[:-2], n_groups))
    full[..., place] = np.take_along_axis(amplitudes, np.broadcast_to(member, full.shape[:-1]), axis=-1)
    return inputs, full, member


def number_groups(x: np.ndarray, group: Sequence) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return inputs with the group's number as last column, shape (n, d + 1), and the groups' names in order."""
    names = tuple(dict.fromkeys(map(str, group)))
    numbers = np.array([names.index(str(label)) + 1 for label in group], dtype=float)
    return np.column_stack([np.asarray(x, dtype=float), numbers]), names
