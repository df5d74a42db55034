"""Generations that somebody published or saved: read, and checked against the problems that they answer.

Layouts: a list with one list of samples for each problem (HumanEvalPack); the same with each sample in a list of its
own, problem by problem (HumanEvalExplain); one list of one program for each block of problems, blocks being
transformations and seeds (ReCode); objects with raw text and label (yes/no), or with prompt and completion (security).
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training.published.files import parse_json, read_text_file
from training.published.problems import CodeProblem

Samples = list[list[Any]]

_CALL = re.compile(r"\b(\w+)\s*\(")


def read_generations(path: Path | str) -> tuple[Samples, str]:
    """Read a generations file, plain or gzipped.

    Parameters
    ----------
    path : path
        The file.

    Returns
    -------
    samples : list of list
        What it holds.
    digest : str
        SHA-256 of its text.

    Raises
    ------
    ValueError
        If it is damaged or not a list of lists of samples; the message says where.
    """
    file = read_text_file(path, "a JSON file of generations")
    content = parse_json(file)
    if not isinstance(content, list) or not content:
        kind = "an empty list" if content == [] else type(content).__name__
        raise ValueError(f"{path}: holds {kind}; generations are a list with one list of samples for each problem")
    for place, samples in enumerate(content):
        if not isinstance(samples, list) or not samples:
            kind = "no samples" if samples == [] else type(samples).__name__
            raise ValueError(f"{path}: item {place} holds {kind}; each item is a list of samples of one problem")
    return content, file.digest


def check_texts(samples: Samples, path: Path | str) -> list[list[str]]:
    """Return samples that are all text.

    Parameters
    ----------
    samples : list of list
        From `read_generations`.
    path : path
        Where they were read, for messages.

    Raises
    ------
    ValueError
        If one is something else; the message says which.
    """
    for place, several in enumerate(samples):
        for number, sample in enumerate(several):
            if not isinstance(sample, str):
                kind = type(sample).__name__
                raise ValueError(f"{path}: item {place}, sample {number} holds {kind}; programs are text")
    return samples


def arrange_by_problem(samples: list[list[str]], problems: Sequence[CodeProblem], path: Path | str) -> list[list[str]]:
    """Put samples of programs problem by problem, and make sure that none is missing.

    Parameters
    ----------
    samples : list of list of str
        One list for each problem, or (HumanEvalExplain) one list of one for each sample of each problem in turn.
    problems : sequence of CodeProblem
        The problems, in the order of the samples.
    path : path
        Where they were read, for messages.

    Returns
    -------
    list of list of str
        One list of as many samples for each problem.

    Raises
    ------
    ValueError
        If a problem is missing, has fewer samples than others, or is answered with another one's function; the
        message says which.
    """
    n_problems = len(problems)
    if len(samples) != n_problems and len(samples) % n_problems == 0 and all(len(one) == 1 for one in samples):
        each = len(samples) // n_problems
        flat = [sample for one in samples for sample in one]
        samples = [flat[each * place : each * (place + 1)] for place in range(n_problems)]
    stranger = _find_stranger(samples, problems)
    if len(samples) > n_problems and all(len(one) == 1 for one in samples):
        raise ValueError(
            f"{path}: holds {len(samples)} single samples, no multiple of {n_problems} problems; some are missing, or "
            "the problems are other ones"
        )
    if len(samples) != n_problems:
        hint = "" if stranger is None else f"; the first that does not belong is {_describe(stranger, problems)}"
        raise ValueError(f"{path}: holds samples of {len(samples)} problems, and there are {n_problems}{hint}")
    if stranger is not None:
        raise ValueError(f"{path}: {_describe(stranger, problems)}; are problems missing or in another order?")
    counts = [len(one) for one in samples]
    usual = max(set(counts), key=counts.count)
    for place, count in enumerate(counts):
        if count != usual:
            raise ValueError(
                f"{path}: problem {place} ({problems[place].task_id}) has {count} samples, most have {usual}; "
                "generate what is missing, or take every problem's samples to the same number"
            )
    return samples


def _find_stranger(samples: list[list[str]], problems: Sequence[CodeProblem]) -> tuple[int, int] | None:
    """First place whose samples all name another problem's function and not their own, and that problem's place."""
    names = [_name_functions(problem) for problem in problems]
    owners = {name: place for place, several in reversed(list(enumerate(names))) for name in several}
    for place, (several, own) in enumerate(zip(samples, names, strict=False)):
        called = [set(_CALL.findall(text)) for text in several]
        if any(found & own for found in called):
            continue
        common = set.intersection(*called) & owners.keys()
        if common:
            return place, min(owners[name] for name in common)
    return None


def _name_functions(problem: CodeProblem) -> set[str]:
    """Name of a problem's function: by its column, and by its header, which in one problem has another (Java/99)."""
    header = (problem.declaration or problem.prompt).rstrip().rsplit("\n", 1)[-1]
    return {problem.entry_point, *(_CALL.findall(header)[:1] if problem.declaration else ())}


def _describe(stranger: tuple[int, int], problems: Sequence[CodeProblem]) -> str:
    place, owner = stranger
    found, wanted = problems[owner], problems[place]
    return (
        f"item {place}, which defines {found.entry_point} ({found.task_id}) where {wanted.entry_point} "
        f"({wanted.task_id}) belongs"
    )


def arrange_by_block(samples: list[list[str]], n_blocks: int, n_problems: int, path: Path | str) -> list[list[str]]:
    """Put ReCode's programs block by block: one list of programs, in the order of problems, for each block.

    Parameters
    ----------
    samples : list of list of str
        One list of one program for each problem of each block.
    n_blocks, n_problems : int
        Transformations and seeds of the category, and problems.
    path : path
        Where they were read, for messages.

    Returns
    -------
    list of list of str, n_blocks times n_problems

    Raises
    ------
    ValueError
        If there are more or fewer, or more than one sample of one.
    """
    if len(samples) != n_blocks * n_problems:
        raise ValueError(
            f"{path}: holds {len(samples)} programs; this category has {n_blocks} transformations and seeds of "
            f"{n_problems} problems each, {n_blocks * n_problems} in all"
        )
    for place, one in enumerate(samples):
        if len(one) != 1:
            raise ValueError(
                f"{path}: item {place} (block {place // n_problems}, problem {place % n_problems}) has {len(one)} "
                "samples; ReCode is scored with one greedy program for each prompt"
            )
    flat = [one[0] for one in samples]
    return [flat[n_problems * block : n_problems * (block + 1)] for block in range(n_blocks)]
