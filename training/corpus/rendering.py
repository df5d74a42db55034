"""Programs as text: Python functions, Java methods, English descriptions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from training.corpus.operations import Kind
from training.corpus.programs import Program

VARIABLES: MappingProxyType[Kind, tuple[str, ...]] = MappingProxyType(
    {"list": ("xs", "items", "values"), "number": ("n", "amount", "size"), "string": ("s", "text", "word")}
)
"""Variable names of each kind; the first of each are the default ones, the others rename."""

_JAVA_TYPES: MappingProxyType[Kind, str] = MappingProxyType(
    {"list": "List<Integer>", "number": "int", "string": "String"}
)

CONNECTIVES = (", then ", "; next ", ", and after that ")
"""What joins the clauses of a description, in each phrasing."""


@dataclass(frozen=True)
class Style:
    """How a Python function is written.

    Attributes
    ----------
    names : int
        Index into `VARIABLES`.
    alternatives : tuple of bool
        Of each step, whether it is written the other way; all the usual way where it is empty.
    """

    names: int = 0
    alternatives: tuple[bool, ...] = ()


USUAL = Style()
"""The one style of functions outside clone questions."""


def describe(program: Program, phrasing: int) -> str:
    """Return the program in English, one clause for each operation, in one of the phrasings.

    Parameters
    ----------
    program : Program
        The program.
    phrasing : int
        0, 1 or 2: words and connectives both differ.

    Returns
    -------
    str
        One sentence.
    """
    return describe_steps(program, (phrasing,) * program.n_ops, CONNECTIVES[phrasing])


def describe_steps(program: Program, phrasings: Sequence[int], connective: str) -> str:
    """Return the program in English, with a phrasing for each operation and one connective for all.

    Parameters
    ----------
    program : Program
        The program.
    phrasings : sequence of int
        Of each operation, 0, 1 or 2.
    connective : str
        What joins the clauses.

    Returns
    -------
    str
        One sentence.
    """
    clauses = [
        step.operation.phrasings[phrasing].format(k=step.constant)
        for step, phrasing in zip(program.steps, phrasings, strict=True)
    ]
    text = connective.join(clauses)
    return f"{text[:1].upper()}{text[1:]}."


def python_header(program: Program, function_name: str, style: Style = USUAL) -> str:
    """Return the first line of the Python function, without its line end."""
    return f"def {function_name}({VARIABLES[program.kind][style.names]}):"


def python_body(program: Program, style: Style = USUAL) -> str:
    """Return the lines of the Python function after its header, one for each operation and the return.

    It starts with a line end and ends without one, so that what comes before ends at the boundary of a token.
    """
    kind = program.kind
    lines = []
    for position, step in enumerate(program.steps):
        operation = step.operation
        is_other = bool(style.alternatives) and style.alternatives[position]
        template = operation.alternative if is_other else operation.python
        expression = template.format(v=VARIABLES[kind][style.names], k=step.constant)
        kind = operation.gives
        lines.append(f"\n    {VARIABLES[kind][style.names]} = {expression}")
    return "".join([*lines, f"\n    return {VARIABLES[kind][style.names]}"])


def render_python(program: Program, function_name: str, style: Style = USUAL) -> str:
    """Return the program as a Python function, without a last line end."""
    return python_header(program, function_name, style) + python_body(program, style)


def documented_header(program: Program, function_name: str, phrasing: int) -> str:
    """Return header and docstring of the Python function, up to the closing quotes."""
    return f'{python_header(program, function_name)}\n    """{describe(program, phrasing)}"""'


def java_header(program: Program, function_name: str) -> str:
    """Return the first line of the Java method, without its line end."""
    result = _JAVA_TYPES[program.kinds[-1]]
    return f"static {result} {function_name}({_JAVA_TYPES[program.kind]} {VARIABLES[program.kind][0]}) {{"


def java_body(program: Program) -> str:
    """Return the lines of the Java method after its header; starts with a line end, as `python_body`."""
    # Each step has a variable of its own: a Java lambda may only use variables that are set once.
    names = list(_java_names(program))
    lines = [
        f"\n    {_JAVA_TYPES[step.operation.gives]} {after} = {step.operation.java.format(v=before, k=step.constant)};"
        for step, before, after in zip(program.steps, names, names[1:], strict=False)
    ]
    return "".join([*lines, f"\n    return {names[-1]};", "\n}"])


def _java_names(program: Program) -> Iterator[str]:
    for position, kind in enumerate(program.kinds):
        yield f"{VARIABLES[kind][0]}{position or ''}"


def render_java(program: Program, function_name: str) -> str:
    """Return the program as a static Java method, without a last line end."""
    return java_header(program, function_name) + java_body(program)


def documented_java_header(program: Program, function_name: str, phrasing: int) -> str:
    """Return header and comment of the Java method."""
    return f"// {describe(program, phrasing)}\n{java_header(program, function_name)}"


def java_class(class_name: str, method: str, body: str) -> str:
    """Return a Java program: a class with the method, and a main method with a body.

    Parameters
    ----------
    class_name : str
        Name of the class.
    method : str
        The method (`render_java`).
    body : str
        Statements that main runs, such as `cases.java_assertions`.

    Returns
    -------
    str
        Source of one file.
    """
    return (
        "import java.util.*;\nimport java.util.stream.*;\n\n"
        f"class {class_name} {{\n{method}\n\npublic static void main(String[] arguments) {{\n{body}}}\n}}\n"
    )
