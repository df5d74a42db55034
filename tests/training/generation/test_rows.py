import itertools

from hypothesis import given
from hypothesis import strategies as st

from training.generation.generate import Row, batches_within

LENGTHS = st.lists(st.tuples(st.integers(1, 40), st.sampled_from([7, 20])), max_size=40)


def size(batch):
    return len(batch) * (batch[0].n_given + max(row.n_more for row in batch))


@given(LENGTHS, st.integers(60, 400), st.sampled_from([None, 60, 45]))
def test_batches_hold_every_row_once_within_the_budget(lengths, budget, n_positions):
    rows = [Row(index, *pair) for index, pair in enumerate(lengths) if sum(pair) <= (n_positions or 60)]
    batches = batches_within(rows, budget, n_positions)
    assert sorted(row for batch in batches for row in batch) == rows
    for batch in batches:
        assert size(batch) <= budget and batch[0].n_given == max(row.n_given for row in batch)
        assert size(batch) <= len(batch) * (n_positions or 60)
    for batch, following in itertools.pairwise(batches):
        together = [*batch, following[0]]
        assert size(together) > budget or size(together) > len(together) * (n_positions or 60)
