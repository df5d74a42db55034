"""The command: help that reads, errors that name what to do, and exit codes that mean something."""

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest

from astraios_analysis.cli.main import COMMANDS, commands, main

ROOT = Path(__file__).parents[2]
ALL = [[], *([name] for name in COMMANDS), ["records", "check"], ["records", "show"]]
ALL += [["import", form] for form in ("auto", "csv", "trainer", "lm-eval", "wandb")]


def resolve(words):
    """The command that words name, and the words behind it."""
    found, context = commands, click.Context(commands, info_name="astraios")
    while isinstance(found, click.Group) and words and found.get_command(context, words[0]):
        found, words = found.get_command(context, words[0]), words[1:]
    return found, words


class TestHelp:
    @pytest.mark.parametrize("command", ALL, ids=" ".join)
    def test_reads_like_documentation_and_its_examples_can_be_run(self, run, command):
        code, out, err = run(*command, "--help")
        assert (code, err) == (0, "")
        assert out.startswith(f"Usage: {' '.join(['astraios', *command])}")
        description, examples = out.split("\n\n", 1)[1].split("examples:\n")
        assert description.strip() and f"  astraios {' '.join(command)}" in examples
        assert max(map(len, out.splitlines())) <= 100
        for line in examples.split("\n\n")[0].replace("\\\n", "").splitlines():
            # What it does, or where its output goes, stands behind the command.
            words = shlex.split(re.split(r"(?<=\S)  +(?=[A-Za-z(])| > ", line.strip())[0])
            found, options = resolve(words[1:])
            assert words[0] == "astraios" and not isinstance(found, click.Group)
            found.make_context("example", options)

    def test_is_quick_because_nothing_heavy_is_loaded(self):
        heavy = {"numpy", "pandas", "scipy", "pydantic", "matplotlib", "statsmodels", "papermill", "seaborn"}
        script = "import sys\nfrom astraios_analysis.cli.main import main\nassert main(['--help']) == 0\n"
        script += f"print(sorted({heavy} & set(sys.modules)), file=sys.stderr)\n"
        # Of a command too: what reads records is loaded, what fits them is not.
        script += "assert main(['predict', '--help']) == main(['fit', '--help']) == 0\n"
        script += "assert main(['figures', '--help']) == 0\n"
        script += "print({'scipy', 'astraios_analysis.api', 'matplotlib'} & set(sys.modules), file=sys.stderr)\n"
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
        assert done.stderr == "[]\nset()\n"

    def test_version(self, run):
        version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
        assert run("--version") == (0, f"astraios {version}\n", "")

    @pytest.mark.parametrize("arguments", [[], ["records"]])
    def test_a_command_is_needed(self, run, arguments):
        code, out, err = run(*arguments)
        assert (code, out) == (2, "") and "examples:" in err


class TestProcess:
    def test_interrupt(self, monkeypatch, capsys):
        def stop(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(commands, "invoke", stop)
        assert main(["claims", "--rules"]) == 130
        assert capsys.readouterr().err == "interrupted\n"

    def test_broken_pipe_is_no_error(self):
        command = f"{sys.executable} -m astraios_analysis.cli.main records show --grid released --format csv | head -1"
        options = {"shell": True, "executable": "/bin/bash", "capture_output": True, "text": True, "cwd": ROOT}
        done = subprocess.run(f"set -o pipefail; {command}", check=False, **options)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("grid,run_id,size,method")
