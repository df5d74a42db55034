"""Small runs for the tests of the training loop, and a script that runs them in processes of their own.

`python loop_runs.py kill JOBS OUT` trains each job whole, then again in a process that is killed, then resumed in
another. `torchrun loop_runs.py distributed OUT` trains on several processes. `probe` only starts accelerate.
"""

import hashlib
import json
import os
import signal
import sys
from pathlib import Path

VOCABULARY, POSITIONS, LENGTH = 64, 40, 20
OPTIONS = {
    "lora": {"rank": 4, "alpha": 8.0, "dropout": 0.05},
    "ptuning": {"virtual_tokens": 5},
    "adapterh": {"bottleneck": 8},
    "adapterp": {"bottleneck": 8},
    "parallel": {"bottleneck": 8},
}
SCHEDULE = {
    "steps": 12,
    "global_batch": 8,
    "sequence_length": LENGTH,
    "learning_rate": 0.02,
    "warmup_steps": 2,
    "validate_every": 3,
}


def tuned_model(method, base_dropout=0.0, device="cpu", **options):
    """A small GPTBigCode model, always the same, tuned by a method."""
    import torch
    from transformers import AutoModelForCausalLM, GPTBigCodeConfig

    from training.models.tuning import apply_tuning
    from training.spec.run import Tuning

    names = ("resid_pdrop", "embd_pdrop", "attn_pdrop")
    config = GPTBigCodeConfig(
        vocab_size=VOCABULARY,
        n_positions=POSITIONS,
        n_embd=16,
        n_layer=2,
        n_head=2,
        initializer_range=0.2,
        bos_token_id=0,
        eos_token_id=0,
        **dict.fromkeys(names, base_dropout),
    )
    with torch.random.fork_rng(), torch.device(device):
        torch.manual_seed(1)
        base = AutoModelForCausalLM.from_config(config)
    base.tie_weights()
    tuning = Tuning(method=method, **{**OPTIONS.get(method, {}), **options})
    return apply_tuning(base, tuning, seed=3)


def token_rows(n, seed, length=None):
    """Rows of 6 to 20 tokens, or of one length: most tokens follow from the one before, so there is much to learn."""
    import numpy as np

    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        n_tokens = length or int(rng.integers(6, LENGTH + 1))
        tokens = (rng.integers(1, VOCABULARY) + 3 * np.arange(n_tokens)) % VOCABULARY
        noise = rng.random(n_tokens) < 0.2
        tokens[noise] = rng.integers(0, VOCABULARY, noise.sum())
        rows.append((tokens.tolist(), [True] * n_tokens))
    return rows


def run(method="fft", *, model=None, rows=None, schedule=(), settings=(), seed=0, **arguments):
    """Train a small model; returns (model, result). Mappings replace single values of schedule and settings."""
    from training.loop.batches import TokenRows
    from training.loop.train import train
    from training.spec.run import LoopSettings, Schedule

    model = tuned_model(method) if model is None else model
    rows = TokenRows(token_rows(60, 5), token_rows(13, 6)) if rows is None else rows
    settings = LoopSettings(**{"layout": "documents", "micro_batch": 2, **dict(settings)})
    result = train(model, Schedule(**{**SCHEDULE, **dict(schedule)}), rows, seed=seed, settings=settings, **arguments)
    return model, result


def numbers(model, result):
    """What must not depend on interruptions, as JSON values."""
    weights = hashlib.sha256(
        b"".join(weight.detach().cpu().numpy().tobytes() for weight in model.parameters())
    ).hexdigest()
    return {
        "base": result.base_validation.model_dump(),
        "curve": [point.model_dump() for point in result.curve],
        "train_losses": list(result.train_losses),
        "n_tokens": result.n_tokens,
        "weights": weights,
    }


