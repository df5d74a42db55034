"""`astraios import`: what is read and counted, what is refused and how, what is written and what never is."""

import json
import re

import pytest
from foreign_files import COUNTS, LORA, trainer_folder, write, write_weights

from astraios_analysis.cli.main import main
from astraios_analysis.imports.inputs import size_label
from astraios_analysis.imports.trainer import adapter_method, count_saved, count_weights, read_model_shapes, read_shapes
from astraios_analysis.imports.writing import write_all
from astraios_analysis.records.frame import RecordError, load, load_folder, save, to_frame
from astraios_analysis.records.refusal import Refusal

HEADER = "size,method,seed,n_params_base,n_params_updated,val_loss,fix\n"
ONE = "n_params_base\n1M\n"
TABLE = HEADER + "1b,LoRA,0,1e9,3e6,1.5,0.25\n3b,(IA)^3,0,3e9,1e5,1.25,\n"
LOG = [{"step": 100, "eval_loss": 1.5}, {"step": 200, "eval_loss": 1.25}, {"step": 200, "train_runtime": 9.5}]
MICA = LORA | {"init_lora_weights": "mica"}
BIGCODE = {
    "humanevalsynthesize-java": {"pass@1": 0.25, "pass@10": 0.5},
    "config": {"temperature": 0.2, "n_samples": 20, "top_p": 0.95, "top_k": 0, "limit": None, "limit_start": 0},
}
BOOLQ = {"alias": "boolq", "acc,none": 0.75, "acc_stderr,none": 0.01}
LM_EVAL = {"results": {"boolq": BOOLQ}, "n-shot": {"boolq": 0}}
LM_EVAL["n-samples"] = {"boolq": {"original": 3270, "effective": 100}}


