"""Records from results of PEFT's method_comparison: one JSON an experiment, with counts, test accuracy and cost."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from astraios_analysis.imports.harnesses import NO_LANGUAGE
from astraios_analysis.imports.inputs import (
    Given,
    Imported,
    complete_counts,
    fail,
    make_record,
    make_score,
    read_json,
    read_method,
    run_name,
    size_label,
)
from astraios_analysis.imports.trainer import adapter_method
from astraios_analysis.records.files import FileProblem, RecordError
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.records.schema import Cost, Provenance

ORIGIN = "imported from a result of PEFT's method_comparison"
# Problems of the test split (Cobbe et al. 2021); taken only where the accuracy is a whole number of them.
GSM8K_TEST = 1319
# Methods whose every added parameter is updated, with an optimizer that freezes none: the rest is the base model.
_ADDS_ONLY = {"lora", "dora", "ia3", "ptuning", "prompt_tuning", "prefix_tuning", "loha", "lokr", "vera"}
_OPTIMIZERS = {"AdamW", "Adam", "SGD"}


@dataclass(frozen=True)
class PeftOptions:
    """Names of methods by experiment, numbers of problems by data set, and whether to leave other methods out."""

    methods: Mapping[str, str] = field(default_factory=dict)
    n_items: Mapping[str, int] = field(default_factory=dict)
    skip_unknown: bool = False


@dataclass(frozen=True)
class Experiment:
    """One result as its file says it; ``n_params_base`` where it follows from this file alone."""

    path: Path
    name: str
    method: str
    base: str
    seed: int | None
    n_params: int
    n_params_updated: int
    n_params_base: int | None
    test: Mapping[str, object]
    dataset: str
    cost: Cost
    spec: dict


def read_results(paths: Sequence[Path], given: Given, options: PeftOptions) -> Imported:
    """Return a record an experiment that succeeded; the base model's parameters may be said by another file."""
    found, experiments, problems = Imported(), [], []
    for path in paths:
        try:
            content = read_json(path)
            status = require_result(path, content)["train_info"].get("status", "success")
            if status != "success":
                found.left_out.append(FileProblem(path, "status", f"is {status!r}: the run did not finish; left out"))
            else:
                experiments.append(read_experiment(path, content))
        except RecordError as error:
            problems += error.problems
    bases, wrong = _base_counts(experiments)
    problems += wrong
    if given.run_id is not None and len(experiments) > 1:
        raise Refusal(f"--run-id {given.run_id} names one run, and there are {len(experiments)} results")
    if given.n_params_base is not None and len({experiment.base for experiment in experiments}) > 1:
        names = ", ".join(sorted({experiment.base for experiment in experiments}))
        raise Refusal(f"--n-params-base is that of one base model, and these are {names}; import them one at a time")
    for experiment in experiments if not problems else ():
        try:
            method = given.method or read_method(experiment.method, options.methods)
        except Refusal as error:
            problem = FileProblem(experiment.path, "method", str(error))
            (found.left_out if options.skip_unknown else problems).append(problem)
            continue
        try:
            found.records.append(_make(experiment, method, bases.get(experiment.base), given, options))
        except RecordError as error:
            problems += error.problems
    if problems:
        raise RecordError(problems)
    return found


def looks_like_result(content: Mapping[str, object]) -> bool:
    """Whether a JSON object is a result of method_comparison."""
    return all(isinstance(content.get(key), Mapping) for key in ("run_info", "train_info", "meta_info"))


def require_result(path: Path, content: Mapping[str, object]) -> Mapping:
    """Return the content of a result, or refuse a file that is none."""
    if not looks_like_result(content):
        raise fail(path, "is no result of PEFT's method_comparison, which has run_info, train_info and meta_info")
    return content


