import gzip
import json
import sys
import types

import pytest

from training.corpus.items import Example
from training.corpus.texts import load_hub_splits, load_jsonl

GOOD = {"prompt": "Say hé", "completion": "hé"}


@pytest.fixture
def written(tmp_path):
    """Write lines to a file and return its path."""

    def write(*lines, name="examples.jsonl"):
        path = tmp_path / name
        text = "".join(line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return path

    return write


@pytest.mark.parametrize("name", ["examples.jsonl", "examples.jsonl.gz"])
def test_examples_come_in_the_order_of_the_file(written, name):
    path = written(GOOD, "\n", {"completion": "b", "prompt": "", "extra": 1}, name=name)
    assert load_jsonl(path) == [Example("Say hé", "hé"), Example("", "b")]
    assert load_jsonl(str(path)) == load_jsonl(path)


def test_a_byte_order_mark_is_passed_over(written):
    assert load_jsonl(written("\ufeff", GOOD)) == [Example("Say hé", "hé")]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([GOOD, '{"prompt": "a", "comp\n'], r"examples\.jsonl: line 2: is not valid JSON"),
        ([GOOD, "\n", {"prompt": "a"}], r"line 3: no column 'completion'; its columns are prompt"),
        ([{}], r"line 1: no column 'prompt'; its columns are none"),
        ([{"prompt": 3, "completion": "b"}], r"line 1: column 'prompt' holds int; it must be text"),
        ([{"prompt": "a", "completion": None}], r"line 1: column 'completion' holds NoneType; it must be text"),
        ([{"prompt": "a", "completion": ""}], r"line 1: column 'completion' is empty; .* leave the line out"),
        ([], r"examples\.jsonl: is empty; is it the right file"),
        ([["a", "b"]], r"line 1: holds no table: one object a line"),
    ],
)
def test_wrong_lines_are_named(written, lines, message):
    with pytest.raises(ValueError, match=message):
        load_jsonl(written(*lines))


def test_hub_data_sets_come_in_the_same_form(monkeypatch):
    def load_dataset(name):
        if name == "broken":
            raise ConnectionError("offline")
        return {"train": [GOOD], "test": {"a/b": [GOOD, GOOD], "a/empty": [], "a/other": [{"text": "x"}]}[name]}

    library = types.ModuleType("datasets")
    library.load_dataset = load_dataset
    monkeypatch.setitem(sys.modules, "datasets", library)
    example = Example("Say hé", "hé")
    assert load_hub_splits("a/b")[0] == {"train": [example], "test": [example, example]}
    with pytest.raises(ValueError, match="cannot read data set 'broken' from the hub: the hub cannot be"):
        load_hub_splits("broken")
    with pytest.raises(ValueError, match="'a/empty' has no rows in split 'test'; choose another split"):
        load_hub_splits("a/empty")
    with pytest.raises(ValueError, match="a/other, split 'test', row 0: no column 'prompt'; its columns are text"):
        load_hub_splits("a/other")


@pytest.mark.reference
def test_a_real_instruction_set_enters_by_the_same_interface(reference_folder):
    examples = load_jsonl(reference_folder / "instructions" / "oasst_commitpackft_sample.jsonl.gz")
    assert len(examples) == 1178
