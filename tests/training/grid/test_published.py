"""From training to generations, scores and the record: on tiny models of three architectures, as on real ones."""

import json
from dataclasses import replace
from functools import partial
from unittest.mock import Mock

import pytest
import tiny_problems as TINY
import torch
from tiny_grid import save_model, stop_at
from transformers import LlamaConfig, Qwen2Config, Starcoder2Config

from astraios_analysis.records.frame import load, load_folder
from astraios_analysis.records.refusal import Refusal
from training.corpus.texts import TEXTS_VARIABLE
from training.grid import published
from training.grid.published import write_for_vllm, write_generations
from training.grid.run import rescore, run
from training.models.pretrained import open_model
from training.models.tuning import apply_tuning
from training.published.measures import CATEGORIES
from training.published.problems import read_generations
from training.published.score import Request, score_file
from training.published.tasks import TASKS
from training.published.writing import Writing, lay_out_texts, published_scores
from training.spec.files import run_state
from training.spec.grids import EMBEDDED_VOCABULARY, PRESETS, Grid, preset
from training.spec.own import write_grid
from training.spec.run import LoopSettings, ModelSize, RunSpec, Schedule, Tuning
from training.suite.request import Scoring

SHAPE = {"vocab_size": EMBEDDED_VOCABULARY, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
SHAPE |= {"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 600}
SHAPE |= {"bos_token_id": 0, "eos_token_id": 0}
CONFIGS = {"llama": LlamaConfig, "starcoder2": Starcoder2Config, "qwen2": Qwen2Config}
SHORT_TASKS = {
    name: replace(task, sampling=replace(task.sampling, n_samples=2, max_length=400)) for name, task in TASKS.items()
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A lab's folders of models, texts and problems, in which texts are looked for."""
    folder = tmp_path_factory.mktemp("lab")
    for name, make in CONFIGS.items():
        save_model(folder / name, make(**SHAPE))
    rows = [{"prompt": f"Add {n} to x", "completion": f"def solve(x):\n    return x + {n}"} for n in range(60)]
    TINY.write_problems(folder / "commitpackft+oasst.jsonl", rows)
    for name in ("humanevalsynthesize_python", "humanevalexplain_python"):
        TINY.write_problems(folder / f"{name}.jsonl", TINY.python_rows())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(TEXTS_VARIABLE, str(folder))
        yield folder


def spec_of(home, architecture, steps=3):
    shape = {"d_model": 16, "n_layers": 2, "n_heads": 2, "d_ff": 32, "n_positions": 600}
    return RunSpec(
        grid="local",
        size=ModelSize(name=architecture, pretrained=str(home / architecture), vocab_size=EMBEDDED_VOCABULARY, **shape),
        tuning=Tuning(method="lora", rank=4),
        schedule=Schedule(steps=steps, global_batch=4, sequence_length=64, warmup_steps=1, validate_every=2),
        data="commitpackft+oasst",
        seed=0,
        loop=LoopSettings(),
        n_validation=4,
    )


METHODS = {"llama": "lora", "starcoder2": "dora", "qwen2": "ptuning"}


def own_grid(home, folder):
    """A specification of the three models in a file, as `grid spec` prints them."""
    spec = spec_of(home, "llama")
    grid = Grid(
        name="mine",
        sizes=tuple(spec_of(home, name).size for name in CONFIGS),
        methods=tuple(METHODS.values()),
        peft={"dora": {"peft_type": "LORA", "use_dora": True, "r": 4}},
        **{name: getattr(spec, name) for name in ("schedule", "data", "n_validation")},
    )
    path = folder / "mine.toml"
    path.write_text(write_grid(grid))
    return path, grid


@pytest.mark.parametrize(("architecture", "method"), METHODS.items())
def test_a_specification_of_ones_own_trains_resumes_generates_scores_and_records(
    home, tmp_path, monkeypatch, told, architecture, method
):
    (path, grid), cache = own_grid(home, tmp_path), tmp_path / "cache"
    (spec,) = grid.runs([architecture], [method])
    command = ["run", "--spec", path, "--size", architecture, "--method", method, "--cache", cache]
    monkeypatch.setattr("training.grid.run.run", partial(run, checkpoint_every=1))
    told(*command, "--runs", tmp_path / "undisturbed", "--no-scores")
    # As the study asks, but for two samples of each problem.
    monkeypatch.setattr("training.published.tasks.TASKS", SHORT_TASKS)
    command += ["--runs", tmp_path / "runs", "--unsafe", "--problems", home, "--dataset", "humanevalsynthesize_python"]
    with monkeypatch.context() as patched:
        stop_at(patched, 2, Mock(side_effect=KeyboardInterrupt))
        told(*command, status=130)
    assert run_state(tmp_path / "runs", spec.run_id).detail == "2 steps saved"
    with monkeypatch.context() as patched:
        # Trained to the end, and stopped before anything is generated.
        patched.setattr(published, "write_generations", Mock(side_effect=KeyboardInterrupt))
        told(*command, status=130)
    with monkeypatch.context() as patched:
        patched.setattr(published, "score_file", Mock(side_effect=KeyboardInterrupt))
        told(*command, status=130)
    assert not (tmp_path / "runs" / f"{spec.run_id}.json").exists()
    with monkeypatch.context() as patched:
        # What was generated is not generated again where the scoring of it was stopped.
        patched.setattr(published.Drafts, "add", Mock(side_effect=AssertionError))
        told(*command)
    assert not [*cache.rglob("*.drafts.jsonl")]
    record, whole = (load(tmp_path / name / f"{spec.run_id}.json") for name in ("runs", "undisturbed"))
    assert (record.method, record.val_curve, record.base_val_loss) == (method, whole.val_curve, whole.base_val_loss)
    scores = {score.metric: score for score in record.scores}
    assert scores["pass@1"].key == ("humanevalsynthesize_python", "python", "t0.2,n2", "pass@1")
    assert scores["pass@1"].problems.n_samples == (2, 2, 2)
    note = record.provenance.spec["scores"]["humanevalsynthesize_python"]
    assert (note["decoding"]["temperature"], note["decoding"]["top_p"]) == (0.2, 0.95)
    assert note["problems"] == "humanevalsynthesize_python.jsonl"
    # Nothing is generated twice, and what is new comes into the record.
    both, write = ("humanevalsynthesize_python", "humanevalexplain_python"), Mock(wraps=write_generations)
    monkeypatch.setattr(published, "write_generations", write)
    again = rescore(spec, tmp_path / "runs", cache, Scoring((), unsafe=True, datasets=both, problems=home))
    assert [call.args[2].dataset for call in write.call_args_list] == ["humanevalexplain_python"]
    assert {score.dataset for score in again.scores} == set(both)
    samples, _ = read_generations(cache / "generations" / spec.run_id / "humanevalexplain_python.json")
    assert [len(several) for several in samples] == [1] * 6


def test_the_grid_of_the_study_does_all_of_it(home, tmp_path, monkeypatch, told, refused):
    spec = spec_of(home, "llama")
    changes = {"sizes": (spec.size,), "schedule": spec.schedule, "n_validation": 4}
    small = preset("starcoderbase").model_copy(update=changes)
    monkeypatch.setitem(PRESETS, "starcoderbase", lambda: small)
    monkeypatch.setattr("training.published.tasks.TASKS", SHORT_TASKS)
    command = ["grid", "run", "--preset", "starcoderbase", "--method", "ia3", "--jobs", "1", "--unsafe"]
    command += ["--base-precision", "bf16", "--runs", tmp_path / "runs", "--cache", tmp_path / "cache"]
    command += ["--dataset", "humanevalsynthesize_python", "--problems"]
    assert "has no humanevalsynthesize_python.jsonl or" in refused(*command, tmp_path)
    with monkeypatch.context() as bare:
        # Said before anything is trained.
        bare.setenv("PATH", str(tmp_path))
        TINY.write_problems(tmp_path / "humanevalfix_java.jsonl", TINY.java_rows())
        assert "install a JDK, version 17 or newer; grid run --no-scores" in refused(
            *command[:-2], "humanevalfix_java", "--problems", tmp_path
        )
    # Worker processes read presets anew: here the work is done in this one.
    monkeypatch.setattr("training.cli.grid.launch", in_this_process)
    told(*command, home)
    (record,) = load_folder(tmp_path / "runs")
    assert [s.n_samples for s in record.scores if s.metric == "pass@1"] == [6]
    # Packed blocks, as the study's, of a base in fewer bits.
    assert (record.n_tokens, record.provenance.spec["corpus"]["n_examples"]) == (3 * 4 * 64, 60)
    assert record.provenance.spec["loop"]["base_precision"] == "bf16"


def in_this_process(specs, folders, **_):
    for spec in specs:
        run(spec, folders.runs, folders.cache, scoring=folders.scoring)
    return ()


class TestGenerations:
    def test_go_on_where_they_were_stopped(self, home, tmp_path, monkeypatch):
        model, tokenizer = open_model(str(home / "llama"))
        problems = home / "humanevalsynthesize_python.jsonl"
        writing = Writing("humanevalsynthesize_python", problems, n_samples=2, max_length=400)
        whole = write_generations(model, tokenizer, writing, tmp_path / "whole.json", subject="m").read_text()
        add, added = published.Drafts.add, []
        drafts = tmp_path / ".again.json.drafts.jsonl"

        def stop_after(n):
            def add_or_stop(self, *sample):
                add(self, *sample)
                added.append(sample[:3])
                if len(added) == n:
                    raise KeyboardInterrupt

            return add_or_stop

        for n in (2, 4):
            monkeypatch.setattr(published.Drafts, "add", stop_after(n))
            with pytest.raises(KeyboardInterrupt):
                write_generations(model, tokenizer, writing, tmp_path / "again.json", subject="m")
            drafts.write_text(drafts.read_text() + '["first", 2, 1, [5')
        monkeypatch.setattr(published.Drafts, "add", stop_after(None))
        assert write_generations(model, tokenizer, writing, tmp_path / "again.json", subject="m").read_text() == whole
        # Each sample once, whatever was torn; samples of other weights are none of theirs.
        assert len(set(added)) == len(added) == 6
        model.get_input_embeddings().weight.data *= 2
        write_generations(model, tokenizer, writing, tmp_path / "again.json", subject="m")
        assert len(added) == 12

    @pytest.mark.parametrize("task", ["synthesize", "fix"])
    @pytest.mark.parametrize(("column", "share"), [("canonical_solution", 1.0), ("buggy_solution", 0.0)])
    def test_that_another_program_wrote_are_scored_as_they_are(self, home, tmp_path, task, column, share):
        problems = home / "humanevalsynthesize_python.jsonl"
        texts = [[f"\n{row[column]}\nprint('more')"] * 2 for row in TINY.python_rows()]
        name, written = f"humaneval{task}_python", TINY.write_problems(tmp_path / "texts.jsonl", texts)
        path = lay_out_texts(Writing(name, problems), written, tmp_path / "out.json")
        request = Request(name, path, problems, folder=tmp_path, is_unsafe=True)
        assert score_file(request).whole.values["pass@1"] == share

    def test_that_another_program_wrote_are_read_as_json_has_them(self, home, tmp_path, told):
        writing, path = Writing("humanevalfix_python", home / "humanevalsynthesize_python.jsonl"), tmp_path / "texts"
        # JSON leaves separators of lines in texts as they are.
        lines = [json.dumps([f"    return '\u2028{n}'"], ensure_ascii=False) for n in range(3)]
        path.write_text("\ufeff" + "\r\n".join(lines))
        assert "\u20281" in read_generations(lay_out_texts(writing, path, tmp_path / "out.json"))[0][1][0]
        command = ["generate", "--dataset", writing.dataset, "--problems", writing.problems, "--texts", path]
        assert f"{path}: cannot be read or written (File" in told(*command, "--out", path / "x.json", status=1).err
        for last, message in (('["x', "line 3: is not valid JSON"), ("[1]", "line 3 is no list of texts")):
            path.write_text("\n".join([*lines[:2], last]))
            with pytest.raises(ValueError, match=f"texts: {message}"):
                lay_out_texts(writing, path, tmp_path / "out.json")

    def test_to_another_data_set_or_twice_to_one_question_are_refused(self, tmp_path):
        python = TINY.write_problems(tmp_path / "python.jsonl", TINY.python_rows())
        defects = TINY.write_problems(tmp_path / "defects.jsonl", [{"func": "int f()", "target": 0}])
        written = TINY.write_problems(tmp_path / "texts.jsonl", [[" NO", " YES"]])
        for name, problems, message in (
            ("humanevalfix_python", defects, "problem 0 is of another data set than humanevalfix_python"),
            ("humanevalfix_java", python, "its tests are not in Java"),
            ("clone_detection", defects, "problem 0 is of another data set than clone_detection"),
            ("defect_detection", defects, "line 1 has 2 texts; each question is answered once"),
        ):
            with pytest.raises(Refusal, match=message):
                lay_out_texts(Writing(name, problems), written, tmp_path / "out.json")

    def test_of_questions_robustness_and_security_are_scored_as_they_are(self, tmp_path):
        defects = [{"func": f"int f{n}() {{ return {n}; }}", "target": n % 2} for n in range(4)]
        blocks = [{"perturbation_name": name, "seed": seed} for name, seed in CATEGORIES["format"].blocks]
        blocks = [row | block for block in blocks for row in TINY.python_rows()]
        same = {"language": "python", "prompt": "import os\n"}
        scenarios = [{"scenario_id": f"DoW/CWE-22-{place}"} | same for place in range(2)]
        cases = {
            "defect_detection": (defects, [[" NO"], [" YES"], [" NO"], [" NO"]], "overall_accuracy", 0.75),
            "recode_format": (blocks, [[f"\n{row['canonical_solution']}"] for row in blocks], "robust_pass@1", 1.0),
            "aatk": (scenarios, [["print(1)\n"], ["print(\n"]], "parse_rate", 0.5),
        }
        for name, (rows, texts, metric, value) in cases.items():
            problems = TINY.write_problems(tmp_path / f"{name}.jsonl", rows)
            written = TINY.write_problems(tmp_path / "texts.jsonl", texts)
            path = lay_out_texts(Writing(name, problems), written, tmp_path / f"{name}.json")
            report = score_file(Request(name, path, problems, folder=tmp_path, is_unsafe=True, shows_progress=False))
            assert report.whole.values[metric] == value, name
            # Four questions are not the study's 2,732, and say so.
            setting = {"defect_detection": "zero_shot/full4", "aatk": "t0.2,n20"}.get(name, "all_transformations")
            scores = {score.key[2:]: score.value for score in published_scores(report, Writing(name).setting)}
            assert scores[setting, metric] == value

    def test_are_asked_of_vllm_with_a_plain_model(self, home, tmp_path):
        base, tokenizer = open_model(str(home / "llama"))
        tokens = torch.tensor([[5, 6, 7]])
        tuned = apply_tuning(base, Tuning(method="lora"), seed=0).eval()
        for name, weight in tuned.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.1)
        expected = tuned(input_ids=tokens).logits
        writing = Writing("humanevalfix_python", home / "humanevalsynthesize_python.jsonl")
        found = write_for_vllm(tuned, tokenizer, writing, tmp_path)
        assert found == {"n_prompts": 3, "n": 20, "temperature": 0.2, "seed": 0}
        plain, _ = open_model(str(tmp_path / "model"))
        torch.testing.assert_close(plain.eval()(input_ids=tokens).logits, expected, atol=1e-5, rtol=1e-5)
        rows = [json.loads(line) for line in (tmp_path / "prompts.jsonl").read_text().splitlines()]
        assert rows[0]["prompt"].startswith("Question: Fix bugs in add_one.") and 0 < rows[0]["max_tokens"] < 600

    def test_by_the_command_go_into_a_record(self, home, tmp_path, told):
        spec = spec_of(home, "llama", steps=1)
        run(spec, tmp_path / "runs", tmp_path / "cache")
        record, out = tmp_path / "runs" / f"{spec.run_id}.json", tmp_path / "out.json"
        asked = ["--dataset", "humanevalsynthesize_python", "--problems", home / "humanevalsynthesize_python.jsonl"]
        model = ["--run", record, "--cache", tmp_path / "cache", "--out", out]
        told("generate", *model, *asked, "--samples", "1", "--max-length", "300", "--temperature", "0")
        told("score", out, *asked, "--record", tmp_path / "none.json", "--resume", tmp_path / "j", "--unsafe", status=2)
        assert not (tmp_path / "j").exists()
        # A limit of prompt and answer that was taken for one of the answer alone.
        model[-1] = tmp_path / "short.json"
        noted = told("generate", *model, *asked, "--samples", "1", "--max-length", "30").err
        assert "3 of 3 prompts have 30 tokens or more, which leaves no room for an answer" in noted
        # The record is the file that is named, whatever its name.
        record = record.rename(tmp_path / "mine.json")
        told("score", out, *asked, "--record", record, "--setting", "greedy", "--unsafe", "--resume", tmp_path)
        assert {score.setting for score in load(record).scores} == {"greedy"}
        # Not the study's twenty samples: the file has one.
        told("score", out, *asked, "--record", record, "--unsafe", "--resume", tmp_path)
        assert {score.setting for score in load(record).scores} == {"greedy", "t0.2,n1"}
