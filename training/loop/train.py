"""The training loop: optimise, validate every k steps, checkpoint, resume. One process or many, through accelerate.

A step takes the next rows of the global batch, in passes of a micro-batch on every process. The loss is the sum of the
cross-entropy over the scored tokens of the whole global batch, divided by their number, so how a batch is cut into
passes and processes, or padded, changes rounding only.

A run is a function of its inputs: on one CPU process with the same number of threads, the same seed gives the same
numbers bit for bit, also when the run was interrupted and resumed. Kernels of other devices may add in varying order.
"""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from accelerate import Accelerator
from peft import PeftModel
from transformers import PreTrainedModel

from astraios_analysis.records.frame import ValidationPoint
from training.loop.batches import RowSet, TokenRows, step_rows, step_starts
from training.loop.checkpoints import Progress, RunFolder, keep_updated_weights_only, run_identity
from training.loop.flop import PeakMemory, estimate_flop
from training.loop.optimisation import learning_rate, make_optimizer
from training.loop.processes import load_shards, make_accelerator, save_shards, shard
from training.loop.reporting import Reporter, Reporting, reporter
from training.loop.validation import Validator, count_virtual_tokens, token_losses
from training.spec.run import LoopSettings, Schedule, check_sharding, micro_batch_size


class DivergedError(RuntimeError):
    """Training gave a loss or gradient that is not a finite number: there is nothing to record."""


class LoopResult(Progress):
    """What a finished run measured."""

    status: Literal["trained", "resumed", "loaded"]
    flop: float
    # With the batch sizes that were used.
    settings: LoopSettings
    device: str

    @property
    def final(self) -> ValidationPoint:
        """Return the validation after the last step."""
        return self.curve[-1]


def train(
    model: PreTrainedModel | PeftModel,
    schedule: Schedule,
    rows: TokenRows,
    *,
    seed: int,
    settings: LoopSettings | None = None,
    spec: Mapping[str, Any] | None = None,
    folder: str | Path | None = None,
    reporting: Reporting | None = None,
    is_sharded: bool = False,
    is_offloaded: bool = False,
) -> LoopResult:
    """Train in place what a tuning method updates in a model, and leave it in evaluation mode on its device.

    ``spec`` is what the caller knows the run by. The run goes on from the latest checkpoint in ``folder``; one of
    another spec, settings, rows or model is refused, as is a run that failed there; `DivergedError` leaves
    ``failed.json``. With ``is_sharded`` parameters are divided among the processes, and shards afterwards; only the
    first process needs their values. With ``is_offloaded`` shards are kept in main memory.
    """
    settings, reporting = settings or LoopSettings(), reporting or Reporting()
    check_sharding(settings, is_sharded)
    path = None if folder is None else Path(folder)
    accelerator = make_accelerator(settings.precision, reporting.log_with, reporting.folder or path)
    micro_batch = micro_batch_size(schedule.global_batch, settings.micro_batch, accelerator.num_processes)
    sizes = {"micro_batch": micro_batch, "validation_batch": settings.validation_batch or micro_batch}
    settings = settings.model_copy(update=sizes)
    sets = check_rows(model, schedule, rows, settings)
    described = {"seed": seed, "spec": spec or {}, "accelerator": accelerator, "is_sharded": is_sharded}
    identity = run_identity(model, schedule, settings, sets, **described)
    run_folder = None if path is None else RunFolder(path, identity)
    with ExitStack() as stack:
        if run_folder is not None:
            if accelerator.is_main_process:
                stack.enter_context(run_folder.locked())
            accelerator.wait_for_everyone()
            run_folder.check_not_failed()
        stack.enter_context(seeded(seed, accelerator))
        stack.enter_context(activations(model, settings.gradient_checkpointing))
        loop = _Loop(model, schedule, settings, sets, accelerator, run_folder, seed, is_sharded, is_offloaded)
        stack.callback(loop.close)
        loop.start()
        config = {key: identity[key] for key in ("spec", "schedule", "settings", "seed", "n_processes")}
        first_step = loop.progress.step
        with reporter(accelerator, reporting, first_step=first_step, n_steps=schedule.steps, config=config) as report:
            loop.run(report)
        return loop.result(first_step)