def read_experiment(path: Path, content: Mapping) -> Experiment:
    """Return what one result says; the method is the experiment's own name, without the base model's."""
    info, train, meta = content["run_info"], content["train_info"], content["meta_info"]
    config, settings = info.get("peft_config"), info.get("train_config") or {}
    total, updated = train.get("num_total_params"), train.get("num_trainable_params")
    for name, value in {"num_total_params": total, "num_trainable_params": updated}.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise fail(path, f"is {value!r}, not a whole number from 1 up", f"train_info.{name}")
    metrics = [entry for entry in train.get("metrics") or () if isinstance(entry, Mapping)]
    tests = [entry for entry in metrics if "test accuracy" in entry]
    base = str(settings.get("model_id"))
    name = str(info.get("experiment_name") or path.stem.replace("--", "/", 1))
    others = [key for key in meta.get("dataset_info") or {} if key != "metamath"]
    memory = train.get("accelerator_memory_max", train.get("cuda_memory_max"))
    return Experiment(
        path=path,
        name=name,
        method="fft" if config is None else _method_name(name, base),
        base=base,
        seed=settings.get("seed"),
        n_params=total,
        n_params_updated=updated,
        n_params_base=_own_base(config, settings, total, updated),
        test=tests[-1] if tests else {},
        dataset=others[0] if len(others) == 1 else "",
        cost=Cost(
            seconds=_number(train.get("train_time")), peak_memory_bytes=memory if isinstance(memory, int) else None
        ),
        spec={"experiment": name, "train_config": settings, "peft_config": config},
    )


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _method_name(experiment: str, base: str) -> str:
    """Return ``lora-rank32`` for ``lora/llama-3.2-3B-rank32``, and ``ia3`` for ``ia3/llama-3.2-3B-default``."""
    folder, _, variant = experiment.partition("/")
    model = re.escape(base.rpartition("/")[2])
    variant = re.sub(rf"^{model}-?", "", variant, flags=re.IGNORECASE)
    return run_name(folder, None if variant in ("", "default") else variant).lower()


def _own_base(config: Mapping | None, settings: Mapping, total: int, updated: int) -> int | None:
    """Return the base model's parameters where they follow from the counts; some methods freeze what they add."""
    if config is None:
        return total
    try:
        adds_only = adapter_method(config) in _ADDS_ONLY and not config.get("modules_to_save")
    except Refusal:
        adds_only = False
    return total - updated if adds_only and settings.get("optimizer_type") in _OPTIMIZERS else None


def _base_counts(experiments: Sequence[Experiment]) -> tuple[dict[str, int], list[FileProblem]]:
    """Return the parameters of each base model that the files say, and where they contradict each other."""
    bases: dict[str, tuple[int, Path]] = {}
    problems = []
    for experiment in experiments:
        if experiment.n_params_base is None:
            continue
        count, path = bases.setdefault(experiment.base, (experiment.n_params_base, experiment.path))
        if count != experiment.n_params_base:
            message = f"{experiment.base} has {experiment.n_params_base} parameters here and {count} in {path}"
            problems.append(FileProblem(experiment.path, "num_total_params", message))
    return {name: count for name, (count, _) in bases.items()}, problems


def _make(experiment: Experiment, method: str, n_base: int | None, given: Given, options: PeftOptions):
    path = experiment.path
    if given.grid is None:
        raise fail(path, "is in no file; say it with --grid", "grid")
    n_base = given.n_params_base or n_base
    if n_base is None:
        message = (
            f"those of {experiment.base} do not follow from this file alone; import it with a result of full "
            "fine-tuning or plain LoRA, or say them with --n-params-base N"
        )
        raise fail(path, message, "n_params_base")
    counts = {"n_params_base": n_base, "n_params_updated": experiment.n_params_updated, "n_params": experiment.n_params}
    for name, value in given.counts().items():
        if counts.setdefault(name, value) != value:
            raise fail(path, f"is {counts[name]} in the file and {value} by --{name.replace('_', '-')}", name)
    size = given.size or size_label(n_base)
    scores = (_test_score(experiment, options),) if experiment.test else ()
    fields = {
        "run_id": given.run_id or run_name(experiment.name),
        "grid": given.grid,
        "method": method,
        "size": size,
        "seed": given.seed if given.seed is not None else experiment.seed,
        "held_out": size in given.held_out,
        "n_tokens": given.n_tokens or experiment.test.get("train total tokens"),
        "scores": scores,
        "cost": experiment.cost,
        "provenance": Provenance(origin=ORIGIN, spec=experiment.spec),
    }
    return make_record(path, "", fields | complete_counts(counts, method))


def _test_score(experiment: Experiment, options: PeftOptions):
    """Return the test accuracy, on the problems of one data set, without examples in the prompt."""
    value = _number(experiment.test["test accuracy"])
    if not experiment.dataset:
        raise fail(experiment.path, "is not the metamath training set and one test set", "meta_info.dataset_info")
    n_items = options.n_items.get(experiment.dataset, options.n_items.get(""))
    if n_items is None and experiment.dataset == "gsm8k" and value is not None:
        n_items = GSM8K_TEST if abs(value * GSM8K_TEST - round(value * GSM8K_TEST)) < 1e-6 else None
    fields = {"dataset": experiment.dataset, "language": NO_LANGUAGE, "setting": "0shot", "metric": "accuracy"}
    fields |= {"value": value, "n_items": n_items, "source_file": experiment.path.name}
    return make_score(experiment.path, "test accuracy", fields)
