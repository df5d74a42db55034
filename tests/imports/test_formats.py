"""What each tool leaves behind, in the layouts of its versions: what is read of it, and what is said of the rest."""

import csv
import gzip
import json
import shutil

import foreign_files
import pytest
from foreign_files import LORA, trainer_folder, write

from astraios_analysis.imports.peft import read_result
from astraios_analysis.records.frame import load, load_folder

RUN = ("--grid", "g", "--run-id", "r", "--method", "fft", "--size", "1b", "--n-params-base", "1M")
COUNTS = ("--grid", "g", "--run-id", "r", *foreign_files.COUNTS)
ADALORA = {"peft_type": "ADALORA", "r": 8}
# lm-evaluation-harness before version 0.4.
OLD = {
    "results": {"piqa": {"acc": 0.25, "acc_stderr": 0.01, "acc_norm": 0.5, "acc_norm_stderr": 0.02}},
    "versions": {"piqa": 0},
    "config": {"model": "hf-causal", "num_fewshot": 3, "limit": None},
}
SAMPLES = [{"task_id": f"HumanEval/{i // 2}", "completion": "x", "passed": i < 3} for i in range(328)]


@pytest.fixture
def case(reference_folder, tmp_path):
    """Copy one of the reference cases into the folder of the test."""

    def case(name):
        source = reference_folder / "cases" / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
        return name

    return case


def scores(name="r"):
    return {(s.dataset, s.setting): (s.value, s.stderr, s.n_items) for s in load(f"o/{name}.json").scores}


def error(share, n_items):
    """Standard error of a share of n items, as lm-evaluation-harness computes it."""
    return (share * (1 - share) / (n_items - 1)) ** 0.5