def make_tracker(act, at_step):
    """A tracker that does something after a step's training values have come in."""
    from accelerate.tracking import GeneralTracker

    class Tracker(GeneralTracker):
        name = "acting"
        requires_logging_directory = False
        tracker = None

        def log(self, values, step=None, **kwargs):
            if step == at_step and "train/loss" in values:
                act()

    return Tracker()


def kill_this_process():
    os.kill(os.getpid(), signal.SIGKILL)


def _kill_while_saving(at_call):
    import torch

    original, calls = torch.save, []

    def save(*arguments, **options):
        calls.append(None)
        original(*arguments, **options)
        if len(calls) == at_call:
            kill_this_process()

    torch.save = save


def _kill_at_rename(name):
    original = Path.rename

    def rename(self, target):
        if Path(target).name == name:
            kill_this_process()
        return original(self, target)

    Path.rename = rename


def _train_job(job, folder, out, is_killed):
    from training.loop.reporting import Reporting

    log_with = ()
    if is_killed and "at_step" in job:
        log_with = (make_tracker(kill_this_process, job["at_step"]),)
    elif is_killed and "at_torch_save" in job:
        _kill_while_saving(job["at_torch_save"])
    elif is_killed:
        _kill_at_rename(job["at_rename"])
    model, result = run(
        model=tuned_model(job["method"], base_dropout=0.1),
        settings={"checkpoint_every": 3},
        folder=folder,
        reporting=Reporting(log_with=log_with),
    )
    out.write_text(json.dumps({"status": result.status, **numbers(model, result)}))


def _in_a_process(*arguments):
    process = os.fork()
    if not process:
        try:
            _train_job(*arguments)
        finally:
            sys.stderr.flush()
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def kill_and_resume(jobs, out):
    """Train each job whole, killed, and resumed, each time in a process of its own."""
    # Imported once, before the forks; no tensor is computed here.
    import training.loop.train  # noqa: F401

    for name, job in jobs.items():
        _in_a_process(job, out / f"{name}-whole", out / f"{name}-whole.json", False)
        folder = out / f"{name}-killed"
        exit_code = _in_a_process(job, folder, out / f"{name}-killed.json", True)
        left = sorted(path.name for path in folder.iterdir())
        _in_a_process(job, folder, out / f"{name}-resumed.json", False)
        after = sorted(path.name for path in folder.iterdir())
        (out / f"{name}.json").write_text(json.dumps({"exit_code": exit_code, "left": left, "after": after}))


class Interruption(Exception):
    """Stands for whatever interrupts a run."""


def interrupted_run(folder, at_step, method="lora", **arguments):
    """Train until a step and stop there; the last checkpoint is that of the third step before it or so."""
    import training.loop.train

    original = training.loop.train.learning_rate

    def rate(schedule, step):
        if step == at_step:
            raise Interruption
        return original(schedule, step)

    # On every process: a tracker would act on the first one only, and the others would wait for it.
    training.loop.train.learning_rate = rate
    try:
        run(method, folder=folder, settings={"checkpoint_every": 3}, **arguments)
    except Interruption:
        return
    finally:
        training.loop.train.learning_rate = original


def train_sharded(out):
    """Train with shards: every method, an interrupted run, and one that a single process goes on with later."""
    import torch

    from training.loop import validation

    found = {}
    # Only the first process has weights.
    device = "cpu" if os.environ["RANK"] == "0" else "meta"
    for method in ("fft", "lora", "ptuning", "adapterh"):
        model = tuned_model(method, device=device, **({"dropout": 0.0} if method == "lora" else {}))
        found[method] = curve(run(model=model, is_sharded=True)[1])
    chunk, validation.CHUNK_LOGITS = validation.CHUNK_LOGITS, 8 * VOCABULARY
    found["chunked"] = curve(run(model=tuned_model("fft", device=device), is_sharded=True)[1])
    validation.CHUNK_LOGITS = chunk
    for name, dtype in (("bf16_lora", torch.float32), ("bf16_base", torch.bfloat16)):
        model = tuned_model("lora", device=device, dropout=0.0)
        for weight in (weight for weight in model.parameters() if not weight.requires_grad):
            weight.data = weight.data.to(dtype)
        found[name] = curve(run(model=model, is_sharded=True, settings={"precision": "bf16"})[1])
    found["offloaded"] = curve(run(model=tuned_model("fft", device=device), is_sharded=True, is_offloaded=True)[1])
    interrupted_run(out / "shards", 8, "adapterh", is_sharded=True)
    _, result = run("adapterh", folder=out / "shards", settings={"checkpoint_every": 3}, is_sharded=True)
    found["resumed"] = {"status": result.status, **curve(result)}
    interrupted_run(out / "shards_for_one", 8, "adapterh", is_sharded=True)
    found["bf16"] = curve(
        run("fft", settings={"precision": "bf16", "gradient_checkpointing": True}, is_sharded=True)[1]
    )
    return found


