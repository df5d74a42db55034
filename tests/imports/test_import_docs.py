"""The worked examples of docs/import.md: every file in it is written, every command in it is run."""

import contextlib
import glob
import re
import shlex
from pathlib import Path

import pytest
from foreign_files import LORA, peft_result, write

from astraios_analysis.cli.main import main
from astraios_analysis.records.frame import load_folder
from training.__main__ import main as train

PAGE = Path(__file__).parents[2] / "docs" / "import.md"


def blocks(text):
    """Blocks of a page: (language, name of the file or nothing, content)."""
    return re.findall(r"^```(\w+) ?(\S*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def page_folder(tmp_path_factory):
    """Folder with the page's files, after all of its commands: (folder, exit code by command)."""
    folder = tmp_path_factory.mktemp("import")
    found = blocks(PAGE.read_text("utf-8"))
    for _, name, content in found:
        if name:
            write(folder / name, content)
    codes = {}
    write(folder / "results" / "lora.json", peft_result("lora/tiny-rank32", LORA, 1_001_000, 1000))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for command in "".join(content for language, _, content in found if language == "sh").splitlines():
            words = [word for part in shlex.split(command) for word in (glob.glob(part) if "*" in part else [part])]
            if words[0] == "astraios":
                codes[command] = main(words[1:])
            else:
                # python -m training ... > FILE
                assert words[:3] == ["python", "-m", "training"] and words[-2] == ">"
                with (folder / words[-1]).open("w") as file, contextlib.redirect_stdout(file):
                    codes[command] = train(words[3:-2])
    return folder, codes


def test_every_command_succeeds(page_folder):
    assert len(page_folder[1]) >= 8
    assert {command: code for command, code in page_folder[1].items() if code} == {}


def test_records_hold_what_the_files_say(page_folder):
    runs = {record.run_id: record for record in load_folder(page_folder[0] / "my_data")}
    assert sorted(runs) == sorted(
        [
            *("mine-1.1B-lora-s0", "mine-large-fft", "mine-large-lora", "mine-small-fft", "mine-small-lora"),
            *("lora-124m", "lora-355m", "lora-tiny-rank32", "starcoderbase-1b", "starcoderbase-1b-lora"),
        ]
    )
    large = runs["mine-large-lora"]
    assert (large.n_params_base, large.n_params_updated, large.n_params) == (774_000_000, 4_500_000, 778_500_000)
    assert (large.val_loss, large.cost.seconds) == (1.70, 6.5 * 3600)
    assert [(s.value, s.stderr, s.n_items, s.setting) for s in large.scores] == [(0.098, 0.018, 164, "t0.2,n20")]
    tuned = runs["starcoderbase-1b-lora"]
    # The exact counts of the published model.
    assert (tuned.n_params_base, tuned.n_params_updated) == (1_137_207_296, 3_588_096)
    assert (tuned.method, tuned.size, tuned.n_tokens) == ("lora", "1.14b", 13_107_200)
    assert [(p.step, p.loss) for p in tuned.val_curve] == [(0, 1.31), (100, 1.09), (200, 1.02)]
    assert (tuned.base_val_loss, tuned.val_loss, tuned.cost.seconds, tuned.cost.flop) == (1.31, 1.02, 5400, 8.5e16)
    scores = {s.key: (s.value, s.stderr, s.n_items) for s in tuned.scores}
    assert scores == {
        ("humanevalfix_python", "python", "t0.2,n20", "pass@1"): (0.1, None, 164),
        ("humanevalfix_python", "python", "t0.2,n20", "pass@10"): (0.2, None, 164),
        ("mbpp", "python", "3shot", "pass@1"): (0.35, 0.0213, 500),
        ("humaneval", "python", "0shot,create_test", "pass@1"): (0.25, 0.0339, 164),
        ("humaneval_first", "python", "greedy", "pass@1"): (0.5, None, 2),
    }