class TestTable:
    def test_summary_and_second_run(self, run, tmp_path):
        write(tmp_path / "t.csv", TABLE)
        options = ("csv", "t.csv", "--grid", "g", "--held-out", "3b", "--score", "fix", "humanevalfix_python", "--json")
        code, out, _ = run(*options, "--n-items", 164)
        done = json.loads(out)
        assert code == 0 and done["new"] == ["g-1b-lora-s0", "g-3b-ia3-s0"] and done["records"][0]["n_scores"] == 1
        small, large = load_folder("o")
        assert (small.n_params, small.method, small.val_loss) == (1_003_000_000, "lora", 1.5)
        assert (large.held_out, small.held_out, large.scores) == (True, False, ())
        assert json.loads(run(*options, "--n-items", 164)[1])["unchanged"] == done["new"]

    def test_a_held_out_size_that_no_run_has_is_said(self, run, tmp_path):
        write(tmp_path / "t.csv", TABLE)
        code, _, err = run("csv", "t.csv", "--grid", "g", "--held-out", "3B", "--held-out", "1b")
        assert code == 0 and "--held-out 3B: no run is of this size" in err and "they are of 1b, 3b" in err
        assert [record.held_out for record in load_folder("o")] == [True, False]

    def test_curve_units_and_methods(self, run, tmp_path):
        table = "size,tuning,params,step,val_loss\nb,full,1.5,0,4\nb,full,1.5,10,2\n"
        write(tmp_path / "t.csv", table)
        options = ("--params-unit", "k", "--loss-unit", "perplexity", "--method-name", "full", "fft")
        columns = ("--method-column", "tuning", "--n-params-base-column", "params")
        assert run("csv", "t.csv", "--grid", "g", *options, *columns)[0] == 0
        record = load("o/g-b-fft.json")
        assert [point.step for point in record.val_curve] == [0, 10] and record.n_params_updated == 1500
        assert (record.base_val_loss, record.val_loss) == (pytest.approx(1.386294), pytest.approx(0.693147))

    def test_output_of_records_show_is_read_back(self, run, capsys, tmp_path, make_record):
        save(make_record(provenance={}, val_curve=(), cost=None), tmp_path / "mine")
        main(["records", "show", "--format", "csv", "--data", str(tmp_path / "mine")])
        write(tmp_path / "t.csv", capsys.readouterr().out)
        assert run("csv", "t.csv")[0] == 0
        # The table's name, and the chance level of a known data set, are what importing adds.
        added = ["source_file", "chance"]
        first, second = (to_frame(load_folder(folder)) for folder in ("mine", "o"))
        assert first.drop(columns=added).equals(second.drop(columns=added))

    @pytest.mark.parametrize(
        ("table", "options", "message"),
        [
            (TABLE, (), r"line 2, grid: is not there.*--grid-column COLUMN, or give --grid NAME"),
            (TABLE.replace("LoRA", "?!"), (), r"line 2, column 'method': '\?!' is no name of a tuning method"),
            (TABLE.replace("1e9", "about 1B"), (), r"line 2, column 'n_params_base': 'about 1B' is not a count,"),
            (TABLE.replace("1.5", "-1.5"), ("--grid", "g"), r"val_loss: is -1.5; input should be greater than"),
            (TABLE.replace("1.5", "high"), (), r"column 'val_loss': 'high' is not a finite number"),
            (TABLE.replace("0.25", "25"), ("--grid", "g", "--score", "fix", "humanevalfix_python", "--n-items", 9),
             r"line 2, column 'fix': value 25 is outside \[0, 1\], the range of pass@1; divide a percentage by 100"),
            (TABLE, ("--grid", "g", "--score", "fix", "humanevalfix_python"),
             r"say it with --n-items humanevalfix_python=N"),
            (TABLE + "1b,LoRA,0,2e9,3e6,1,\n", ("--grid", "g"), r"line 4: n_params_base is 2000000000 here and"),
            (TABLE.replace("3b,(IA)^3,0,3e9", "1b-bis,LoRA,0,1e9"), ("--grid", "g"), r"are all lora of 1000000000 par"),
            (TABLE, ("--grid", "released"), r"'released' is the grid of the published models"),
            ("a;b\n1;2\n", (), r"header: no column is known: a, b; say what they are"),
            (ONE, ("--grid", "My Grid", "--method", "fft"), r"'My Grid'; a name has small letters"),
            (ONE, ("--grid", "g", "--method", "-"), r"'-' is no name of a tuning method"),
            ("n_params_base,step,val_loss\n1M,3,-1\n", ("--grid", "g", "--method", "fft"), r"loss: is -1.0; input s"),
            (ONE, ("--name-pattern", "(x"), r"is '\(x'; input should be a valid regular"),
            (ONE, ("--n-params", "many"), r"'many' is not a count, such as 1137207296"),
            (ONE, ("--score", "a"), r"'--score': 'a': give COLUMN DATASET"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_mapped(self, refused, tmp_path, table, options, message):
        write(tmp_path / "t.csv", table)
        assert re.search(message, refused("csv", "t.csv", *options))


class TestTrainer:
    def test_last_checkpoint_and_seconds(self, run, tmp_path):
        for step in (9, 20):
            trainer_folder(tmp_path, name=f"out/checkpoint-{step}", log=LOG[:1] if step == 9 else LOG)
        code, out, _ = run("trainer", "out", "--grid", "g", *COUNTS, "--held-out", "1m")
        record = load("o/out.json")
        assert code == 0 and "1000" in out and (record.method, record.val_loss, record.size) == ("lora", 1.25, "1m")
        # Zeros of the trainer are what it did not count.
        assert (record.n_tokens, record.cost.flop, record.cost.seconds, record.base_val_loss) == (None, None, 9.5, None)
        assert record.held_out

    def test_whole_weights_are_full_fine_tuning(self, run, tmp_path):
        trainer_folder(tmp_path, log=LOG, adapter=None)
        write(tmp_path / "out" / "pytorch_model.bin", "")
        assert run("trainer", "out", "--grid", "g", "--n-params-base", 1000)[0] == 0
        record = load("o/out.json")
        assert (record.method, record.n_params_updated, record.n_params) == ("fft", 1000, 1000)

    @pytest.mark.parametrize(
        ("changes", "options", "message"),
        [
            ({}, (), r"n_params_base: is in no file of the folder; say it with --base-config DIR.*n_params_upd.*grid"),
            ({"log": LOG[2:]}, COUNTS, r"trainer_state.json: log_history: has no eval_loss: nothing was validated"),
            ({"max_steps": 400}, COUNTS, r"global_step: is 200 of max_steps 400.*pass --unfinished"),
            ({"log": [*LOG, {"step": 200, "eval_loss": 1.2}]}, COUNTS, r"step 200 was validated twice, 1.25 and 1.2"),
            ({"log": [{"step": 1, "eval_loss": float("nan")}]}, COUNTS, r"log_history\[0\]: eval_loss is nan at step"),
            ({"log": [{"step": 1, "eval_a_loss": 1, "eval_b_loss": 2}]}, COUNTS, r"choose one with --eval: a, b"),
            ({"log": [{"step": 1, "eval_a_loss": 1}]}, ("--eval", "c"), r"no validation set 'c'; choose from a with"),
            ({}, ("--method", "fft"), r"method: is lora by its files and 'fft' by --method; leave --method out"),
            ({"adapter": None}, COUNTS, r"method: is in no file; say it with --method"),
            ({"adapter": {"r": 8}}, COUNTS, r"adapter_config.json: peft_type is not in it.*say it with --method"),
            ({}, ("--base-config", "nowhere"), r"nowhere: does not exist; give the folder of the base model's weights"),
            ({"adapter": MICA}, ("--n-params-base", 1000), r"d: is not known.*python -m training params --adapter"),
            ({}, ("out/../out", "--grid", "g", "--n-params-updated", 5), r"is that of one run, and there are 2 fold"),
        ],
    )
    def test_what_cannot_be_mapped(self, refused, tmp_path, changes, options, message):
        trainer_folder(tmp_path, **{"log": LOG} | changes)
        assert re.search(message, refused("trainer", "out", *options), re.DOTALL)

    def test_a_folder_gives_its_name_in_the_letters_that_names_may_have(self, run, tmp_path):
        trainer_folder(tmp_path, log=LOG, name="lora r=8 (new)")
        assert run("trainer", "lora r=8 (new)", "--grid", "g", *COUNTS)[0] == 0
        assert load_folder("o")[0].run_id == "lora-r-8-new"

    def test_folders_that_are_none(self, refused, tmp_path):
        (tmp_path / "empty").mkdir()
        assert "no checkpoint-N with one; give the output_dir" in refused("trainer", "empty", "--grid", "g")
        write(tmp_path / "cut" / "trainer_state.json", '{"log_his')
        assert "cut/trainer_state.json: is not valid JSON" in refused("trainer", "cut", "--grid", "g")


class TestHarness:
    @pytest.fixture(autouse=True)
    def one_record(self, tmp_path, make_record):
        save(make_record(run_id="r"), tmp_path / "o")
        write(tmp_path / "b.json", BIGCODE)
        write(tmp_path / "l.json", LM_EVAL)

    def test_scores_are_added_and_the_rest_stays(self, run, tmp_path, make_record):
        assert run("bigcode", "b.json", "--run-id", "r")[0] == 0
        assert run("lm-eval", "l.json", "--run-id", "r", "--language", "english")[0] == 0
        record, before = load("o/r.json"), make_record(run_id="r")
        assert record.scores[:2] == before.scores and record.model_copy(update={"scores": before.scores}) == before
        found = [(*score.key, score.value, score.stderr, score.n_items) for score in record.scores[2:]]
        assert found == [
            ("humanevalsynthesize_java", "java", "t0.2,n20", "pass@1", 0.25, None, 164),
            ("humanevalsynthesize_java", "java", "t0.2,n20", "pass@10", 0.5, None, 164),
            ("boolq", "english", "0shot", "accuracy", 0.75, 0.01, 100),
        ]

    def test_changed_prompts(self, run, tmp_path):
        rates = {"ButterFingers": {"robust-pass-at-1": 0.2, "alt-robust-pass-at-1": 0.3}}
        write(tmp_path / "b.json", {"perturbed-humaneval-nlaugmenter-num_seeds_5": rates})
        code, out, err = run("bigcode", "b.json", "--run-id", "r", "--n-items", 164, "--skip-unknown", "--json")
        assert code == 0 and "ButterFingers.alt-robust-pass-at-1" in json.loads(out)["left_out"][0]["place"]
        score = load("o/r.json").scores[-1]
        assert score.key == ("recode_docstring", "python", "ButterFingers", "robust_pass@1") and "left out" in err

    def test_value_that_is_there_is_not_changed_unasked(self, run, refused, tmp_path):
        run("bigcode", "b.json", "--run-id", "r")
        write(tmp_path / "b.json", BIGCODE | {"humanevalsynthesize-java": {"pass@1": 0.3}})
        message = refused("bigcode", "b.json", "--run-id", "r")
        assert "pass@1: value is 0.25 in the record and 0.3 in the file; pass --replace" in message
        assert run("bigcode", "b.json", "--run-id", "r", "--replace")[0] == 0
        assert [score.value for score in load("o/r.json").scores[2:]] == [0.3, 0.5]

    def test_a_run_is_named_or_described(self, refused):
        assert "say with --run-id which run these scores are of; o has r" in refused("bigcode", "b.json")
        message = refused("bigcode", "b.json", "--run-id", "x")
        assert "there is no run 'x' in o (it has r)" in message and "--grid, --method, --n-params-base" in message
        assert "'r' is in o with another description" in refused("bigcode", "b.json", "--run-id", "r", "--grid", "g")

    @pytest.mark.parametrize(
        ("content", "options", "message"),
        [
            ({"apps": {"pass@1": 0.5}}, (), r"apps: its language is not in the file; say it with --language"),
            (BIGCODE | {"config": {}}, (), r"its setting is not in the file; say it with --setting NAME"),
            ({"humaneval": {"pass@1": 0.5}}, ("--setting", "s"), r"problems of humaneval is not known"),
            (BIGCODE | {"humaneval": {"pass@100": 0.5}}, (), r"pass@100 is no metric that .*--skip-unknown"),
            (BIGCODE | {"humaneval": 0.5}, (), r"humaneval: is 0.5, not the metrics of a task"),
            (BIGCODE, ("--dataset", "mbpp=x"), r"mbpp: is no task of this file; it has humanevalsynth"),
            (BIGCODE | {"humaneval": {"pass@1": 50}}, (), r"humaneval.pass@1: value 50 is outside \[0, 1\]"),
            ([1], (), r"holds a list, not a JSON object"),
        ],
    )
    def test_what_cannot_be_mapped(self, refused, tmp_path, content, options, message):
        write(tmp_path / "b.json", content)
        assert re.search(message, refused("bigcode", "b.json", "--run-id", "r", *options))


def test_different_record_stays_unless_told(run, refused, tmp_path):
    write(tmp_path / "t.csv", TABLE)
    run("csv", "t.csv", "--grid", "g")
    write(tmp_path / "t.csv", TABLE.replace("1.25", "1.3"))
    complaint = refused("csv", "t.csv", "--grid", "g")
    assert "o/g-3b-ia3-s0.json: run_id: is there already with other val_loss; pass --replace" in complaint
    assert "1 replaced" in run("csv", "t.csv", "--grid", "g", "--replace")[2]
    assert load("o/g-3b-ia3-s0.json").val_loss == 1.3


@pytest.mark.parametrize("stop", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_all_or_nothing(tmp_path, make_record, monkeypatch, stop):
    old = make_record(run_id="a")
    save(old, tmp_path / "my")
    records = [make_record(run_id=name, seed=seed, val_loss=2.25) for seed, name in enumerate("abc")]
    rename, left = type(tmp_path).replace, iter([True, True])

    def stops(path, target):
        # Two records are in place when the third cannot be moved.
        if path.suffix == ".json" and path.parent.name.startswith(".import-") and not next(left, False):
            raise stop
        return rename(path, target)

    monkeypatch.setattr(type(tmp_path), "replace", stops)
    with pytest.raises((RecordError, KeyboardInterrupt)):
        write_all(records, tmp_path / "my", replace=True)
    assert [path.name for path in (tmp_path / "my").iterdir()] == ["a.json"] and load(tmp_path / "my/a.json") == old


def test_no_empty_folder_is_left(tmp_path, make_record):
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordError, match=r"cannot be written .*, and nothing was; free space"):
        write_all([make_record()], tmp_path / "file" / "my", replace=False)


BOTTLENECK = {"peft_type": "BOTTLENECK", "use_parallel_adapter": False, "use_adapterp": False}
SHAPES = {"m.lora_A.weight": [2, 3], "m.lora_B.weight": [3, 2]}


@pytest.mark.parametrize(
    ("config", "method"),
    [
        (LORA | {"init_lora_weights": "pissa_niter_16", "use_rslora": True, "rank_pattern": {"c_fc": 4}}, "lora"),
        (LORA | {"use_dora": True}, "dora"),
        (LORA | {"kasa_config": {"beta": 1e-4}}, "kasa"),
        (LORA | {"init_lora_weights": "mica"}, "mica"),
        ({"peft_type": "P_TUNING"}, "ptuning"),
        ({"peft_type": "IA3"}, "ia3"),
        ({"peft_type": "LOHA"}, "loha"),
        (BOTTLENECK, "adapterh"),
        (BOTTLENECK | {"use_adapterp": True}, "adapterp"),
        (BOTTLENECK | {"use_parallel_adapter": True}, "parallel"),
        ({"peft_type": "BOTTLENECK", "variant": "adapterp"}, "adapterp"),
    ],
)
def test_method_of_an_adapter(config, method):
    assert adapter_method(config) == method


def test_option_that_is_not_known_is_no_plain_lora():
    config = LORA | {"new_config": {"rate": 1}}
    with pytest.raises(Refusal, match=r"LoRA with new_config, which is not known here.*--method.*--n-params-updated"):
        adapter_method(config)
    assert count_saved(SHAPES, config) is None


def test_saved_adapter_is_counted_only_where_all_of_it_was_updated():
    assert count_saved(SHAPES, LORA) == 12
    assert count_saved(SHAPES | {"m.lm_head.weight": [9, 9]}, LORA) is None
    # MiCA saves both matrices and updates one of them; prompts are saved without their encoder.
    for config in (LORA | {"init_lora_weights": "mica"}, LORA | {"modules_to_save": ["x"]}, {"peft_type": "P_TUNING"}):
        assert count_saved(SHAPES, config) is None


def test_weights_are_counted_from_headers_and_buffers_are_not_weights(tmp_path):
    shapes = {"transformer.wte.weight": [10, 4], "h.0.attn.c_attn.bias": [12], "h.0.attn.bias": [1, 1, 8, 8]}
    write_weights(tmp_path / "model.safetensors", shapes)
    counts = count_weights(read_model_shapes(tmp_path))
    assert counts == {"n_params_base": 52, "n_params_base_nonembedding": 12}
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    write_weights(tmp_path / "one.safetensors", {"a": [3]})
    with pytest.raises(RecordError, match=r"two\.safetensors is not in .*; add it, or give the counts"):
        read_model_shapes(tmp_path)
    write_weights(tmp_path / "two.safetensors", {"b": [4]})
    assert count_weights(read_model_shapes(tmp_path)) == {"n_params_base": 7}


def test_weights_that_do_not_count(tmp_path):
    packed = write_weights(tmp_path / "packed.safetensors", {"w": [4]}, dtype="U8")
    with pytest.raises(RecordError, match=r"U8 holds packed weights.*allowed are BF16, F16, F32, F64"):
        read_shapes(packed)
    packed.write_bytes(packed.read_bytes()[:20])
    with pytest.raises(RecordError, match="is no safetensors file, or is cut off"):
        read_shapes(packed)


def test_size_is_labelled_by_its_parameters():
    labels = {1_137_207_296: "1.14b", 756_840: "757k", 124_000_000: "124m", 999_600_000: "1b", 950: "950"}
    assert {n: size_label(n) for n in labels} == labels
