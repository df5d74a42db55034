import numpy as np
import pytest

from training.corpus import space as spaces
from training.corpus.items import render_python
from training.corpus.programs import Program, Step

N_SAMPLED = 60


def sample(space, n, split, seed=0):
    rng = np.random.default_rng(seed)
    return [(spaces.draw_program(space, n_ops, split, rng), rng) for n_ops in (1, 2, 3, 4) for _ in range(n // 4)]


@pytest.mark.parametrize("which", ["corpus", "wide_corpus"])
def test_every_neighbour_fails_an_assertion_or_is_the_same_on_new_inputs_too(which, request):
    space, n_neighbours = request.getfixturevalue(which).space, 0
    for program, rng in sample(space, N_SAMPLED, "test"):
        cases = spaces.discriminating_cases(space, program, rng)
        assert len(cases) >= 3
        assert all(case.holds(program) for case in cases)
        inputs = [spaces.draw_input(program.kind, rng) for _ in range(20)]
        for other in spaces.neighbours(space, program):
            n_neighbours += 1
            if all(case.holds(other) for case in cases):
                assert space.fingerprint(other) == space.fingerprint(program)
                assert all(other.run(value) == program.run(value) for value in inputs)
    assert n_neighbours > 2000


def test_assertions_in_python_pass_for_the_program_and_fail_for_another(corpus):
    for program, rng in sample(corpus.space, 20, "test"):
        tests = spaces.python_assertions(spaces.discriminating_cases(corpus.space, program, rng))
        exec(render_python(program) + "\n" + tests, {})
        own = corpus.space.split(program)
        other = next(n for n in spaces.neighbours(corpus.space, program) if corpus.space.split(n) != own)
        with pytest.raises(AssertionError):
            exec(render_python(other) + "\n" + tests, {})


def test_telling_input_tells():
    up, down = Program("list", (Step("sort_up"),)), Program("list", (Step("sort_down"),))
    value = spaces.telling_input(up, down, np.random.default_rng(0))
    assert up.run(value) != down.run(value)
    with pytest.raises(ValueError, match=r"'list \| sort_up' and 'list \| sort_up' give the same on every input tried"):
        spaces.telling_input(up, up, np.random.default_rng(0))
