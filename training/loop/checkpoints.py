"""Checkpoints of a run: written whole or not at all, the last two kept, and used for the run that wrote them only."""

import hashlib
import json
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import SAFE_WEIGHTS_NAME, load_state_dict
from pydantic import BaseModel, ConfigDict
from torch import nn

from astraios_analysis.records.files import write_whole
from astraios_analysis.records.frame import ValidationPoint
from astraios_analysis.records.reading import read_json
from astraios_analysis.records.schema import validating
from training.corpus.texts import reason_of
from training.loop.batches import RowSet
from training.loop.processes import SHARDS_FOLDER, agreed
from training.spec.files import DIVERGED_FILE, checkpoints_in, divergence, exclusive, flush, require_writable
from training.spec.run import LoopSettings, Schedule

# Leading values of a tensor tell one draw or training from another; a digest of all would read the whole base model.
_LEADING_VALUES = 64


def run_identity(
    model: nn.Module,
    schedule: Schedule,
    settings: LoopSettings,
    rows: Mapping[str, RowSet],
    *,
    seed: int,
    spec: Mapping[str, Any],
    accelerator: Accelerator,
    is_sharded: bool = False,
) -> dict[str, Any]:
    """Return everything that a run's numbers depend on, as JSON values, after the check that all processes agree on it.

    Where and when checkpoints are written is not among it.
    """
    identity = {
        "spec": dict(spec),
        "schedule": schedule.model_dump(),
        "settings": settings.model_dump(exclude={"checkpoint_every"}),
        "seed": seed,
        "n_processes": accelerator.num_processes,
        "device": accelerator.device.type,
        "rows": {name: row_set.digest for name, row_set in rows.items()},
        # Only the first process has the weights of a model that will be sharded.
        "initial_weights": agreed(weights_digest(model)) if is_sharded else weights_digest(model),
    }
    _check_agreement(identity, accelerator)
    return identity


def weights_digest(model: nn.Module) -> str:
    """Return a SHA-256 of the names, shapes, types and leading values of all parameters, and which are updated."""
    digest = hashlib.sha256()
    for name, weight in model.named_parameters():
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype} {weight.requires_grad}".encode())
        if not weight.is_meta:
            values = weight.detach().flatten()[:_LEADING_VALUES].to("cpu", torch.float32)
            digest.update(values.numpy().tobytes())
    return digest.hexdigest()


def _check_agreement(identity: Mapping[str, Any], accelerator: Accelerator) -> None:
    if accelerator.num_processes == 1:
        return
    # Six bytes are exact in a float64 and in an int64 alike.
    number = int.from_bytes(hashlib.sha256(repr(identity).encode()).digest()[:6], "big")
    numbers = accelerator.gather(torch.tensor([number], device=accelerator.device)).tolist()
    if len(set(numbers)) > 1:
        raise ValueError(
            f"the {len(numbers)} processes of this run do not agree on its model, rows or settings; build all of them "
            "from the same specification and seed on every process"
        )


