"""One record from an output folder of the Hugging Face Trainer: its log, its adapter, its base model."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from astraios_analysis.imports.adapters import adapter_method
from astraios_analysis.imports.base_models import ADAPTER_CONFIG, CONFIG, count_adapter, read_base_model
from astraios_analysis.imports.inputs import Given, complete_counts, fail, make_record, read_json, size_label
from astraios_analysis.records.files import FileProblem, RecordError
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.records.schema import Cost, Provenance, RunRecord, ValidationPoint

STATE = "trainer_state.json"
ORIGIN = "imported from a Hugging Face Trainer output folder"
_EVAL_LOSS = re.compile(r"^eval_(?:(?P<name>.+)_)?loss$")
_MODEL_WEIGHTS = ("model*.safetensors", "pytorch_model*.bin")


@dataclass(frozen=True)
class TrainerOptions:
    """How to read a folder.

    Attributes
    ----------
    base : Path, optional
        The base model's ``config.json`` or folder.
    eval_name : str, optional
        Which validation set, where several were logged.
    repeated_step : {"first", "last"}, optional
        Which loss to keep where one step was validated twice with different results.
    unfinished : bool
        Whether to take a run that stopped before its last step.
    """

    base: Path | None = None
    eval_name: str | None = None
    repeated_step: Literal["first", "last"] | None = None
    unfinished: bool = False


def read_trainer_folder(folder: Path, given: Given, options: TrainerOptions) -> RunRecord:
    """Return the record of one finished run.

    Parameters
    ----------
    folder : Path
        Output folder with ``trainer_state.json``, or with checkpoints, of which the last is read.
    given : Given
        What the folder does not say, or what is to overrule its counts.
    options : TrainerOptions

    Raises
    ------
    RecordError
        Naming the file and key of everything that cannot be mapped, and the option that would say it.
    """
    place = find_state(folder)
    state = read_json(place / STATE)
    _require_finished(place / STATE, state, options.unfinished)
    curve = read_curve(place / STATE, state, options)
    method = _read_method(folder, place, given)
    counts, problems = _read_counts(folder, place, method, given, options.base)
    required = {"--grid": given.grid, "--method": method}
    problems += [FileProblem(folder, o[2:], f"is in no file; say it with {o}") for o, v in required.items() if not v]
    if problems:
        raise RecordError(problems)
    size = given.size or size_label(counts["n_params_base"])
    tokens = given.n_tokens or state.get("num_input_tokens_seen") or None
    fields = {
        "run_id": given.run_id or folder.resolve().name,
        "grid": given.grid,
        "method": method,
        "size": size,
        "seed": given.seed,
        "held_out": size in given.held_out,
        "n_tokens": tokens,
        "base_val_loss": curve[0].loss if curve[0].step == 0 else None,
        "val_loss": curve[-1].loss,
        "val_curve": curve,
        "cost": read_cost(state),
        "provenance": Provenance(origin=ORIGIN, spec=_describe(folder, place, state)),
    }
    return make_record(folder, "", fields | counts)


def find_state(folder: Path) -> Path:
    """Return the folder itself where it has the trainer's state, or else its checkpoint of most steps.

    Raises
    ------
    RecordError
        If there is no state.
    """
    if not folder.is_dir():
        raise fail(folder, "is no folder; give the output folder of a Trainer")
    if (folder / STATE).exists():
        return folder
    checkpoints = [path.parent for path in folder.glob(f"checkpoint-*/{STATE}")]
    steps = {int(match[1]): path for path in checkpoints if (match := re.fullmatch(r"checkpoint-(\d+)", path.name))}
    if not steps:
        message = (
            f"has no {STATE}, and no checkpoint-N with one; give the output_dir of a Trainer (trainer.save_state())"
        )
        raise fail(folder, message)
    return steps[max(steps)]


def _require_finished(path: Path, state: Mapping[str, object], unfinished: bool) -> None:
    done, planned = state.get("global_step"), state.get("max_steps")
    if isinstance(done, int) and isinstance(planned, int) and 0 <= done < planned and not unfinished:
        message = (
            f"is {done} of max_steps {planned}: the run did not finish, or stopped early; a record is of a finished "
            "run: pass --unfinished if its last validation is what you want to record"
        )
        raise fail(path, message, "global_step")


def read_curve(path: Path, state: Mapping[str, object], options: TrainerOptions) -> tuple[ValidationPoint, ...]:
    """Return the validation cross-entropy by step, nats per token, at least one point.

    Raises
    ------
    RecordError
        If there is none, several sets were validated and none is named, or a step has two losses.
    """
    history = state.get("log_history")
    entries = [entry for entry in history if isinstance(entry, dict)] if isinstance(history, list) else []
    keys = {key: match["name"] for entry in entries for key in entry if (match := _EVAL_LOSS.match(key))}
    wanted = [key for key, name in keys.items() if options.eval_name in (None, name)]
    names = ", ".join(sorted(name for name in keys.values() if name)) or "none"
    if not wanted and keys:
        raise fail(path, f"no validation set {options.eval_name!r}; choose from {names} with --eval", "log_history")
    if not wanted:
        message = "has no eval_loss: nothing was validated (eval_strategy was 'no'), and a training loss is no stand-in"
        raise fail(path, message, "log_history")
    if len(wanted) > 1:
        message = f"several sets were validated ({', '.join(sorted(wanted))}); choose one with --eval: {names}"
        raise fail(path, message, "log_history")
    losses: dict[int, float] = {}
    for position, entry in enumerate(entries):
        if wanted[0] not in entry:
            continue
        step, loss = entry.get("step"), entry[wanted[0]]
        place = f"log_history[{position}]"
        if isinstance(step, bool) or not isinstance(step, int):
            raise fail(path, f"step is {step!r}, not a whole number; correct the log", place)
        if isinstance(loss, bool) or not isinstance(loss, int | float) or not math.isfinite(loss):
            raise fail(path, f"{wanted[0]} is {loss!r} at step {step}; a diverged run has no loss to record", place)
        if step in losses and losses[step] != loss and options.repeated_step is None:
            message = (
                f"step {step} was validated twice, {losses[step]} and {loss}: perhaps a better checkpoint was loaded "
                "at the end; say which to keep with --repeated-step first or last"
            )
            raise fail(path, message, place)
        if step not in losses or options.repeated_step == "last":
            losses[step] = float(loss)
    return tuple(ValidationPoint(step=step, loss=loss) for step, loss in sorted(losses.items()))


def _read_method(folder: Path, place: Path, given: Given) -> str | None:
    """Return the method that the adapter, or its absence beside whole weights, shows; None where nothing does."""
    config = _adapter_folder(folder, place)
    if config is not None:
        try:
            found = adapter_method(read_json(config / ADAPTER_CONFIG))
        except Refusal as error:
            raise fail(config / ADAPTER_CONFIG, f"{error}; a run of another method cannot be recorded") from error
    else:
        whole = any(any(where.glob(pattern)) for where in (folder, place) for pattern in _MODEL_WEIGHTS)
        found = "fft" if whole else None
    if given.method and found and given.method != found:
        raise fail(folder, f"is {found} by its files and {given.method!r} by --method; leave --method out", "method")
    return found or given.method


def _adapter_folder(folder: Path, place: Path) -> Path | None:
    return next((where for where in (folder, place) if (where / ADAPTER_CONFIG).exists()), None)


def _read_counts(
    folder: Path, place: Path, method: str | None, given: Given, base_path: Path | None
) -> tuple[dict[str, int], list[FileProblem]]:
    """Return the counts of parameters, and what must be given as an option because nothing says it."""
    if base_path is None and method == "fft":
        base_path = next((where for where in (folder, place) if (where / CONFIG).exists()), None)
    base = read_base_model(base_path) if base_path is not None else None
    counts = dict(base.counts if base else {}) | given.counts()
    adapter = _adapter_folder(folder, place)
    reason = "there is no adapter"
    if adapter is not None and method is not None and "n_params_updated" not in counts:
        updated, reason = count_adapter(adapter, read_json(adapter / ADAPTER_CONFIG), method, base)
        counts |= {"n_params_updated": updated} if updated else {}
    counts = complete_counts(counts, method)
    problems = []
    if "n_params_base" not in counts:
        lacks = base.lacks if base else "is in no file of the folder"
        options = "--base-config FILE (its config.json) or --n-params-base N"
        problems.append(FileProblem(folder, "n_params_base", f"{lacks}; say it with {options}"))
    if "n_params_updated" not in counts and method != "fft":
        message = f"is not known: {reason}; say it with --n-params-updated N"
        problems.append(FileProblem(folder, "n_params_updated", message))
    return counts, problems


def read_cost(state: Mapping[str, object]) -> Cost | None:
    """Return the seconds and the FLOP that the trainer logged; a zero is what it writes where it did not count."""
    history = state.get("log_history")
    entries = [entry for entry in history if isinstance(entry, dict)] if isinstance(history, list) else []
    seconds = [entry["train_runtime"] for entry in entries if isinstance(entry.get("train_runtime"), int | float)]
    flop = state.get("total_flos")
    flop = float(flop) if isinstance(flop, int | float) and flop > 0 else None
    return Cost(seconds=float(seconds[-1]), flop=flop) if seconds else Cost(flop=flop) if flop else None


def _describe(folder: Path, place: Path, state: Mapping[str, object]) -> dict:
    """Return what the files say of how the run was made: steps, batch, adapter."""
    known = ("max_steps", "global_step", "num_train_epochs", "train_batch_size", "best_model_checkpoint")
    spec = {name: state[name] for name in known if state.get(name) is not None}
    adapter = _adapter_folder(folder, place)
    return spec | ({"adapter": read_json(adapter / ADAPTER_CONFIG)} if adapter else {})
