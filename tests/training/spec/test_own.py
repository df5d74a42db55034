"""Grids of one's own in files: what a preset prints is read back as the same grid, and what is wrong is named."""

import os

import pytest

from astraios_analysis.records.refusal import Refusal
from training.corpus.texts import TEXTS_VARIABLE, find_text
from training.spec.grids import PRESETS, check_corpus, preset
from training.spec.own import read_grid, write_grid

SMALL = """\
methods = ["lora", "fft"]
seeds = [0, 7]
data = "text.jsonl"

[learning_rates]
lora = 1e-3

[[sizes]]
name = "8x1"
d_model = 8
n_layers = 1
n_heads = 1
vocab_size = 64
n_positions = 320
"""


@pytest.mark.parametrize("name", PRESETS)
def test_a_printed_preset_is_the_same_grid(tmp_path, told, name):
    path = tmp_path / "g.toml"
    path.write_text(told("grid", "spec", "--preset", name).out)
    grid = read_grid(path)
    assert grid.name == f"my_{name}"
    named = grid.model_copy(update={"name": name})
    assert named == preset(name) and [r.run_id for r in named.runs()] == [r.run_id for r in preset(name).runs()]
    assert write_grid(grid).partition("name =")[2] == path.read_text().partition("name =")[2]


def test_a_text_with_a_dot_in_its_name_is_not_another_one(tmp_path, monkeypatch):
    monkeypatch.setenv(TEXTS_VARIABLE, "")
    for name in ("text.v2.jsonl", "text.jsonl"):
        (tmp_path / name).write_text('{"prompt": "a", "completion": "b"}\n')
    path = tmp_path / "mine.toml"
    path.write_text(SMALL.replace("text.jsonl", "text.v2.jsonl"))
    assert find_text(read_grid(path).data, os.environ) == tmp_path / "text.v2.jsonl"


def test_a_file_of_ones_own_names_its_runs_and_its_text(tmp_path, monkeypatch, told):
    monkeypatch.setenv(TEXTS_VARIABLE, "")
    (tmp_path / "text.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    path = tmp_path / "mine.toml"
    path.write_text(SMALL)
    grid = read_grid(path)
    assert (grid.name, grid.data, os.environ[TEXTS_VARIABLE]) == ("mine", "text", str(tmp_path))
    check_corpus(grid.data)
    runs = {(run.tuning.method, run.seed): run.schedule.learning_rate for run in grid.runs()}
    assert runs[("lora", 7)] == 1e-3 and runs[("fft", 0)] == grid.schedule.learning_rate and len(runs) == 4
    assert "4 missing" in told("grid", "status", "--spec", path, "--runs", tmp_path / "r").out


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seeds", "seedz", "seedz: is no field of a grid"),
        ("[0, 7]", '["a"]', r"seeds\.0: is 'a'; input should be a valid integer"),
        ('"lora", "fft"', '"lora2"', "unknown tuning method 'lora2'"),
        ("n_heads = 1", "n_heads = 3", "n_heads 3 does not divide d_model 8"),
        ("n_heads = 1\n", "", r"sizes\.0\.n_heads: is missing; add it"),
        ("text.jsonl", "gone.jsonl", "data: is 'gone.jsonl', and there is no such file"),
        ("methods =", 'name = "ladder"\nmethods =', "name: is that of a preset, 'ladder'"),
        ("[[sizes]]", "[[sizes", "is not TOML"),
        ('data = "text.jsonl"', "data = 2020-01-01", "holds a date or time"),
        ("seeds", 'name = "my-grid"\nseeds', "name: is 'my-grid'; string should match"),
        ("lora = 1e-3", "lora = inf", r"learning_rates\.lora: is inf; input should be a finite"),
        ("[0, 7]", "[-1]", r"mine\.toml: seed: is -1; input should be greater"),
        ("[0, 7]", "[1, 1]", r"seed 1 is in grid 'mine' twice; name each once"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, old, new, message):
    (tmp_path / "text.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    path = tmp_path / "mine.toml"
    path.write_text(SMALL.replace(old, new))
    with pytest.raises(Refusal, match=message):
        read_grid(path)
