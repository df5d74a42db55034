"""From generated text to a program: the published rules of where it ends.

They are those of the evaluation harness (`bigcode_eval/tasks/humanevalpack.py` and `recode.py`, Apache-2.0), described
there and written anew. Released generations went through them already and are scored as they are.
"""

import re

PYTHON_STOPS = ("\nclass", "\ndef", "\n#", "\n@", "\nprint", "\nif", "\nassert")
RECODE_STOPS = ("\nclass", "\ndef", "\n#", "\n@", "\nprint", "\nif")
END_OF_TEXT = "<|endoftext|>"

# A Java completion begins inside a method of a class.
_OPEN_BRACES = 2
# Shorter lines of a solution occur in any description.
_SHORTEST_CODE_LINE = 20

PYTHON_HEADER = """\
import math
import re
import sys
import copy
import datetime
import itertools
import collections
import heapq
import statistics
import functools
import hashlib
import numpy
import numpy as np
import string
from typing import *
from collections import *
"""
"""What HumanEvalPack's harness imports before a Python program."""

# What a program must name for these imports of the header to matter to it.
_COSTLY_MODULES = {"numpy": r"\bnp\b|numpy", "datetime": "datetime", "statistics": "statistics", "hashlib": "hashlib"}

_JAVA_EMPTY_MAIN = "public class Main {\n    }"


def cut_at_stops(text: str, stops: tuple[str, ...]) -> str:
    """Return a text up to the first of several stop words."""
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    return text[: min(places)] if places else text


def cut_function(completion: str, language: str) -> str:
    """Cut what a model wrote after a function's header down to that function.

    Python: up to the first stop word, and before the first line that is not indented. Java: up to the brace that closes
    the class; where it is missing, up to a `main`, then up to the last brace, closing the class if that is all that is
    missing.

    Parameters
    ----------
    completion : str
        Text after the prompt.
    language : {"python", "java"}
        Language of the function.

    Returns
    -------
    str
        The rest of the function.
    """
    completion = completion.rstrip()
    if language == "python":
        return _cut_indented(cut_at_stops(completion, (*PYTHON_STOPS, END_OF_TEXT)))
    return _cut_braces(cut_at_stops(completion, (END_OF_TEXT,)))


def _cut_indented(text: str) -> str:
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if line.strip() and line[0] not in " \t":
            return "\n".join(lines[:number])
    return text


def _cut_braces(text: str) -> str:
    depth = _OPEN_BRACES
    for place, character in enumerate(text):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return text[: place + 1]
    main = text.find("public static void main")
    if main >= 0:
        text = f"{text[:main]}}}"
    last = text.rfind("}")
    if last >= 0:
        text = text[: last + 1]
    missing_one = text.count("{") - 1 == text.count("}")
    return f"{text}\n}}" if missing_one else text


def is_function_complete(completion: str, language: str) -> bool:
    """Whether a completion holds the whole function, so that generation can stop.

    Parameters
    ----------
    completion : str
        Text after the prompt, so far.
    language : {"python", "java"}
        Language of the function.

    Returns
    -------
    bool
    """
    if END_OF_TEXT in completion:
        return True
    if language == "python":
        return _cut_indented(cut_at_stops(completion, PYTHON_STOPS)) != completion
    return completion.count("{") + _OPEN_BRACES == completion.count("}")


def cut_description(completion: str, docstring: str, solution: str, language: str) -> str:
    """Cut a model's description of a function to the length of its docstring, and take code that it quotes out.

    Parameters
    ----------
    completion : str
        Text after the prompt.
    docstring : str
        The function's own, whose length is the limit.
    solution : str
        The function's body: its longer lines are removed.
    language : {"python", "java"}
        Language of the function; Python's stop words end a description, too.

    Returns
    -------
    str
    """
    stops = (*PYTHON_STOPS, END_OF_TEXT) if language == "python" else (END_OF_TEXT,)
    text = cut_at_stops(completion.strip()[: len(docstring)], stops).rstrip()
    for line in map(str.strip, solution.split("\n")):
        if len(line) > _SHORTEST_CODE_LINE:
            text = text.replace(line, "")
    return text


def cut_recode(completion: str) -> str:
    """Cut what a model wrote after a ReCode prompt at the first stop word."""
    return cut_at_stops(completion, RECODE_STOPS)


def clean_program(text: str, language: str, *, has_header: bool, test: str = "") -> str:
    """Return the program that is executed: with the harness's imports, or without an empty `Main`.

    Parameters
    ----------
    text : str
        A post-processed generation.
    language : {"python", "java"}
        Its language.
    has_header : bool
        Whether Python programs get `PYTHON_HEADER`. Of it, what costs more than most programs is left out where its
        name does not occur: numpy, datetime, statistics, hashlib.
    test : str
        The program's test, whose names count, too.

    Returns
    -------
    str
    """
    if language == "java":
        return text.replace(_JAVA_EMPTY_MAIN, "").strip()
    return (_header_for(text + test) + text).strip() if has_header else text


def _header_for(text: str) -> str:
    unnamed = [module for module, name in _COSTLY_MODULES.items() if re.search(name, text) is None]
    lines = PYTHON_HEADER.splitlines(keepends=True)
    return "".join(line for line in lines if not any(module in line for module in unnamed))
