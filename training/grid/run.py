"""One run, from its specification to its record: base -> tuning -> training -> scores -> record; the only orchestrator.

The record is written last, in one step: where it exists, the run finished. Until then it lies, with the scores that
were taken so far, in the run's work folder.
"""

import importlib.metadata
import platform
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from tokenizers import Tokenizer
from transformers import PreTrainedModel

from astraios_analysis.records.frame import Cost, Provenance, RunRecord, TaskLoss, load, save
from astraios_analysis.records.refusal import Refusal
from training.grid.bases import CHECKPOINT_EVERY, Base, base_digest, load_base, load_tuned, save_tuned
from training.grid.estimates import processor_name
from training.grid.published import score_published
from training.grid.rows import run_corpus, stream_rows
from training.loop.flop import model_flops_utilisation
from training.loop.processes import agreed, connect_processes, is_first_process, locked_by_first, whole_weights
from training.loop.reporting import Reporting
from training.loop.train import LoopResult, train
from training.models.counts import count_parameters
from training.models.pretrained import on_accelerator, plain_config
from training.models.tuning import apply_tuning
from training.spec.files import clear_error, clear_work, exclusive, record_path, require_writable, run_lock, work_folder
from training.spec.run import ParameterCounts, RunSpec
from training.suite.answers import ModelRespondent
from training.suite.choices import answer_losses
from training.suite.renewal import score_record, take_measures
from training.suite.request import LOSSES, Scoring, is_unscored, missing_measures

_SCORED_FOLDER = "scored"
_PACKAGES = ("astraios", "torch", "transformers", "peft", "accelerate", "tokenizers", "numpy")


class BusyError(Refusal):
    """The run is being trained by another process."""


def run(
    spec: RunSpec,
    runs_dir: str | Path,
    cache_dir: str | Path,
    *,
    checkpoint_every: int = CHECKPOINT_EVERY,
    reporting: Reporting | None = None,
    scoring: Scoring | None = None,
    is_sharded: bool = False,
    is_offloaded: bool = False,
) -> RunRecord:
    """Train and score what a specification says and write its record; a run whose record exists is left as it is.

    The base model comes from the cache, where it is trained first if need be. Tuning is on the corpus' instruction
    stream, with the loss on all tokens as in the study; the validation rows are the same for every method and seed.
    Several processes that a launcher started (`training.loop.processes`) train a run together; the first one takes the
    locks, writes the files and scores. An interrupted run goes on from its last checkpoint, or after its last measure,
    and gives the record that it would have given.
    """
    path, work = record_path(runs_dir, spec.run_id), work_folder(runs_dir, spec.run_id)
    # A record that cannot be read, or a disk without room, is said before a base is trained.
    if path.exists():
        load(path)
    for folder in (runs_dir, cache_dir):
        require_writable(folder)
    connect_processes(spec.loop.precision, is_offloaded=is_offloaded)
    with locked_by_first(run_lock(runs_dir, spec.run_id), wait=False) as is_mine:
        if not is_mine:
            raise BusyError(f"run {spec.run_id} is being trained by another process; wait for it")
        if not agreed(path.exists()):
            if is_first_process():
                clear_error(runs_dir, spec.run_id)
            trained = _train(spec, work, cache_dir, checkpoint_every, reporting, is_sharded, is_offloaded)
            if not is_first_process():
                return trained[0]
            save_tuned(trained[1], cache_dir, spec.run_id)
            kept = work / _SCORED_FOLDER
            save(trained[0] if scoring is None else _scored(spec, *trained, scoring, cache_dir, kept), runs_dir)
        # Also what was left behind where the process was stopped between the two.
        if is_first_process():
            clear_work(runs_dir, spec.run_id)
        return load(path)


def rescore(spec: RunSpec, runs_dir: str | Path, cache_dir: str | Path, scoring: Scoring) -> RunRecord:
    """Add the measures that a finished run's record lacks; the tuned model comes from the cache, nothing is trained.

    The record is replaced in one step after every measure.
    """
    path = record_path(runs_dir, spec.run_id)
    with exclusive(run_lock(runs_dir, spec.run_id), wait=False) as is_mine:
        if not is_mine:
            raise BusyError(f"run {spec.run_id} is being trained or scored by another process; wait for it")
        if not path.exists():
            raise Refusal(f"run {spec.run_id} has no record in {runs_dir}; train it first, which scores it too")
        record = load(path)
        if is_unscored(record, scoring):
            record = _scored(spec, record, *load_tuned(spec, cache_dir), scoring, cache_dir, runs_dir)
        clear_work(runs_dir, spec.run_id)
        return record


