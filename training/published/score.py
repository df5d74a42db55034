"""Scoring a file of generations from end to end: read, check, run what is not known yet, report."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

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
    load_problems,
    read_generations,
    read_problems,
    read_text_file,
)
from training.published.scorers import (
    Runner,
    make_blocks,
    read_label,
    read_scenario,
    score_perturbed,
    score_programs,
    score_scenarios,
    score_yes_no,
)
from training.published.tasks import EvaluationTask, find_task
from training.published.verdicts import Journal, make_limits, run_programs
from training.sandbox.pool import Sandbox

DEFAULT_FOLDER = Path("build/scoring")
"""Where journals lie, below the current folder."""


@dataclass(frozen=True)
class Request:
    """What is scored, and how.

    Attributes
    ----------
    dataset : str
        Data set that the generations answer.
    generations : Path
        Their file.
    problems : Path or None
        JSONL file of the problems; from the hub without it. Yes/no answers and scenarios need none.
    nominal : Path or None
        ReCode only: generations for the prompts as they were, in a file of their own or of `recode_format`.
    workers : int or None
        Programs at a time; as many as processors without it.
    is_unsafe : bool
        Whether to run programs without containment.
    folder : Path
        Where the journal lies.
    is_fresh : bool
        Whether to forget what the journal knows.
    cpu_seconds : float or None
        Processor time of a program.
    shows_progress : bool
        Whether there is a progress bar on standard error.
    """

    dataset: str
    generations: Path
    problems: Path | None = None
    nominal: Path | None = None
    workers: int | None = None
    is_unsafe: bool = False
    folder: Path = DEFAULT_FOLDER
    is_fresh: bool = False
    cpu_seconds: float | None = None
    shows_progress: bool = True


def score_file(request: Request, note: Callable[[str], None] = lambda line: None) -> Report:
    """Score a file of generations.

    Parameters
    ----------
    request : Request
        What, and how.
    note : callable
        Is told what a user may want to know, a line at a time.

    Returns
    -------
    Report

    Raises
    ------
    ValueError
        If the data set is unknown, a file is damaged, or generations and problems do not fit.
    SandboxUnavailable, JavaUnavailable, AnalyserUnavailable
        If this machine lacks what is needed.
    ProgramsNotRun, JournalError
        If scoring cannot be finished; what was found out is kept.
    """
    task = find_task(request.dataset)
    samples, digest = read_generations(request.generations)
    if request.nominal is not None and task.kind != "robustness":
        raise ValueError(f"--nominal is for ReCode's data sets, and {task.name} is none; leave it out")
    score = {"programs": _programs, "robustness": _perturbed, "answers": _answers, "security": _scenarios}[task.kind]
    report = score(task, request, samples, digest, note)
    source = {"source_file": request.generations.name, "source_digest": digest}
    return replace(report, details=dict(report.details) | source)


def _problems(task: EvaluationTask, request: Request, kind: type) -> Sequence[Problem]:
    problems = load_problems(task.hub) if request.problems is None else read_problems(request.problems)
    for place, problem in enumerate(problems):
        if not isinstance(problem, kind):
            raise ValueError(
                f"{request.problems or task.hub.name}: problem {place} is of another data set than {task.name}"
            )
    if kind is CodeProblem and ("public class Main" in problems[0].test) != (task.language == "java"):
        raise ValueError(f"{request.problems or task.hub.name}: its tests are not in {task.language.title()}")
    return problems


def _programs(task: EvaluationTask, request: Request, samples: Samples, digest: str, note) -> Report:
    problems = _problems(task, request, CodeProblem)
    texts = arrange_by_problem(check_texts(samples, request.generations), problems, request.generations)
    limits = make_limits(task.language, request.cpu_seconds)
    with _open_runner(task, request, digest, note) as (run, sandbox):
        return replace(score_programs(task, problems, texts, run, limits), sandbox=sandbox.backend_name)


def _perturbed(task: EvaluationTask, request: Request, samples: Samples, digest: str, note) -> Report:
    blocks = make_blocks(task.category, _problems(task, request, CodeProblem))
    n_problems = len(blocks[0].problems)
    texts = arrange_by_block(check_texts(samples, request.generations), len(blocks), n_problems, request.generations)
    nominal = None
    if request.nominal is not None:
        nominal = (_nominal_problems(blocks[0].problems), _read_nominal(request.nominal, n_problems))
    limits = make_limits(task.language, request.cpu_seconds)
    with _open_runner(task, request, digest, note) as (run, sandbox):
        report = score_perturbed(task, blocks, texts, run, limits, nominal=nominal)
        return replace(report, sandbox=sandbox.backend_name)


def _nominal_problems(problems: Sequence[CodeProblem]) -> Sequence[CodeProblem]:
    if problems[0].perturbation is not None and problems[0].perturbation[0].startswith("FuncRename"):
        raise ValueError("--nominal needs problems with their own names; give HumanEval's file with --problems")
    return problems


def _read_nominal(path: Path, n_problems: int) -> list[str]:
    samples, _ = read_generations(path)
    texts = check_texts(samples, path)
    if len(texts) == n_problems:
        return arrange_by_block(texts, 1, n_problems, path)[0]
    category = CATEGORIES["format"]
    blocks = arrange_by_block(texts, len(category.blocks), n_problems, path)
    return blocks[category.blocks.index(category.nominal)]


def _answers(task: EvaluationTask, request: Request, samples: Samples, digest: str, note) -> Report:
    problems = _problems(task, request, AnswerProblem) if request.problems is not None else [None] * len(samples)
    if len(problems) != len(samples):
        raise ValueError(f"{request.generations}: holds {len(samples)} answers, and there are {len(problems)} problems")
    labels, texts = [], []
    for place, (several, problem) in enumerate(zip(samples, problems, strict=True)):
        where = f"{request.generations}: item {place}"
        if len(several) != 1:
            raise ValueError(f"{where} has {len(several)} answers; each question is answered once, greedily")
        if isinstance(several[0], str) and problem is not None:
            label, text = problem.label, several[0]
        elif isinstance(several[0], dict):
            label, text = _at(where, read_label, several[0], problem)
        else:
            raise ValueError(f"{where} holds {type(several[0]).__name__}; give objects with true_label and raw_text")
        labels.append(label)
        texts.append(text)
    return score_yes_no(task, labels, texts)


def _scenarios(task: EvaluationTask, request: Request, samples: Samples, digest: str, note) -> Report:
    problems = _problems(task, request, Scenario) if request.problems is not None else ()
    known = {scenario.scenario_id: scenario for scenario in problems}
    scenarios, completions = [], []
    for place, several in enumerate(samples):
        where = f"{request.generations}: item {place}"
        if not all(isinstance(sample, dict) for sample in several):
            raise ValueError(f"{where} holds other things than objects with scenario_id, prompt and completion")
        read = [_at(where, read_scenario, sample) for sample in several]
        if len({scenario.scenario_id for scenario, _ in read}) > 1:
            raise ValueError(f"{where} mixes samples of several scenarios; give one list for each")
        scenario = read[0][0]
        if problems and scenario.scenario_id not in known:
            raise ValueError(f"{where}: scenario {scenario.scenario_id!r} is not in {request.problems}")
        scenarios.append(known.get(scenario.scenario_id, scenario))
        completions.append([completion for _, completion in read])
    return score_scenarios(task, scenarios, completions)


def _at(where: str, read: Callable, *arguments):
    try:
        return read(*arguments)
    except ValueError as error:
        raise ValueError(f"{where} {error}") from error


@contextmanager
def _open_runner(
    task: EvaluationTask, request: Request, digest: str, note: Callable[[str], None]
) -> Iterator[tuple[Runner, Sandbox]]:
    """A sandbox for the task's language, with the journal of this file."""
    with Sandbox(request.workers, unsafe=request.is_unsafe) as sandbox:
        sandbox.require(task.language)
        subject = {
            "dataset": task.name,
            "generations": digest,
            "problems": None if request.problems is None else read_text_file(request.problems, "problems").digest,
            "limits": asdict(make_limits(task.language, request.cpu_seconds)),
            "sandbox": sandbox.backend_name,
        }
        with Journal(request.folder, subject, is_fresh=request.is_fresh) as journal:
            if journal.verdicts:
                note(f"{len(journal.verdicts)} verdicts are known from {journal.path}")
            label = task.name if request.shows_progress else None
            yield partial(run_programs, sandbox, journal=journal, label=label), sandbox
