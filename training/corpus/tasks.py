"""Items made from programs: documented functions, synthesis, fixes, explanations, clone and defect questions."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np

from training.corpus.cases import telling_input
from training.corpus.items import NO, YES, Item
from training.corpus.operations import Kind
from training.corpus.programs import Program
from training.corpus.rendering import (
    VARIABLES,
    Style,
    describe,
    documented_header,
    documented_java_header,
    java_body,
    python_body,
    render_java,
    render_python,
)
from training.corpus.sampling import draw_near_miss, draw_program, reorder
from training.corpus.settings import COMPLETION, CorpusSettings, Split
from training.corpus.space import ProgramSpace

_INPUT_NAMES: MappingProxyType[Kind, str] = MappingProxyType(
    {"list": "a list of numbers", "number": "a number", "string": "a text"}
)
_MOST_TRIES = 1000


def synthesis_prompt(language: str, function_name: str, kind: Kind, description: str) -> str:
    """Return the prompt that asks for a program by its description.

    Parameters
    ----------
    language : {"python", "java"}
        Language of the program.
    function_name : str
        Its name.
    kind : {"list", "number", "string"}
        Kind of its argument.
    description : str
        What it does; the corpus' own, or one that a model wrote.
    """
    return f"Write a {language.capitalize()} function {function_name} that takes {_INPUT_NAMES[kind]}. {description}"


class Maker:
    """Makes the items of one split, each about a given program.

    Parameters
    ----------
    space : ProgramSpace
        The programs there are.
    split : {"train", "validation", "test"}
        Split of all items: every program they show belongs to it, or is seen everywhere.
    rng : numpy.random.Generator
        Source of randomness.
    """

    def __init__(self, space: ProgramSpace, split: Split, rng: np.random.Generator) -> None:
        self.space = space
        self.split: Split = split
        self.rng = rng
        self.settings: CorpusSettings = space.settings

    def completion(self, program: Program, _answer: bool) -> Item:
        """Return a documented function: the prompt ends with the docstring, the reference is the body."""
        name, phrasing = self.settings.function_name, self._phrasing()
        if self._language() == "java":
            prompt = documented_java_header(program, name, phrasing)
            return self._item(COMPLETION, "java", prompt, java_body(program), (program,), phrasing=phrasing)
        prompt = documented_header(program, name, phrasing)
        return self._item(COMPLETION, "python", prompt, python_body(program), (program,), phrasing=phrasing)

    def synthesis(self, program: Program, _answer: bool) -> Item:
        """Return a description to write a program from."""
        language, phrasing = self._language(), self._phrasing()
        prompt = synthesis_prompt(language, self.settings.function_name, program.kind, describe(program, phrasing))
        return self._item("synthesis", language, prompt, self._code(program, language), (program,), phrasing=phrasing)

    def fix(self, program: Program, _answer: bool) -> Item | None:
        """Return a program that misses by one mutation, what it gives wrongly, and the right program."""
        found = draw_near_miss(self.space, program, self.split, self.rng)
        if found is None:
            return None
        wrong, mutation = found
        language, phrasing, name = self._language(), self._phrasing(), self.settings.function_name
        value = telling_input(program, wrong, self.rng)
        call = f"{name}({value!r})" if language == "python" else f"{name} of {value!r}"
        wanted = f" {describe(program, phrasing)}" if self.settings.fix_shows_description else ""
        prompt = (
            f"Fix {name}.{wanted}\n{self._code(wrong, language)}\n"
            f"{call} is {wrong.run(value)!r} but should be {program.run(value)!r}."
        )
        details = {"phrasing": phrasing, "mutation": mutation}
        return self._item("fix", language, prompt, self._code(program, language), (program, wrong), **details)

    def explain(self, program: Program, _answer: bool) -> Item:
        """Return a program to describe; a description is judged by what is synthesised from it."""
        language, phrasing = self._language(), self._phrasing()
        prompt = f"Explain what this function does.\n{self._code(program, language)}"
        return self._item("explain", language, prompt, describe(program, phrasing), (program,), phrasing=phrasing)

    def clone(self, program: Program, answer: bool) -> Item | None:
        """Return two functions, written with other names and other expressions, and whether they do the same."""
        details: dict[str, Any] = {"pair": "same"}
        other = reorder(self.space, program, self.rng)
        if not answer:
            found = self._wrong_program(program)
            if found is None:
                return None
            other, details["pair"] = found
        first = int(self.rng.integers(len(VARIABLES[program.kind])))
        second = (first + 1 + int(self.rng.integers(len(VARIABLES[program.kind]) - 1))) % len(VARIABLES[program.kind])
        codes = [self._restyled(program, first), self._restyled(other, second)]
        prompt = f"Do these two functions always return the same?\n{codes[0]}\n\n{codes[1]}\nAnswer {YES} or {NO}."
        return self._question("clone", prompt, answer, (program, other), details)

    def defect(self, program: Program, answer: bool) -> Item | None:
        """Return a description and a function, and whether the function does what is described."""
        details: dict[str, Any] = {"pair": "same", "phrasing": self._phrasing()}
        shown = program
        if not answer:
            found = self._wrong_program(program)
            if found is None:
                return None
            shown, details["pair"] = found
        prompt = (
            f"Does the function do this? {describe(program, details['phrasing'])}\n"
            f"{self._code(shown, 'python')}\nAnswer {YES} or {NO}."
        )
        return self._question("defect", prompt, answer, (program, shown), details)

    def _wrong_program(self, program: Program) -> tuple[Program, str] | None:
        if self.rng.random() < self.settings.near_miss_share:
            return draw_near_miss(self.space, program, self.split, self.rng)
        for _ in range(_MOST_TRIES):
            other = draw_program(self.space, program.n_ops, self.split, self.rng)
            is_other = self.space.fingerprint(other) != self.space.fingerprint(program)
            if is_other and (other.kind, other.kinds[-1]) == (program.kind, program.kinds[-1]):
                return other, "unrelated"
        return None

    def _restyled(self, program: Program, names: int) -> str:
        alternatives = tuple(bool(draw < 0.5) for draw in self.rng.random(program.n_ops))
        return render_python(program, self.settings.function_name, Style(names, alternatives))

    def _code(self, program: Program, language: str) -> str:
        render = render_java if language == "java" else render_python
        return render(program, self.settings.function_name)

    def _phrasing(self) -> int:
        return int(self.rng.integers(self.settings.phrasings))

    def _language(self) -> str:
        # The random number is drawn in any case, so that Java as an option changes the language and nothing else.
        return "java" if self.rng.random() < self.settings.java_share else "python"

    def _question(
        self, task: str, prompt: str, answer: bool, programs: tuple[Program, ...], details: dict[str, Any]
    ) -> Item:
        item = self._item(task, "python", prompt, YES if answer else NO, programs, **details)
        return replace(item, choices=(YES, NO))

    def _item(
        self, task: str, language: str, prompt: str, reference: str, programs: tuple[Program, ...], **details: Any
    ) -> Item:
        seen = self.space.is_seen(programs[0])
        return Item(task, language, self.split, prompt, reference, programs, seen, details=details)


PROGRAM_TASKS: Mapping[str, Callable[[Maker, Program, bool], Item | None]] = MappingProxyType(
    {
        COMPLETION: Maker.completion,
        "synthesis": Maker.synthesis,
        "fix": Maker.fix,
        "explain": Maker.explain,
        "clone": Maker.clone,
        "defect": Maker.defect,
    }
)
"""How the item of each task is made: from a program and, for yes/no questions, the answer it shall have."""