def _train(
    spec: RunSpec,
    work: Path,
    cache_dir: str | Path,
    checkpoint_every: int,
    reporting: Reporting | None,
    is_sharded: bool,
    is_offloaded: bool,
) -> tuple[RunRecord, PreTrainedModel | PeftModel, Tokenizer]:
    # Trackers follow the run: a base that has to be trained first would write into the same curves.
    quiet = reporting and replace(reporting, name=f"base {spec.size.name}", log_with=())
    # Under shards the first process alone holds the weights, and sends them block by block.
    base = load_base(spec, cache_dir, reporting=quiet, is_empty=is_sharded and not is_first_process())
    counts = count_parameters(plain_config(base.model.config), spec.tuning)
    rows = stream_rows(spec, spec.schedule, "instructions", base.tokenizer)
    model = apply_tuning(base.model, spec.tuning, seed=spec.seed)
    result = train(
        model,
        spec.schedule,
        rows,
        seed=spec.seed,
        # Where rows start is drawn for bases alone: virtual tokens of P-Tuning stand before the first position.
        settings=spec.loop.model_copy(update={"checkpoint_every": checkpoint_every, "position_offsets": None}),
        spec=spec.model_dump(mode="json"),
        folder=work,
        reporting=replace(reporting or Reporting(), name=spec.run_id),
        is_sharded=is_sharded,
        is_offloaded=is_offloaded,
    )
    if is_sharded:
        model = _whole(model, spec, cache_dir)
    return _record(spec, base, counts, result), model, base.tokenizer


def _whole(model: PreTrainedModel | PeftModel, spec: RunSpec, cache_dir: str | Path) -> PreTrainedModel | PeftModel:
    # The shards' own modules cannot be put together again in place: the first process loads the base once more.
    weights = whole_weights(model)
    # A base of our own is small, and processes agree on whether it is there: all of them ask.
    base = load_base(spec, cache_dir) if is_first_process() or spec.size.pretrained is None else None
    if base is None or not is_first_process():
        return model
    whole = apply_tuning(base.model, spec.tuning, seed=spec.seed)
    missing = whole.load_state_dict(weights, strict=False).unexpected_keys
    if missing:
        raise RuntimeError(f"tuned weights {missing[:3]} have no place in the model of run {spec.run_id}")
    return whole.eval()


def _scored(
    spec: RunSpec,
    record: RunRecord,
    model: PreTrainedModel | PeftModel,
    tokenizer: Tokenizer,
    scoring: Scoring,
    cache_dir: str | Path,
    kept: str | Path,
) -> RunRecord:
    """Return a record with its scores, which is kept in a folder after every measure, and gone on with there."""
    # Of this very training: the loop refuses a work folder of another one.
    before = record_path(kept, spec.run_id)
    record = load(before) if before.exists() else record

    def keep(scored: RunRecord) -> None:
        save(scored, kept, overwrite=True)

    model = on_accelerator(model)
    if scoring.datasets:
        folder = Path(cache_dir) / "generations" / spec.run_id
        return score_published(record, model, tokenizer, scoring, folder, keep)
    record = _with_base_losses(spec, record, scoring, cache_dir)
    return score_record(record, model, tokenizer, run_corpus(spec.data), scoring, keep)


def _with_base_losses(spec: RunSpec, record: RunRecord, scoring: Scoring, cache_dir: str | Path) -> RunRecord:
    if LOSSES not in missing_measures(record, scoring):
        return record
    key = (base_digest(spec), str(cache_dir))
    if key not in _BASE_LOSSES:
        base = load_base(spec, cache_dir)
        respondent = ModelRespondent(on_accelerator(base.model), base.tokenizer)
        _BASE_LOSSES.clear()
        _BASE_LOSSES[key] = answer_losses(respondent, run_corpus(spec.data))
    return record.model_copy(update={"base_task_losses": _BASE_LOSSES[key]})