class _Loop:
    def __init__(
        self,
        model: PreTrainedModel | PeftModel,
        schedule: Schedule,
        settings: LoopSettings,
        sets: Mapping[str, RowSet],
        accelerator: Accelerator,
        folder: RunFolder | None,
        seed: int,
        is_sharded: bool,
        is_offloaded: bool,
    ) -> None:
        self.progress = Progress(n_processes=[accelerator.num_processes])
        self._seed, self._is_sharded, self._is_offloaded = seed, is_sharded, is_offloaded
        self._plain, self._schedule, self._settings = model, schedule, settings
        self._rows, self._accelerator, self._folder = sets["training"], accelerator, folder
        self._validator = Validator(sets["validation"], settings.validation_batch, accelerator)
        self._memory = PeakMemory(accelerator.device)
        self._started = time.perf_counter()
        self._is_resumed = False
        self._optimizer = make_optimizer(model, schedule)
        self._model = model

    def start(self) -> None:
        checkpoint = self._folder.latest() if self._folder is not None else None
        if checkpoint is not None:
            # Asked before anything is computed.
            self._folder.read(checkpoint)
        elif isinstance(self._plain, PeftModel) and not self._is_sharded:
            # Before accelerate wraps the forward pass, which disabling prompts would bypass.
            self._plain.to(self._accelerator.device)
            with self._plain.disable_adapter(), self._accelerator.autocast():
                self.progress.base = self._validated(self._plain, "the base model's validation loss")
        if self._is_sharded:
            self._shard(is_new=checkpoint is None)
        else:
            self._model, self._optimizer = self._accelerator.prepare(self._plain, self._optimizer)
            keep_updated_weights_only(self._accelerator)
        if checkpoint is not None:
            load = partial(load_shards, self._model, self._optimizer) if self._is_sharded else None
            self.progress = self._folder.load(self._accelerator, checkpoint, load)
            self._meet_processes()
            self._started -= self.progress.seconds
            self._is_resumed = True

    def _shard(self, *, is_new: bool) -> None:
        precision, offloaded = self._settings.precision, self._is_offloaded
        self._model = shard(self._plain, self._accelerator.device, precision, is_offloaded=offloaded)
        # The parameters are others now.
        self._optimizer = make_optimizer(self._model, self._schedule)
        if isinstance(self._plain, PeftModel):
            # FSDP2 settles at the first pass in which precision gradients are summed, by what is updated then: disabled
            # adapters are not, and their gradients would come out in that of the pass (torch 2.13).
            self._model.eval()
            with torch.no_grad(), self._precision():
                token_losses(self._model, self._rows.batch([0]).to(self._accelerator.device))
            self._model.reshard()
        if isinstance(self._plain, PeftModel) and is_new:
            # Only now: whole, the model may not fit on a device.
            with self._plain.disable_adapter():
                self.progress.base = self._validated(self._model, "the base model's validation loss")

    def _meet_processes(self) -> None:
        now = self._accelerator.num_processes
        if self.progress.n_processes and self.progress.n_processes[-1] != now:
            # Not the noise of the first steps over again.
            draw_from(self._seed, self._accelerator, self.progress.step)
        if self.progress.n_processes[-1:] != [now]:
            self.progress.n_processes.append(now)

    def run(self, report: Reporter) -> None:
        progress, schedule = self.progress, self._schedule
        self._model.train()
        if not progress.curve:
            self._validate(report)
            progress.base = progress.base or progress.curve[0]
        while progress.step < schedule.steps:
            began = time.perf_counter()
            self._step(report)
            progress.step_seconds += time.perf_counter() - began
            is_last = progress.step == schedule.steps
            if is_last or progress.step % schedule.validate_every == 0:
                self._validate(report)
            every = self._settings.checkpoint_every
            if self._folder is not None and (is_last or (every and progress.step % every == 0)):
                self._spent()
                save = partial(save_shards, self._model, self._optimizer) if self._is_sharded else None
                self._folder.save(self._accelerator, progress, save)

    def _step(self, report: Reporter) -> None:
        progress, accelerator = self.progress, self._accelerator
        rate = learning_rate(self._schedule, progress.step)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        indices = step_rows(len(self._rows), self._schedule.global_batch, progress.step)
        starts = step_starts(indices, self._settings.position_offsets, self._seed, progress.step)
        loss = self._backward(indices, starts)
        limit = self._settings.max_gradient_norm or math.inf
        norm = accelerator.clip_grad_norm_(self._model.parameters(), limit)
        norm = float(norm.full_tensor() if self._is_sharded else norm)
        self._check_finite(loss, f"the training loss of step {progress.step + 1}")
        self._check_finite(norm, f"the gradient norm of step {progress.step + 1}")
        self._optimizer.step()
        self._optimizer.zero_grad()
        n_tokens = self._rows.n_tokens(indices)
        progress.step += 1
        progress.n_rows += len(indices)
        progress.n_tokens += n_tokens
        progress.n_targets += self._rows.n_targets(indices)
        progress.train_losses.append(loss)
        report.step(progress.step, loss, norm, rate, n_tokens)

    def _backward(self, indices: list[int], starts: Mapping[int, int] | None) -> float:
        accelerator, model = self._accelerator, self._model
        n_targets = self._rows.n_targets(indices)
        groups = self._rows.by_length(indices, self._settings.micro_batch)
        mine = groups[accelerator.process_index :: accelerator.num_processes]
        total = torch.zeros((), device=accelerator.device)
        for place, group in enumerate(mine):
            is_last = place == len(mine) - 1
            with nullcontext() if is_last else accelerator.no_sync(model):
                with self._precision():
                    losses = token_losses(model, self._rows.batch(group, starts).to(accelerator.device))
                # Gradients are averaged over processes: times their number, so that the mean is the sum.
                loss = losses.sum() * (accelerator.num_processes / n_targets)
                accelerator.backward(loss)
            total += loss.detach()
        return float(accelerator.reduce(total, reduction="mean"))

    def _validate(self, report: Reporter) -> None:
        when = f"after step {self.progress.step}" if self.progress.step else "before the first step"
        point = self._validated(self._model, f"the validation loss {when}")
        self.progress.curve.append(point)
        report.validation(point.step, point.loss, point.stderr)

    def _validated(self, model: torch.nn.Module, what: str) -> ValidationPoint:
        with self._precision():
            scored = self._validator.score(model)
        if self._is_sharded:
            # A forward pass without a backward one leaves the outermost weights gathered, in its precision.
            self._model.reshard()
        self._check_finite(scored.loss, what)
        return ValidationPoint(
            step=self.progress.step, loss=scored.loss, stderr=scored.stderr, n_tokens=self.progress.n_tokens
        )

    def _precision(self) -> AbstractContextManager:
        # accelerate's own wrapper of the forward pass does this where it has prepared the model.
        return self._accelerator.autocast() if self._is_sharded else nullcontext()

    def _check_finite(self, value: float, what: str) -> None:
        # The value is the same on every process, so all of them stop here together.
        if math.isfinite(value):
            return
        reason = f"{what} is {value}"
        mark = "no folder was given to mark the failure in"
        if self._folder is not None:
            if self._accelerator.is_main_process:
                self._folder.mark_failed(self.progress.step, reason)
            mark = f"marked in {self._folder.failure_path}"
        raise DivergedError(
            f"training diverged: {reason} ({mark}); lower the learning rate (now "
            f"{self._schedule.learning_rate:g}), warm up for longer, or clip gradients"
        )

    def _spent(self) -> None:
        progress = self.progress
        progress.seconds = time.perf_counter() - self._started
        peak = self._memory.read()
        if peak is not None:
            peaks = self._accelerator.gather(torch.tensor([peak], device=self._accelerator.device))
            progress.peak_memory_bytes = max(int(peaks.max()), progress.peak_memory_bytes or 0)

    def result(self, first_step: int) -> LoopResult:
        finished_before = self._is_resumed and first_step == self._schedule.steps
        # With a folder, the last checkpoint holds what was spent: loading it later gives the same result.
        if self._folder is None:
            self._spent()
        return LoopResult(
            **dict(self.progress),
            status="loaded" if finished_before else "resumed" if self._is_resumed else "trained",
            flop=estimate_flop(self._plain, self.progress.n_tokens, self.progress.n_rows),
            settings=self._settings,
            device=self._accelerator.device.type,
        )

    def close(self) -> None:
        self._optimizer.zero_grad()
        if self._is_sharded:
            self._model.eval()
            return
        # Takes bfloat16's wrapper off the forward pass again.
        self._accelerator.unwrap_model(self._model, keep_fp32_wrapper=False).eval()


