from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.corpus.embedded import EmbeddedCorpus
from training.corpus.items import Document, Example, lay_out
from training.corpus.rows import (
    END_ID,
    END_OF_TEXT,
    PADDING,
    encode,
    encode_context,
    save_tokenizer,
    tokenizer_bytes,
    train_tokenizer,
)
from training.corpus.settings import COMPLETION, SPLITS, TASKS
from training.spec.grids import LADDER_VOCABULARY
from training.suite.problems import PERTURBATIONS, context

SMALL = train_tokenizer(["def solve(xs):\n    xs = xs[::-1]\n    return xs"] * 3, 300)


def test_the_tokenizer_is_rebuilt_to_the_byte(corpus, tmp_path):
    # Other processes and numbers of threads are tried with the streams (test_streams).
    again = EmbeddedCorpus().tokenizer
    assert tokenizer_bytes(again) == tokenizer_bytes(corpus.tokenizer)
    path = save_tokenizer(again, tmp_path / "new")
    assert path.read_bytes() == tokenizer_bytes(corpus.tokenizer)


def test_special_tokens_have_their_ids(corpus):
    for tokenizer in (corpus.tokenizer, SMALL):
        assert tokenizer.token_to_id(END_OF_TEXT) == END_ID == 0
        assert tokenizer.token_to_id(PADDING) == 1


def test_size_is_at_most_that_of_the_settings(corpus):
    assert 300 < corpus.tokenizer.get_vocab_size() <= corpus.settings.vocab_size


def test_words_of_every_split_are_single_tokens(corpus):
    # What the tokenizer was trained on is the training split; problems are made of the same words.
    texts = [item.document.text for task in TASKS for item in corpus.problems(task, n=40)]
    for text in texts:
        words = [word for word, _ in corpus.tokenizer.pre_tokenizer.pre_tokenize_str(text)]
        assert len(corpus.tokenizer.encode(text).ids) <= 1.02 * len(words), text


def test_digits_are_cut_one_by_one(corpus):
    assert corpus.tokenizer.encode("[10, -42]").tokens[1:3] == ["1", "0"]


@settings(max_examples=200)
@given(text=st.text())
def test_no_text_is_unknown(text):
    assert SMALL.decode(SMALL.encode(text).ids, skip_special_tokens=False) == text


def documents(corpus):
    yield from (item.document for item in islice(corpus.pretraining(6), 120))
    yield from (item.document for item in islice(corpus.instructions(6), 120))
    for task in (COMPLETION, *TASKS):
        yield from (item.document for item in corpus.problems(task, n=20))


def test_a_vocabulary_of_used_words_knows_all_streams_problems_and_changed_prompts(skilled_corpus):
    tokenizer = skilled_corpus.tokenizer
    assert tokenizer.get_vocab_size() == LADDER_VOCABULARY
    for split in SPLITS:
        streams = (skilled_corpus.pretraining(8, split), skilled_corpus.instructions(8, split))
        texts = [item.document.text for stream in streams for item in islice(stream, 150)]
        if split != "train":
            texts += [item.document.text for task in TASKS for item in skilled_corpus.problems(task, split, 40)]
        texts += [
            context(change(item))
            for task, changes in PERTURBATIONS.values()
            for change in changes
            for item in skilled_corpus.problems(task, n=40)[:40:4]
        ]
        for text in texts:
            tokens = tokenizer.encode(text)
            assert PADDING not in tokens.tokens
            # Every word is one token: nothing is longer than with all merges.
            assert len(tokens.ids) == len(tokenizer.pre_tokenizer.pre_tokenize_str(text))
            assert tokenizer.decode(tokens.ids, skip_special_tokens=False) == text
    assert tokenizer.decode(tokenizer.encode("thesort").ids) == "thesort"
    assert tokenizer.encode("Ü").tokens == [PADDING]


def test_context_and_target_meet_where_a_token_ends_and_not_in_white_space(corpus, wide_corpus, skilled_corpus):
    for source in (corpus, wide_corpus, skilled_corpus):
        found = list(documents(source))
        for document, row in zip(found, encode(source.tokenizer, found), strict=True):
            assert row.tokens == (*source.tokenizer.encode(document.text).ids, END_ID)
            assert list(row.tokens[: row.n_context]) == encode_context(source.tokenizer, document.context)
            assert document.context == document.context.rstrip()


def test_a_context_that_ends_in_a_line_end_would_meet_inside_a_token(corpus):
    # The trap: in running text, a line end and the indentation after it are one token.
    header, body = "def solve(xs):\n", "    return xs"
    tokenizer = corpus.tokenizer
    joint = tokenizer.encode(header + body).ids
    assert joint != tokenizer.encode(header).ids + tokenizer.encode(body).ids
    # Encoded in two parts, training and generation agree all the same.
    (row,) = encode(tokenizer, [Document(header, body)])
    assert list(row.tokens[: row.n_context]) == encode_context(tokenizer, header)


def test_layout_is_the_study_s():
    document = lay_out(Example("What?\n", "That.\n"))
    assert document.text == "Question: What?\n\n\nAnswer: That.\n"
    assert (document.context[-7:], document.target[:1]) == ("Answer:", " ")


def test_too_small_a_vocabulary_is_refused():
    with pytest.raises(ValueError, match="vocab_size 100 is too small; bytes and special tokens alone are 258"):
        train_tokenizer(["a"], 100)
