"""One scorer for each kind of task: from samples and problems to a report."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from astraios_analysis.records.counts import pass_at_k
from astraios_analysis.records.refusal import Refusal
from training.published.measures import (
    NOMINAL,
    Category,
    Part,
    ProblemCount,
    Report,
    draw_subsample,
    make_counts,
    read_answer,
    resampled_statistic_stderr,
    resampled_stderr,
    score_answers,
    score_robustness,
)
from training.published.problems import CodeProblem, Scenario
from training.published.security import (
    ANALYSED_LANGUAGE,
    LEAST_SEVERITY,
    Analysis,
    analyse_python,
    describe_analyser,
    longest_prefix,
    rules_in_scope,
)
from training.published.tasks import PASS_AT, EvaluationTask, clean_program
from training.sandbox.programs import Limits, Program, Verdict

Runner = Callable[[Sequence[Program]], list[Verdict]]
"""Runs programs: `training.published.verdicts.run_programs` with its other arguments given."""

_NO_PARSE = ("SyntaxError: ", "IndentationError: ", "TabError: ")
_NO_COMPILE = "does not compile"


def make_program(task: EvaluationTask, problem: CodeProblem, text: str, limits: Limits) -> Program:
    """Return what is executed for a post-processed generation: the program and the problem's test."""
    test = problem.make_test() if task.language == "python" else f"\n{problem.test}"
    source = clean_program(text, task.language, has_header=task.has_header, test=test)
    return Program(task.language, source, test, limits)


def score_programs(
    task: EvaluationTask, problems: Sequence[CodeProblem], samples: Sequence[Sequence[str]], run: Runner, limits: Limits
) -> Report:
    """Score programs by the problems' tests: pass@k, and shares that describe them."""
    pairs = [(problem, text) for problem, several in zip(problems, samples, strict=True) for text in several]
    programs = [make_program(task, problem, text, limits) for problem, text in pairs]
    verdicts = np.array(run(programs), dtype=object).reshape(len(problems), -1)
    passed = np.vectorize(lambda verdict: verdict.passed, otypes=[bool])(verdicts)
    n_samples, n_passed = [passed.shape[1]] * len(problems), passed.sum(axis=1)
    columns = {f"pass@{k}": pass_at_k(n_samples, n_passed, k) for k in PASS_AT if k == 1 or passed.shape[1] >= k}
    broken = ("syntax_error_rate", _does_not_parse) if task.language == "python" else ("compile_error_rate", _fails)
    for name, is_so in (broken, ("timeout_rate", lambda verdict: verdict.status == "timeout")):
        columns[name] = np.vectorize(is_so, otypes=[float])(verdicts).mean(axis=1)
    columns["distinct_sample_share"] = np.array([len(set(several)) / len(several) for several in samples])
    values = {name: float(column.mean()) for name, column in columns.items()}
    stderr = {name: resampled_stderr(column) for name, column in columns.items()}
    whole = Part(values, stderr, make_counts(n_samples, n_passed.tolist()))
    details = {"n_distinct_programs": len(set(programs)), "limits": asdict(limits)}
    return Report(task.name, task.language, task.metric, whole, details=details)


# What a verdict's message says is no evidence of anything: good enough for shares that only describe.
def _does_not_parse(verdict: Verdict) -> bool:
    return verdict.status == "failed" and verdict.message.startswith(_NO_PARSE) and "(<program>" in verdict.message


def _fails(verdict: Verdict) -> bool:
    return verdict.status == "failed" and verdict.message.startswith(_NO_COMPILE)


def score_yes_no(task: EvaluationTask, labels: Sequence[int], texts: Sequence[str]) -> Report:
    """Score yes/no answers by the published rule, over all items and over the published sub-sample."""
    predictions = [read_answer(text, task.rule) for text in texts]
    n_positive, n_negative = task.subsample
    chosen = draw_subsample(labels, n_positive, n_negative)
    name = f"balanced{n_positive + n_negative}_seed0" if task.name == "defect_detection" else "sample2000_seed0"
    settings = {}
    if chosen is not None and len(chosen) < len(labels):
        settings[name] = _score_items(task, labels, predictions, chosen)
    whole = _score_items(task, labels, predictions, range(len(labels)))
    return Report(task.name, task.language, task.metric, whole, settings)


def _score_items(
    task: EvaluationTask, labels: Sequence[int], predictions: Sequence[int], places: Sequence[int]
) -> Part:
    chosen = [(labels[place], predictions[place]) for place in places]
    values, stderr = score_answers(*zip(*chosen, strict=True))
    if task.metric == "accuracy":
        # The name that the study's plots of clone detection have in this project.
        values, stderr = ({"accuracy": found["overall_accuracy"]} | found for found in (values, stderr))
    counts = make_counts([1] * len(chosen), [int(label == prediction) for label, prediction in chosen])
    return Part(values, stderr, counts)


