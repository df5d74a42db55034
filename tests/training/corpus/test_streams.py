import hashlib
import json
from collections import Counter
from itertools import islice

import pytest

from training.corpus.embedded import N_PROBLEMS, N_SEEN, EmbeddedCorpus
from training.corpus.items import NO, TOLD_AS, YES
from training.corpus.settings import COMPLETION, SPLITS, TASKS, CorpusSettings
from training.corpus.statistics import count_overlap

PROGRAM_ANSWERS = (COMPLETION, "synthesis", "fix", "explain")

# Of texts and tokenizer. When it changes, the same settings make other text: raise settings.CORPUS_VERSION with it.
GOLDEN = "77c51f1cefac32a8"


def take(stream, n):
    return list(islice(stream, n))


@pytest.fixture(scope="module")
def items(corpus):
    """A sample of everything in each split."""
    return {
        split: take(corpus.pretraining(0, split), 1000)
        + take(corpus.instructions(0, split), 600)
        + [item for task in TASKS if split != "train" for item in corpus.problems(task, split)]
        for split in SPLITS
    }


def test_no_two_splits_share_a_program_or_a_text(corpus, items):
    overlap = count_overlap(corpus.space, items)
    assert set(overlap) == {"train-validation", "train-test", "validation-test"}
    assert all(count == 0 for pair in overlap.values() for count in pair.values())


def test_overlap_is_found_where_there_is_one(corpus, items):
    train = items["train"]
    overlap = count_overlap(corpus.space, {"train": train, "test": train[:50]})["train-test"]
    assert min(overlap.values()) > 10


def test_every_program_in_a_text_belongs_to_its_split_or_is_seen_for_being_of_one_operation(corpus, items):
    for split, found in items.items():
        for item in found:
            assert item.seen == (item.n_ops == 1)
            assert all(corpus.space.is_allowed(program, split) for program in item.programs)
            assert all(program.is_typed and program.is_bounded for program in item.programs)


def test_splits_have_the_shares_of_the_settings(corpus):
    space = corpus.space
    found = take(corpus.pretraining(9), 400)
    programs = {item.programs[0] for item in found if item.programs and not item.seen}
    assert {space.split(program) for program in programs} == {"train"}
    other = EmbeddedCorpus(CorpusSettings(split_seed=1)).space
    shares = Counter(other.split(program) for program in programs)
    assert shares["test"] / len(programs) == pytest.approx(0.2, abs=0.07)
    assert shares["validation"] / len(programs) == pytest.approx(0.2, abs=0.07)


def test_mixture_of_the_stream_is_that_of_the_settings(corpus):
    found = take(corpus.instructions(1), 2000)
    shares = Counter(item.task for item in found)
    for task in TASKS:
        wanted = getattr(corpus.settings.mixture, task)
        assert shares[task] / len(found) == pytest.approx(wanted, abs=0.035), task
    for task in ("clone", "defect"):
        answers = Counter(item.reference for item in found if item.task == task)
        assert abs(answers[YES] - answers[NO]) <= 1


def test_base_text_asks_no_question(corpus):
    found = take(corpus.pretraining(1), 2000)
    shares = Counter(item.task for item in found)
    for task, told in {"synthesis": COMPLETION, **TOLD_AS}.items():
        wanted = getattr(corpus.settings.pretraining_mixture, task)
        assert shares.pop(told) / len(found) == pytest.approx(wanted, abs=0.035), task
    assert not shares
    texts = {item.task: item.document for item in found}
    assert not any("Question" in item.document.text or f"{YES} or {NO}" in item.document.text for item in found)
    # A commit: what it does, the program before, the call that failed, the program after.
    message, *lines = texts["commit"].text.splitlines()
    code, call = "\n".join(lines), next(line for line in lines if line.startswith("# solve("))
    before, after = code.split(f"\n{call}\n")
    assert message[:2] == "# " and message[-1] == "." and before != after
    given, _, wanted = call.removeprefix("# solve(").partition(") is ")
    wrong, right = wanted.removesuffix(".").split(" but should be ")
    for program, result in ((before, wrong), (after, right)):
        exec(program, names := {})
        assert repr(names["solve"](json.loads(given))) == result
    assert texts["rewriting"].target in (" Yes", " No") and texts["rewriting"].context.endswith("# the same:")
    assert texts["review"].target in (" Yes", " No") and texts["review"].context.endswith("# correct:")
    assert texts["comment"].target.startswith("\n# ")


@pytest.mark.parametrize("task", [COMPLETION, *TASKS])
@pytest.mark.parametrize("split", ["validation", "test"])
def test_problem_sets(corpus, task, split):
    problems = corpus.problems(task, split)
    headline = [item for item in problems if not item.seen]
    assert len(headline) == N_PROBLEMS
    assert len({item.id for item in problems}) == len(problems)
    assert {item.split for item in problems} == {split}
    assert {item.task for item in problems} == {task}
    if task == "security":
        assert Counter(item.details["origin"] for item in problems) == {"trusted": 100, "untrusted": 100}
        return
    assert len(problems) == N_PROBLEMS + N_SEEN
    assert Counter(item.n_ops for item in headline) == {2: 50, 3: 75, 4: 75}
    subjects = [(corpus.space.fingerprint(item.programs[0]), item.reference == NO) for item in problems]
    assert len(set(subjects)) == len(subjects)
    if task in PROGRAM_ANSWERS:
        assert all(len(item.cases) >= 3 for item in problems)
    else:
        assert Counter(item.reference for item in headline) == {YES: 100, NO: 100}
        assert Counter(item.reference for item in problems if item.seen) == {YES: 12, NO: 12}


def test_unknown_task_and_too_small_splits_are_refused(corpus):
    with pytest.raises(ValueError, match="unknown task 'poem'; choose from completion, synthesis, fix"):
        corpus.problems("poem")
    with pytest.raises(ValueError, match="'synthesis' has too few different problems of 2 operations in split 'test'"):
        corpus.problems("synthesis", n=2000)
    with pytest.raises(ValueError, match="'security' has too few different problems in split 'test'"):
        corpus.problems("security", n=5000)


def test_seeds_and_streams_differ(corpus):
    streams = [stream(seed) for stream in (corpus.pretraining, corpus.instructions) for seed in (0, 1)]
    streams.append(corpus.instructions(0, "validation"))
    texts = {tuple(item.document.text for item in take(stream, 20)) for stream in streams}
    assert len(texts) == len(streams)


def test_text_and_tokens_are_those_of_the_corpus_version(corpus):
    # Strings hash otherwise in every process: nothing may depend on that.
    found = [*take(corpus.pretraining(0), 100), *take(corpus.instructions(0), 300)]
    found += [item for task in (COMPLETION, *TASKS) for item in corpus.problems(task, n=8)]
    text = json.dumps([item.to_json() for item in found]).encode() + corpus.tokenizer.to_str(pretty=True).encode()
    assert hashlib.sha256(text).hexdigest()[:16] == GOLDEN