# Of the last base: a worker scores the methods of one after the other.
_BASE_LOSSES: dict[tuple[str, str], dict[str, TaskLoss]] = {}


def _record(spec: RunSpec, base: Base, counts: ParameterCounts, result: LoopResult) -> RunRecord:
    return RunRecord(
        run_id=spec.run_id,
        grid=spec.grid,
        method=spec.tuning.method,
        size=spec.size.name,
        seed=spec.seed,
        held_out=spec.held_out,
        n_params=counts.n_params,
        n_params_base=counts.n_params_base,
        n_params_base_nonembedding=counts.n_params_base_nonembedding,
        n_params_updated=counts.n_params_updated,
        n_tokens=result.n_tokens,
        base_val_loss=result.base.loss,
        val_loss=result.final.loss,
        val_loss_se=result.final.stderr,
        val_curve=tuple(result.curve),
        cost=Cost(seconds=result.seconds, flop=result.flop, peak_memory_bytes=result.peak_memory_bytes),
        provenance=_provenance(spec, base, result),
    )


def _provenance(spec: RunSpec, base: Base, result: LoopResult) -> Provenance:
    commit, dirty = _commit()
    device = torch.cuda.get_device_name() if result.device == "cuda" else result.device
    described: dict[str, Any] = {
        "run": spec.model_dump(mode="json", exclude_none=True),
        "corpus": run_corpus(spec.data).settings.model_dump(mode="json", exclude_none=True),
        # With the batch sizes that were used; when checkpoints were written changes nothing.
        "loop": result.settings.model_dump(mode="json", exclude={"checkpoint_every"}, exclude_none=True),
        "n_processes": result.n_processes[-1],
        **({"n_processes_before": result.n_processes[:-1]} if len(result.n_processes) > 1 else {}),
        "throughput": _throughput(result, device),
        # Sums in another order round differently: equal to the last bit only with as many threads.
        "n_threads": torch.get_num_threads(),
        "base": base.note,
    }
    return Provenance(
        spec=described,
        commit=commit,
        dirty=dirty,
        versions={
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in _PACKAGES},
        },
        device=device,
        processor=f"{processor_name()}, {torch.backends.cpu.get_cpu_capability()}",
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _throughput(result: LoopResult, device: str) -> dict[str, float]:
    used = model_flops_utilisation(result.flop, result.step_seconds, result.n_processes[-1], device)
    # What was not measured is absent: a run that was loaded when it was finished may have no times of its steps.
    speed = {"tokens_per_second": result.n_tokens / result.step_seconds} if result.step_seconds > 0 else {}
    return speed if used is None else {**speed, "mfu": used}


# Once a process: the code in memory is that of its start.
@cache
def _commit() -> tuple[str | None, bool | None]:
    package = Path(__file__).resolve().parents[1]
    root = _git(package, "rev-parse", "--show-toplevel")
    # Installed into an environment that lies within some other project, the package has no commit.
    if root is None or Path(root).resolve() != package.parent:
        return None, None
    commit, changes = _git(package, "rev-parse", "HEAD"), _git(package.parent, "status", "--porcelain")
    return commit, None if commit is None or changes is None else bool(changes)


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def base_scores(
    spec: RunSpec, cache_dir: str | Path, scoring: Scoring, *, progress: bool | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the scores of a run's untuned base model on the embedded suite, in no record.

    Prompts are in the layout of tuning, which a base model that was trained on documented functions alone has never
    seen; ``embedded_completion`` is its own task, the body of a function from header and docstring.
    """
    base = load_base(spec, cache_dir)
    described = {"size": spec.size.name, "seed": spec.seed, "n_params_base": base.model.num_parameters()}
    corpus = run_corpus(spec.data)
    taken = take_measures(
        on_accelerator(base.model),
        base.tokenizer,
        corpus,
        scoring.measures,
        unsafe=scoring.unsafe,
        is_base=True,
        progress=progress,
    )
    names = ("dataset", "setting", "metric", "value", "stderr", "n_items")
    for measure in taken:
        for score in measure.scores:
            yield described | {name: getattr(score, name) for name in names}
        for task, found in measure.losses.items():
            values = (f"embedded_{task}", "validation", "loss", found.loss, found.stderr, None)
            yield described | dict(zip(names, values, strict=True))
