"""Scoring a file of generations from end to end: read, check, run what is not known yet, report."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from astraios_analysis.records.notation import count
from astraios_analysis.records.reading import read_bytes
from astraios_analysis.records.refusal import Refusal
from training.published.measures import CATEGORIES, Report
from training.published.problems import (
    AnswerProblem,
    CodeProblem,
    Problem,
    Samples,
    Scenario,
    arrange_by_block,
    arrange_by_problem,
    check_texts,
    read_generations,
)
from training.published.scorers import (
    Runner,
    make_blocks,
    score_perturbed,
    score_programs,
    score_scenarios,
    score_yes_no,
)
from training.published.security import ANALYSED_LANGUAGE
from training.published.tasks import EvaluationTask, ask_for_script, find_task, task_problems
from training.published.verdicts import Verdicts, make_limits, run_programs
from training.sandbox.pool import Sandbox
from training.sandbox.programs import Limits

DEFAULT_FOLDER = Path("build/scoring")
"""Where journals lie, below the current folder."""

_Opener = Callable[[], AbstractContextManager[tuple[Runner, Limits, str]]]


@dataclass(frozen=True)
class Request:
    """What is scored, and how."""

    dataset: str
    generations: Path
    # From the hub without a file; yes/no answers and scenarios need none.
    problems: Path | None = None
    # ReCode only: generations for the prompts as they were, in a file of their own or of `recode_format`.
    nominal: Path | None = None
    workers: int | None = None
    is_unsafe: bool = False
    folder: Path = DEFAULT_FOLDER
    is_fresh: bool = False
    cpu_seconds: float | None = None
    shows_progress: bool = True


def score_file(request: Request, note: Callable[[str], None] = lambda line: None) -> Report:
    """Score a file of generations."""
    task = find_task(request.dataset)
    samples, digest = read_generations(request.generations)
    if request.nominal is not None and task.kind != "robustness":
        raise Refusal(f"--nominal is for ReCode's data sets, and {task.name} is none; leave it out")
    score = {"programs": _programs, "robustness": _perturbed, "answers": _answers, "security": _scenarios}[task.kind]
    problems, origin = _problems(task, request)
    open_runner = partial(_open_runner, task, request, {"generations": digest, **origin}, note)
    report = score(task, request, samples, problems, open_runner)
    source = {"source_file": request.generations.name, "source_digest": digest}
    source |= {"problem_set": origin["problems"]} if origin else {}
    return replace(report, details=dict(report.details) | source)


def _problems(task: EvaluationTask, request: Request) -> tuple[Sequence[Problem], dict[str, str]]:
    """Return the problems of a data set, none where answers and scenarios need none, and what says which they are."""
    if request.problems is None and task.kind in ("answers", "security"):
        return (), {}
    problems, commit = task_problems(task, request.problems)
    if request.problems is not None:
        return problems, {"problems": hashlib.sha256(read_bytes(request.problems)).hexdigest()}
    return problems, {"problems": f"{task.hub.name}@{commit}" if commit else task.hub.name}


def _programs(
    task: EvaluationTask, request: Request, samples: Samples, problems: Sequence[CodeProblem], open_runner: _Opener
) -> Report:
    texts = arrange_by_problem(check_texts(samples, request.generations), problems, request.generations)
    with open_runner() as (run, limits, backend):
        return replace(score_programs(task, problems, texts, run, limits), sandbox=backend)


def _perturbed(
    task: EvaluationTask, request: Request, samples: Samples, problems: Sequence[CodeProblem], open_runner: _Opener
) -> Report:
    blocks = make_blocks(task.category, problems)
    (transformation, _), first = next(iter(blocks.items()))
    texts = arrange_by_block(check_texts(samples, request.generations), len(blocks), len(first), request.generations)
    nominal = None
    if request.nominal is not None:
        if first[0].perturbation is not None and transformation.startswith("FuncRename"):
            raise Refusal("--nominal needs problems with their own names; give HumanEval's file with --problems")
        nominal = (first, _read_nominal(request.nominal, len(first)))
    with open_runner() as (run, limits, backend):
        return replace(score_perturbed(task, blocks, texts, run, limits, nominal=nominal), sandbox=backend)


def _read_nominal(path: Path, n_problems: int) -> list[str]:
    samples, _ = read_generations(path)
    texts = check_texts(samples, path)
    if len(texts) == n_problems:
        return arrange_by_block(texts, 1, n_problems, path)[0]
    category = CATEGORIES["format"]
    blocks = arrange_by_block(texts, len(category.blocks), n_problems, path)
    return blocks[category.blocks.index(category.nominal)]


def _answers(
    task: EvaluationTask, request: Request, samples: Samples, problems: Sequence[AnswerProblem], _: _Opener
) -> Report:
    problems = problems or [None] * len(samples)
    if len(problems) != len(samples):
        raise Refusal(f"{request.generations}: holds {len(samples)} answers, and there are {len(problems)} problems")
    labels, texts = [], []
    for place, (several, problem) in enumerate(zip(samples, problems, strict=True)):
        where = f"{request.generations}: item {place}"
        if len(several) != 1:
            raise Refusal(f"{where}: has {len(several)} answers; each question is answered once, greedily")
        label, text = _label(several[0], problem, where)
        labels.append(label)
        texts.append(text)
    return score_yes_no(task, labels, texts)


def _scenarios(
    task: EvaluationTask, request: Request, samples: Samples, problems: Sequence[Scenario], _: _Opener
) -> Report:
    known = {scenario.scenario_id: scenario for scenario in problems}
    scenarios, completions = [], []
    for place, several in enumerate(samples):
        where = f"{request.generations}: item {place}"
        found, written = zip(*(_scenario(sample, where) for sample in several), strict=True)
        if len({scenario.scenario_id for scenario in found}) > 1:
            raise Refusal(f"{where}: mixes samples of several scenarios; give one list for each")
        scenario = found[0]
        if problems and scenario.scenario_id not in known:
            raise Refusal(f"{where}: scenario {scenario.scenario_id!r} is not in {request.problems}")
        if any(scenario.scenario_id == other.scenario_id for other in scenarios):
            raise Refusal(f"{where}: scenario {scenario.scenario_id!r} stands there already; give one list for each")
        scenarios.append(known.get(scenario.scenario_id, scenario))
        completions.append(written)
    missing = known.keys() - {scenario.scenario_id for scenario in scenarios}
    if missing:
        raise Refusal(
            f"{request.generations}: holds no samples of {count(len(missing), 'scenario')} of {request.problems}, "
            f"{min(missing)!r} first; generate what is missing, or give the problems of the others alone"
        )
    return score_scenarios(task, scenarios, completions)


def _scenario(sample: Any, where: str) -> tuple[Scenario, str]:
    """Return scenario and completion of one sample of a published file, which names no language."""
    row = sample if isinstance(sample, dict) else {}
    for name in ("scenario_id", "prompt", "completion"):
        if not isinstance(row.get(name), str):
            raise Refusal(f"{where}: has no text {name!r}; a sample has scenario_id, prompt and completion")
    prompt = row["prompt"].removeprefix(ask_for_script(Scenario("", "", "")))
    # All scenarios in C begin by including something.
    language = "c" if "#include" in prompt else ANALYSED_LANGUAGE
    return Scenario(row["scenario_id"], language, prompt), row["completion"]


def _label(sample: Any, problem: AnswerProblem | None, where: str) -> tuple[int, str]:
    """Return true label and raw text of one item of a published file."""
    if isinstance(sample, str) and problem is not None:
        return problem.label, sample
    row = sample if isinstance(sample, dict) else {}
    if row.get("true_label") not in ("0", "1", 0, 1) or not isinstance(row.get("raw_text"), str):
        raise Refusal(f"{where}: has no true_label of 0 or 1, or no raw_text; an item has both")
    label = int(row["true_label"])
    if problem is not None and problem.label != label:
        raise Refusal(f"{where}: has the label {label}, the problem set {problem.label}; are they of one split?")
    return label, row["raw_text"]


@contextmanager
def _open_runner(
    task: EvaluationTask, request: Request, what: dict[str, str], note: Callable[[str], None]
) -> Iterator[tuple[Runner, Limits, str]]:
    """What runs programs in a sandbox with the journal of this file, their limits, and the sandbox's name."""
    limits = make_limits(task.language, request.cpu_seconds)
    with Sandbox(request.workers, unsafe=request.is_unsafe) as sandbox:
        sandbox.require(task.language)
        subject = {"dataset": task.name, **what, "limits": asdict(limits), "sandbox": sandbox.backend_name}
        with Verdicts(request.folder, subject, is_fresh=request.is_fresh) as journal:
            if journal.verdicts:
                note(f"{len(journal.verdicts)} verdicts are known from {journal.path}")
            label = task.name if request.shows_progress else None
            yield partial(run_programs, sandbox, journal=journal, label=label), limits, sandbox.backend_name