def check_rows(
    model: PreTrainedModel | PeftModel, schedule: Schedule, rows: TokenRows, settings: LoopSettings
) -> dict[str, RowSet]:
    """Return the run's rows, after the check that the model can be trained on them."""
    n_virtual, n_positions = count_virtual_tokens(model), getattr(model.config, "max_position_embeddings", None)
    if settings.position_offsets and n_virtual:
        raise ValueError("virtual tokens stand at the first positions; leave position_offsets out where they are tuned")
    n_virtual = n_virtual or settings.position_offsets or 0
    if n_positions is not None and schedule.sequence_length + n_virtual > n_positions:
        what = "start positions" if settings.position_offsets else "virtual tokens"
        virtual = f" and {n_virtual} {what}" if n_virtual else ""
        raise ValueError(
            f"sequence_length {schedule.sequence_length}{virtual} exceed the model's {n_positions} positions; "
            f"choose a sequence_length of at most {n_positions - n_virtual}, or a model with more positions"
        )
    vocab_size = model.get_input_embeddings().weight.shape[0]
    sets = {
        what: RowSet(given, what, settings.layout, max_length=schedule.sequence_length, vocab_size=vocab_size)
        for what, given in (("training", rows.training), ("validation", rows.validation))
    }
    for step in range(schedule.steps):
        if not sets["training"].n_targets(step_rows(len(sets["training"]), schedule.global_batch, step)):
            raise ValueError(
                f"no token of the {schedule.global_batch} rows of step {step + 1} is scored; "
                "choose a larger global_batch, or leave out rows without scored tokens"
            )
    return sets


@contextmanager
def seeded(seed: int, accelerator: Accelerator) -> Iterator[None]:
    """Draw what is random in training from a seed, another stream on every process, and nothing of the caller's."""
    device = accelerator.device
    # The caller's random numbers go on as if there had been no training.
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        draw_from(seed, accelerator)
        yield


def draw_from(seed: int, accelerator: Accelerator, *more: int) -> None:
    """Seed this process from a run's seed and further numbers."""
    # Mixed, not added: the second process of one seed must not draw what the first of the next seed draws.
    torch.manual_seed(int(np.random.SeedSequence([seed, accelerator.process_index, *more]).generate_state(1)[0]))


@contextmanager
def activations(model: PreTrainedModel | PeftModel, recomputed: bool) -> Iterator[None]:
    """Compute a model's activations anew in the backward pass, where that is asked for."""
    if not recomputed:
        yield
        return
    # The other, reentrant kind gives no gradients where the input of a block needs none, as under a frozen base.
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    try:
        yield
    finally:
        model.gradient_checkpointing_disable()
