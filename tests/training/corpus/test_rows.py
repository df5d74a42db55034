import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.corpus.rows import END_ID, Row, document_rows, packed_rows

TOKENS = st.integers(2, 99)
PARTS = st.tuples(st.lists(TOKENS, min_size=1, max_size=30), st.lists(TOKENS, max_size=20))
ROWS = PARTS.map(lambda parts: Row((*parts[1], *parts[0], END_ID), len(parts[1])))
ROWS = st.lists(ROWS, min_size=1, max_size=80)
EXAMPLE = [Row((5, 6, 7, END_ID), 2), Row((8, 9, END_ID), 1), Row((4, END_ID), 0)]


def masked(rows):
    return [(row.tokens.tolist(), row.loss_mask.astype(int).tolist()) for row in rows]


def test_masks_of_documents():
    scored = [([5, 6, 7, 0], [0, 1, 1, 1]), ([8, 9, 0], [0, 1, 1]), ([4, 0], [0, 1])]
    assert masked(document_rows(EXAMPLE, 10)) == scored
    assert [mask for _, mask in masked(document_rows(EXAMPLE, 10, "completion"))] == [[0, 0, 1, 1], [0, 1, 1], [0, 1]]


def test_long_documents_are_cut_and_left_out_where_nothing_is_scored():
    assert masked(document_rows(EXAMPLE, 3, "completion"))[0] == ([5, 6, 7], [0, 0, 1])
    assert [tokens for tokens, _ in masked(document_rows(EXAMPLE, 2, "completion"))] == [[8, 9], [4, 0]]


@settings(max_examples=100)
@given(rows=ROWS, length=st.integers(2, 40))
def test_blocks_hold_the_documents_one_after_the_other(rows, length):
    stream = [token for row in rows for token in row.tokens]
    if len(stream) < length:
        return
    blocks = masked(packed_rows(rows, length))
    assert len(blocks) == len(stream) // length
    assert [token for tokens, _ in blocks for token in tokens] == stream[: length * len(blocks)]
    assert all(mask == [0] + [1] * (length - 1) for _, mask in blocks)


def test_wrong_sizes_are_refused():
    with pytest.raises(ValueError, match="none of 1 documents, cut to 2 tokens, has a token in the loss"):
        document_rows(EXAMPLE[:1], 2, "completion")
    with pytest.raises(ValueError, match="3 documents with 9 tokens cannot fill a block of length 10"):
        packed_rows(EXAMPLE, 10)