def without_processes(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return an identity without what depends on the number of processes and changes rounding only."""
    # How a global batch is cut into passes changes rounding only, and sizes left open follow from the processes; those
    # that someone chose are in the specification, too.
    kept = {name: value for name, value in identity.items() if name != "n_processes"}
    if "settings" in kept:
        cut = ("micro_batch", "validation_batch")
        kept["settings"] = {name: value for name, value in kept["settings"].items() if name not in cut}
    return kept


def describe_differences(written: Any, given: Any, name: str = "") -> list[str]:
    """Return in words where two JSON values differ: ``schedule.steps is 200 there and 100 here``."""
    if isinstance(written, dict) and isinstance(given, dict):
        names = [*written, *(key for key in given if key not in written)]
        return [
            text
            for key in names
            for text in describe_differences(written.get(key), given.get(key), f"{name}.{key}".removeprefix("."))
        ]
    return [] if written == given else [f"{name} is {_brief(written)} there and {_brief(given)} here"]


def _brief(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:12]}…"


KEPT = 2
"""Checkpoints kept: the last, and the one before it."""

_PROGRESS_FILE = "progress.json"
_LOCK_FILE = ".lock"
_FORMAT = 1
_SHOWN_DIFFERENCES = 3


class Progress(BaseModel):
    """How far a run has come; losses are nats per scored token. A checkpoint holds it beside weights and optimiser."""

    model_config = ConfigDict(extra="forbid")

    step: int = 0
    # Tokens without padding, scored ones, and rows.
    n_tokens: int = 0
    n_targets: int = 0
    n_rows: int = 0
    # Without what tuning adds, which P-Tuning and adapters change before the first step already.
    base: ValidationPoint | None = None
    # Of the tuned model: before the first step, every `validate_every` steps and after the last.
    curve: list[ValidationPoint] = []
    # Of every step before its update.
    train_losses: list[float] = []
    # Numbers of processes that it had, in order.
    n_processes: list[int] = []
    # Wall-clock time in the loop, work lost in interruptions left out; of it, in steps alone.
    seconds: float = 0.0
    step_seconds: float = 0.0
    # Largest of a process; absent where it cannot be measured.
    peak_memory_bytes: int | None = None


class _Saved(BaseModel):
    format: int
    identity: dict[str, Any]
    progress: Progress
    files: dict[str, list[int] | int] = {}


class RunFolder:
    """Folder of one run's checkpoints, ``step-000040`` and so on, and of the mark it leaves when it fails."""

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        self.path, self.failure_path = path, path / DIVERGED_FILE
        # As it will be read back: JSON knows lists, not tuples.
        self._identity: dict[str, Any] = json.loads(json.dumps(identity))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other process out of the folder; the system lifts the lock however this one ends."""
        with exclusive(self.path / _LOCK_FILE, wait=False) as is_mine:
            if not is_mine:
                raise ValueError(
                    f"run folder {self.path} is in use by another process; wait for it, or give another folder"
                )
            for leftover in [*self.path.glob(".writing-*"), *self.path.glob(".removing-*")]:
                shutil.rmtree(leftover)
            yield

    def latest(self) -> Path | None:
        """Return the newest whole checkpoint, or the newest of all where none is, so that its damage is said."""
        found = list(checkpoints_in(self.path).values())
        return next((path for path in reversed(found) if _is_whole(path)), found[-1] if found else None)

    def check_not_failed(self) -> None:
        """Raise ValueError if this very run failed before: its numbers are fixed, so it would fail again."""
        failure = divergence(self.path)
        if failure is not None and not describe_differences(failure["identity"], self._identity):
            raise ValueError(
                f"this run failed before: {failure['reason']} ({self.failure_path}); change its schedule or settings, "
                "or delete that file to try again from the last checkpoint"
            )

    def mark_failed(self, step: int, reason: str) -> None:
        """Write down when and why the run failed."""
        mark = {"step": step, "reason": reason, "identity": self._identity}
        write_whole(self.failure_path, json.dumps(mark, indent=2))

    def save(
        self, accelerator: Accelerator, progress: Progress, save_shards: Callable[[Path], None] | None = None
    ) -> None:
        """Write a checkpoint under another name, rename it when all of it is on the disk, remove old ones.

        All processes call it; each writes its own random states, and with ``save_shards`` its shards.
        """
        name = f"step-{progress.step:06d}"
        partial = self.path / f".writing-{name}"
        if accelerator.is_main_process:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        accelerator.wait_for_everyone()
        try:
            accelerator.save_state(str(partial))
            if save_shards is not None:
                save_shards(partial)
        except RuntimeError:
            # Torch's writer names a position in its file; a full disk is said by this.
            require_writable(self.path)
            raise
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            files = {str(path.relative_to(partial)): _mark(path) for path in partial.rglob("*") if path.is_file()}
            values = {"format": _FORMAT, "identity": self._identity, "progress": progress.model_dump(), "files": files}
            (partial / _PROGRESS_FILE).write_text(json.dumps(values, indent=2), "utf-8")
            flush(*partial.rglob("*"), partial)
            # One of that step is there only where it was damaged, and an older one taken.
            shutil.rmtree(self.path / name, ignore_errors=True)
            partial.rename(self.path / name)
            flush(self.path)
            for old in list(checkpoints_in(self.path).values())[:-KEPT]:
                # Under another name first: half a checkpoint must never look like a whole one.
                shutil.rmtree(old.rename(self.path / f".removing-{old.name}"))
        accelerator.wait_for_everyone()

    def load(
        self, accelerator: Accelerator, checkpoint: Path, load_shards: Callable[[Path], None] | None = None
    ) -> Progress:
        """Put weights, optimiser and random states back as they were, and return the progress.

        On another number of processes than wrote it, random states are left as they are: there is not one for each.
        """
        progress = self.read(checkpoint)
        is_same_count = progress.n_processes[-1:] == [accelerator.num_processes]
        try:
            if not _is_whole(checkpoint):
                raise ValueError("its files are not those that were written")
            with nullcontext() if is_same_count else torch.random.fork_rng():
                accelerator.load_state(str(checkpoint))
            if load_shards is not None:
                load_shards(checkpoint)
        except Exception as error:  # pickle, safetensors and torch each raise their own
            raise _unreadable(checkpoint, error) from error
        return progress

    def read(self, checkpoint: Path) -> Progress:
        """Return the progress in a checkpoint, after the check that this run wrote it (see `load`)."""
        saved = _saved(checkpoint)
        if saved.format != _FORMAT:
            raise ValueError(
                f"checkpoint {checkpoint} has format {saved.format}, and this version reads {_FORMAT}; "
                "give another folder"
            )
        written, identity = saved.identity, self._identity
        if written.get("n_processes") != identity.get("n_processes"):
            written, identity = without_processes(written), without_processes(identity)
        differences = describe_differences(written, identity)
        if differences:
            shown = "; ".join(differences[:_SHOWN_DIFFERENCES])
            more = len(differences) - _SHOWN_DIFFERENCES
            shown += f"; and {more} more" if more > 0 else ""
            raise ValueError(
                f"checkpoint {checkpoint} is of another run: {shown}; give this run a folder of its own, or delete "
                "the checkpoints of the other"
            )
        return saved.progress


def keep_updated_weights_only(accelerator: Accelerator) -> None:
    """Let checkpoints hold all updated parameters and no others; a frozen base is read from where it came from."""

    def keep(models: list[nn.Module], states: list[dict[str, torch.Tensor]], folder: str) -> None:
        # Names are asked of the models given here: accelerate holds them without the wrapper of several processes.
        for model, state in zip(models, states, strict=True):
            for name in state.keys() - _updated_names(model):
                del state[name]

    def load(models: list[nn.Module], folder: str) -> None:
        # Taken off the list: what is left there, accelerate loads by its own rules, which want the frozen ones too.
        model = models.pop()
        state = load_state_dict(str(Path(folder) / SAFE_WEIGHTS_NAME))
        different = state.keys() ^ _updated_names(model)
        if different:
            raise ValueError(f"{SAFE_WEIGHTS_NAME} does not hold the updated parameters, such as {min(different)}")
        model.load_state_dict(state, strict=False)

    accelerator.register_save_state_pre_hook(keep)
    accelerator.register_load_state_pre_hook(load)


def _updated_names(model: nn.Module) -> set[str]:
    return {name for name, weight in model.named_parameters() if weight.requires_grad}


def _is_whole(checkpoint: Path) -> bool:
    """Whether all files of a checkpoint are there as they were written; older ones keep their sizes alone, or none."""
    try:
        files = _saved(checkpoint).files.items()
        return all(mark in (found := _mark(checkpoint / name), found[0]) for name, mark in files)
    except (OSError, ValueError):
        return False


def _saved(checkpoint: Path) -> _Saved:
    try:
        with validating(checkpoint / _PROGRESS_FILE):
            return _Saved.model_validate(read_json(checkpoint / _PROGRESS_FILE))
    except ValueError as error:
        raise _unreadable(checkpoint, error) from error


def _mark(path: Path) -> list[int]:
    """Return a file's size, and its checksum unless it is one of the shards, which one process would read for all."""
    size, checksum = path.stat().st_size, 0
    if path.parent.name == SHARDS_FOLDER:
        return [size]
    with path.open("rb") as file:
        while part := file.read(2**24):
            checksum = zlib.crc32(part, checksum)
    return [size, checksum]


def _unreadable(checkpoint: Path, error: Exception) -> ValueError:
    return ValueError(
        f"checkpoint {checkpoint} cannot be read: {reason_of(error)}; delete it to resume from the one before, "
        "or from the beginning where there is none"
    )
