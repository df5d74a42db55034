"""Records from results of PEFT's method_comparison: one JSON an experiment, with counts, test accuracy and cost."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from astraios_analysis.imports.inputs import (
    Given,
    Imported,
    complete_counts,
    explain,
    make_record,
    make_score,
    read_method,
    run_name,
    size_label,
)
from astraios_analysis.imports.tables import NO_LANGUAGE
from astraios_analysis.imports.trainer import adapter_method
from astraios_analysis.records.files import FileProblem, RecordError
from astraios_analysis.records.reading import read_json
from astraios_analysis.records.refusal import Refusal, fail

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


class _Layout(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)


class _Settings(_Layout):
    model_id: str
    seed: Annotated[int, Field(ge=0)] | None = None
    optimizer_type: str = ""


class _RunInfo(_Layout):
    experiment_name: str
    train_config: _Settings
    peft_config: dict[str, JsonValue] | None = None


class _TrainInfo(_Layout):
    num_trainable_params: Annotated[int, Field(gt=0)]
    num_total_params: Annotated[int, Field(gt=0)]
    status: str = "success"
    train_time: float | None = None
    metrics: list[dict[str, JsonValue]] = []
    accelerator_memory_max: int | None = None
    cuda_memory_max: int | None = None


class _MetaInfo(_Layout):
    dataset_info: dict[str, JsonValue] = {}


class Result(_Layout):
    """One file: what is read of it. Other keys, and what older versions lack, are passed over."""

    run_info: _RunInfo
    train_info: _TrainInfo
    meta_info: _MetaInfo


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
    cost: Mapping[str, object]
    spec: Mapping[str, object]


def read_results(paths: Sequence[Path], given: Given, options: PeftOptions) -> Imported:
    """Return a record an experiment that succeeded; the base model's parameters may be said by another file."""
    found, experiments, problems = Imported(), [], []
    for path in paths:
        try:
            content = read_json(path)
            result = read_result(path, content)
            if result.train_info.status != "success":
                message = f"is {result.train_info.status!r}: the run did not finish"
                found.left_out.append(FileProblem(path, "status", message))
            else:
                experiments.append(read_experiment(path, result, content["run_info"]))
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


def read_result(path: Path, content: Mapping[str, object]) -> Result:
    """Return the content of a result, or refuse a file that is none."""
    try:
        return Result.model_validate(content)
    except ValidationError as error:
        raise RecordError([explain(path, "", detail) for detail in error.errors()]) from error


def read_experiment(path: Path, result: Result, info: Mapping) -> Experiment:
    """Return what one result says; the method is the experiment's own name, without the base model's."""
    run, train = result.run_info, result.train_info
    tests = [entry for entry in train.metrics if "test accuracy" in entry]
    others = [key for key in result.meta_info.dataset_info if key != "metamath"]
    cost = {"seconds": train.train_time, "peak_memory_bytes": train.accelerator_memory_max or train.cuda_memory_max}
    return Experiment(
        path=path,
        name=run.experiment_name,
        method="fft" if run.peft_config is None else _method_name(run.experiment_name, run.train_config.model_id),
        base=run.train_config.model_id,
        seed=run.train_config.seed,
        n_params=train.num_total_params,
        n_params_updated=train.num_trainable_params,
        n_params_base=_own_base(run, train),
        test=tests[-1] if tests else {},
        dataset=others[0] if len(others) == 1 else "",
        cost={name: value for name, value in cost.items() if value is not None},
        spec={name: info.get(name) for name in ("experiment_name", "train_config", "peft_config")},
    )


def _method_name(experiment: str, base: str) -> str:
    """Return ``lora-rank32`` for ``lora/llama-3.2-3B-rank32``, and ``ia3`` for ``ia3/llama-3.2-3B-default``."""
    folder, _, variant = experiment.partition("/")
    model = re.escape(base.rpartition("/")[2])
    variant = re.sub(rf"^{model}-?", "", variant, flags=re.IGNORECASE)
    return run_name(folder, None if variant in ("", "default") else variant).lower()


def _own_base(run: _RunInfo, train: _TrainInfo) -> int | None:
    """Return the base model's parameters where they follow from the counts; some methods freeze what they add."""
    if run.peft_config is None:
        return train.num_total_params
    try:
        adds_only = adapter_method(run.peft_config) in _ADDS_ONLY and not run.peft_config.get("modules_to_save")
    except Refusal:
        adds_only = False
    is_exact = adds_only and run.train_config.optimizer_type in _OPTIMIZERS
    return train.num_total_params - train.num_trainable_params if is_exact else None


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
        "provenance": {"origin": ORIGIN, "spec": experiment.spec},
    }
    return make_record(path, "", fields | complete_counts(counts, method))


def _test_score(experiment: Experiment, options: PeftOptions):
    """Return the test accuracy, on the problems of one data set, without examples in the prompt."""
    value = experiment.test["test accuracy"]
    if not experiment.dataset:
        raise fail(experiment.path, "is not the metamath training set and one test set", "meta_info.dataset_info")
    n_items = options.n_items.get(experiment.dataset, options.n_items.get(""))
    if n_items is None and experiment.dataset == "gsm8k" and isinstance(value, float):
        n_items = GSM8K_TEST if abs(value * GSM8K_TEST - round(value * GSM8K_TEST)) < 1e-6 else None
    fields = {"dataset": experiment.dataset, "language": NO_LANGUAGE, "setting": "0shot", "metric": "accuracy"}
    fields |= {"value": value, "n_items": n_items, "source_file": experiment.path.name}
    return make_score(experiment.path, "test accuracy", fields)
