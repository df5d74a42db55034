"""Scores a published file of generations and compares every problem's count with the released one."""

import functools
import re
import time
from types import SimpleNamespace

import pandas as pd

from training.published.score import Request, score_file

_RELEASED = {"humanevalsynthesize": "humanevalsynthesize", "humanevalfix": "humanevalfixtests"}
_RELEASED["humanevalexplain"] = "humanevalexplainsynthesize"


def published_files(folder):
    """Files of generations in the reference folder, by their names without endings."""
    paths = sorted((folder / "generations").glob("*_*_*.json.gz"))
    return {path.name.removesuffix(".json.gz"): path for path in paths}


def expected_counts(folder, name):
    """Released counts of a file: {setting: [(n_samples, n_passed), ...]} in the order of problems."""
    dataset, size, method = name.rsplit("_", 2)
    known = _load_counts(folder)
    prefix, _, rest = dataset.partition("_")
    if prefix in _RELEASED:
        return {"": known[_RELEASED[prefix], rest, size, method]}
    if prefix == "recode":
        found = {key[0]: rows for key, rows in known.items() if key[0].startswith(f"recode-{rest}/")}
        return {released.partition("/")[2]: known[released, "python", size, method] for released in found}
    return {"": known[dataset, "c", size, method]}


@functools.cache
def _load_counts(folder):
    rows = pd.read_csv(folder / "data" / "astraios_released_per_problem.csv.gz")
    groups = rows.groupby(["dataset", "language", "model_size", "method"])[["problem_id", "n_samples", "n_passed"]]
    return {key: list(counts.itertuples(index=False, name=None)) for key, counts in groups}


def compare(folder, name, scratch):
    """Score a file, and say which problems differ from the released counts.

    Gives programs, distinct ones, seconds, settings compared, and {setting: {problem: (released, ours)}}.
    """
    expected = expected_counts(folder, name)
    begin = time.perf_counter()
    report = score_file(make_request(folder, name, scratch))
    seconds = time.perf_counter() - begin
    found = {"": report.whole, **report.settings}
    if name.startswith("recode_syntax"):
        # Its nominal outcomes come from a file of the same model that is not there.
        expected.pop("nominal")
    differing = {}
    for setting, rows in expected.items():
        ours = [(count.problem_id, count.n_samples, count.n_passed) for count in found[setting].per_problem]
        assert [row[0] for row in sorted(rows)] == [row[0] for row in ours], f"{name} {setting}: other problems"
        unequal = {a[0]: (a[1:], b[1:]) for a, b in zip(sorted(rows), ours, strict=True) if a != b}
        differing |= {setting: unequal} if unequal else {}
    counted = {"n_samples": report.whole.n_samples, "n_distinct": report.details.get("n_distinct_programs", 0)}
    return SimpleNamespace(report=report, seconds=seconds, settings=list(expected), differing=differing, **counted)


def make_request(folder, name, scratch):
    """What to score for a file of the reference folder."""
    dataset = re.sub(r"_(zero|one)shot$", "", name.rsplit("_", 2)[0])
    language = "java" if dataset.endswith("java") else "python"
    problems = folder / "generations" / f"humanevalpack_{language}.jsonl.gz"
    told = {"problems": None if dataset == "defect_detection" else problems, "workers": 2, "shows_progress": False}
    return Request(dataset, folder / "generations" / f"{name}.json.gz", folder=scratch, **told)
