import json
import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
import torch

from astraios_analysis.records.frame import METHODS
from training.cli.main import COMMANDS
from training.loop.flop import PeakMemory

COUNTED = ("corpus --show", "estimate --preset smoke --micro-batch", "grid run --preset smoke --jobs")
COUNTED += ("score x.json --dataset aatk --workers",)
KEYS = ["size", "method", "n_params", "n_params_base", "n_params_embedding", "n_params_updated", "percent_updated"]


def test_models_are_counted_without_memory_in_the_order_of_the_grid(told):
    memory = PeakMemory(torch.device("cpu"))
    before = memory.read()
    rows = json.loads(told("params", "--size", "16b", "1b", "--method", "lora", "--method", "fft", "--json").out)
    assert before is None or memory.read() - before < 2**29
    assert [list(row) for row in rows] == [KEYS] * 4
    assert [(row["size"], row["method"]) for row in rows] == [*product(("1b", "16b"), ("fft", "lora"))]
    lora = rows[1]
    assert lora["n_params_updated"] == 3588096
    assert lora["percent_updated"] == 100 * 3588096 / 1140795392
    assert lora["n_params_embedding"] == (49152 + 8192) * 2048


def test_table_has_a_line_for_each_model(told):
    header, *lines = told("params", "--size", "1b").out.splitlines()
    assert header.split() == KEYS
    assert lines[1].split() == ["1b", "lora", "1,140,795,392", "1,137,207,296", "117,440,512", "3,588,096", "0.3145"]
    assert len(lines) == len(METHODS)


def test_only_what_trains_or_counts_needs_torch(tmp_path):
    code = (
        "import sys; from training.cli.main import COMMANDS, main\n"
        "assert main(['--help']) == 0\n"
        "assert {'torch', 'pandas', 'pydantic'}.isdisjoint(sys.modules)\n"
        "import training.models.architectures, training.corpus.statistics, training.corpus.texts\n"
        "for command in (['grid', 'list'], ['grid', 'status', '--preset', 'smoke'], ['corpus', '--show', '1'],\n"
        "                ['estimate', '--preset', 'starcoderbase'], *([name, '--help'] for name in COMMANDS)):\n"
        "    assert main(command) == 0\n"
        "    assert {'torch', 'transformers', 'peft', 'datasets'}.isdisjoint(sys.modules), command"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    kept = {"capture_output": True, "text": True, "check": True, "timeout": 600}
    text = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, **kept).stdout
    assert "examples:\n  python -m training params" in text


@pytest.mark.parametrize("command", [[name] for name in COMMANDS] + [["grid", "run"], ["grid", "search"]])
def test_every_command_has_help_with_examples(told, command):
    text = told(*command, "--help").out
    assert f"Usage: python -m training {' '.join(command)}" in text
    assert f"examples:\n  python -m training {command[0]}" in text