class TestLmEval:
    def test_before_version_0_4(self, run, tmp_path):
        path = write(tmp_path / "old.json", OLD)
        assert run("lm-eval", path, *RUN, "--n-items", "piqa=1838")[0] == 0
        assert scores() == {("piqa", "3shot"): (0.25, 0.01, 1838), ("piqa", "3shot,acc_norm"): (0.5, 0.02, 1838)}

    def test_number_of_items_follows_from_exact_errors_only(self, run, refused, tmp_path):
        values = {"acc": 40 / 99, "acc_stderr": error(40 / 99, 99), "acc_norm": 0.0, "acc_norm_stderr": 0.0}
        rounded = {"acc": 0.404, "acc_stderr": round(error(40 / 99, 99), 4)}
        write(tmp_path / "rounded.json", OLD | {"results": {"wsc": rounded}})
        assert "wsc: its number of problems is not known; say it with --n-items TASK=N" in refused(
            "lm-eval", "rounded.json", *RUN
        )
        write(tmp_path / "exact.json", OLD | {"results": {"wsc": values}})
        assert run("lm-eval", "exact.json", *RUN)[0] == 0
        assert {n for _, _, n in scores().values()} == {99}

    def test_what_contradicts_the_file_is_refused_or_said(self, run, refused, tmp_path):
        values = {"acc": 40 / 99, "acc_stderr": error(40 / 99, 99)}
        write(tmp_path / "w.json", OLD | {"results": {"wsc": values, "sum": {"acc": 0.0}}})
        message = refused("lm-eval", "w.json", *RUN, "--n-items", "wsc=104", "--n-items", "sum=50")
        assert "results.wsc: has 99 problems by the file, and --n-items says 104; leave it out" in message
        message = refused("lm-eval", "w.json", *RUN, "--n-items", 50, "--n-items", "wcs=99")
        assert "--n-items wcs: there is no task or data set of this name; choose from sum, wsc" in message
        # N for all is for those that the file says nothing of.
        code, _, err = run("lm-eval", "w.json", *RUN, "--n-items", 50, "--setting", "0shot")
        assert code == 0 and "wsc: has 3 examples by the file, and is called 0shot (also sum)" in err
        assert {name: n for (name, _), (*_, n) in scores().items()} == {"wsc": 99, "sum": 50}

    def test_metrics_that_nobody_knows_are_named_where_there_are_no_others(self, refused, tmp_path):
        write(tmp_path / "c.json", OLD | {"results": {"toxicity": {"toxic_share": 0.5, "toxic_logit": 2.5}}})
        for more in ((), ("--skip-unknown",)):
            message = refused("lm-eval", "c.json", *RUN, *more)
            assert "no score that can be read: its metrics are toxic_share, toxic_logit; known" in message

    def test_what_many_tasks_lack_is_asked_once(self, refused, tmp_path):
        results = {name: {"acc": 0.5, "acc_stderr": error(0.5, 100)} for name in "abcdef"}
        write(tmp_path / "t.json", {"results": results})
        message = refused("lm-eval", "t.json", *RUN)
        assert message.count("\n") == 1 and "say it with --setting NAME (also results.b, results.c" in message

    def test_leaderboard_names_carry_the_number_of_examples(self, run, tmp_path):
        values = {"acc": 0.5, "acc_stderr": error(0.5, 100)}
        results = {"harness|arc:challenge|25": values, "harness|wino|5": values, "all": values}
        write(tmp_path / "l.json", {"results": results, "config_general": {"model_name": "m"}})
        code, _, err = run("lm-eval", "l.json", *RUN)
        assert code == 0 and "left out: l.json: results.all: is a group" in err
        assert set(scores()) == {("arc_challenge", "25shot"), ("wino", "5shot")}

    def test_outcomes_of_items_and_shares_that_say_no_number(self, run, refused, tmp_path):
        results = {"qa": {"acc": [0, 1, 1, 0]}} | {f"sum_{i}": {"acc": 0.0, "acc_stderr": 0.0} for i in range(5)}
        write(tmp_path / "p.json", OLD | {"results": results})
        message = refused("lm-eval", "p.json", *RUN)
        assert "or N for all (also sum_1, sum_2, sum_3 and 1 more); leave" in message
        code, _, err = run("lm-eval", "p.json", *RUN, "--skip-unknown")
        assert code == 0 and "left out: p.json: sum_0: its number of problems is not known" in err
        assert scores() == {("qa", "3shot"): (0.5, error(0.5, 4), 4)}
        assert run("lm-eval", "p.json", *RUN, "--n-items", 50)[0] == 0
        assert scores()["sum_4", "3shot"] == (0.0, 0.0, 50)

    def test_a_list_of_tasks_and_prompts(self, run, tmp_path):
        entry = {"task_name": "wino_type1", "em": 0.5, "em_stderr": error(0.5, 396), "comment": "", "subset": None}
        # The prompts of one task are over its problems, whose number a share of 0 does not say.
        nothing = {"em": 0.0, "em_stderr": 0.0}
        results = [entry | {"prompt_name": "refers_to", "prompt_original_task": True}]
        results.append(entry | nothing | {"prompt_name": "stands for"})
        write(tmp_path / "b.json", OLD | {"results": results})
        assert run("auto", "b.json", *RUN)[0] == 0
        assert set(scores()) == {("wino_type1", "3shot,em,refers_to"), ("wino_type1", "3shot,em,stands for")}
        assert {n for *_, n in scores().values()} == {396}

    def test_a_table_that_was_cut_out_of_a_result(self, run, refused, tmp_path):
        entry = {"task_name": "wino_type1", "prompt_name": "refers_to", "em": 0.5, "em_stderr": error(0.5, 396)}
        write(tmp_path / "t.json", {"table_results": {"wino_type1+refers_to": entry}, "model_args": {"iteration": 1}})
        assert "number of examples (n-shot) is not in the file" in refused("auto", "t.json", *RUN)
        assert run("auto", "t.json", *RUN, "--setting", "0shot")[0] == 0
        assert scores() == {("wino_type1", "0shot,em,refers_to"): (0.5, error(0.5, 396), 396)}

    def test_perplexity_beside_accuracy_and_metrics_that_nobody_knows(self, run, tmp_path):
        values = {"ppl": 6.25, "ppl_stderr": 0.125, "acc": 0.25, "acc_stderr": error(0.25, 400)}
        write(tmp_path / "l.json", OLD | {"results": {"lambada": values, "toxicity": {"toxic_share": 0.5}}})
        code, _, err = run("lm-eval", "l.json", *RUN, "--skip-unknown")
        assert code == 0 and "toxicity.toxic_share: toxic_share is no metric that records know" in err
        assert {(s.metric, s.value, s.n_items) for s in load("o/r.json").scores} == {
            ("perplexity", 6.25, 400),
            ("accuracy", 0.25, 400),
        }

    def test_shares_that_are_neither_good_nor_bad(self, run, tmp_path):
        share = {"pct_stereotype": 0.625, "pct_stereotype_stderr": error(0.625, 1600)}
        results = {"crows": share | {"likelihood_difference": 9.125, "likelihood_difference_stderr": 0.5}}
        results["truthfulqa_mc"] = {"mc1": 0.25, "mc1_stderr": error(0.25, 800), "mc2": 0.375, "mc2_stderr": 0.0142}
        write(tmp_path / "c.json", OLD | {"results": results})
        assert run("lm-eval", "c.json", *RUN)[0] == 0
        assert {(s.dataset, s.metric, s.setting, s.value, s.n_items) for s in load("o/r.json").scores} == {
            ("crows", "stereotype_share", "3shot", 0.625, 1600),
            ("crows", "likelihood_difference", "3shot", 9.125, 1600),
            ("truthfulqa_mc", "accuracy", "3shot,mc1", 0.25, 800),
            ("truthfulqa_mc", "accuracy", "3shot,mc2", 0.375, 800),
        }

    def test_variants_and_filters_stay_apart_under_a_setting(self, run, tmp_path):
        results = {"gsm8k": {"exact_match,strict-match": 0.25, "exact_match,flexible-extract": 0.5, "alias": "gsm8k"}}
        content = {
            "results": results,
            "n-shot": {"gsm8k": 5},
            "n-samples": {"gsm8k": {"effective": 8}},
            "configs": None,
        }
        write(tmp_path / "n.json", content)
        assert run("lm-eval", "n.json", *RUN, "--setting", "cot")[0] == 0
        assert scores() == {
            ("gsm8k", "cot,exact_match,strict-match"): (0.25, None, 8),
            ("gsm8k", "cot,exact_match,flexible-extract"): (0.5, None, 8),
        }
        assert load("o/r.json").scores[0].language == "text"

    def test_groups_are_left_out_and_said(self, run, tmp_path):
        row = {"acc,none": 0.25, "acc_stderr,none": 0.01}
        content = {
            "results": {
                "blimp": row,
                "blimp_a": row,
                "blimp_b": row | {"acc,none": "N/A"},
                "tagged": {" ": " "},
                "old": row,
            },
            "groups": {"old": row},
            "group_subtasks": {"blimp": ["blimp_a", "blimp_b"], "blimp_a": [], "blimp_b": []},
            # The harness gives a group the number of examples of its first task.
            "n-shot": {"blimp": 0, "blimp_a": 0, "blimp_b": 0, "tagged": 0},
            "n-samples": {"blimp_a": {"effective": 1000}, "blimp_b": {"effective": 1000}},
        }
        write(tmp_path / "n.json", content)
        code, out, _ = run("lm-eval", "n.json", *RUN, "--json")
        assert code == 0 and scores() == {("blimp_a", "0shot"): (0.25, 0.01, 1000)}
        places = [problem["place"] for problem in json.loads(out)["left_out"]]
        assert places == ["results.blimp", "results.blimp_b.acc,none", "results.old"]

    def test_one_record_holds_no_two_scores_under_one_key(self, refused, run, tmp_path):
        results = {"Task-A": {"acc": 0.25}, "task_a": {"acc": 0.5}}
        write(tmp_path / "twice.json", OLD | {"results": results})
        message = refused("lm-eval", "twice.json", *RUN, "--n-items", 4)
        assert "results.task_a.acc: is task_a, text, 3shot, accuracy, and so is results.Task-A.acc" in message
        for name, value in (("a.json", 0.25), ("b.json", 0.5)):
            write(tmp_path / name, OLD | {"results": {"piqa": {"acc": value}}})
        message = refused("lm-eval", "a.json", "b.json", *RUN, "--n-items", 4, "--replace")
        assert "b.json: piqa, text, 3shot, accuracy: is 0.5 here and 0.25 in a.json" in message

    def test_unknown_metrics_are_a_line_each(self, refused, run, tmp_path):
        results = {name: {"acc": 0.5, "gini": 9.5, "gini_stderr": 0.1} for name in ("a", "b", "c")}
        write(tmp_path / "p.json", OLD | {"results": results})
        message = refused("lm-eval", "p.json", *RUN, "--n-items", 4)
        assert (
            len(message.splitlines()) == 1
            and "a.gini: gini is no metric that records know (also b.gini, c.gini); the known ones are" in message
        )
        assert run("lm-eval", "p.json", *RUN, "--n-items", 4, "--skip-unknown")[0] == 0

    def test_samples_are_not_results(self, refused, tmp_path):
        write(tmp_path / "s.jsonl", json.dumps({"doc_id": 0, "resps": [["a"]]}))
        for form in ("auto", "lm-eval"):
            assert "are the samples of lm-evaluation-harness; give the results_*.json" in refused(form, "s.jsonl", *RUN)


