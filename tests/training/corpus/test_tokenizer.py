from itertools import islice

import pytest

from training.corpus.items import Document, Example
from training.corpus.rows import END_ID, END_OF_TEXT, PADDING, encode, encode_context
from training.corpus.settings import COMPLETION, SPLITS, TASKS
from training.spec.grids import EMBEDDED_VOCABULARY, HARDER_VOCABULARY
from training.suite.problems import PERTURBATIONS, context


def test_special_tokens_and_sizes_are_those_that_are_said(corpus, wide_corpus):
    assert corpus.tokenizer.token_to_id(END_OF_TEXT) == END_ID == 0
    assert corpus.tokenizer.token_to_id(PADDING) == 1
    assert corpus.tokenizer.get_vocab_size() == EMBEDDED_VOCABULARY
    assert wide_corpus.tokenizer.get_vocab_size() == HARDER_VOCABULARY


def documents(corpus):
    yield from (item.document for item in islice(corpus.pretraining(6), 120))
    yield from (item.document for item in islice(corpus.instructions(6), 120))
    for task in (COMPLETION, *TASKS):
        yield from (item.document for item in corpus.problems(task, n=20))


@pytest.mark.parametrize("split", SPLITS)
def test_every_word_of_streams_problems_and_changed_prompts_is_one_token(corpus, split):
    tokenizer = corpus.tokenizer
    streams = (corpus.pretraining(8, split), corpus.instructions(8, split))
    texts = [item.document.text for stream in streams for item in islice(stream, 150)]
    if split != "train":
        texts += [item.document.text for task in TASKS for item in corpus.problems(task, split, 40)]
    changes = [(task, change) for task, changes in PERTURBATIONS.values() for change in changes]
    texts += [context(change(item)) for task, change in changes for item in corpus.problems(task, n=40)[:40:4]]
    for text in texts:
        tokens = tokenizer.encode(text)
        assert PADDING not in tokens.tokens
        assert len(tokens.ids) == len(tokenizer.pre_tokenizer.pre_tokenize_str(text))
        assert tokenizer.decode(tokens.ids, skip_special_tokens=False) == text


def test_digits_and_other_words_are_cut_and_other_characters_are_padding(corpus):
    tokenizer = corpus.tokenizer
    assert tokenizer.encode("[10, -42]").tokens[1:3] == ["1", "0"]
    assert len(tokenizer.encode("thesort").ids) > 1
    assert tokenizer.decode(tokenizer.encode("thesort").ids) == "thesort"
    assert tokenizer.encode("Ü").tokens == [PADDING]


def test_context_and_target_meet_where_a_token_ends_and_not_in_white_space(corpus, wide_corpus):
    for source in (corpus, wide_corpus):
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
    document = Example("What?\n", "That.\n").document
    assert document.text == "Question: What?\n\n\nAnswer: That.\n"
    assert (document.context[-7:], document.target[:1]) == ("Answer:", " ")
