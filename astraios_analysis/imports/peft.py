"""Records from results of PEFT's method_comparison: one JSON an experiment, with counts, test accuracy and cost."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from astraios_analysis.imports.inputs import (
    Imported,
    Options,
    complete_counts,
    make_record,
    make_score,
    read_method,
    run_fields,
    run_name,
)
from astraios_analysis.imports.tables import NO_LANGUAGE
from astraios_analysis.imports.trainer import adapter_method
from astraios_analysis.records.reading import read_json
from astraios_analysis.records.refusal import FileProblem, RecordError, Refusal, fail, gather
from astraios_analysis.records.schema import validating

ORIGIN = "imported from a result of PEFT's method_comparison"
# Problems of the test split (Cobbe et al. 2021); taken only where the accuracy is a whole number of them.
GSM8K_TEST = 1319
# Methods whose every added parameter is updated, with an optimizer that freezes none: the rest is the base model.
_ADDS_ONLY = {"lora", "dora", "ia3", "ptuning", "prompt_tuning", "prefix_tuning", "loha", "lokr", "vera"}
_OPTIMIZERS = {"AdamW", "Adam", "SGD"}


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


class Result(_Layout):
    """One file: what is read of it. Other keys, and what older versions lack, are passed over."""

    run_info: _RunInfo
    train_info: _TrainInfo
    meta_info: dict[str, JsonValue]

    @property
    def base(self) -> str:
        """Name of the base model."""
        return self.run_info.train_config.model_id

    @property
    def method(self) -> str:
        """The experiment's own name without the base model's: ``lora-rank32`` for ``lora/llama-3.2-3B-rank32``."""
        if self.run_info.peft_config is None:
            return "fft"
        folder, _, variant = self.run_info.experiment_name.partition("/")
        model = re.escape(self.base.rpartition("/")[2])
        variant = re.sub(rf"^{model}-?", "", variant, flags=re.IGNORECASE)
        return run_name(folder, None if variant in ("", "default") else variant).lower()

    @property
    def n_params_base(self) -> int | None:
        """Parameters of the base model where they follow from this file alone; some methods freeze what they add."""
        config, counts = self.run_info.peft_config, self.train_info
        if config is None:
            return counts.num_total_params
        try:
            adds_only = adapter_method(config) in _ADDS_ONLY and not config.get("modules_to_save")
        except Refusal:
            adds_only = False
        is_exact = adds_only and self.run_info.train_config.optimizer_type in _OPTIMIZERS
        return counts.num_total_params - counts.num_trainable_params if is_exact else None

    @property
    def test(self) -> Mapping[str, JsonValue]:
        """What the test says, which is the last of the metrics."""
        return next((entry for entry in reversed(self.train_info.metrics) if "test accuracy" in entry), {})


def read_results(paths: Sequence[Path], options: Options) -> Imported:
    """Return a record an experiment that succeeded; the base model's parameters may be said by another file."""
    found, results = Imported(), {}
    for path, content in zip(paths, gather(_read_whole, paths), strict=True):
        if content[0].train_info.status == "success":
            results[path] = content
        else:
            message = f"is {content[0].train_info.status!r}: the run did not finish"
            found.left_out.append(FileProblem(path, "status", message))
    bases = _base_counts({path: result for path, (result, _) in results.items()})
    if options.run_id is not None and len(results) > 1:
        raise Refusal(f"--run-id {options.run_id} names one run, and there are {len(results)} results")
    names = sorted({result.base for result, _ in results.values()})
    if options.n_params_base is not None and len(names) > 1:
        shown = ", ".join(names)
        raise Refusal(f"--n-params-base is that of one base model, and these are {shown}; import them one at a time")

    def make(path: Path) -> None:
        result, info = results[path]
        try:
            method = options.method or read_method(result.method, options.methods)
        except Refusal as error:
            if not options.skip_unknown:
                raise fail(path, str(error), "method") from error
            found.left_out.append(FileProblem(path, "method", str(error)))
            return
        found.records.append(_make(path, result, info, method, bases.get(result.base), options))

    gather(make, results)
    return found


def _read_whole(path: Path) -> tuple[Result, Mapping[str, object]]:
    content = read_json(path)
    return read_result(path, content), content["run_info"]


def looks_like_result(content: Mapping[str, object]) -> bool:
    """Whether a JSON object is a result of method_comparison."""
    return all(isinstance(content.get(key), Mapping) for key in ("run_info", "train_info", "meta_info"))


def read_result(path: Path, content: Mapping[str, object]) -> Result:
    """Return the content of a result, or refuse a file that is none."""
    with validating(path):
        return Result.model_validate(content)


def _base_counts(results: Mapping[Path, Result]) -> dict[str, int]:
    """Return the parameters of each base model that the files say; contradictions are refused."""
    bases: dict[str, tuple[int, Path]] = {}
    problems = []
    for path, result in results.items():
        own = result.n_params_base
        count, first = (own, path) if own is None else bases.setdefault(result.base, (own, path))
        if count != own:
            message = f"{result.base} has {own} parameters here and {count} in {first}"
            problems.append(FileProblem(path, "num_total_params", message))
    if problems:
        raise RecordError(problems)
    return {name: count for name, (count, _) in bases.items()}


def _make(path: Path, result: Result, info: Mapping, method: str, n_base: int | None, options: Options):
    if options.grid is None:
        raise fail(path, "is in no file; say it with --grid", "grid")
    n_base, train = options.n_params_base or n_base, result.train_info
    if n_base is None:
        message = (
            f"those of {result.base} do not follow from this file alone; import it with a result of full "
            "fine-tuning or plain LoRA, or say them with --n-params-base N"
        )
        raise fail(path, message, "n_params_base")
    counts = {"n_params_base": n_base, "n_params_updated": train.num_trainable_params}
    counts |= {"n_params": train.num_total_params}
    for name, value in options.given_counts().items():
        if counts.setdefault(name, value) != value:
            raise fail(path, f"is {counts[name]} in the file and {value} by --{name.replace('_', '-')}", name)
    name, seed = result.run_info.experiment_name, result.run_info.train_config.seed
    n_tokens = result.test.get("train total tokens")
    run = run_fields(options, method, complete_counts(counts, method), name, seed=seed, n_tokens=n_tokens)
    cost = {"seconds": train.train_time, "peak_memory_bytes": train.accelerator_memory_max or train.cuda_memory_max}
    fields = {
        "scores": (_test_score(path, result, options),) if result.test else (),
        "cost": {name: value for name, value in cost.items() if value is not None},
        "provenance": {
            "origin": ORIGIN,
            "spec": {name: info.get(name) for name in ("experiment_name", "train_config", "peft_config")},
        },
    }
    return make_record(path, "", run | fields)


def _test_score(path: Path, result: Result, options: Options):
    """Return the test accuracy, on the problems of one data set, without examples in the prompt."""
    value = result.test["test accuracy"]
    names = [name for name in result.meta_info.get("dataset_info", {}) if name != "metamath"]
    if len(names) != 1:
        raise fail(path, "is not the metamath training set and one test set", "meta_info.dataset_info")
    n_items = options.n_items.get(names[0], options.n_items.get(""))
    if n_items is None and names[0] == "gsm8k" and isinstance(value, float):
        n_items = GSM8K_TEST if abs(value * GSM8K_TEST - round(value * GSM8K_TEST)) < 1e-6 else None
    fields = {"dataset": names[0], "language": NO_LANGUAGE, "setting": "0shot", "metric": "accuracy"}
    fields |= {"value": value, "n_items": n_items, "source_file": path.name}
    return make_score(path, "test accuracy", fields)
