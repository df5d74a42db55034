"""Fits against certified values: NIST Statistical Reference Datasets, non-linear regression (public domain).

Found from the data alone: neither of NIST's two starts is used.
"""

import numpy as np
import pytest
from scipy.special import expit

from astraios_analysis.laws.engine import fit_law
from astraios_analysis.laws.law import Law, Parameter, rescale_by, value_and_gradient
from astraios_analysis.laws.residuals import Objective

EXPONENTS = tuple(np.geomspace(0.1, 10, 9))


def rise(x, b1, b2):
    up = np.exp(b2 * np.log(x))
    yield b1 * up
    yield from (up, b1 * up * np.log(x))


def saturation(x, b1, b2):
    yield -b1 * np.expm1(-b2 * x)
    yield from (-np.expm1(-b2 * x), b1 * x * np.exp(-b2 * x))


def growth(x, b1, b2, b3):
    share = expit(b3 * x - b2)
    yield b1 * share
    slope = b1 * share * (1 - share)
    yield from (share, -slope, slope * x)


def law(name, terms, position, *parameters):
    """The parameter at the position, if any, is per unit of x."""
    rescale = None if position is None else rescale_by(lambda theta, scale: {position: 1 / scale[0]})
    how = value_and_gradient(terms) | {"source": "NIST StRD", "outcome": "score", "linear": ("b1",)}
    return Law(name, name, parameters, **how, rescale=rescale)


AMPLITUDE = Parameter("b1", 0, np.inf, "y")
RATE = Parameter("b2", 0, np.inf, "1 / x", EXPONENTS)
DANWOOD = law("DanWood", rise, None, AMPLITUDE, Parameter("b2", 0, np.inf, "1", EXPONENTS))
BOXBOD = law("BoxBOD", saturation, 1, AMPLITUDE, RATE)
OFFSET = Parameter("b2", -np.inf, np.inf, "1", (-2, 0, 1, 2, 4))
RAT42 = law("Rat42", growth, 2, AMPLITUDE, OFFSET, Parameter("b3", 0, np.inf, "1 / x", EXPONENTS))
# Data as pairs of y and x; certified parameters with standard errors, and the residual sum of squares.
CERTIFIED = {
    "DanWood": (
        DANWOOD,
        "2.138 1.309 3.421 1.471 3.597 1.490 4.340 1.565 4.882 1.611 5.660 1.680",
        {"b1": (7.6886226176e-01, 1.8281973860e-02), "b2": (3.8604055871e00, 5.1726610913e-02)},
        4.3173084083e-03,
    ),
    "BoxBOD": (
        BOXBOD,
        "109 1 149 2 149 3 191 5 213 7 224 10",
        {"b1": (2.1380940889e02, 1.2354515176e01), "b2": (5.4723748542e-01, 1.0455993237e-01)},
        1.1680088766e03,
    ),
    "Rat42": (
        RAT42,
        "8.930 9 10.800 14 18.590 21 22.330 28 39.350 42 56.110 57 61.730 63 64.620 70 67.080 79",
        {
            "b1": (7.2462237576e01, 1.7340283401e00),
            "b2": (2.6180768402e00, 8.8295217536e-02),
            "b3": (6.7359200066e-02, 3.4465663377e-03),
        },
        8.0565229338e00,
    ),
}


@pytest.mark.parametrize("name", CERTIFIED)
def test_certified_parameters_and_standard_errors(name):
    law, pairs, certified, squares = CERTIFIED[name]
    y, x = np.array(pairs.split(), dtype=float).reshape(-1, 2).T
    found = fit_law(law, x, y, objective=Objective("linear"))
    for parameter, (value, error) in certified.items():
        # Eight digits of each parameter and seven of each standard error.
        assert found.params[parameter] == pytest.approx(value, rel=1e-8)
        assert found.standard_errors[parameter] == pytest.approx(error, rel=1e-7)
    assert 2 * found.value == pytest.approx(squares, rel=1e-9)
    assert found.dof == len(y) - len(certified)
