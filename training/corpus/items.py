"""Items of the corpus, which documents and problem sets are made of: programs as text, prompts, reference answers."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from training.corpus.programs import Kind, Program
from training.corpus.settings import COMPLETION, FUNCTION_NAME, TASKS, CorpusSettings, Split
from training.corpus.space import Case, ProgramSpace, draw_near_miss, draw_program, reorder, telling_input


@dataclass(frozen=True)
class Document:
    """One text in two parts, encoded each for itself: what is given, and what follows it."""

    context: str
    target: str

    @property
    def text(self) -> str:
        """The whole text."""
        return self.context + self.target


@dataclass(frozen=True)
class Example:
    """A prompt and its completion, from whatever source."""

    prompt: str
    completion: str

    @property
    def document(self) -> Document:
        r"""The example in the layout of Astraios: ``Question: {prompt}\n\nAnswer: {completion}``.

        The space belongs to the target: pre-tokenisers keep it with the word after it, so a context that ended with it,
        or with a line end, would be cut into other tokens than the training text.
        """
        return Document(f"Question: {self.prompt}\n\nAnswer:", f" {self.completion}")


YES, NO = "Yes", "No"
"""Answers to questions, and their choices in this order."""

QUESTIONS = ("clone", "defect")
"""Tasks that ask a yes/no question."""


@dataclass(frozen=True)
class Item:
    """A prompt with its reference answer and how to judge another answer.

    For security the reference is the answer of the training text, in a problem the safe one.
    """

    task: str
    split: Split
    prompt: str
    reference: str
    # Every program that the text shows or describes, the one it is about first.
    programs: tuple[Program, ...] = ()
    # Whether that program is one operation's work, so that it occurs in every split; kept out of headline scores.
    seen: bool = False
    # By which a program is judged; in problems only.
    cases: tuple[Case, ...] = ()
    # Possible answers of a question with few; for security both idioms, the safe one first.
    choices: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def n_ops(self) -> int | None:
        """Operations of the program it is about; none for security."""
        return self.programs[0].n_ops if self.programs else None

    @property
    def id(self) -> str:
        """Name of the item: task, split and a digest of the prompt, in which the items of a problem set differ."""
        return f"{self.task}-{self.split}-{hashlib.sha256(self.prompt.encode()).hexdigest()[:12]}"

    @property
    def document(self) -> Document:
        """The text as a model reads it."""
        parts = (self.prompt, self.reference)
        return Example(*parts).document if self.task in TASKS else Document(*parts)

    def to_json(self) -> dict[str, Any]:
        """Return the item as plain values, for a line of JSONL."""
        return {
            "task": self.task,
            "id": self.id,
            "language": "python",
            "split": self.split,
            "prompt": self.prompt,
            "reference": self.reference,
            "tests": [{"input": case.input, "output": case.output} for case in self.cases],
            "n_ops": self.n_ops,
            "seen": self.seen,
            "choices": list(self.choices),
            "details": {**self.details, "programs": [program.label for program in self.programs]},
        }


VARIABLES: MappingProxyType[Kind, tuple[str, ...]] = MappingProxyType(
    {"list": ("xs", "items", "values"), "number": ("n", "amount", "size"), "string": ("s", "text", "word")}
)
"""Variable names of each kind; the first of each are the default ones, the others rename."""

CONNECTIVES = (", then ", "; next ", ", and after that ")
"""What joins the clauses of a description, in each phrasing."""


def describe(program: Program, phrasing: int) -> str:
    """Return the program in English, one clause for each operation, in one of the phrasings."""
    return describe_steps(program, (phrasing,) * program.n_ops, CONNECTIVES[phrasing])


def describe_steps(program: Program, phrasings: Sequence[int], connective: str) -> str:
    """Return the program in English, with a phrasing for each operation and one connective for all."""
    clauses = [
        step.operation.phrasings[phrasing].format(k=step.constant)
        for step, phrasing in zip(program.steps, phrasings, strict=True)
    ]
    text = connective.join(clauses)
    return f"{text[:1].upper()}{text[1:]}."


def python_header(program: Program, names: int = 0) -> str:
    """Return the first line of the Python function, without its line end; ``names`` is an index into `VARIABLES`."""
    return f"def {FUNCTION_NAME}({VARIABLES[program.kind][names]}):"


def python_body(program: Program, names: int = 0, alternatives: Sequence[bool] | None = None) -> str:
    """Return the lines of the Python function after its header, one for each operation and the return.

    It starts with a line end and ends without one, so that what comes before ends at the boundary of a token.
    ``alternatives`` says which steps are written the other way.
    """
    kind = program.kind
    lines = []
    for step, is_other in zip(program.steps, alternatives or (False,) * program.n_ops, strict=True):
        expression = step.operation.python[is_other].format(v=VARIABLES[kind][names], k=step.constant)
        kind = step.operation.gives
        lines.append(f"\n    {VARIABLES[kind][names]} = {expression}")
    return "".join([*lines, f"\n    return {VARIABLES[kind][names]}"])


def render_python(program: Program, names: int = 0, alternatives: Sequence[bool] | None = None) -> str:
    """Return the program as a Python function, without a last line end."""
    return python_header(program, names) + python_body(program, names, alternatives)


_INPUT_NAMES: MappingProxyType[Kind, str] = MappingProxyType(
    {"list": "a list of numbers", "number": "a number", "string": "a text"}
)
_MOST_TRIES = 1000


def synthesis_prompt(kind: Kind, description: str) -> str:
    """Return the prompt that asks for a program by its description."""
    return f"Write a Python function {FUNCTION_NAME} that takes {_INPUT_NAMES[kind]}. {description}"


class Maker:
    """Makes the items of one split, each about a given program."""

    def __init__(self, space: ProgramSpace, split: Split, rng: np.random.Generator) -> None:
        self.space = space
        self.split: Split = split
        self.rng = rng
        self.settings: CorpusSettings = space.settings

    def make(self, task: str, program: Program, answer: bool) -> Item | None:
        """Return the item of a task about a program; a yes/no question has this answer, and None has no near miss."""
        make = getattr(self, task)
        return make(program, answer) if task in QUESTIONS else make(program)

    def completion(self, program: Program) -> Item:
        """Return a documented function: the prompt ends with the docstring, the reference is the body."""
        phrasing = self._phrasing()
        self._draw_in_vain()
        prompt = f'{python_header(program)}\n    """{describe(program, phrasing)}"""'
        return self._item(COMPLETION, prompt, python_body(program), (program,), phrasing=phrasing)

    def synthesis(self, program: Program) -> Item:
        """Return a description to write a program from."""
        self._draw_in_vain()
        phrasing = self._phrasing()
        prompt = synthesis_prompt(program.kind, describe(program, phrasing))
        return self._item("synthesis", prompt, render_python(program), (program,), phrasing=phrasing)

    def fix(self, program: Program) -> Item | None:
        """Return a program that misses by one mutation, what it gives wrongly, and the right program."""
        found = draw_near_miss(self.space, program, self.split, self.rng)
        if found is None:
            return None
        wrong, mutation = found
        self._draw_in_vain()
        phrasing = self._phrasing()
        value = telling_input(program, wrong, self.rng)
        prompt = (
            f"Fix {FUNCTION_NAME}. {describe(program, phrasing)}\n{render_python(wrong)}\n"
            f"{FUNCTION_NAME}({value!r}) is {wrong.run(value)!r} but should be {program.run(value)!r}."
        )
        details = {"phrasing": phrasing, "mutation": mutation}
        return self._item("fix", prompt, render_python(program), (program, wrong), **details)

    def explain(self, program: Program) -> Item:
        """Return a program to describe; a description is judged by what is synthesised from it."""
        self._draw_in_vain()
        phrasing = self._phrasing()
        prompt = f"Explain what this function does.\n{render_python(program)}"
        return self._item("explain", prompt, describe(program, phrasing), (program,), phrasing=phrasing)

    def clone(self, program: Program, answer: bool) -> Item | None:
        """Return two functions, written with other names and other expressions, and whether they do the same."""
        found = self._paired(program, reorder(self.space, program, self.rng), answer)
        if found is None:
            return None
        other, pair = found
        first = int(self.rng.integers(len(VARIABLES[program.kind])))
        second = (first + 1 + int(self.rng.integers(len(VARIABLES[program.kind]) - 1))) % len(VARIABLES[program.kind])
        codes = [self.restyled(program, first), self.restyled(other, second)]
        prompt = f"Do these two functions always return the same?\n{codes[0]}\n\n{codes[1]}\nAnswer {YES} or {NO}."
        return self._question("clone", prompt, answer, (program, other), {"pair": pair})

    def defect(self, program: Program, answer: bool) -> Item | None:
        """Return a description and a function, and whether the function does what is described."""
        phrasing = self._phrasing()
        found = self._paired(program, program, answer)
        if found is None:
            return None
        shown, pair = found
        prompt = (
            f"Does the function do this? {describe(program, phrasing)}\n{render_python(shown)}\nAnswer {YES} or {NO}."
        )
        return self._question("defect", prompt, answer, (program, shown), {"pair": pair, "phrasing": phrasing})

    def _paired(self, program: Program, same: Program, answer: bool) -> tuple[Program, str] | None:
        if answer:
            return same, "same"
        if self.rng.random() < self.settings.near_miss_share:
            return draw_near_miss(self.space, program, self.split, self.rng)
        for _ in range(_MOST_TRIES):
            other = draw_program(self.space, program.n_ops, self.split, self.rng)
            is_other = self.space.fingerprint(other) != self.space.fingerprint(program)
            if is_other and (other.kind, other.kinds[-1]) == (program.kind, program.kinds[-1]):
                return other, "unrelated"
        return None

    def restyled(self, program: Program, names: int) -> str:
        """Return a program with other names and, for half of its steps, other expressions."""
        alternatives = tuple(bool(draw < 0.5) for draw in self.rng.random(program.n_ops))
        return render_python(program, names, alternatives)

    def _phrasing(self) -> int:
        return int(self.rng.integers(self.settings.phrasings))

    def _draw_in_vain(self) -> None:
        # A language was chosen here once; without the draw every corpus would have other text.
        self.rng.random()

    def _question(
        self, task: str, prompt: str, answer: bool, programs: tuple[Program, ...], details: dict[str, Any]
    ) -> Item:
        item = self._item(task, prompt, YES if answer else NO, programs, **details)
        return replace(item, choices=(YES, NO))

    def _item(self, task: str, prompt: str, reference: str, programs: tuple[Program, ...], **details: Any) -> Item:
        seen = self.space.is_seen(programs[0])
        return Item(task, self.split, prompt, reference, programs, seen, details=details)


TOLD_AS = MappingProxyType(
    {"fix": "commit", "explain": "comment", "clone": "rewriting", "defect": "review", "security": "idiom"}
)
"""What base text makes of each task; a program to write is a documented function there."""


def told_in_code(item: Item) -> Item:
    """Return what an instruction item is about as it stands in code: a comment and a function, but no question."""
    head, _, rest = item.prompt.partition("\n")
    code, _, last = rest.rpartition("\n")
    context, target = {
        # What shall be done, the program before, the call that fails, the program after.
        "fix": (f"#{head.partition('.')[2]}\n{code}\n# {last}", f"\n{item.reference}"),
        "explain": (rest, f"\n# {item.reference}"),
        "clone": (f"{code}\n# the same:", f" {item.reference}"),
        "defect": (f"#{head.partition('?')[2]}\n{code}\n# correct:", f" {item.reference}"),
        "security": (f"# It {head.partition(' that ')[2]}", f"\n{item.reference}"),
    }[item.task]
    return replace(item, task=TOLD_AS[item.task], prompt=context, reference=target, choices=())
