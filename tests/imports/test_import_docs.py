"""The worked examples of docs/import.md: every file in it is written, every command in it is run."""

import contextlib
import glob
import re
import shlex
from pathlib import Path

from foreign_files import LORA, peft_result, write

from astraios_analysis.cli.main import main
from astraios_analysis.records.frame import load_folder
from training.__main__ import main as train

PAGE = Path(__file__).parents[2] / "docs" / "import.md"


def test_every_command_succeeds(tmp_path, monkeypatch):
    # Blocks of the page: (language, name of the file or nothing, content).
    found = re.findall(r"^```(\w+) ?(\S*)\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    codes = {}
    for _, name, content in found:
        if name:
            write(tmp_path / name, content)
    write(tmp_path / "results" / "lora.json", peft_result("lora/tiny-rank32", LORA, 1_001_000, 1000))
    monkeypatch.chdir(tmp_path)
    for command in "".join(content for language, _, content in found if language == "sh").splitlines():
        words = [word for part in shlex.split(command) for word in (glob.glob(part) if "*" in part else [part])]
        if words[0] == "astraios":
            codes[command] = main(words[1:])
        else:
            # python -m training ... > FILE
            assert words[:3] == ["python", "-m", "training"] and words[-2] == ">"
            with Path(words[-1]).open("w") as file, contextlib.redirect_stdout(file):
                codes[command] = train(words[3:-2])
    assert len(codes) >= 8 and {command: code for command, code in codes.items() if code} == {}
    runs = {record.run_id: record for record in load_folder("my_data")}
    assert len(runs) == 10
    # The exact counts of the published model.
    tuned = runs["starcoderbase-1b-lora"]
    assert (tuned.n_params_base, tuned.n_params_updated) == (1_137_207_296, 3_588_096) and len(tuned.scores) == 5
