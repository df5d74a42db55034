import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from astraios_analysis.records.frame import METHODS
from training.__main__ import main
from training.cli.main import COMMANDS
from training.loop.flop import PeakMemory

KEYS = ["size", "method", "n_params", "n_params_base", "n_params_embedding", "n_params_updated", "percent_updated"]


def test_models_are_counted_without_memory_and_nothing_but_json_is_printed(capsys):
    memory = PeakMemory(torch.device("cpu"))
    before = memory.read()
    assert main(["params", "--preset", "starcoderbase", "--size", "1b", "16b", "--json"]) == 0
    assert before is None or memory.read() - before < 2**29
    rows = json.loads(capsys.readouterr().out)
    assert [list(row) for row in rows] == [KEYS] * 14
    assert [(row["size"], row["method"]) for row in rows[::7]] == [("1b", "fft"), ("16b", "fft")]
    lora = rows[1]
    assert lora["n_params_updated"] == 3588096
    assert lora["percent_updated"] == 100 * 3588096 / 1140795392
    assert lora["n_params_embedding"] == (49152 + 8192) * 2048


def test_only_what_trains_or_counts_needs_torch(tmp_path):
    code = (
        "import sys; from training.__main__ import main\n"
        "assert main(['--help']) == 0\n"
        "assert {'torch', 'pandas', 'pydantic'}.isdisjoint(sys.modules)\n"
        "for command in (['grid', 'list'], ['grid', 'status', '--preset', 'smoke'], ['corpus', '--show', '1'],\n"
        "                ['estimate', '--preset', 'starcoderbase']):\n"
        "    assert main(command) == 0\n"
        "    assert {'torch', 'transformers'}.isdisjoint(sys.modules), command"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    kept = {"capture_output": True, "text": True, "check": True, "timeout": 600}
    text = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, **kept).stdout
    assert "examples:\n  python -m training params" in text


@pytest.mark.parametrize("command", [[name] for name in COMMANDS] + [["grid", "run"], ["grid", "search"]])
def test_every_command_has_help_with_examples(capsys, command):
    assert main([*command, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"Usage: python -m training {' '.join(command)}" in text
    assert f"examples:\n  python -m training {command[0]}" in text


def test_size_and_method_choose_rows(capsys):
    assert main(["params", "--size", "3b", "1b", "--method", "lora", "--method", "fft", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["size"], row["method"]) for row in rows] == [
        ("1b", "fft"),
        ("1b", "lora"),
        ("3b", "fft"),
        ("3b", "lora"),
    ]


def test_table_has_a_line_for_each_model(capsys):
    main(["params", "--size", "1b"])
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split() == KEYS
    assert lines[1].split() == ["1b", "lora", "1,140,795,392", "1,137,207,296", "117,440,512", "3,588,096", "0.3145"]
    assert len(lines) == len(METHODS)


def test_wrong_arguments_say_what_is_allowed(refused):
    assert "unknown preset 'mega'; choose from gpu, ladder, smoke, starcoderbase" in refused(
        "params", "--preset", "mega"
    )
    assert "unknown size '34b' in grid 'starcoderbase'; choose from 1b" in refused("params", "--size", "34b")
    message = "unknown tuning method 'lora2'; choose from adapterh, adapterp, fft"
    assert message in refused("params", "--method", "lora2")
    assert "not allowed with argument" in refused("params", "--adapter", ".", "--preset", "starcoderbase")
    assert "COMMAND" in refused()
