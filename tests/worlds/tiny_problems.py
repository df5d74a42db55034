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


def python_rows():
    """Rows of a problem file."""
    rows = []
    for number, (name, argument, right, wrong, test) in enumerate(_PYTHON):
        declaration = f"def {name}({argument}):\n"
        docstring = f"Do what {name} says."
        rows.append(
            {
                "task_id": f"Python/{number}",
                "entry_point": name,
                "declaration": declaration,
                "prompt": f'{declaration}    """ {docstring}\n    """\n',
                "docstring": docstring,
                "canonical_solution": right,
                "buggy_solution": wrong,
                "test": f"\ndef check({name}):\n    {test}\n\ncheck({name})",
                "instruction": f"Write a Python function `{name}({argument})`:\n{docstring}",
            }
        )
    return rows


def java_rows():
    """Rows of a problem file."""
    return [
        {
            "task_id": f"Java/{number}",
            "entry_point": name,
            "declaration": f"class Solution {{\n    public int {name}({argument}) {{\n",
            "prompt": f"class Solution {{\n    /** {name}. */\n    public int {name}({argument}) {{\n",
            "canonical_solution": right,
            "buggy_solution": wrong,
            "test": "public class Main {\n    public static void main(String[] args) {\n"
            f"        if (!(new Solution().{test})) throw new AssertionError();\n    }}\n}}\n",
        }
        for number, (name, argument, right, wrong, test) in enumerate(_JAVA)
    ]


def write_problems(path, rows):
    """Write a problem file; gives its path."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def solve(row, kind="canonical_solution", mark=""):
    """A program for a row."""
    return f"{row['declaration']}{row[kind]}{mark}"


def make_samples(rows, passes, n_samples, mark="#"):
    """As many distinct samples for each row, of which the first ones are right; gives lists of texts."""
    return [
        [
            solve(row, "canonical_solution" if number < n_passed else "buggy_solution", f"\n{mark} {number}\n")
            for number in range(n_samples)
        ]
        for row, n_passed in zip(rows, passes, strict=True)
    ]


def load(rows, folder):
    """The problems of rows."""
    return read_problems(write_problems(folder / "problems.jsonl", rows))
