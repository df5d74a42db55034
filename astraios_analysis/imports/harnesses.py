"""Scores from the result files of bigcode-evaluation-harness and lm-evaluation-harness."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from astraios_analysis.imports.inputs import fail, make_score, read_json
from astraios_analysis.records.files import FileProblem, RecordError
from astraios_analysis.records.registry import METRICS
from astraios_analysis.records.schema import ProblemCounts, Score

Harness = Literal["bigcode", "lm-eval"]

# HumanEval has 164 problems, and HumanEvalPack the same in each language (Chen et al. 2021; Muennighoff et al. 2023).
HUMANEVAL_PROBLEMS = 164
_PACK = re.compile(r"humaneval(?P<task>fixtests|fixdocs|explainsynthesize|synthesize)-(?P<language>\w+)")
_PACK_NAMES = {"fixtests": "fix", "explainsynthesize": "explain"}
_RECODE = re.compile(r"perturbed-humaneval-(?P<category>\w+?)-num_seeds_\d+")
_RECODE_NAMES = {"format": "format", "func_name": "function", "natgen": "syntax", "nlaugmenter": "docstring"}
_LANGUAGES = {"humaneval": "python", "mbpp": "python", "humaneval_plus": "python", "mbpp_plus": "python"}
# Metrics of the harnesses that are one of the registry's, and what tells their setting apart from another's.
_METRICS = {
    "pass@1": ("pass@1", ""),
    "pass_at_1": ("pass@1", ""),
    "pass@10": ("pass@10", ""),
    "acc": ("accuracy", ""),
    "acc_norm": ("accuracy", "acc_norm"),
    "exact_match": ("accuracy", "exact_match"),
}
_MAPPED = {"bigcode": ("pass@1", "pass@10"), "lm-eval": tuple(_METRICS)}


@dataclass(frozen=True)
class HarnessOptions:
    """What the result file does not say of its tasks.

    By task, or under the empty name for all others: ``datasets`` (names of data sets where not the task's own),
    ``languages``, ``n_items`` (numbers of problems) and ``logs`` (its ``logs.json``, outcomes problem by problem).
    ``setting`` is that of every score instead of the one made from the file's configuration.
    """

    datasets: Mapping[str, str] = field(default_factory=dict)
    languages: Mapping[str, str] = field(default_factory=dict)
    n_items: Mapping[str, int] = field(default_factory=dict)
    setting: str | None = None
    logs: Mapping[str, Path] = field(default_factory=dict)
    skip_unknown: bool = False


@dataclass
class _Found:
    scores: list[Score] = field(default_factory=list)
    unknown: list[FileProblem] = field(default_factory=list)
    problems: list[FileProblem] = field(default_factory=list)

    def add(self, path: Path, place: str, fields: Mapping[str, object]) -> None:
        try:
            self.scores.append(make_score(path, place, fields))
        except RecordError as error:
            self.problems += error.problems


def read_scores(path: Path, harness: Harness, options: HarnessOptions) -> tuple[list[Score], list[FileProblem]]:
    """Return the scores in a result file, and what was left out because it cannot be mapped.

    Raises RecordError listing every task and metric that cannot be mapped (unless told to leave them out).
    """
    content = read_json(path)
    found = _Found()
    if harness == "bigcode":
        _read_bigcode(path, content, options, found)
    else:
        _read_lm_eval(path, content, options, found)
    tasks = _tasks(content, harness)
    for name in sorted((set(options.datasets) | set(options.logs)) - set(tasks)):
        found.problems.append(FileProblem(path, name, f"is no task of this file; it has {', '.join(tasks) or 'none'}"))
    if found.problems or (found.unknown and not options.skip_unknown):
        raise RecordError(found.problems + ([] if options.skip_unknown else found.unknown))
    if not found.scores:
        message = f"has no score that can be mapped; metrics that can be are {', '.join(_MAPPED[harness])}"
        raise fail(path, message)
    return found.scores, found.unknown


def _tasks(content: Mapping[str, object], harness: Harness) -> list[str]:
    results = content if harness == "bigcode" else content.get("results")
    names = [name for name in results if name != "config"] if isinstance(results, Mapping) else []
    return names if harness == "lm-eval" or not _looks_like_lm_eval(content) else []


def _looks_like_lm_eval(content: Mapping[str, object]) -> bool:
    return isinstance(content.get("results"), Mapping)


def _read_bigcode(path: Path, content: Mapping, options: HarnessOptions, found: _Found) -> None:
    """Read ``{task: {metric: value}, "config": {...}}``; ReCode tasks have one level more, the transformation."""
    if _looks_like_lm_eval(content):
        raise fail(path, "looks like a file of lm-evaluation-harness; read it with: astraios import lm-eval", "results")
    config = content.get("config") if isinstance(content.get("config"), Mapping) else {}
    for task in _tasks(content, "bigcode"):
        values = content[task]
        if not isinstance(values, Mapping):
            found.problems.append(
                FileProblem(path, task, f"is {values!r}, not the metrics of a task; is it the right file?")
            )
        elif _RECODE.fullmatch(task):
            _read_recode(path, task, values, options, found)
        else:
            _read_bigcode_task(path, task, values, config, options, found)


def _read_bigcode_task(
    path: Path, task: str, values: Mapping, config: Mapping, options: HarnessOptions, found: _Found
) -> None:
    match = _PACK.fullmatch(task)
    dataset = options.datasets.get(task) or (
        f"humaneval{_PACK_NAMES.get(match['task'], match['task'])}_{match['language']}" if match else _plain(task)
    )
    language = _of_task(options.languages, task, dataset) or (match["language"] if match else _LANGUAGES.get(dataset))
    setting = options.setting or sampling_setting(config)
    n_items = _of_task(options.n_items, task, dataset) or _humaneval_items(task, match, config)
    lacking = {"language": (language, f"--language {task}=NAME"), "setting": (setting, "--setting NAME")}
    if _say_lacking(path, task, lacking, found):
        return
    fields = {
        "dataset": dataset,
        "language": language,
        "setting": setting,
        "source_file": path.name,
        "n_items": n_items,
    }
    for metric, value in values.items():
        if metric not in _MAPPED["bigcode"]:
            found.unknown.append(_unknown(path, f"{task}.{metric}", value))
            continue
        own = dict(fields)
        if metric == "pass@1" and task in options.logs:
            problems = read_problem_counts(options.logs[task], n_items)
            own |= {"problems": problems, "n_samples": sum(problems.n_samples), "n_passed": sum(problems.n_passed)}
        found.add(path, f"{task}.{metric}", own | {"metric": metric, "value": value})


def _humaneval_items(task: str, match: re.Match | None, config: Mapping) -> int | None:
    """Return the number of problems of a HumanEval task, or None where the file does not say that all were run."""
    if not (match or task == "humaneval") or "limit" not in config or config.get("limit_start"):
        return None
    limit = config["limit"]
    if limit is None:
        return HUMANEVAL_PROBLEMS
    # The rows of HumanEvalExplain are descriptions, several a problem, so a limit does not count problems.
    return min(limit, HUMANEVAL_PROBLEMS) if isinstance(limit, int) and "explain" not in task else None


def sampling_setting(config: Mapping) -> str | None:
    """Return the name of how programs were sampled, ``t0.2,n20`` or ``greedy``; None where the file does not say.

    Nucleus sampling at 0.95 without a limit of ranks is the study's, and goes without saying.
    """
    if config.get("do_sample") is False:
        return "greedy"
    temperature, n_samples = config.get("temperature"), config.get("n_samples")
    if not isinstance(temperature, int | float) or not isinstance(n_samples, int):
        return None
    top_p, top_k = config.get("top_p", 0.95), config.get("top_k", 0)
    nucleus = "" if top_p == 0.95 else f",p{top_p:g}"
    return f"t{temperature:g},n{n_samples}{nucleus}" + (f",k{top_k}" if top_k else "")


def _read_recode(path: Path, task: str, values: Mapping, options: HarnessOptions, found: _Found) -> None:
    """Read a task of changed prompts: robust pass rates by transformation."""
    category = _RECODE.fullmatch(task)["category"]
    dataset = options.datasets.get(task) or f"recode_{_RECODE_NAMES.get(category, category)}"
    for transformation, rates in values.items():
        for metric, value in rates.items() if isinstance(rates, Mapping) else ():
            place = f"{task}.{transformation}.{metric}"
            if metric != "robust-pass-at-1":
                found.unknown.append(_unknown(path, place, value))
                continue
            fields = {"dataset": dataset, "language": "python", "setting": options.setting or transformation}
            fields |= {"metric": "robust_pass@1", "value": value, "source_file": f"{path.name}: {task}"}
            found.add(path, place, fields | {"n_items": _of_task(options.n_items, task, dataset)})


def _read_lm_eval(path: Path, content: Mapping, options: HarnessOptions, found: _Found) -> None:
    """Read ``{"results": {task: {"metric,filter": value}}, "n-shot": ...}``, or the form before version 0.4."""
    if not _looks_like_lm_eval(content):
        raise fail(path, "has no object of this name; is it a result file of lm-evaluation-harness?", "results")
    for task, values in content["results"].items():
        shots = _entry(content, "n-shot", task)
        shots = shots if shots is not None else _entry(content, "configs", task, "num_fewshot")
        dataset = options.datasets.get(task) or _plain(task)
        language = _of_task(options.languages, task, dataset) or _LANGUAGES.get(dataset.removesuffix("_instruct"))
        lacking = {"language": (language, f"--language {task}=NAME")}
        if options.setting is None:
            lacking["number of examples (n-shot)"] = (shots, "--setting NAME")
        items = _of_task(options.n_items, task, dataset) or _entry(content, "n-samples", task, "effective")
        if not isinstance(values, Mapping) or _say_lacking(path, f"results.{task}", lacking, found):
            continue
        for key, value in values.items():
            name, _, filtered = key.partition(",")
            if key in ("alias", "samples", "sample_len", "name") or name.endswith("_stderr"):
                continue
            place = f"results.{task}.{key}"
            if name not in _METRICS:
                found.unknown.append(_unknown(path, place, value))
                continue
            metric, variant = _METRICS[name]
            parts = [f"{shots}shot", variant, "" if filtered in ("", "none") else filtered]
            error = values.get(f"{name}_stderr,{filtered}" if filtered else f"{name}_stderr")
            fields = {"dataset": dataset, "language": language, "metric": metric, "value": value, "n_items": items}
            fields |= {"setting": options.setting or ",".join(part for part in parts if part), "source_file": path.name}
            found.add(path, place, fields | ({"stderr": error} if isinstance(error, int | float) else {}))


def _entry(content: Mapping, *keys: str) -> object:
    """Return what stands below nested keys, or None."""
    for key in keys:
        content = content.get(key) if isinstance(content, Mapping) else None
    return content


def _of_task(values: Mapping, task: str, dataset: str):
    """Return what an option says of a task, of its data set, or of all tasks."""
    return next((values[name] for name in (task, dataset, "") if name in values), None)


def _plain(task: str) -> str:
    """Return a task's name as a name in records: small letters, digits and underscores."""
    return re.sub(r"[^a-z0-9]+", "_", task.lower()).strip("_")


def _say_lacking(path: Path, place: str, lacking: Mapping[str, tuple], found: _Found) -> bool:
    for name, (value, option) in lacking.items():
        if value is None:
            found.problems.append(FileProblem(path, place, f"its {name} is not in the file; say it with {option}"))
    return any(value is None for value, _ in lacking.values())


def _unknown(path: Path, place: str, value: object) -> FileProblem:
    message = (
        f"(value {value!r}) is none of the metrics that records know: {', '.join(METRICS)}; "
        "leave what cannot be mapped out with --skip-unknown"
    )
    return FileProblem(path, place, message)


def read_problem_counts(path: Path, n_items: int | None) -> ProblemCounts:
    """Return passes by problem from ``{"0": [[0, {"passed": true, ...}], ...], ...}``.

    A multiple of ``n_items`` in the log are several descriptions a problem, in order (HumanEvalExplain), which are put
    together. The harness writes the log for the last task that it ran.
    """
    outcomes: dict[int, list[bool]] = {}
    for key, entries in read_json(path).items():
        try:
            outcomes[int(key)] = [_passed(entry) for entry in entries]
        except (ValueError, TypeError, KeyError, IndexError) as error:
            message = "is no list of [number, {passed: true or false}]; give the logs.json that the harness wrote"
            raise fail(path, message, str(key)) from error
    n_entries = len(outcomes)
    n_items = n_items or n_entries
    if not n_entries or n_entries % n_items or sorted(outcomes) != list(range(n_entries)):
        message = f"has outcomes of {n_entries} problems, and the task has {n_items}; is it the log of this task?"
        raise fail(path, message)
    each = n_entries // n_items
    by_problem = [[p for row in range(i * each, (i + 1) * each) for p in outcomes[row]] for i in range(n_items)]
    if not all(by_problem):
        raise fail(path, "was never run; give a whole log", str(next(i for i, p in enumerate(by_problem) if not p)))
    return ProblemCounts(
        problem_ids=tuple(range(n_items)),
        n_samples=tuple(len(passed) for passed in by_problem),
        n_passed=tuple(sum(passed) for passed in by_problem),
    )


def _passed(entry) -> bool:
    passed = entry[1]["passed"]
    if not isinstance(passed, bool):
        raise TypeError(f"passed is {passed!r}")
    return passed
