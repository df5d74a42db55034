import gzip
import json
import re

import pytest

from training.published.problems import arrange_by_block, arrange_by_problem, check_texts, read_generations


@pytest.fixture
def problems(tiny, tmp_path):
    return tiny.load(tiny.python_rows(), tmp_path)


@pytest.fixture
def samples(tiny):
    return tiny.make_samples(tiny.python_rows(), [2, 1, 0], 4)


def test_a_file_is_read_with_its_digest_plain_or_gzipped(tmp_path):
    content = json.dumps([["a"], ["b"]]).encode()
    (tmp_path / "x.json").write_bytes(content)
    (tmp_path / "x.json.gz").write_bytes(gzip.compress(content))
    plain, packed = read_generations(tmp_path / "x.json"), read_generations(tmp_path / "x.json.gz")
    assert plain == packed
    assert plain[0] == [["a"], ["b"]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "holds an empty list; generations are a list"),
        ({"a": 1}, "holds dict; generations are a list"),
        ([["a"], "b"], "item 1 holds str; each item is a list of samples"),
        ([["a"], []], "item 1 holds no samples"),
    ],
)
def test_other_layouts_are_refused(tmp_path, content, message):
    (tmp_path / "x.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"x.json: {message}"):
        read_generations(tmp_path / "x.json")


def test_samples_of_programs_are_text():
    with pytest.raises(ValueError, match=r"x.json: item 1, sample 0 holds dict; programs are text"):
        check_texts([["a"], [{}]], "x.json")


def test_lists_for_each_problem_and_lists_of_one_are_the_same(problems, samples):
    assert arrange_by_problem(samples, problems, "x") == samples
    assert arrange_by_problem([[text] for several in samples for text in several], problems, "x") == samples
    single = [several[:1] for several in samples]
    assert arrange_by_problem(single, problems, "x") == single


def test_a_missing_problem_is_named(problems, samples):
    message = "x: holds samples of 2 problems, and there are 3; the first that does not belong is item 1, which defines"
    with pytest.raises(ValueError, match=re.escape(f"{message} largest (Python/2) where shout (Python/1) belongs")):
        arrange_by_problem([samples[0], samples[2]], problems, "x")


def test_problems_in_another_order_are_named(problems, samples):
    with pytest.raises(ValueError, match=r"item 0, which defines shout \(Python/1\) where add_one .*another order"):
        arrange_by_problem([samples[1], samples[0], samples[2]], problems, "x")


@pytest.mark.parametrize("n_lost", [1, 5])
def test_a_wrong_number_of_samples_is_refused(problems, samples, n_lost):
    short = [samples[0], samples[1][:3], samples[2]]
    with pytest.raises(
        ValueError, match=r"problem 1 \(Python/1\) has 3 samples, most have 4; generate what is missing"
    ):
        arrange_by_problem(short, problems, "x")
    flat = [[text] for several in samples for text in several][:-n_lost]
    with pytest.raises(ValueError, match=f"holds {12 - n_lost} single samples, no multiple of 3 problems"):
        arrange_by_problem(flat, problems, "x")


def test_a_sample_that_calls_nothing_known_belongs(problems, samples):
    samples[1] = ["", "pass", "print('x')", "# nothing"]
    assert arrange_by_problem(samples, problems, "x") == samples


def test_blocks_are_lists_of_one_program_for_each_problem():
    flat = [[str(number)] for number in range(6)]
    assert arrange_by_block(flat, 3, 2, "x") == [["0", "1"], ["2", "3"], ["4", "5"]]
    with pytest.raises(
        ValueError, match="holds 6 programs; this category has 2 transformations and seeds of 2 problems"
    ):
        arrange_by_block(flat, 2, 2, "x")
    with pytest.raises(ValueError, match=r"item 3 \(block 1, problem 1\) has 2 samples; ReCode is scored with one"):
        arrange_by_block([*flat[:3], ["a", "b"], *flat[4:]], 3, 2, "x")


def test_samples_of_human_eval_are_named(tmp_path):
    lines = [f'{{"task_id": "Python/{i}", "completion": "    return {i}"}}\n' for i in range(2)]
    (tmp_path / "samples.jsonl").write_text("".join(lines))
    with pytest.raises(ValueError, match=r"is human-eval's layout of samples, .* wanted is one JSON list"):
        read_generations(tmp_path / "samples.jsonl")


@pytest.mark.reference
def test_reference_samples_of_human_eval(reference_folder):
    with pytest.raises(ValueError, match="is human-eval's layout of samples"):
        read_generations(reference_folder / "cases" / "a15_human_eval_samples.jsonl")
