"""Scoring ReCode: programs for perturbed prompts, transformation by transformation and all together."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from training.published.measures import resampled_stderr
from training.published.problems import CodeProblem
from training.published.reports import Part, ProblemCount, Report, make_counts
from training.published.robustness import NOMINAL, Category, score_robustness
from training.published.scorers import Runner
from training.published.tasks import EvaluationTask
from training.sandbox.programs import Limits, Program

ALL, MEAN = "all_transformations", "mean_over_transformations"
"""Settings: every transformation and seed of the category together; the mean of the transformations' own scores."""

_HEADER = re.compile(r"^def\s+(\w+)\s*\(", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """The problems as one transformation with one seed perturbs them.

    Attributes
    ----------
    transformation, seed : str, int
        Which.
    problems : sequence of CodeProblem
        The problems, perturbed, or as they were.
    """

    transformation: str
    seed: int
    problems: Sequence[CodeProblem]


def make_blocks(category: Category, problems: Sequence[CodeProblem]) -> list[Block]:
    """Return the blocks that a published file of generations answers, in its order.

    Parameters
    ----------
    category : Category
        The category.
    problems : sequence of CodeProblem
        ReCode's perturbed problems, of which those with the category's seeds are taken in their order; or the problems
        as they were, which every block then has.

    Returns
    -------
    list of Block

    Raises
    ------
    ValueError
        If perturbed problems are not those of the category.
    """
    if all(problem.perturbation is None for problem in problems):
        return [Block(name, seed, problems) for name, seed in category.blocks]
    found: dict[tuple[str, int], list[CodeProblem]] = {}
    for problem in problems:
        found.setdefault(problem.perturbation or (NOMINAL, 0), []).append(problem)
    missing = [block for block in category.blocks if block not in found]
    sizes = {len(found[block]) for block in category.blocks if block in found}
    if missing or len(sizes) > 1:
        reason = f"lack {missing[0][0]} with seed {missing[0][1]}" if missing else f"have blocks of {sorted(sizes)}"
        raise ValueError(f"the perturbed problems {reason}; give those of ReCode's category {category.configuration!r}")
    return [Block(*block, tuple(found[block])) for block in found if block in category.blocks]


def score_perturbed(
    task: EvaluationTask,
    blocks: Sequence[Block],
    texts: Sequence[Sequence[str]],
    run: Runner,
    limits: Limits,
    *,
    nominal: tuple[Sequence[CodeProblem], Sequence[str]] | None = None,
) -> Report:
    """Score one greedy program for each perturbed prompt.

    Parameters
    ----------
    task : EvaluationTask
        Task of kind "robustness".
    blocks : sequence of Block
        From `make_blocks`.
    texts : sequence of sequence of str
        One program for each problem of each block.
    run : callable
        Runs programs.
    limits : Limits
        What each may use.
    nominal : (sequence of CodeProblem, sequence of str), optional
        Problems as they were, and programs for them. Where it is not given, the category's own block that changes no
        prompt stands in; without either, relative scores are absent.

    Returns
    -------
    Report
        The whole is the category's score, over all transformations and seeds; transformations, the nominal prompts and
        the mean over transformations are settings of it.
    """
    programs = [_make_program(task, block, place, text, limits) for block, place, text in _walk(blocks, texts)]
    extra = [] if nominal is None else _make_nominal(nominal, limits)
    passed = [verdict.passed for verdict in run([*programs, *extra])]
    n_problems = len(blocks[0].problems)
    rows = {
        (block.transformation, block.seed): passed[n_problems * number : n_problems * (number + 1)]
        for number, block in enumerate(blocks)
    }
    solved = passed[len(programs) :] if extra else rows.get(task.category.nominal)
    settings = {} if solved is None else {NOMINAL: _make_nominal_part(solved)}
    own = {
        item.name: _make_part([row for (name, _), row in rows.items() if name == item.name], solved)
        for item in task.category.transformations
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


def _walk(blocks: Sequence[Block], texts: Sequence[Sequence[str]]) -> Iterator[tuple[Block, int, str]]:
    for block, several in zip(blocks, texts, strict=True):
        for place, text in enumerate(several):
            yield block, place, text


def _make_program(task: EvaluationTask, block: Block, place: int, text: str, limits: Limits) -> Program:
    problem = block.problems[place]
    name = problem.entry_point
    if task.category.name == "function" and problem.perturbation is None:
        # The prompt, and so the new name, is only known from the generation that begins with it.
        n_before = len(_HEADER.findall(problem.prompt)) - 1
        found = _HEADER.findall(text)
        name = found[n_before] if len(found) > n_before >= 0 else name
    return Program(task.language, text, problem.make_test(name), limits)


def _make_nominal(nominal: tuple[Sequence[CodeProblem], Sequence[str]], limits: Limits) -> list[Program]:
    return [Program("python", text, problem.make_test(), limits) for problem, text in zip(*nominal, strict=True)]


def _make_nominal_part(solved: Sequence[bool]) -> Part:
    counts = make_counts([1] * len(solved), [int(one) for one in solved])
    return Part({"pass@1": sum(solved) / len(solved)}, {"pass@1": resampled_stderr(solved)}, counts)


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
