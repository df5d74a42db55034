"""One record from an output folder of the Hugging Face Trainer: its log, its adapter, the headers of its weights.

Counts of parameters are those of saved weights, or are given: `python -m training params --adapter` counts an adapter
on its base model, which needs torch.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

from astraios_analysis.imports.inputs import Imported, Options, complete_counts, make_record, run_fields
from astraios_analysis.records.reading import read_json
from astraios_analysis.records.refusal import FileProblem, RecordError, Refusal, fail

STATE, ADAPTER_CONFIG, ADAPTER_WEIGHTS = "trainer_state.json", "adapter_config.json", "adapter_model.safetensors"
ORIGIN = "imported from a Hugging Face Trainer output folder"
COUNT_COMMAND = "python -m training params --adapter DIR --config DIR --json > counts.json"
_EVAL_LOSS = re.compile(r"^eval_(?:(?P<name>.+)_)?loss$")
_MODEL_WEIGHTS = ("model*.safetensors", "pytorch_model*.bin")

# A header is an eight-byte length and that much JSON; 100 MB is the format's own limit.
_LENGTH_BYTES, _MAX_HEADER = 8, 100_000_000
_WHOLE_TYPES = {"F64", "F32", "F16", "BF16"}
_EMBEDDINGS = re.compile(r"(^|\.)(wte|wpe|embed_tokens|embed_in|embed_out|lm_head|embed_positions)\.weight$")
# Buffers that older versions saved beside the weights.
_BUFFERS = re.compile(r"(^|\.)(rotary_emb\.inv_freq|(attn|attention)\.(bias|masked_bias))$")
_ADAPTER_KEYS = re.compile(r"lora_[AB]|lora_embedding_[AB]|ia3_l|adapter_|bottleneck_")

# Options of LoRA beside which nothing else is updated, or only what is saved under a name of LoRA's own.
_LORA_PLAIN = {
    *("task_type", "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "r"),
    *("inference_mode", "target_modules", "exclude_modules", "lora_alpha", "lora_dropout", "fan_in_fan_out"),
    *("use_rslora", "layers_to_transform", "layers_pattern", "rank_pattern", "alpha_pattern", "megatron_core"),
    *("loftq_config", "eva_config", "corda_config", "lora_ga_config", "qalora_group_size", "runtime_config"),
    *("enable_lora", "merge_weights", "bias", "lora_bias", "init_lora_weights", "ensure_weight_tying"),
}
# Those that let weights be saved that are not updated, or updated that are not saved: LoRA, but not countable.
_UNSURE = {*("modules_to_save", "trainable_token_indices", "layer_replication", "target_parameters", "megatron_config")}
_LORA_STARTS = re.compile(r"gaussian|eva|olora|pissa(_niter_\d+)?|corda|loftq|orthogonal|lora_ga")
# Options that make LoRA another method, by the name that method goes by.
_LORA_VARIANTS = {
    "use_dora": "dora",
    "kasa_config": "kasa",
    "use_qalora": "qalora",
    "use_bdlora": "bdlora",
    "velora_config": "velora",
    "monteclora_config": "monteclora",
    "arrow_config": "arrow",
    "alora_invocation_tokens": "alora",
}


@dataclass(frozen=True)
class _Folder:
    """An output folder: where its state lies, where its adapter, and what the adapter's configuration says."""

    path: Path
    place: Path
    adapter: Path | None
    config: Mapping[str, object]

    def places(self) -> tuple[Path, Path]:
        """Return where files of the model may be."""
        return self.path, self.place


def read_trainer_folder(folder: Path, options: Options) -> Imported:
    """Return the record of one finished run, of the folder's state or of that of its last checkpoint, and notes.

    Raises RecordError naming the file and key of everything that cannot be mapped, and the option that would say it.
    """
    place = find_state(folder)
    state = read_json(place / STATE)
    _require_finished(place / STATE, state, options.unfinished)
    curve, notes = read_curve(place / STATE, state, options)
    adapter = next((where for where in (folder, place) if (where / ADAPTER_CONFIG).exists()), None)
    found = _Folder(folder, place, adapter, read_json(adapter / ADAPTER_CONFIG) if adapter else {})
    method = _read_method(found, options)
    counts, problems = _read_counts(found, method, options)
    required = {"--grid": options.grid, "--method": method}
    problems += [FileProblem(folder, o[2:], f"is in no file; say it with {o}") for o, v in required.items() if not v]
    if problems:
        raise RecordError(problems)
    known = ("max_steps", "global_step", "num_train_epochs", "train_batch_size", "best_model_checkpoint")
    spec = {name: state[name] for name in known if state.get(name) is not None}
    fields = {
        "base_val_loss": curve.get(0),
        "val_loss": curve[max(curve)],
        "val_curve": tuple({"step": step, "loss": loss} for step, loss in curve.items()),
        "cost": read_cost(state),
        "provenance": {"origin": ORIGIN, "spec": spec | ({"adapter": found.config} if found.config else {})},
    }
    run = run_fields(options, method, counts, folder.resolve().name, n_tokens=state.get("num_input_tokens_seen"))
    return Imported([make_record(folder, "", run | fields)], [], notes)