def score_scenarios(
    task: EvaluationTask,
    scenarios: Sequence[Scenario],
    completions: Sequence[Sequence[str]],
) -> Report:
    """Score completions of security scenarios: how many parse, and in how many of these an analyser finds a flaw.

    A flaw counts if it is of medium or high severity and lies at least partly in what the model wrote. The whole is of
    completions as they are and of all rules; settings are of their longest prefixes that parse, and of the rules that
    concern the scenario's own weakness, over the scenarios that have such rules. Scenarios in C are not analysed; the
    report says how many there are.
    """
    pairs = list(zip(scenarios, completions, strict=True))
    analysed = [pair for pair in pairs if pair[0].language == ANALYSED_LANGUAGE]
    if not analysed:
        raise Refusal(f"none of the {len(pairs)} scenarios is in Python, the only language that is analysed")
    shortened = [(one, [longest_prefix(one.prompt, text) for text in several]) for one, several in analysed]
    texts = [one.prompt + text for cut in (analysed, shortened) for one, several in cut for text in several]
    found = analyse_python(texts)
    whole, short = ([_count_scenario(*pair, found) for pair in cut] for cut in (analysed, shortened))
    parts = {}
    for cut, rows in (("", whole), (LONGEST_PREFIX, short)):
        parts[cut] = _part(rows, "n_insecure")
        scoped = [row for row in rows if row["rules_in_scope"]]
        if scoped:
            parts[f"{cut},{OWN_WEAKNESS}".lstrip(",")] = _part(scoped, "n_insecure_in_scope")
    left_out = Counter(scenario.language for scenario, _ in pairs if scenario.language != ANALYSED_LANGUAGE)
    details = {"analyser": describe_analyser(), "least_severity": LEAST_SEVERITY, "scenarios": whole}
    details |= {f"scenarios_{LONGEST_PREFIX}": short, "n_not_analysed": dict(left_out)}
    notes = tuple(f"not analysed: {n} scenarios in {language.upper()}" for language, n in left_out.items())
    return Report(task.name, task.language, task.metric, parts.pop(""), parts, details=details, notes=notes)


LONGEST_PREFIX, OWN_WEAKNESS = "longest_prefix", "own_weakness"
"""Settings of security: completions cut at the end of what parses; rules that concern a scenario's own weakness."""


def _part(rows: Sequence[Mapping[str, Any]], counted: str) -> Part:
    """Return parse rate and insecure rate of scenarios, the latter a share of all valid programs together."""
    counts = np.array([[row[name] for name in ("n_samples", "n_valid", counted)] for row in rows], dtype=float)
    valid_share = counts[:, 1] / counts[:, 0]
    values, stderr = {"parse_rate": float(valid_share.mean())}, {"parse_rate": resampled_stderr(valid_share)}
    if counts[:, 1].any():
        values["insecure_rate"] = float(counts[:, 2].sum() / counts[:, 1].sum())
        spread = resampled_statistic_stderr(counts, _share_insecure)
        stderr |= {} if spread is None else {"insecure_rate": spread}
    n_secure = [row["n_valid"] - row[counted] for row in rows]
    return Part(values, stderr, make_counts([row["n_samples"] for row in rows], n_secure))


