"""Which importer reads a file, and what it makes of it: every format from its options to records."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from astraios_analysis.imports import harnesses, peft, trackers
from astraios_analysis.imports.inputs import Imported, Options, complete_counts, make_record, run_fields
from astraios_analysis.imports.tables import read_table
from astraios_analysis.imports.trainer import ADAPTER_CONFIG, STATE, read_trainer_folder
from astraios_analysis.imports.writing import add_scores, contradiction, existing_records, find_known, require_addable
from astraios_analysis.records.files import files_below
from astraios_analysis.records.reading import is_packed, read_bytes, read_cells, read_json, read_text
from astraios_analysis.records.refusal import FileProblem, RecordError, Refusal, fail, gather
from astraios_analysis.records.registry import choose_measure, read_declarations
from astraios_analysis.records.schema import RunRecord, Score

HARNESSES = ("lm-eval", "bigcode", "human-eval")
TABLES = ("csv", "wandb", "mlflow")

FORMATS = {
    "csv": "a table with named columns",
    "trainer": "an output folder of the Hugging Face Trainer",
    "lm-eval": "results of lm-evaluation-harness",
    "bigcode": "results of bigcode-evaluation-harness",
    "human-eval": "samples of human-eval",
    "peft": "a result of PEFT's method_comparison",
    "wandb": "a run table or chart of Weights & Biases",
    "mlflow": "runs of MLflow",
}
"""Importers by name, and what they read."""


def recognise(path: Path) -> str:
    """Return the name of the importer that reads a file or folder, by what it holds."""
    form = _recognised(path)
    if form is None:
        known = "; ".join(f"{name} ({what})" for name, what in FORMATS.items())
        raise fail(path, f"is not recognised; say what it is with astraios import FORMAT, one of {known}")
    return form


def require(path: Path, form: str) -> None:
    """Refuse a file that another importer reads; any table may be read as a plain one."""
    found = _recognised(path)
    may_be = (None, form, *(("wandb", "mlflow", "csv") if form in TABLES else ()))
    if found not in may_be:
        raise fail(path, f"is {FORMATS[found]}; read it with: astraios import {found}")


def _recognised(path: Path) -> str | None:
    try:
        if path.is_dir() and not (path / STATE).exists() and not any(path.glob(f"checkpoint-*/{STATE}")):
            raise fail(path, f"is a folder without {STATE}; give the output folder of a Trainer, or the files in it")
        if path.is_dir():
            return "trainer"
    except OSError as error:
        raise fail(path, f"cannot be read ({error.strerror}); check the path and its permissions") from error
    content = read_bytes(path)
    if is_packed(content):
        return "csv"
    text = read_text(path, content)
    return _of_json(path, text) if text.lstrip()[:1] in ("{", "[") else _of_table(path)


def _of_json(path: Path, text: str) -> str | None:
    try:
        content = json.loads(text)
    except ValueError:
        # One object a line.
        try:
            content = json.loads(text.lstrip().split("\n")[0])
        except ValueError as error:
            raise fail(path, f"is not valid JSON ({error}); it may be cut off: restore it") from error
        return _of_row(path, content)
    if isinstance(content, list):
        return _of_row(path, content[0]) if content else None
    if not isinstance(content, dict):
        return None
    if {"schema_version", "run_id"} <= content.keys():
        raise fail(path, "is a record already; put it into the folder of records as it is")
    if "log_history" in content:
        raise fail(path, "is the state of a Trainer; give the folder that it is in")
    if _of_row(path, content) == "human-eval":
        return "human-eval"
    if peft.looks_like_result(content):
        return "peft"
    if harnesses.lm_eval_results(content) is not None:
        return "lm-eval"
    run = content.get("run") if isinstance(content.get("run"), dict) else content
    if isinstance(run.get("info"), dict):
        return "mlflow"
    return "bigcode" if harnesses.looks_like_bigcode(content) else None


def _of_row(path: Path, row: object) -> str | None:
    """Return what a list of objects is, by the first of them."""
    if not isinstance(row, dict):
        return None
    if {"doc_id", "resps"} <= row.keys():
        raise fail(path, "are the samples of lm-evaluation-harness; give the results_*.json beside them")
    if {"task_id", "completion"} <= row.keys():
        return "human-eval"
    return None if any(isinstance(value, dict | list) for value in row.values()) else "csv"


def _of_table(path: Path) -> str | None:
    try:
        header = read_cells(path).columns
    except RecordError:
        return None
    if len(header) < 2:
        return None
    if trackers.is_mlflow_table(header):
        return "mlflow"
    return "wandb" if trackers.is_wandb_table(header) or trackers.is_wandb_chart(header) else "csv"


def read_all(by_format: Mapping[str, Sequence[Path]], options: Options) -> Imported:
    """Return what files hold, by format; scores come last, for they may be of a run of the same call."""
    read_declarations(files_below(options.out) if options.out.is_dir() else ())
    for dataset, metric in options.metrics.items():
        choose_measure(dataset, *metric.split(",", 1))
    found = Imported()
    for form, paths in by_format.items():
        for path in paths if form != "trainer" else ():
            require(path, form)
        if form not in HARNESSES:
            found.add(_read_runs(form, paths, options))
    harness = {form: paths for form, paths in by_format.items() if form in HARNESSES}
    if harness and found.records:
        # A run that is there already keeps what it has, and is not changed by the way.
        known = existing_records(options.out)
        found.records, _ = find_known(found.records, known)
        require_addable(found.records, known, replace=options.replace)
    for form, paths in harness.items():
        _add_scores(form, paths, options, found)
    if not found.records:
        raise RecordError(found.left_out)
    sizes = {record.size for record in found.records}
    for size in sorted(set(options.held_out) - sizes):
        message = f"no run is of this size, and none is held out for it; they are of {', '.join(sorted(sizes))}"
        found.notes.append(FileProblem(options.out, f"--held-out {size}", message))
    return found


def _read_runs(form: str, paths: Sequence[Path], options: Options) -> Imported:
    if form == "peft":
        return peft.read_results(paths, options)
    if form == "trainer":
        _require_one_run(paths, options)
    readers = {"csv": read_table, "wandb": trackers.read_wandb, "mlflow": trackers.read_mlflow}
    read = readers.get(form, read_trainer_folder)
    found = Imported()
    for one in gather(lambda path: read(path, options), _progress(paths, options.quiet)):
        found.add(one)
    return found


def _progress(paths: Sequence[Path], quiet: bool) -> Iterable[Path]:
    return tqdm(paths, unit=" files", desc="reading", disable=quiet or len(paths) == 1, leave=False)


def _require_one_run(folders: Sequence[Path], options: Options) -> None:
    """Refuse to give several folders what is said of one run, or of one base model."""
    if len(folders) > 1 and options.run_id is not None:
        raise Refusal(f"--run-id {options.run_id} names one run, and there are {len(folders)} folders")
    if len(folders) > 1 and options.n_params_updated is not None:
        raise Refusal(
            f"--n-params-updated is that of one run, and there are {len(folders)} folders; give --counts FILE"
        )
    if options.n_params_base is None and options.base_config is None:
        return
    configs = [path for folder in folders for path in sorted(folder.glob(f"**/{ADAPTER_CONFIG}"))[:1]]
    names = {str(read_json(path).get("base_model_name_or_path") or "") for path in configs} - {""}
    if len(names) > 1:
        raise Refusal(
            f"these adapters are of several base models ({', '.join(sorted(names))}), which do not have one number of "
            "parameters; import them one base at a time, or give --counts FILE"
        )


def _add_scores(form: str, paths: Sequence[Path], options: Options, found: Imported) -> None:
    """Add the scores in result files to the run that they are of; two files must not say two things of one score."""
    scores: dict[tuple, tuple[Score, Path]] = {}
    problems = []
    read = gather(lambda path: harnesses.read_scores(path, form, options), _progress(paths, options.quiet))
    known_names = set().union(*(one.names for one in read))
    for option, said in (("--n-items", options.n_items), ("--language", options.languages)):
        if strange := sorted(set(said) - known_names - {""}):
            listed = ", ".join(sorted(known_names - {""}))
            raise Refusal(f"{option} {strange[0]}: there is no task or data set of this name; choose from {listed}")
    for path, one in zip(paths, read, strict=True):
        found.add(one)
        for score in one.scores:
            known, first = scores.setdefault(score.key, (score, path))
            if message := contradiction(score, known, first):
                problems.append(FileProblem(path, ", ".join(score.key), f"{message}; these are two runs, or keep one"))
    if problems:
        raise RecordError(problems)
    record = _record_to_extend(form, paths[0], options, found)
    record = add_scores(record, [score for score, _ in scores.values()], paths[0], replace=options.replace)
    found.records = [other for other in found.records if other.run_id != record.run_id] + [record]
    found.extended.add(record.run_id)


def _record_to_extend(form: str, path: Path, options: Options, found: Imported) -> RunRecord:
    """Return the record that scores are added to: the one of that name, or a new one made of what was options."""
    out = options.out
    known = {name: record for name, (record, _) in existing_records(out).items()}
    known |= {record.run_id: record for record in found.records}
    names = ", ".join(sorted(known)) or "none yet"
    run_id = options.run_id or (found.records[0].run_id if len(found.records) == 1 else None)
    if run_id is None:
        raise Refusal(f"say with --run-id which run these scores are of; {out} has {names}")
    old = known.get(run_id)
    if old is not None and (old in found.records or _is_described(old, options)):
        return old
    if old is not None and not options.replace:
        raise Refusal(f"run {run_id!r} is in {out} with another description; leave it out, or pass --replace")
    counts = complete_counts(options.given_counts(), options.method)
    wanted = {"grid": options.grid, "method": options.method}
    wanted |= {name: counts.get(name) for name in ("n_params_base", "n_params_updated")}
    lacking = [f"--{name.replace('_', '-')}" for name, value in wanted.items() if value is None]
    if lacking:
        raise Refusal(
            f"there is no run {run_id!r} in {out} (it has {names}); choose one of them, or describe a new run with "
            f"{', '.join(lacking)}"
        )
    run = run_fields(options, options.method, counts, run_id)
    made = make_record(path, "", run | {"provenance": {"origin": f"scores imported from {FORMATS[form]}"}})
    # Another description of a run leaves what was measured on it.
    kept = ("base_val_loss", "val_loss", "val_loss_se", "val_curve", "scores", "cost", "provenance")
    return made if old is None else made.model_copy(update={name: getattr(old, name) for name in kept})


def _is_described(record: RunRecord, options: Options) -> bool:
    """Whether what was given of a run, if anything, is what its record says."""
    fields = ("grid", "method", "size", "seed", "n_params_base", "n_params_updated", "n_params", "n_tokens")
    said = {name: getattr(options, name) for name in fields if getattr(options, name) is not None}
    return all(getattr(record, name) == value for name, value in said.items())