def find_state(folder: Path) -> Path:
    """Return the folder itself where it has the trainer's state, or else its checkpoint of most steps."""
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


def _history(state: Mapping[str, object]) -> list[dict]:
    history = state.get("log_history")
    return [entry for entry in history if isinstance(entry, dict)] if isinstance(history, list) else []


def read_curve(path: Path, state: Mapping[str, object], options: Options) -> tuple[dict[int, float], list[FileProblem]]:
    """Return the validation cross-entropy by step, nats per token, up to the checkpoint to record, and notes."""
    entries = _history(state)
    key, others = _chosen_loss(path, entries, options.eval)
    losses = _losses(path, entries, key, options.repeated_step)
    notes = []
    if others:
        names = ", ".join(sorted(others))
        message = f"{key} is read as the validation loss; {names} are logged too (--eval NAME chooses another)"
        notes.append(FileProblem(path, "log_history", message))
    done = state.get("global_step")
    if isinstance(done, int) and done > max(losses):
        message = f"the last validation is of step {max(losses)}, and the run went on to step {done}"
        notes.append(FileProblem(path, "log_history", message))
    best = _best_step(state)
    if options.checkpoint == "best":
        if best not in losses:
            message = "names no step with a validation loss as the best; leave --checkpoint best out"
            raise fail(path, message, "best_model_checkpoint")
        losses = {step: loss for step, loss in losses.items() if step <= best}
    elif best is not None and best != max(losses):
        shown = f" ({losses[best]:g})" if best in losses else ""
        message = (
            f"names step {best}{shown} as the best; the loss recorded is {losses[max(losses)]:g}, of the last step "
            f"{max(losses)}: pass --checkpoint best to record the other"
        )
        notes.append(FileProblem(path, "best_model_checkpoint", message))
    return dict(sorted(losses.items())), notes


def _losses(path: Path, entries: list[dict], key: str, repeated_step: str | None) -> dict[int, float]:
    losses: dict[int, float] = {}
    for position, entry in enumerate(entries):
        if key not in entry:
            continue
        step, loss = entry.get("step"), entry[key]
        place = f"log_history[{position}]"
        if isinstance(step, bool) or not isinstance(step, int):
            raise fail(path, f"step is {step!r}, not a whole number; correct the log", place)
        if isinstance(loss, bool) or not isinstance(loss, int | float) or not math.isfinite(loss):
            raise fail(path, f"{key} is {loss!r} at step {step}; a diverged run has no loss to record", place)
        if step in losses and losses[step] != loss and repeated_step is None:
            message = (
                f"step {step} was validated twice, {losses[step]} and {loss}: perhaps a better checkpoint was loaded "
                "at the end; say which to keep with --repeated-step first or last"
            )
            raise fail(path, message, place)
        if step not in losses or repeated_step == "last":
            losses[step] = float(loss)
    return losses


def _best_step(state: Mapping[str, object]) -> int | None:
    """Return the step of the checkpoint that the run names as its best; older versions only name its folder."""
    if not state.get("best_model_checkpoint"):
        return None
    match = re.search(r"checkpoint-(\d+)/?$", str(state["best_model_checkpoint"]))
    step = state.get("best_global_step")
    return step if isinstance(step, int) else int(match[1]) if match else None


def _chosen_loss(path: Path, entries: list[dict], name: str | None) -> tuple[str, set[str]]:
    """Return the key of the validation loss to read, and the other losses that were logged.

    Plain ``eval_loss`` is the model's own loss; others beside it are parts of it, or other sets.
    """
    keys = {key: match["name"] for entry in entries for key in entry if (match := _EVAL_LOSS.match(key))}
    if not keys:
        message = "has no eval_loss: nothing was validated (eval_strategy was 'no'), and a training loss is no stand-in"
        raise fail(path, message, "log_history")
    names = ", ".join(sorted(found or "loss" for found in keys.values()))
    if name is not None:
        wanted = [key for key, found in keys.items() if name in (key, found or "loss")]
        if not wanted:
            raise fail(path, f"no validation set {name!r}; choose from {names} with --eval", "log_history")
    else:
        wanted = ["eval_loss"] if "eval_loss" in keys else list(keys)
    if len(wanted) > 1:
        message = f"several sets were validated ({', '.join(sorted(wanted))}); choose one with --eval: {names}"
        raise fail(path, message, "log_history")
    return wanted[0], keys.keys() - set(wanted)


