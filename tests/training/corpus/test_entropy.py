"""What no model's loss can fall below: the entropy of the generator, exact for programs of up to three operations."""

import math
from itertools import product

import numpy as np
import pytest

from training.corpus.items import describe, python_body, python_header, render_python
from training.corpus.programs import Program
from training.corpus.space import draw_program

PROGRAM_NATS = {1: 2.985, 2: 5.349, 3: 8.156}
"""Entropy of a training program by its number of operations, as docs/ladder.md says it."""

FLOOR = 0.138
"""Nats per token of documented functions of up to three operations, as docs/ladder.md says it."""


@pytest.fixture(scope="module")
def chances(corpus):
    """Return the chance of every training program of up to three operations, given their number."""
    space, settings = corpus.space, corpus.settings
    found = {}
    for n_ops in PROGRAM_NATS:
        weights = {}
        for steps in product(space.steps["list"], repeat=n_ops):
            program = Program("list", steps)
            if program.is_bounded and space.is_needed(program) and space.is_allowed(program, "train"):
                weights[program] = math.prod(
                    settings.constant_share / len(space.steps_with_constant["list"])
                    if step.constant
                    else (1 - settings.constant_share) / len(space.steps_without_constant["list"])
                    for step in steps
                )
        total = sum(weights.values())
        found[n_ops] = {program: weight / total for program, weight in weights.items()}
    return found


def entropy(chances):
    return -sum(chance * math.log(chance) for chance in chances)


@pytest.mark.parametrize("n_ops", PROGRAM_NATS)
def test_programs_have_the_entropy_that_is_said(corpus, chances, n_ops):
    nats = entropy(chances[n_ops].values())
    assert nats == pytest.approx(PROGRAM_NATS[n_ops], abs=5e-4)
    # Drawn programs, which know nothing of the enumeration, surprise as much as they should.
    rng = np.random.default_rng(n_ops)
    surprises = [-math.log(chances[n_ops][draw_program(corpus.space, n_ops, "train", rng)]) for _ in range(2000)]
    error = np.std(surprises) / math.sqrt(len(surprises))
    assert abs(np.mean(surprises) - nats) < 4 * error + 1e-9
    assert error < 0.03


def test_a_description_leaves_nothing_open_but_its_phrasing(corpus, chances):
    # So that the right answers of synthesis and fix have no entropy, and that of explain has ln 2.
    programs = [program for of_size in chances.values() for program in of_size]
    phrasings = range(corpus.settings.phrasings)
    described = {describe(program, phrasing): program for program in programs for phrasing in phrasings}
    assert len(described) == len(programs) * len(phrasings)
    assert len({render_python(program) for program in programs}) == len(programs)


def test_the_floor_of_documented_functions_in_nats_per_token(corpus, chances):
    shares = np.array(corpus.settings.ops_weights[:3]) / sum(corpus.settings.ops_weights[:3])
    nats = entropy(shares) + shares @ [entropy(of_size.values()) for of_size in chances.values()]
    lengths = []
    for of_size in chances.values():
        texts = [
            f'{python_header(program)}\n    """{describe(program, phrasing)}"""{python_body(program)}'
            for program in of_size
            for phrasing in range(corpus.settings.phrasings)
        ]
        # With the token that ends a text.
        counts = [len(encoding.ids) + 1 for encoding in corpus.tokenizer.encode_batch(texts)]
        lengths.append(list(of_size.values()) @ np.reshape(counts, (len(of_size), -1)).mean(axis=1))
    floor = (nats + math.log(corpus.settings.phrasings)) / (shares @ lengths)
    assert floor == pytest.approx(FLOOR, abs=5e-4)
