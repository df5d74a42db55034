import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.loop.batches import IGNORED, RowSet, step_rows, step_starts
from training.spec.run import micro_batch_size

ROWS = [([1, 2, 3, 4], [True] * 4), ([5, 6], [True] * 2), ([7, 8, 9], [False, False, True])]


def row_set(rows, layout="documents", max_length=4):
    return RowSet(rows, "training", layout, max_length=max_length, vocab_size=10)


def test_rows_are_padded_on_the_right_and_scored_by_the_mask():
    batch = row_set(ROWS).batch([1, 0, 2])
    assert batch.tokens.tolist() == [[5, 6, 0, 0], [1, 2, 3, 4], [7, 8, 9, 0]]
    assert batch.targets.tolist() == [[6, IGNORED, IGNORED], [2, 3, 4], [IGNORED, 9, IGNORED]]
    assert (batch.n_tokens, batch.n_targets) == (9, 5)


def test_rows_start_where_the_step_says():
    batch = row_set(ROWS).batch([1, 0, 2], {0: 3, 1: 0, 2: 30})
    assert batch.positions.tolist() == [[0, 1, 2, 3], [3, 4, 5, 6], [30, 31, 32, 33]]
    assert row_set(ROWS).batch([1, 0]).positions is None
    drawn = [step_starts(range(500), 30, seed=1, step=step) for step in range(3)]
    assert drawn[0] == step_starts(range(500), 30, seed=1, step=0) != drawn[1]
    assert all(set(starts.values()) == set(range(31)) for starts in drawn)
    assert step_starts(range(5), None, seed=1, step=0) is None


def test_equal_rows_have_one_digest():
    arrays = [(np.array(tokens, dtype=np.int32), np.array(mask)) for tokens, mask in ROWS]
    assert row_set(arrays).digest == row_set(ROWS).digest
    # What a mask says of the first token does not matter.
    assert row_set([([1, 2], [False, True])]).digest == row_set([([1, 2], [True, True])]).digest


@pytest.mark.parametrize(
    "changed",
    [
        ROWS[::-1],
        ROWS[:2],
        [ROWS[0], ROWS[1], ([7, 8, 1], ROWS[2][1])],
        [ROWS[0], ROWS[1], ([7, 8, 9], [True] * 3)],
        # The same tokens one after the other, cut elsewhere.
        [([1, 2, 3], [True] * 3), ([4, 5, 6], [True] * 3), ROWS[2]],
    ],
)
def test_other_rows_have_another_digest(changed):
    assert row_set(changed).digest != row_set(ROWS).digest


@pytest.mark.parametrize(
    ("rows", "layout", "message"),
    [
        ([], "documents", "there are no training rows; give at least one"),
        ([([1, 2], [True])], "documents", "training row 0 has tokens of shape (2,) and a loss mask of shape (1,)"),
        ([([[1, 2]], [[True, True]])], "documents", "training row 0 has tokens of shape (1, 2)"),
        ([ROWS[1], ([1], [True])], "documents", "training row 1 has 1 tokens; a row has from 2 to sequence_length 4"),
        ([([1] * 5, [True] * 5)], "documents", "training row 0 has 5 tokens; a row has from 2 to sequence_length 4"),
        ([ROWS[0], ROWS[1]], "packed", "row 1 has 2 tokens, and packed blocks have sequence_length 4; cut blocks"),
        ([([1, 10], [True] * 2)], "documents", "token id 10, and the model's vocabulary goes from 0 to 9; use the"),
        ([([1, -1], [True] * 2)], "documents", "token id -1, and the model's vocabulary goes from 0 to 9"),
        ([([1, 2], [True, False])], "documents", "no token of the training rows is scored; set loss_mask"),
    ],
)
def test_rows_that_cannot_be_trained_on_are_named(rows, layout, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        row_set(rows, layout)


def test_rows_of_one_length_come_together():
    assert row_set(ROWS).by_length([0, 1, 2], 2) == [[1, 2], [0]]


@given(n_rows=st.integers(1, 50), global_batch=st.integers(1, 20), n_steps=st.integers(1, 20))
def test_steps_take_rows_in_order_and_begin_again(n_rows, global_batch, n_steps):
    taken = [index for step in range(n_steps) for index in step_rows(n_rows, global_batch, step)]
    assert taken == [place % n_rows for place in range(n_steps * global_batch)]


class TestMicroBatch:
    def test_splits_the_global_batch(self):
        sizes = {(32, None, 1): 32, (32, None, 4): 8, (32, 1, 1): 1, (32, 4, 2): 4}
        assert {given: micro_batch_size(*given) for given in sizes} == sizes

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ((8, 3, 1), "passes of 3 rows on each of 1 processes; choose micro_batch from 1, 2, 4, 8"),
            ((8, 8, 2), "choose micro_batch from 1, 2, 4"),
            ((8, None, 3), "choose a global_batch that the number of processes divides"),
            ((2, None, 4), "choose a global_batch that the number of processes divides"),
        ],
    )
    def test_refuses_what_does_not_split(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            micro_batch_size(*arguments)