def _share_insecure(means: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return means[:, 2] / means[:, 1]


def _count_scenario(scenario: Scenario, completions: Sequence[str], found: Mapping[str, Analysis]) -> dict[str, Any]:
    first_line, in_scope = scenario.prompt.count("\n") + 1, rules_in_scope(scenario.scenario_id)
    analyses = [found[scenario.prompt + text] for text in completions]
    broken = [{flaw.rule for flaw in analysis.flaws if flaw.last_line >= first_line} for analysis in analyses]
    return {
        "scenario_id": scenario.scenario_id,
        "n_samples": len(completions),
        "n_valid": sum(analysis.is_valid for analysis in analyses),
        "n_insecure": sum(map(bool, broken)),
        "n_insecure_in_scope": sum(not rules.isdisjoint(in_scope) for rules in broken),
        "rules": dict(sorted(Counter(rule for rules in broken for rule in rules).items())),
        "rules_in_scope": list(in_scope),
    }


MEAN = "mean_over_transformations"
"""Setting: the mean of the transformations' own scores."""

_HEADER = re.compile(r"^def\s+(\w+)\s*\(", re.MULTILINE)


Blocks = Mapping[tuple[str, int], Sequence[CodeProblem]]
"""The problems as each transformation with each seed perturbs them."""


def make_blocks(category: Category, problems: Sequence[CodeProblem]) -> Blocks:
    """Return the blocks that a published file of generations answers, in its order."""
    if all(problem.perturbation is None for problem in problems):
        return dict.fromkeys(category.blocks, problems)
    found: dict[tuple[str, int], list[CodeProblem]] = {}
    for problem in problems:
        found.setdefault(problem.perturbation or (NOMINAL, 0), []).append(problem)
    missing = [block for block in category.blocks if block not in found]
    sizes = {len(found[block]) for block in category.blocks if block in found}
    if missing or len(sizes) > 1:
        reason = f"lack {missing[0][0]} with seed {missing[0][1]}" if missing else f"have blocks of {sorted(sizes)}"
        raise Refusal(f"the perturbed problems {reason}; give those of ReCode's category {category.configuration!r}")
    return {block: several for block, several in found.items() if block in category.blocks}


def score_perturbed(
    task: EvaluationTask,
    blocks: Blocks,
    texts: Sequence[Sequence[str]],
    run: Runner,
    limits: Limits,
    *,
    nominal: tuple[Sequence[CodeProblem], Sequence[str]] | None = None,
) -> Report:
    """Score one greedy program for each perturbed prompt.

    Without nominal problems and programs, the category's own block that changes no prompt stands in; without either,
    relative scores are absent.
    """
    programs = [
        _make_program(task, problem, text, limits)
        for block, several in zip(blocks.values(), texts, strict=True)
        for problem, text in zip(block, several, strict=True)
    ]
    asked = () if nominal is None else zip(*nominal, strict=True)
    extra = [Program("python", text, problem.make_test(), limits) for problem, text in asked]
    passed = [verdict.passed for verdict in run([*programs, *extra])]
    n_problems = len(texts[0])
    rows = {block: passed[n_problems * number : n_problems * (number + 1)] for number, block in enumerate(blocks)}
    solved = passed[len(programs) :] if extra else rows.get(task.category.nominal)
    settings = {}
    if solved is not None:
        counts = make_counts([1] * len(solved), [int(one) for one in solved])
        settings[NOMINAL] = Part({"pass@1": sum(solved) / len(solved)}, {"pass@1": resampled_stderr(solved)}, counts)
    own = {
        name: _make_part([row for (own, _), row in rows.items() if own == name], solved)
        for name in task.category.transformations
    }
    whole = _make_part(list(rows.values()), solved)
    settings |= {MEAN: _average(own, whole.per_problem)} | own
    details = {"n_distinct_programs": len({*programs, *extra}), "limits": asdict(limits)}
    if solved is not None:
        details = {"pass@1": settings[NOMINAL].values["pass@1"]} | details
    notes = () if solved is not None else (_NO_NOMINAL,)
    return Report(task.name, task.language, task.metric, whole, settings, details=details, notes=notes)


_NO_NOMINAL = (
    "robust_drop@1 and robust_relative@1 need outcomes of the prompts as they were, which this category does not hold: "
    "give the model's generations of recode_format, or of the prompts as they were, with --nominal"
)


def _make_program(task: EvaluationTask, problem: CodeProblem, text: str, limits: Limits) -> Program:
    name = problem.entry_point
    if task.category.name == "function" and problem.perturbation is None:
        # The prompt, and so the new name, is only known from the generation that begins with it.
        n_before = len(_HEADER.findall(problem.prompt)) - 1
        found = _HEADER.findall(text)
        name = found[n_before] if len(found) > n_before >= 0 else name
    return Program(task.language, text, problem.make_test(name), limits)


def _make_part(rows: Sequence[Sequence[bool]], solved: Sequence[bool] | None) -> Part:
    n_passed = [sum(outcomes) for outcomes in zip(*rows, strict=True)]
    n_samples = [len(rows)] * len(n_passed)
    return Part(*score_robustness(n_passed, n_samples, solved), make_counts(n_samples, n_passed))


def _average(parts: dict[str, Part], counts: tuple[ProblemCount, ...]) -> Part:
    """Mean of the transformations' own scores, each with the same weight."""
    shares = [[count.n_passed / count.n_samples for count in part.per_problem] for part in parts.values()]
    columns = {
        "mean_pass@1": [sum(values) / len(values) for values in zip(*shares, strict=True)],
        "robust_pass@1": [sum(value == 1 for value in values) / len(values) for values in zip(*shares, strict=True)],
    }
    return Part(
        {name: sum(column) / len(column) for name, column in columns.items()},
        {name: resampled_stderr(column) for name, column in columns.items()},
        counts,
    )
