import os
import subprocess
import sys
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.corpus.rows import bucket, document_rows, packed_rows, shuffled, stack
from training.corpus.rows import END_ID, PADDING_ID, Row, encode

ROWS = st.lists(
    st.tuples(st.lists(st.integers(2, 99), min_size=1, max_size=30), st.lists(st.integers(2, 99), max_size=20)).map(
        lambda parts: Row((*parts[1], *parts[0], END_ID), len(parts[1]))
    ),
    min_size=1,
    max_size=80,
)
EXAMPLE = [Row((5, 6, 7, END_ID), 2), Row((8, 9, END_ID), 1), Row((4, END_ID), 0)]


def masked(rows):
    return [(row.tokens.tolist(), row.loss_mask.astype(int).tolist()) for row in rows]


def test_masks_of_documents():
    assert masked(document_rows(EXAMPLE, 10)) == [
        ([5, 6, 7, 0], [0, 1, 1, 1]),
        ([8, 9, 0], [0, 1, 1]),
        ([4, 0], [0, 1]),
    ]
    assert [mask for _, mask in masked(document_rows(EXAMPLE, 10, "completion"))] == [
        [0, 0, 1, 1],
        [0, 1, 1],
        [0, 1],
    ]


def test_long_documents_are_cut_and_left_out_where_nothing_is_scored():
    assert masked(document_rows(EXAMPLE, 3, "completion"))[0] == ([5, 6, 7], [0, 0, 1])
    assert [tokens for tokens, _ in masked(document_rows(EXAMPLE, 2, "completion"))] == [[8, 9], [4, 0]]


def test_masks_of_blocks():
    assert masked(packed_rows(EXAMPLE, 4)) == [([5, 6, 7, 0], [0, 1, 1, 1]), ([8, 9, 0, 4], [0, 1, 1, 1])]
    assert masked(packed_rows(EXAMPLE, 4, "completion")) == [
        ([5, 6, 7, 0], [0, 0, 1, 1]),
        ([8, 9, 0, 4], [0, 1, 1, 1]),
    ]


@settings(max_examples=100, deadline=None)
@given(rows=ROWS, length=st.integers(2, 40))
def test_blocks_hold_the_documents_one_after_the_other(rows, length):
    stream = [token for row in rows for token in row.tokens]
    if len(stream) < length:
        return
    blocks = stack(packed_rows(rows, length))
    assert blocks.tokens.shape == (len(stream) // length, length)
    assert blocks.tokens.ravel().tolist() == stream[: blocks.tokens.size]
    assert blocks.is_text.all()
    assert not blocks.loss_mask[:, 0].any()
    assert blocks.loss_mask[:, 1:].all()


@settings(max_examples=100, deadline=None)
@given(rows=ROWS, seed=st.integers(0, 5), size=st.sampled_from([{"batch_tokens": 60}, {"batch_rows": 4}]))
def test_buckets_hold_every_row_once(rows, seed, size):
    scored = document_rows(rows, 50, "completion")
    batches = bucket(scored, seed=seed, **size)
    assert sorted(masked(row for batch in batches for row in batch.rows())) == sorted(masked(scored))
    for batch in batches:
        assert (batch.tokens[~batch.is_text] == PADDING_ID).all()
        assert not batch.loss_mask[~batch.is_text].any()
        assert batch.is_text.any(axis=0).all()
        if "batch_tokens" in size:
            assert batch.tokens.size <= 60
    if "batch_rows" in size:
        assert [len(batch.tokens) for batch in batches[:-1]] == [4] * (len(batches) - 1)


def test_order_comes_from_seed_and_epoch(corpus):
    rows = encode(corpus.tokenizer, [item.document for item in islice(corpus.instructions(0), 300)])
    scored = document_rows(rows, 256)

    def order(seed, epoch=0):
        return [batch.tokens.tolist() for batch in bucket(scored, seed=seed, epoch=epoch, batch_tokens=2048)]

    assert order(1) == order(1)
    assert order(1) != order(2)
    assert order(1) != order(1, epoch=1)
    assert shuffled(rows, 1) == shuffled(rows, 1) != shuffled(rows, 2)
    assert sorted(shuffled(rows, 1, epoch=3), key=hash) == sorted(rows, key=hash)


def test_buckets_are_hardly_padded(corpus):
    rows = encode(corpus.tokenizer, [item.document for item in islice(corpus.instructions(0), 2000)])
    for size in ({"batch_tokens": 2048}, {"batch_rows": 32}):
        batches = bucket(document_rows(rows, 512), seed=0, **size)
        assert sum(batch.n_tokens for batch in batches) / sum(batch.tokens.size for batch in batches) > 0.93


def test_longest_document_fits_the_positions_of_small_models(corpus):
    rows = encode(corpus.tokenizer, [item.document for item in islice(corpus.instructions(0), 2000)])
    assert max(len(row.tokens) for row in rows) < 320


def test_wrong_sizes_are_refused():
    scored = document_rows(EXAMPLE, 10)
    with pytest.raises(ValueError, match="unknown choice of loss tokens 'answers'; choose from all, completion"):
        document_rows(EXAMPLE, 10, "answers")
    with pytest.raises(ValueError, match="none of 1 documents, cut to 2 tokens, has a token in the loss"):
        document_rows(EXAMPLE[:1], 2, "completion")
    with pytest.raises(ValueError, match="3 documents with 9 tokens cannot fill a block of length 10"):
        packed_rows(EXAMPLE, 10)
    with pytest.raises(ValueError, match="give one of batch_tokens and batch_rows"):
        bucket(scored, seed=0)
    with pytest.raises(ValueError, match="3 rows of up to 4 tokens do not fit into batches of 3 tokens"):
        bucket(scored, seed=0, batch_tokens=3)
    with pytest.raises(ValueError, match="0 rows of up to 0 tokens"):
        bucket([], seed=0, batch_rows=3)


def test_rows_are_what_the_loop_takes(corpus):
    pytest.importorskip("torch", reason="needs torch: the loop's rows are checked with it")
    from training.loop.batches import RowSet

    rows = encode(corpus.tokenizer, [item.document for item in islice(corpus.instructions(0), 60)])
    vocab_size = corpus.tokenizer.get_vocab_size()
    documents = RowSet(document_rows(rows, 256), "training", layout="documents", max_length=256, vocab_size=vocab_size)
    packed = RowSet(packed_rows(rows, 64), "training", layout="packed", max_length=64, vocab_size=vocab_size)
    assert len(documents) == 60
    assert packed.n_tokens(range(len(packed))) == 64 * len(packed)


def test_importing_rows_takes_no_torch():
    code = "import sys, training.corpus.rows; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, env=dict(os.environ))


def test_stacked_rows_are_padded_on_the_right():
    batch = stack(document_rows(EXAMPLE, 10))
    assert batch.tokens.tolist() == [[5, 6, 7, 0], [8, 9, 0, 1], [4, 0, 1, 1]]
    assert batch.n_tokens == 9
    assert batch.tokens.dtype == np.int64
