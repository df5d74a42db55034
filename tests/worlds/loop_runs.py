"""Small runs for the tests of the training loop: whole, killed and resumed, and on several processes."""

import hashlib
import json
import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from tiny_grid import stop_at, tiny_grid
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from transformers import AutoModelForCausalLM, GPTBigCodeConfig

import training.grid.run
from training.loop import validation
from training.loop.batches import TokenRows
from training.loop.train import train
from training.models.tuning import apply_tuning
from training.spec.run import LoopSettings, Schedule, Tuning

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
# Of several processes: validated twice after its start, and saved once before it is interrupted.
SHORT = {"schedule": {"steps": 6}, "settings": {"checkpoint_every": 3}}


def tuned_model(method, base_dropout=0.0, device="cpu", **options):
    """A small GPTBigCode model, always the same, tuned by a method."""
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


def plain_model(method, device="cpu"):
    """The model of a method without dropout, whose numbers depend on the processes."""
    return tuned_model(method, device=device, **({"dropout": 0.0} if method == "lora" else {}))


def token_rows(n, seed, length=None):
    """Rows of 6 to 20 tokens, or of one length: most tokens follow from the one before, so there is much to learn."""
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
    model = tuned_model(method) if model is None else model
    rows = TokenRows(token_rows(60, 5), token_rows(13, 6)) if rows is None else rows
    schedule = Schedule(**{**SCHEDULE, **dict(schedule)})
    settings = LoopSettings(**{"layout": "documents", "micro_batch": 2, **dict(settings)})
    result = train(model, schedule, rows, seed=seed, settings=settings, **arguments)
    return model, result


def numbers(model, result):
    """What must not depend on interruptions, as JSON values."""
    weights = hashlib.sha256(
        b"".join(weight.detach().cpu().numpy().tobytes() for weight in model.parameters())
    ).hexdigest()
    return {
        "base": result.base.model_dump(),
        "curve": [point.model_dump() for point in result.curve],
        "train_losses": list(result.train_losses),
        "n_tokens": result.n_tokens,
        "weights": weights,
    }


def curve(result):
    """Losses of a run, and what it counts."""
    return {
        "base": result.base.loss,
        "curve": [point.loss for point in result.curve],
        "train_losses": list(result.train_losses),
        "counts": [result.n_tokens, result.flop, result.n_processes[-1]],
    }


def kill_this_process():
    os.kill(os.getpid(), signal.SIGKILL)


def _kill_while_saving(at_call):
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


def train_job(job, folder, out, is_killed=False):
    """Train a job, and write down its numbers; with ``is_killed``, die where the job says."""
    if is_killed and "at_step" in job:
        # Of the step before, a checkpoint may have been written, and nothing is left of this one.
        stop_at(pytest.MonkeyPatch(), job["at_step"] - 1, kill_this_process)
    elif is_killed and "at_torch_save" in job:
        _kill_while_saving(job["at_torch_save"])
    elif is_killed:
        _kill_at_rename(job["at_rename"])
    model = tuned_model(job["method"], base_dropout=0.1)
    model, result = run(model=model, settings={"checkpoint_every": 3}, folder=folder)
    out.write_text(json.dumps({"status": result.status, **numbers(model, result)}))


def interrupted_run(folder, method="lora", **arguments):
    """Train a short run until its fifth step, on every process; its checkpoint is that of the third."""
    with pytest.MonkeyPatch.context() as patch, suppress(KeyboardInterrupt):
        stop_at(patch, 5, Mock(side_effect=KeyboardInterrupt))
        run(method, folder=folder, **SHORT, **arguments)


def on_processes(n_processes, function, *arguments):
    """Call a function on several connected processes, as torchrun would start them."""
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=n_processes,
        run_id="tests",
        rdzv_backend="c10d",
        # A free port: a fixed one may be taken by another run of these tests.
        rdzv_endpoint="localhost:0",
        start_method="fork",
        monitor_interval=0.1,
        max_restarts=0,
    )
    # The agent handles the signals of its process, and leaves it at that.
    handled = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
    handlers = {number: signal.getsignal(number) for number in handled}
    try:
        return elastic_launch(config, _connected)(function, *arguments)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _connected(function, *arguments):
    # What the process before the fork knows of its own is not true of this one.
    AcceleratorState._reset_state(reset_partial_state=True)
    result = function(*arguments)
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    return result


def train_sharded(out):
    """Train with shards: every method, an interrupted run, and one that a single process goes on with later."""
    found = {}
    # Only the first process has weights.
    device = "cpu" if os.environ["RANK"] == "0" else "meta"
    sharded = {"is_sharded": True, "schedule": SHORT["schedule"]}
    for method in ("fft", "lora", "ptuning", "adapterh"):
        found[method] = curve(run(model=plain_model(method, device), **sharded)[1])
    chunk, validation.CHUNK_LOGITS = validation.CHUNK_LOGITS, 8 * VOCABULARY
    found["chunked"] = curve(run(model=plain_model("fft", device), **sharded)[1])
    validation.CHUNK_LOGITS = chunk
    for name, dtype in (("bf16_lora", torch.float32), ("bf16_base", torch.bfloat16)):
        model = plain_model("lora", device)
        for weight in (weight for weight in model.parameters() if not weight.requires_grad):
            weight.data = weight.data.to(dtype)
        found[name] = curve(run(model=model, settings={"precision": "bf16"}, **sharded)[1])
    found["offloaded"] = curve(run(model=plain_model("fft", device), is_offloaded=True, **sharded)[1])
    low = {"precision": "bf16", "gradient_checkpointing": True}
    found["bf16"] = curve(run("fft", settings=low, **sharded)[1])
    interrupted_run(out / "shards", "adapterh", is_sharded=True)
    if device == "cpu":
        shutil.copytree(out / "shards", out / "shards_for_one")
    found["resumed"] = resumed_shards(out / "shards")
    return found


def resumed_shards(folder):
    """Go on with what was interrupted, on however many processes there are."""
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo")
    _, result = run("adapterh", folder=folder, is_sharded=True, **SHORT)
    return {"status": result.status, "before": result.n_processes[:-1], **curve(result)}


def tiny_specs():
    """Two whole runs, base and record included."""
    return tiny_grid(methods=("fft", "ia3")).runs()


def train_distributed(out):
    """Train on all processes: every method, an interrupted run, and one whose processes have different rows."""
    found = {}
    for method in ("fft", "lora", "ptuning", "adapterh"):
        found[method] = numbers(*run(model=plain_model(method), schedule=SHORT["schedule"]))
    found["dropout"] = numbers(*run("lora", folder=out / "whole", **SHORT))
    interrupted_run(out / "resumed")
    interrupted_run(out / "for_one", "fft")
    for name, method in (("resumed", "lora"), ("from_one", "fft")):
        model, result = run(method, folder=out / name, **SHORT)
        found[name] = {"status": result.status, "n_processes": result.n_processes, **numbers(model, result)}
    found["sharded"] = train_sharded(out)
    # From base to record, one with shards and one with whole weights on each.
    for spec in tiny_specs():
        is_sharded = spec.tuning.method == "fft"
        training.grid.run.run(spec, out / "runs", out / "cache", is_sharded=is_sharded)
    try:
        run("fft", rows=TokenRows(token_rows(60, int(os.environ["RANK"])), token_rows(13, 6)))
    except ValueError as error:
        found["disagreement"] = str(error)
    return found
