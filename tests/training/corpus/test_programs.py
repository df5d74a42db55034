from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.corpus.items import describe, render_python
from training.corpus.programs import INPUT_BOUNDS, MAX_LENGTH, MAX_MAGNITUDE, OPERATIONS, Program, Step
from training.corpus.settings import CorpusSettings
from training.corpus.space import PROBES, ProgramSpace, draw_input, draw_program, neighbours, reorder

INPUTS = {"list": st.lists(st.integers(-20, 20), max_size=12), "number": st.integers(-60, 60)}
INPUTS["string"] = st.text("abeiouxyABEIO 19-", max_size=12)
SPACE = ProgramSpace(CorpusSettings(kinds=("list", "number", "string")))


@st.composite
def programs(draw, max_ops=4):
    kind = draw(st.sampled_from(sorted(INPUTS)))
    steps = []
    gives = kind
    for _ in range(draw(st.integers(0, max_ops))):
        steps.append(draw(st.sampled_from(SPACE.steps[gives])))
        gives = steps[-1].operation.gives
    return Program(kind, tuple(steps))


def run_rendered(code, value):
    # Text of our own generator, made of known operations on bounded values: nothing a model wrote.
    scope = {}
    exec(code, scope)
    return scope["solve"](value)


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_every_operation_is_written_as_it_is_computed(name):
    operation = OPERATIONS[name]
    for constant, (names, alternative) in product(operation.constants or (0,), [(0, False), (1, True)]):
        program = Program(operation.takes, (Step(name, constant),))
        code = render_python(program, names, (alternative,))
        for probe in PROBES[operation.takes]:
            assert run_rendered(code, probe) == program.run(probe), code


def test_rendered_programs_give_what_the_interpreter_gives(corpus, wide_corpus):
    for source in (corpus, wide_corpus):
        rng = np.random.default_rng(1)
        for n_ops in (1, 2, 3, 4) * 50:
            program = draw_program(source.space, n_ops, "train", rng)
            style = (int(rng.integers(3)), (rng.random(n_ops) < 0.5).tolist())
            values = [draw_input(program.kind, rng) for _ in range(3)]
            for code in (render_python(program), render_python(program, *style)):
                assert [run_rendered(code, value) for value in values] == [program.run(value) for value in values]


@settings(max_examples=300)
@given(program=programs(), data=st.data())
def test_values_stay_within_the_declared_bounds_and_arguments_as_they_were(program, data):
    bound = INPUT_BOUNDS[program.kind]
    value = argument = data.draw(INPUTS[program.kind])
    before = repr(argument)
    for step in program.steps:
        bound = step.operation.grow(bound, step.constant)
        if not bound.is_allowed:
            assert not program.is_bounded
            return
        value = step.operation.apply(value, step.constant)
        numbers = value if isinstance(value, list) else [value] if isinstance(value, int) else [0]
        assert all(abs(number) <= bound.magnitude <= MAX_MAGNITUDE for number in numbers)
        assert (1 if isinstance(value, int) else len(value)) <= bound.length <= MAX_LENGTH
    assert program.is_bounded
    assert repr(argument) == before


def test_towers_of_squares_are_not_bounded():
    squares = Program("list", (Step("square"),) * 4)
    assert not squares.is_bounded
    assert Program("list", (Step("square"),) * 2).is_bounded
    assert not Program("list", (Step("running_total"), Step("running_total"), Step("square"))).is_bounded


@settings(max_examples=200)
@given(program=programs(), data=st.data())
def test_exchanging_steps_that_commute_changes_neither_key_nor_meaning(program, data):
    if not program.is_bounded:
        return
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    other = reorder(SPACE, program, rng)
    assert SPACE.key(other) == SPACE.key(program)
    assert SPACE.fingerprint(other) == SPACE.fingerprint(program)
    value = data.draw(INPUTS[program.kind])
    assert other.run(value) == SPACE.canonical(program).run(value) == program.run(value)


def test_canonical_form_is_one_for_all_orders():
    steps = [Step("keep_even"), Step("keep_positive"), Step("sort_up")]
    orders = [(0, 1, 2), (2, 1, 0), (1, 2, 0), (2, 0, 1)]
    forms = {SPACE.canonical(Program("list", tuple(steps[i] for i in order))) for order in orders}
    assert len(forms) == 1
    assert not SPACE.commute(Step("reverse"), Step("sort_up"))
    assert SPACE.commute(Step("add", 2), Step("add", 3))
    assert not SPACE.commute(Step("add", 2), Step("multiply", 3))


def all_programs(space, n_ops):
    chains = [(kind, kind, ()) for kind in space.steps]
    for _ in range(n_ops):
        chains = [(first, s.operation.gives, (*steps, s)) for first, kind, steps in chains for s in space.steps[kind]]
    return [program for first, _, steps in chains if (program := Program(first, steps)).is_bounded]


def test_probes_tell_all_programs_of_two_operations_apart(corpus):
    rng = np.random.default_rng(2)
    inputs = [rng.integers(-20, 21, size=rng.integers(0, 13)).tolist() for _ in range(60)]
    inputs += [rng.integers(1, 9, size=rng.integers(5, 13)).tolist() for _ in range(20)]
    outputs = {}
    for program in all_programs(corpus.space, 2):
        found = [program.run(value) for value in inputs]
        first = outputs.setdefault(corpus.space.fingerprint(program), (program.label, found))
        assert first[1] == found, (first[0], program.label)


def test_a_program_that_fewer_operations_make_is_not_needed(corpus):
    space = corpus.space
    redundant = ["sort_up sort_up", "sort_up reverse", "negate negate", "reverse sort_down", "square absolute"]
    redundant += ["keep_even keep_odd", "sort_up unique reverse"]
    needed = ["sort_up", "keep_even reverse", "differences negate sort_up"]
    for names in redundant + needed:
        program = Program("list", tuple(map(Step, names.split())))
        assert space.is_needed(program) == (names in needed), names


def test_neighbours_are_one_mutation_away(corpus):
    program = Program("list", (Step("add", 2), Step("sort_up")))
    found = {other.label for other in neighbours(corpus.space, program)}
    assert {"list | add:3 | sort_up", "list | add:2", "list | sort_up", "list | sort_up | add:2"} <= found
    # 23 other operations in either place, two dropped, one exchanged.
    assert len(found) == 2 * 23 + 2 + 1
    assert program.label not in found


@pytest.mark.parametrize("phrasing", range(3))
def test_each_operation_has_its_own_words(phrasing):
    programs_ = all_programs(SPACE, 1)
    assert len({describe(program, phrasing) for program in programs_}) == len(programs_)


def test_a_split_without_programs_says_so(monkeypatch):
    monkeypatch.setattr("training.corpus.space._MOST_TRIES", 20)
    space = ProgramSpace(CorpusSettings(test_share=1e-9))
    with pytest.raises(ValueError, match=r"no program of 2 operations for split 'test' in \d+ tries; allow more kinds"):
        draw_program(space, 2, "test", np.random.default_rng(0))
