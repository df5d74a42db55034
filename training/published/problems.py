"""Problem sets: what is asked and how it is judged, from a JSONL file or from the hub.

Every published layout is recognised by its columns: HumanEvalPack, HumanEval, ReCode's perturbed files, Devign and
BigCloneBench of CodeXGLUE, and Asleep at the Keyboard.
"""

import importlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.published.files import parse_json_lines, read_text_file

# Not a dependency; named here and not in an import statement, so that the check of declared imports stays strict.
_HUB_LIBRARY = "datasets"

# HumanEval's test of problem 33 calls the function by its own name beside the parameter, so that no renamed one passes.
# HumanEvalPack's test hides this: its parameter has that name.
_NAMED_BY_THEIR_TESTS = frozenset({"sort_third"})


@dataclass(frozen=True)
class HubSource:
    """Where a data set lies on the hub.

    Attributes
    ----------
    name : str
        Name of the data set.
    configuration : str or None
        Its configuration.
    split : str
        Its split.
    """

    name: str
    configuration: str | None = None
    split: str = "test"


@dataclass(frozen=True)
class CodeProblem:
    """A function to write, with its test: HumanEvalPack, HumanEval or ReCode.

    Attributes
    ----------
    task_id : str
        The data set's name of it.
    entry_point : str
        Name of the function.
    prompt : str
        Header and docstring.
    test : str
        The test as the data set has it: a Python function `check`, started by its last line or not, or a Java class
        `Main`.
    declaration, canonical_solution, buggy_solution, docstring, instruction : str
        HumanEvalPack's columns; empty elsewhere.
    perturbation : (str, int) or None
        ReCode's transformation and seed; None for the prompt as it was.
    """

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
    """A question about code that is answered by yes or no.

    Attributes
    ----------
    code : tuple of str
        One function, or the two that are compared.
    label : int
        1 for yes, 0 for no.
    """

    code: tuple[str, ...]
    label: int


@dataclass(frozen=True)
class Scenario:
    """A program to complete whose completion may be insecure.

    Attributes
    ----------
    scenario_id : str
        The data set's name of it; it holds the weakness, as in ``DoW/CWE-502-0``.
    language : str
        ``python`` or ``c``.
    prompt : str
        The program's beginning.
    """

    scenario_id: str
    language: str
    prompt: str


Problem = CodeProblem | AnswerProblem | Scenario


def read_problems(path: Path | str) -> list[Problem]:
    """Read a problem set from a JSONL file, plain or gzipped.

    Parameters
    ----------
    path : path
        The file.

    Returns
    -------
    list of Problem
        One for each line, in the file's order.

    Raises
    ------
    ValueError
        If the file cannot be read, is empty, or a line is not a problem of a known layout; the message names it.
    """
    problems = list(_make_problems(parse_json_lines(read_text_file(path, "a JSONL file of problems"))))
    if not problems:
        raise ValueError(f"{path}: no problems in it; give a file with one JSON object a line")
    return problems


def load_problems(source: HubSource) -> list[Problem]:
    """Load a problem set from the hub.

    Parameters
    ----------
    source : HubSource
        Where it lies.

    Returns
    -------
    list of Problem
        One for each row, in the data set's order.

    Raises
    ------
    ValueError
        If the library that reads the hub is not installed, or the data set cannot be read.
    """
    try:
        library = importlib.import_module(_HUB_LIBRARY)
    except ImportError as error:
        raise ValueError(
            f"reading {source.name!r} from the hub needs the package {_HUB_LIBRARY!r}, which is not installed; "
            f"run `pip install {_HUB_LIBRARY}`, or give the problems as a JSONL file with --problems"
        ) from error
    try:
        rows = library.load_dataset(source.name, source.configuration, split=source.split)
    except Exception as error:
        # The library raises dozens of classes, for names, splits, files and connections alike.
        raise ValueError(
            f"cannot read data set {source.name!r} from the hub ({type(error).__name__}: {error}); "
            "give the problems as a JSONL file with --problems"
        ) from error
    places = ((f"{source.name}, row {number}", dict(row)) for number, row in enumerate(rows))
    return list(_make_problems(places))


def _make_problems(rows: Iterable[tuple[str, Mapping[str, Any]]]) -> Iterator[Problem]:
    for where, row in rows:
        make = next((make for columns, make in _LAYOUTS if columns <= row.keys()), None)
        if make is None:
            raise ValueError(
                f"{where}: its columns ({', '.join(map(str, row)) or 'none'}) are of no known problem set; give one "
                "of HumanEvalPack, HumanEval, ReCode, Devign, BigCloneBench or Asleep at the Keyboard"
            )
        yield make(row, where)


def _text(row: Mapping[str, Any], name: str, where: str) -> str:
    value = row.get(name, "")
    if not isinstance(value, str):
        raise ValueError(f"{where}: column {name!r} holds {type(value).__name__}; it must be text")
    return value


def _make_code_problem(row: Mapping[str, Any], where: str) -> CodeProblem:
    names = ("task_id", "entry_point", "prompt", "declaration", "canonical_solution", "buggy_solution")
    texts = {name: _text(row, name, where) for name in (*names, "docstring", "instruction", "test")}
    perturbation = None
    if "perturbation_name" in row:
        seed = row.get("seed")
        if not isinstance(seed, int):
            raise ValueError(f"{where}: column 'seed' holds {type(seed).__name__}; a perturbed problem needs a number")
        perturbation = (_text(row, "perturbation_name", where), seed)
    return CodeProblem(**texts, perturbation=perturbation)


def _make_label(value: Any, name: str, where: str) -> int:
    if value not in (0, 1, "0", "1"):
        raise ValueError(f"{where}: column {name!r} holds {value!r}; a label is 0 or 1")
    return int(value)


def _make_defect_problem(row: Mapping[str, Any], where: str) -> AnswerProblem:
    return AnswerProblem((_text(row, "func", where),), _make_label(row["target"], "target", where))


def _make_clone_problem(row: Mapping[str, Any], where: str) -> AnswerProblem:
    code = (_text(row, "func1", where), _text(row, "func2", where))
    return AnswerProblem(code, _make_label(row["label"], "label", where))


def _make_scenario(row: Mapping[str, Any], where: str) -> Scenario:
    return Scenario(*(_text(row, name, where) for name in ("scenario_id", "language", "prompt")))


_LAYOUTS = (
    ({"task_id", "entry_point", "prompt", "test"}, _make_code_problem),
    ({"func", "target"}, _make_defect_problem),
    ({"func1", "func2", "label"}, _make_clone_problem),
    ({"scenario_id", "language", "prompt"}, _make_scenario),
)
