import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.generation.generate import Row, batches_within

LENGTHS = st.lists(st.tuples(st.integers(1, 40), st.sampled_from([7, 20])), max_size=40)


def size(batch):
    return len(batch) * (batch[0].n_given + batch[0].n_more)


@given(LENGTHS, st.integers(60, 400))
def test_batches_hold_every_row_once_within_the_budget(lengths, budget):
    rows = [Row(index, *pair) for index, pair in enumerate(lengths)]
    batches = batches_within(rows, budget)
    assert sorted(row for batch in batches for row in batch) == rows
    for batch in batches:
        assert size(batch) <= budget and batch[0].n_given == max(row.n_given for row in batch)
        assert len({row.n_more for row in batch}) == 1
    for batch, following in itertools.pairwise(batches):
        assert size([*batch, following[0]]) > budget or following[0].n_more != batch[0].n_more


@pytest.mark.parametrize(("budget", "sizes"), [(24, [1, 1, 2]), (36, [2, 2]), (60, [4]), (6_000, [4])])
def test_similar_lengths_go_together_longest_first(budget, sizes):
    rows = [Row(0, 4, 3), Row(1, 12, 3), Row(2, 10, 3), Row(3, 9, 3)]
    batches = batches_within(rows, budget)
    assert [row.index for batch in batches for row in batch] == [1, 2, 3, 0]
    assert [len(batch) for batch in batches] == sizes