@pytest.mark.parametrize("action", ["list", "status"])
def test_no_examples_are_announced_where_there_are_none(told, action):
    assert "examples:" not in told("grid", action, "--help").out


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("", "COMMAND"),
        ("params --preset mega", "unknown preset 'mega'; choose from gpu, ladder, smoke, starcoderbase"),
        ("params --size 34b", "unknown size '34b' in grid 'starcoderbase'; choose from 1b"),
        ("params --method lora2", "unknown tuning method 'lora2'; choose from adapterh, adapterp, fft"),
        ("params --adapter . --preset starcoderbase", "not allowed with argument"),
        ("params --adapter x", "give its config.json, or the folder of it, with --config"),
        ("corpus --task poem", "unknown task 'poem'; choose from completion, synthesis"),
        ("corpus --split dev", "unknown split 'dev'; choose from train, validation, test"),
        ("corpus --problems", "--problems needs a task; add --task with one of"),
        *((f"{command} 0", "0 is not in the range x>=1") for command in COUNTED),
        ("corpus --seed -1", "-1 is not in the range x>=0"),
        ("corpus --problems --statistics", "not allowed with argument"),
        ("estimate --preset ladder --gpus 0", "--gpus is 0; give a positive number"),
        ("params --config docs", "--config is the base of --adapter: name the adapters, or leave it out"),
        ("estimate --preset ladder --utilisation 40", "give a share of the peak in (0, 1]"),
        (
            "estimate --preset smoke --micro-batch 3",
            "does not split into passes of 3 rows on each of 1 processes; choose",
        ),
        ("estimate --preset ladder --utilisation 0", "--utilisation is 0.0; give a share"),
        *((f"estimate --preset ladder --{name} 0", f"--{name} is 0; give a") for name in ("memory-gib", "tflops")),
        ("estimate --preset smoke --precision fp8", "'fp8' is not one of 'fp32', 'bf16'"),
        ("estimate --preset smoke --base-precision int4", "'int4' is not one of 'bf16', 'int8', 'nf4'"),
        ("grid", "ACTION"),
        ("grid status", "Missing option '--preset' (or '--spec FILE')"),
        ("grid pilot --preset smoke --instructions 0", "0.0 is not in the range 0<x<1"),
        ("grid pilot --preset smoke --offsets=-1", "-1 is not in the range x>=0"),
        ("grid compare --preset ladder --tolerance nan", "nan is no finite number"),
        ("grid status --preset ladder --spec x.toml", "not allowed with argument"),
        ("grid status --spec x.toml", "x.toml: there is no such file"),
        ("grid run --preset smoke --size 1b", "unknown size '1b' in grid 'smoke'"),
        ("grid run --preset starcoderbase --dataset mbpp", "unknown data set 'mbpp'; choose from humanevalsynthesize_"),
        ("grid run --preset smoke --dataset aatk", "--dataset and --problems are for runs on text"),
        ("grid run --preset smoke --no-scores --engine k8s", "unknown engine 'k8s'; choose from local"),
        ("grid score --preset smoke --measures speed", "unknown measure 'speed'; choose from synthesis, fix, explain"),
        ("grid score --preset smoke --json", "--json belongs to --base"),
        ("grid score --preset smoke --base --force", "not allowed with"),
        ("grid score --preset smoke --unsafe --runs no", "none of the 14 runs has a record in no; train"),
        ("generate --dataset humanevalfix_python --out x.json", "there is no model: give --run, or --model"),
        ("generate --dataset humanevalfix_python --model x", "--out is missing: name the file to write"),
        ("generate --dataset aatk --model nowhere --out x.json", "nowhere is no folder; give that of a model"),
        ("generate --dataset aatk --model x --out docs", "--out is docs, a folder; name the file to write"),
        ("generate --dataset aatk --run x --adapter x --out x.json", "not allowed with argument"),
        ("generate --dataset aatk --for-vllm x --texts x", "not allowed with argument"),
        *((f"generate --dataset aatk --{name} 0", "is not in the range x>=1") for name in ("samples", "first")),
        *((f"generate --dataset aatk --{name} 0", "0 is not in") for name in ("max-length", "tokens-per-batch")),
        ("generate --dataset aatk --temperature -1", "-1.0 is not in the range"),
        ("generate --dataset aatk --temperature inf", "inf is no finite number"),
        ("score x.json", "--dataset is missing"),
        ("score --dataset humanevalfix_python", "GENERATIONS is missing"),
        ("score missing.json --dataset humanevalfix_python", "missing.json: there is no such file"),
        ("score x.json --dataset humanevalfix", "unknown data set 'humanevalfix'"),
        ("score x.json --dataset aatk --cpu-seconds 0", "0.0 is not in the range 0<x<3600"),
        ("score x.json --dataset aatk --cpu-seconds nan", "nan is no finite number"),
    ],
)
def test_wrong_arguments_say_what_is_allowed(refused, command, message):
    assert message in refused(*command.split())