def curve(result):
    """Losses of a run, and what it counts."""
    return {
        "base": result.base_validation.loss,
        "curve": [point.loss for point in result.curve],
        "train_losses": list(result.train_losses),
        "counts": [result.n_tokens, result.flop, result.n_processes],
    }


def tiny_specs():
    """Two whole runs, base and record included."""

    from tiny_grid import tiny_grid

    return tiny_grid(methods=("fft", "ia3")).runs()


def run_together(out):
    """Let all processes train whole runs: one with shards, one with whole weights on each."""
    from training.grid.run import run

    fft, ia3 = tiny_specs()
    run(fft, out / "runs", out / "cache", is_sharded=True)
    run(ia3, out / "runs", out / "cache")


def train_distributed(out):
    """Train on all processes: every method, an interrupted run, and one whose processes have different rows."""
    from training.loop.batches import TokenRows

    found = {}
    for method in ("fft", "lora", "ptuning", "adapterh"):
        model = tuned_model(method, **({"dropout": 0.0} if method == "lora" else {}))
        found[method] = numbers(*run(model=model))
    found["dropout"] = numbers(*run("lora", folder=out / "whole"))
    interrupted_run(out / "resumed", 8)
    model, result = run("lora", folder=out / "resumed", settings={"checkpoint_every": 3})
    found["resumed"] = {"status": result.status, **numbers(model, result)}
    interrupted_run(out / "for_one", 8, "fft")
    model, result = run("fft", folder=out / "from_one", settings={"checkpoint_every": 3})
    found["from_one"] = {
        "status": result.status,
        "n_processes": [*result.n_processes_before, result.n_processes],
        **numbers(model, result),
    }
    found["sharded"] = train_sharded(out)
    run_together(out)
    rank = int(os.environ["RANK"])
    try:
        run("fft", rows=TokenRows(token_rows(60, rank), token_rows(13, 6)))
    except ValueError as error:
        found["disagreement"] = str(error)
    (out / f"rank{rank}.json").write_text(json.dumps(found))


def leave_group():
    """End this process without Python's clean-up, in which threads of the group that hold tensors may abort it."""
    import torch

    torch.distributed.destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def main():
    import torch

    torch.set_num_threads(1)
    command, *arguments = sys.argv[1:]
    if command == "kill":
        kill_and_resume(json.loads(arguments[0]), Path(arguments[1]))
    elif command == "distributed":
        train_distributed(Path(arguments[0]))
        torch.distributed.barrier()
        leave_group()
    elif command == "shards":
        torch.distributed.init_process_group("gloo")
        out = Path(arguments[0])
        settings = {"checkpoint_every": 3}
        _, result = run("adapterh", folder=out / "shards_for_one", settings=settings, is_sharded=True)
        found = {"status": result.status, "before": list(result.n_processes_before), **curve(result)}
        (out / "one_process.json").write_text(json.dumps(found))
        leave_group()
    else:
        from training.loop.processes import make_accelerator

        make_accelerator("fp32")
        print("started")


if __name__ == "__main__":
    main()