def read_cost(state: Mapping[str, object]) -> dict[str, float]:
    """Return the seconds and the FLOP that the trainer logged; a zero is what it writes where it did not count."""
    logged = [entry.get("train_runtime") for entry in _history(state)]
    seconds = [value for value in logged if isinstance(value, int | float)]
    flop = state.get("total_flos")
    cost = {"seconds": float(seconds[-1])} if seconds else {}
    return cost | ({"flop": float(flop)} if isinstance(flop, int | float) and flop > 0 else {})


def adapter_method(config: Mapping[str, object]) -> str:
    """Return the tuning method of an adapter by PEFT's ``peft_type`` and the options that make it another method.

    Bottleneck adapters are told apart by ``variant`` (this project) or by ``use_parallel_adapter`` and
    ``use_adapterp`` (LLM-Adapters, Hu et al. 2023, with which the study was run).
    """
    if not config.get("peft_type"):
        raise Refusal(
            "peft_type is not in it, and nothing else says which method this is; say it with --method, and how many "
            "parameters it updates with --n-params-updated"
        )
    kind = str(config["peft_type"])
    if kind == "BOTTLENECK" and config.get("variant"):
        return str(config["variant"])
    if kind == "BOTTLENECK" and "use_parallel_adapter" in config:
        if config["use_parallel_adapter"]:
            return "parallel"
        return "adapterp" if config.get("use_adapterp") else "adapterh"
    if kind != "LORA":
        return {"P_TUNING": "ptuning"}.get(kind, kind.lower())
    start = config.get("init_lora_weights")
    variants = [name for option, name in _LORA_VARIANTS.items() if config.get(option)]
    variants += [start] if isinstance(start, str) and not _LORA_STARTS.fullmatch(start) else []
    known = _LORA_PLAIN | _UNSURE | _LORA_VARIANTS.keys()
    others = [option for option in config if config[option] and option not in known]
    if others:
        raise Refusal(
            f"LoRA with {', '.join(others)}, which is not known here, may be another method; say which it is with "
            "--method, and how many parameters it updates with --n-params-updated"
        )
    return "_".join(variants) or "lora"


def _read_method(folder: _Folder, options: Options) -> str | None:
    """Return the method that the adapter, or its absence beside whole weights, shows; None where nothing does."""
    if folder.adapter is None:
        whole = any(any(where.glob(pattern)) for where in folder.places() for pattern in _MODEL_WEIGHTS)
        found = "fft" if whole else None
    else:
        try:
            found = adapter_method(folder.config)
        except Refusal as error:
            if options.method is None:
                raise fail(folder.adapter / ADAPTER_CONFIG, str(error)) from error
            return options.method
        found = options.methods.get(found, found)
    if options.method and found and options.method != found:
        message = f"is {found} by its files and {options.method!r} by --method; leave --method out"
        raise fail(folder.path, message, "method")
    return found or options.method


def _read_counts(folder: _Folder, method: str | None, options: Options) -> tuple[dict[str, int], list[FileProblem]]:
    """Return the counts of parameters, and what must be given as an option because nothing says it.

    Whatever is known from two sides must agree.
    """
    counts: dict[str, int] = {}
    said_by: dict[str, str] = {}
    for source, values in _said_counts(folder, method, options):
        for name, value in values.items():
            if counts.setdefault(name, value) != value:
                message = f"is {value} by {source} and {counts[name]} by {said_by[name]}; correct the one that is wrong"
                raise fail(folder.path, message, name)
            said_by.setdefault(name, source)
    counts = complete_counts(counts, method)
    problems = []
    if "n_params_base" not in counts:
        ways = "--base-config DIR (its folder of safetensors weights), --counts FILE or --n-params-base N"
        message = f"is in no file of the folder; say it with {ways}"
        problems.append(FileProblem(folder.path, "n_params_base", message))
    if "n_params_updated" not in counts and method != "fft":
        ways = f"--n-params-updated N, or --counts FILE, which this makes: {COUNT_COMMAND}"
        message = f"is not known: no saved weights show it for certain; say it with {ways}"
        problems.append(FileProblem(folder.path, "n_params_updated", message))
    return counts, problems