class TestHumanEval:
    def test_outcomes_by_problem(self, run, refused, tmp_path):
        text = "\n".join(map(json.dumps, SAMPLES))
        write(tmp_path / "s.jsonl", text)
        assert "its setting is not in the file; say it with --setting" in refused("human-eval", "s.jsonl", *RUN)
        assert run("human-eval", "s.jsonl", *RUN, "--setting", "t0.8,n2")[0] == 0
        (score,) = load("o/r.json").scores
        assert score.key == ("humaneval", "python", "t0.8,n2", "pass@1")
        assert (score.value, score.n_passed, score.n_samples, score.n_items) == (1.5 / 164, 3, 328, 164)

    def test_packed_samples_of_another_task(self, run, tmp_path):
        rows = [{"task_id": f"Mbpp/{i}", "completion": "x", "passed": i < 2} for i in range(5)]
        (tmp_path / "s.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
        for name in ("mbpp", "mine"):
            assert run("auto", "s.jsonl.gz", *RUN, "--setting", "greedy", "--dataset", name)[0] == 0
        assert [(score.key[:2], score.value) for score in load("o/r.json").scores] == [
            (("mbpp", "python"), 0.4),
            (("mine", "python"), 0.4),
        ]

    def test_parts_and_other_tasks_must_be_said(self, refused, tmp_path):
        write(tmp_path / "s.jsonl", "\n".join(map(json.dumps, SAMPLES[:20])))
        message = refused("human-eval", "s.jsonl", *RUN, "--setting", "greedy")
        assert "has 10 problems and the task 164; if only these were run, say --n-items N" in message

    @pytest.mark.reference
    def test_samples_that_nobody_ran_are_named(self, refused, case):
        path = case("a15_human_eval_samples.jsonl")
        for form in ("human-eval", "auto"):
            assert "are samples that nobody has run" in refused(form, path, *RUN, "--setting", "greedy")


class TestTrainer:
    def test_plain_loss_goes_before_others(self, run, tmp_path):
        code, _, err = run("trainer", trainer_folder(tmp_path), *COUNTS)
        assert code == 0 and load("o/r.json").val_loss == 1.05
        assert "eval_loss is read as the validation loss; eval_router_loss are logged too" in err
        for name in ("router", "eval_router_loss"):
            assert run("trainer", "out", *COUNTS, "--eval", name, "--replace")[0] == 0
            assert load("o/r.json").val_loss == 0.01
        assert run("trainer", "out", *COUNTS, "--eval", "eval_loss", "--replace")[0] == 0

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
        header = json.dumps({"m.lora_A.weight": {"dtype": "F32", "shape": [8, 4], "data_offsets": [0, 0]}}).encode()
        (tmp_path / "out" / "adapter_model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
        message = refused("trainer", folder, *COUNTS)
        assert "n_params_updated: is 32 by out/adapter_model.safetensors and 1000 by options" in message

    def test_counts_of_several_adapters_are_not_one_number(self, refused, tmp_path):
        folder = trainer_folder(tmp_path)
        message = refused("trainer", folder, "out/../out", "--grid", "g", "--n-params-updated", 5)
        assert "--n-params-updated is that of one run, and there are 2 folders; give --counts FILE" in message

    def test_one_number_is_not_that_of_several_base_models(self, refused, tmp_path):
        for name in ("a", "b"):
            trainer_folder(tmp_path, adapter=LORA | {"base_model_name_or_path": f"base-{name}"}, name=name)
        message = refused("trainer", "a", "b", "--grid", "g", "--n-params-base", "1M")
        assert "these adapters are of several base models (base-a, base-b)" in message

    @pytest.mark.reference
    @pytest.mark.parametrize("name", ["a07_mica", "a08_kasa"])
    def test_variants_of_lora_are_not_counted_as_lora(self, run, refused, case, name):
        config = case("a07_llama32_3b_config.json")
        message = refused("trainer", case(name), "--grid", "g", "--run-id", "m", "--base-config", config)
        assert "n_params_updated: is not known" in message and "python -m training params --adapter" in message
        assert run("trainer", name, *COUNTS)[0] == 0 and load("o/r.json").method == name[4:]


def peft_result(name, config, total, updated, **changes):
    metrics = [{"step": 10, "train loss": 0.5}, {"step": 20, "test accuracy": 605 / 1319, "train total tokens": 99}]
    train = {"num_trainable_params": updated, "num_total_params": total, "status": "success", "train_time": 9.5}
    return {
        "run_info": {
            "experiment_name": name,
            "train_config": {"model_id": "some/Tiny-1B", "seed": 0, "optimizer_type": "AdamW"},
            "peft_config": config,
        },
        "train_info": train | {"metrics": metrics, "cuda_memory_max": 77} | changes,
        "meta_info": {"dataset_info": {"metamath": {}, "gsm8k": {}}},
    }


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
CHART = "\n".join(
    (
        '"Step","lora-1m-s0 - eval/loss","lora-1m-s0 - eval/loss__MIN","lora-1m-s0 - eval/loss__MAX",'
        '"fft-1m-s0 - eval/loss"',
        '"0","3.5","3.5","3.5",""',
        '"100","1.5","1.4","1.6","1.25"',
    )
)
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
        assert {(r.run_id, r.val_loss, r.cost.seconds) for r in (first, second)} == {
            ("lora-1-b", 1.5, 3600),
            ("fft-1b", 1.25, 7200),
        }

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
        write(tmp_path / "t.csv", CHART.replace("eval/loss", "train/loss"))
        shutil.rmtree(tmp_path / "o")
        assert "which of train/loss is the validation loss? say it with --val-loss" in refused(
            "wandb", "t.csv", *pattern
        )
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
        write(
            tmp_path / "run.json", {"info": {"run_id": "a", "experiment_id": "0", "status": "FINISHED"}, "data": data}
        )
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
        ("form", "content", "message"),
        [
            ("lm-eval", peft_result("lora/x", LORA, 2, 1), "is a result of PEFT's method_comparison; read it with"),
            ("bigcode", OLD, "is results of lm-evaluation-harness; read it with: astraios import lm-eval"),
            ("csv", OLD, "is results of lm-evaluation-harness"),
            ("auto", {"a": 1}, "is not recognised; say what it is with astraios import FORMAT, one of csv"),
            ("auto", {"log_history": []}, "is the state of a Trainer; give the folder that it is in"),
            ("auto", {"schema_version": 1, "run_id": "r"}, "is a record already; put it into the folder of records"),
            ("auto", "{\n", "is not valid JSON"),
            ("lm-eval", {"results": [1]}, "results: has no object of this name; is it a result file"),
            (
                "lm-eval",
                OLD | {"results": {"qa": {"acc": [[]]}}},
                "has no score that can be read: its metrics are none; known are pass@1",
            ),
            ("peft", peft_result("lora/x", LORA, 2, 0), "num_trainable_params: is 0; input should be gr"),
            ("peft", peft_result("lora/x", LORA, 2, 1) | {"train_info": 1}, "train_info: is 1; input should be"),
            ("mlflow", {"info": {"status": "FINISHED"}, "data": {"metrics": [1]}}, "is neither an object nor a list"),
        ],
    )
    def test_wrong_files_are_named(self, refused, tmp_path, form, content, message):
        write(tmp_path / "f.json", content)
        assert message in refused(form, "f.json", *RUN)

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

    def test_names_that_become_one_are_refused(self, refused, tmp_path):
        write(tmp_path / "t.csv", "run_id,method,n_params_base\na/b,fft,1M\na b,fft,2M\n")
        message = refused("csv", "t.csv", "--grid", "g")
        assert "line 3: runs 'a/b' and 'a b' would both be named 'a-b'; rename one" in message

    @pytest.mark.parametrize(
        ("table", "options", "message"),
        [
            ("a;b\n1;2\n", (), "header: no column is known: a, b; say what they are"),
            ("n_params_base\n1M\n", ("--grid", "My Grid", "--method", "fft"), "'My Grid'; a name has small letters"),
            ("n_params_base\n1M\n", ("--grid", "g", "--method", "-"), "'-' is no name of a tuning method"),
            ("n_params_base,step,val_loss\n1M,3,-1\n", ("--grid", "g", "--method", "fft"), "loss: is -1.0; input s"),
            ("n_params_base\n1M\n", ("--name-pattern", "(x"), "is '(x'; input should be a valid regular"),
            ("n_params_base\n1M\n", ("--n-params", "many"), "'many' is not a count, such as 1137207296"),
            ("n_params_base\n1M\n", ("--score", "a"), "'--score': 'a': give COLUMN DATASET"),
        ],
    )
    def test_bad_tables_and_options(self, refused, tmp_path, table, options, message):
        write(tmp_path / "t.csv", table)
        assert message in refused("csv", "t.csv", *options)

    def test_names_of_data_sets_are_written_as_records_do(self, run, tmp_path):
        write(tmp_path / "t.csv", "method,n_params_base,MMLU-Pro\nfft,1M,0.5\n")
        score = ("--score", "MMLU-Pro", "MMLU-Pro", "accuracy", "5shot", "English", "--n-items", "MMLU-Pro=4")
        assert run("csv", "t.csv", "--grid", "g", *score)[0] == 0
        assert load_folder("o")[0].scores[0].key == ("mmlu_pro", "english", "5shot", "accuracy")

    def test_what_fft_updates_is_never_another_number(self, run, refused, tmp_path):
        write(tmp_path / "t.csv", "method,n_params_base,n_params_updated\nfft,1M,1000\n")
        message = refused("csv", "t.csv", "--grid", "g")
        assert "line 2: n_params_updated is 1000 and n_params_base 1000000, and fft updates every parameter" in message
        write(tmp_path / "t.csv", "method,n_params_base\nfft,1M\nP_Tuning,1M\n")
        code, _, err = run("csv", "t.csv", *TABLE)
        assert code == 0 and {r.method: r.n_params_updated for r in load_folder("o")} == {"fft": 10**6, "ptuning": 1000}
        assert "2 of 2 runs: no loss and no score of g-1m-fft, g-1m-ptuning" in err

    @pytest.mark.parametrize(
        ("cells", "loss", "share"), [('"2,51","45,5 %"', 2.51, 0.455), ("2.51,45.5%", 2.51, 0.455)]
    )
    def test_cells_are_read_as_fit_reads_them(self, run, tmp_path, cells, loss, share):
        write(tmp_path / "t.csv", f'method,n_params_base,val_loss,acc\nfft,"1,3B",{cells}\n')
        score = ("--score", "acc", "qa", "accuracy", "--n-items", "1k")
        assert run("csv", "t.csv", "--grid", "g", *score)[0] == 0
        (record,) = load_folder("o")
        assert (record.n_params_base, record.val_loss, record.scores[0].value) == (1_300_000_000, loss, share)


@pytest.mark.reference
class TestReferenceCases:
    """Right values of the small inputs that went wrong once, from the folder that holds them."""

    def test_scores_of_the_harness(self, run, case, tmp_path):
        options = (*RUN, "--language", "english")
        items = ("--n-items", "arc_easy=2376", "--n-items", "wsc=104")
        assert run("lm-eval", case("a01_lm_eval_before_0.4.json"), *options, *items)[0] == 0
        assert scores() == {
            ("arc_easy", "5shot"): (0.4, 0.01, 2376),
            ("arc_easy", "5shot,acc_norm"): (0.45, 0.0102, 2376),
            ("wsc", "5shot"): (0.3654, 0.0474, 104),
        }
        shutil.rmtree(tmp_path / "o")
        path = case("a02_lm_eval_acc_and_acc_norm.json")
        for more in ((), ("--replace",)):
            assert run("lm-eval", path, *options, "--setting", "5shot", *more)[0] == 0
            assert {key: value for key, (value, *_) in scores().items()} == {
                ("arc_easy", "5shot"): 0.4,
                ("arc_easy", "5shot,acc_norm"): 0.45,
            }
        shutil.rmtree(tmp_path / "o")
        code, _, err = run("lm-eval", case("a03_lm_eval_group.json"), *options)
        assert code == 0 and "results.mmlu: is a group" in err and "results.mmlu_stem: is a group" in err
        assert scores() == {("mmlu_anatomy", "5shot"): (0.25, 0.0375, 135)}

    def test_losses_of_the_trainer(self, run, case):
        assert run("trainer", case("a06_trainer_aux_loss"), *COUNTS)[0] == 0
        assert load("o/r.json").val_loss == 1.02
        told = run("trainer", case("a11_best_checkpoint"), *COUNTS, "--replace")[2]
        assert "names step 100 (0.98) as the best" in told and load("o/r.json").val_loss == 1.05

    def test_run_names_of_others(self, run, case):
        columns = ("--run-id-column", "run", "--method-column", "type", "--n-params-updated-column", "trainable")
        score = ("--score", "acc", "gsm8k", "accuracy", "0shot", "english", "--n-items", 1319)
        path = case("a12_run_names.csv")
        assert run("csv", path, "--grid", "g", *columns, "--n-params-base", 3212749824, *score)[0] == 0
        assert {(r.run_id, r.method, r.scores[0].value) for r in load_folder("o")} == {
            ("lora-llama-3.2-3B-rank32", "lora", 0.4784),
            ("ptuning-llama-3.2-3B-default", "ptuning", 0.3783),
        }
