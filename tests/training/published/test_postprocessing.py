import pytest

from training.published.tasks import (
    PYTHON_HEADER,
    clean_program,
    cut_at_stops,
    cut_description,
    cut_function,
    cut_recode,
    is_function_complete,
)

BODY = "\n    y = x\n\n    return y"


def test_a_text_ends_at_the_first_stop_word_whichever_it_is():
    assert cut_at_stops("a\nprint b\ndef c", ("\ndef", "\nprint")) == "a"
    assert cut_at_stops("a", ("\ndef",)) == "a"


@pytest.mark.parametrize(
    "more",
    [
        "\ndef g():\n    pass",
        "\nclass A:",
        "\n# done",
        "\n@cache",
        "\nprint(f(1))",
        "\nif True:",
        "\nassert f(1)",
        "\n\nx = 1",
        "",
    ],
)
def test_a_python_function_ends_where_the_next_thing_begins(more):
    assert cut_function(BODY + more, "python").rstrip() == BODY


def test_a_python_function_keeps_what_is_indented():
    nested = "\n    def g():\n        return 1\n    # inner\n    if x:\n        print(x)\n    return g()"
    assert cut_function(nested + "<|endoftext|>junk", "python") == nested


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (" return 1;\n }\n}\npublic class Main {}", " return 1;\n }\n}"),
        (" if (x) { y(); }\n return 1;\n }\n}", " if (x) { y(); }\n return 1;\n }\n}"),
        # One brace short, and a main of its own: cut before it, and the class closed.
        (" return 1;\n }\n public static void main(String[] a) { f(); ", " return 1;\n }\n }"),
        (" return 1;\n }<|endoftext|>}", " return 1;\n }"),
        ("", ""),
    ],
)
def test_a_java_class_ends_at_its_brace(text, kept):
    assert cut_function(text, "java") == kept


def test_complete_functions_are_known():
    assert is_function_complete("\n    return 1\ndef g", "python")
    assert not is_function_complete("\n    return 1\n", "python")
    assert is_function_complete(" return 1; } }", "java")
    assert not is_function_complete(" return 1; }", "java")
    assert is_function_complete("x<|endoftext|>", "java")


def test_a_description_is_no_longer_than_the_docstring_and_quotes_no_code():
    solution = "    return sorted(values)[len(values) // 2]\n    x = 1\n"
    said = "  It takes x = 1 and return sorted(values)[len(values) // 2] of them. And more"
    assert cut_description(said, "d" * 67, solution, "python") == "It takes x = 1 and  of them."
    assert cut_description("Adds.\ndef f", "d" * 99, "", "python") == "Adds."
    assert cut_description("Adds.\ndef f", "d" * 99, "", "java") == "Adds.\ndef f"


def test_recode_programs_may_assert():
    assert cut_recode("\n    return 1\nassert f()\nprint(1)") == "\n    return 1\nassert f()"


def test_a_java_program_loses_an_empty_main():
    assert clean_program(" class A {}\npublic class Main {\n    }\n", "java", has_header=False) == "class A {}"


def test_a_python_program_gets_the_imports_that_it_or_its_test_can_use():
    program = clean_program("def f(x: List[int]): return math.pi", "python", has_header=True)
    assert program.startswith("import math\n")
    assert program.endswith("from collections import *\ndef f(x: List[int]): return math.pi")
    assert not any(name in program for name in ("numpy", "hashlib", "statistics", "datetime"))
    assert clean_program("x = 1", "python", has_header=False) == "x = 1"
    full = "np.zeros(1), hashlib.md5(), statistics.mean([1]), datetime.date"
    assert clean_program(full, "python", has_header=True) == PYTHON_HEADER + full
    assert "hashlib" in clean_program("x = 1", "python", has_header=True, test="assert hashlib.md5(x)")


def test_every_name_of_the_header_is_there_when_it_is_named():
    names = ("math", "re", "sys", "copy", "datetime", "itertools", "collections", "heapq", "statistics", "functools")
    for name in (*names, "hashlib", "string", "List", "Counter"):
        exec(clean_program(f"assert {name}", "python", has_header=True), {})