def _said_counts(folder: _Folder, method: str | None, options: Options) -> list[tuple[str, Mapping[str, int]]]:
    """Return counts by who says them: options, what PEFT counted, the headers of saved weights."""
    said: list[tuple[str, Mapping[str, int]]] = [("options", options.given_counts())]
    if folder.adapter is not None:
        places = (folder.adapter.resolve(), folder.path.resolve())
        counted = _read_counted(options.counts) if options.counts else {}
        said += [("--counts", counted[place]) for place in places if place in counted]
        weights = folder.adapter / ADAPTER_WEIGHTS
        saved = count_saved(read_shapes(weights), folder.config) if weights.exists() else None
        said += [(str(weights), {"n_params_updated": saved})] if saved else []
    if options.base_config is not None and not options.base_config.exists():
        raise fail(options.base_config, "does not exist; give the folder of the base model's weights")
    bases = (options.base_config,) if options.base_config else folder.places() if method == "fft" else ()
    for where in bases:
        shapes = read_model_shapes(where if where.is_dir() else where.parent)
        said += [(str(where), count_weights(shapes))] if shapes else []
    return said


def _read_counted(path: Path) -> dict[Path, dict[str, int]]:
    """Return counts by adapter folder from what `python -m training params --adapter ... --json` printed."""
    names = ("n_params", "n_params_base", "n_params_updated")
    try:
        rows = json.loads(path.read_text("utf-8"))
        found = {Path(row["adapter"]).resolve(): {name: int(row[name]) for name in names} for row in rows}
        for row, counts in zip(rows, found.values(), strict=True):
            counts["n_params_base_nonembedding"] = counts["n_params_base"] - int(row["n_params_embedding"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        message = "is not what `python -m training params --adapter DIR --config DIR --json` prints"
        raise fail(path, f"{message} ({error})") from error
    return found


def count_saved(shapes: Mapping[str, list[int]], config: Mapping[str, object]) -> int | None:
    """Return the parameters in an adapter's weight file, or None where they may not be those that were updated.

    Prompts are saved without their encoder; a variant may freeze what it saves; embeddings that were not trained may be
    saved too.
    """
    plain = {"lora", "ia3", "adapterh", "adapterp", "parallel"}
    try:
        is_plain = adapter_method(config) in plain and not any(config.get(option) for option in _UNSURE)
    except Refusal:
        is_plain = False
    if not is_plain or not shapes or not all(_ADAPTER_KEYS.search(name) for name in shapes):
        return None
    return sum(prod(shape) for shape in shapes.values())


def read_shapes(path: Path) -> dict[str, list[int]]:
    """Return the shape of every weight in a safetensors file from its header; the weights are never read."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        text = file.read(length) if 0 < length <= _MAX_HEADER else b""
    try:
        header = json.loads(text)
        weights = {name: entry for name, entry in header.items() if name != "__metadata__"}
        shapes = {name: [int(n) for n in entry["shape"]] for name, entry in weights.items()}
        kinds = {entry["dtype"] for entry in weights.values()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        message = "is no safetensors file, or is cut off; save it again, or give the counts of parameters as options"
        raise fail(path, message) from error
    if kinds - _WHOLE_TYPES:
        message = (
            f"{', '.join(sorted(kinds - _WHOLE_TYPES))} holds packed weights, whose shapes do not count parameters; "
            f"allowed are {', '.join(sorted(_WHOLE_TYPES))}: give the counts of parameters as options"
        )
        raise fail(path, message, "dtype")
    return shapes


def read_model_shapes(folder: Path) -> dict[str, list[int]] | None:
    """Return the shapes of a whole model's weights in a folder, or None where it has no safetensors weights."""
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        whole = folder / "model.safetensors"
        return read_shapes(whole) if whole.exists() else None
    named = read_json(index).get("weight_map")
    if not isinstance(named, dict) or not all(isinstance(name, str) for name in named.values()):
        raise fail(index, "is not an index of weight files; restore it", "weight_map")
    names = sorted(set(named.values()))
    missing = [name for name in names if not (folder / name).exists()]
    if missing:
        message = f"{missing[0]} is not in {folder}; add it, or give the counts of parameters as options"
        raise fail(index, message, "weight_map")
    return {name: shape for part in names for name, shape in read_shapes(folder / part).items()}


def count_weights(shapes: Mapping[str, list[int]]) -> dict[str, int]:
    """Return a model's parameters, and those without embeddings where the embeddings can be told by name."""
    shapes = {name: shape for name, shape in shapes.items() if not _BUFFERS.search(name)}
    total = sum(prod(shape) for shape in shapes.values())
    embedding = sum(prod(shape) for name, shape in shapes.items() if _EMBEDDINGS.search(name))
    return {"n_params_base": total} | ({"n_params_base_nonembedding": total - embedding} if embedding else {})
