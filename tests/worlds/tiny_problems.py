"""Three problems in the layout of HumanEvalPack, in Python and in Java, and generations for them."""

import json

from training.published.problems import read_problems

_PYTHON = [
    ("add_one", "x", "    return x + 1\n", "    return x - 1\n", "assert add_one(1) == 2"),
    ("shout", "text", "    return text.upper()\n", "    return text.lower()\n", "assert shout('a') == 'A'"),
    ("largest", "xs", "    return max(xs)\n", "    return min(xs)\n", "assert largest([1, 2]) == 2"),
]
_JAVA = [
    ("addOne", "int x", "        return x + 1;\n    }\n}", "        return x - 1;\n    }\n}", "addOne(1) == 2"),
    ("twice", "int x", "        return 2 * x;\n    }\n}", "        return x;\n    }\n}", "twice(3) == 6"),
]
KINDS = "buggy_solution", "canonical_solution"


def python_rows():
    rows = []
    for number, (name, argument, right, wrong, test) in enumerate(_PYTHON):
        declaration = f"def {name}({argument}):\n"
        docstring = f"Do what {name} says."
        row = {"task_id": f"Python/{number}", "entry_point": name, "declaration": declaration, "docstring": docstring}
        row |= {"prompt": f'{declaration}    """ {docstring}\n    """\n', "canonical_solution": right}
        row |= {"buggy_solution": wrong, "test": f"\ndef check({name}):\n    {test}\n\ncheck({name})"}
        rows.append(row | {"instruction": f"Write a Python function `{name}({argument})`:\n{docstring}"})
    return rows


def java_rows():
    rows, main = [], "public class Main {\n    public static void main(String[] args) {\n"
    for number, (name, argument, right, wrong, test) in enumerate(_JAVA):
        row = {"task_id": f"Java/{number}", "entry_point": name, "canonical_solution": right, "buggy_solution": wrong}
        row |= {"declaration": f"class Solution {{\n    public int {name}({argument}) {{\n"}
        row |= {"prompt": f"class Solution {{\n    /** {name}. */\n    public int {name}({argument}) {{\n"}
        test = f"        if (!(new Solution().{test})) throw new AssertionError();\n    }}\n}}\n"
        rows.append(row | {"test": f"{main}{test}"})
    return rows


def write_problems(path, rows):
    """Write a problem file; gives its path."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def solve(row, kind="canonical_solution", mark=""):
    return f"{row['declaration']}{row[kind]}{mark}"


def make_samples(rows, passes, n_samples, mark="#"):
    """As many distinct samples for each row, of which the first ones are right; gives lists of texts."""
    some = zip(rows, passes, strict=True)
    return [[solve(row, KINDS[n < n_passed], f"\n{mark} {n}\n") for n in range(n_samples)] for row, n_passed in some]


def load(rows, folder):
    return read_problems(write_problems(folder / "problems.jsonl", rows))
