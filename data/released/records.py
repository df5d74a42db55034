"""Make the records of the 28 released models from the tables beside this file.

``python data/released/records.py data/released`` writes ``released-SIZE-METHOD.json`` for each model. The models
themselves were not run, so a released record has counts and scores but no loss, no seed and no cost.
"""

import sys
from pathlib import Path

import pandas as pd

from astraios_analysis.records.files import save
from astraios_analysis.records.registry import ALL_TRANSFORMATIONS, NOMINAL, RELEASED, chance_level
from astraios_analysis.records.schema import ProblemCounts, Provenance, RunRecord, Score

ORIGIN = "generations released with arXiv 2401.00788, parsed, compiled and executed again; the model was not run"
# The metric of a setting that is the plain mean of its per-problem counts, and so carries them.
MEAN_METRICS = ("pass@1", "mean_pass@1", "overall_accuracy", "parse_rate", "insecure_rate")
MODEL = ["size", "method"]
KEYS = [*MODEL, "dataset", "language", "setting"]
PARAMETERS = ("n_params", "n_params_base", "n_params_base_nonembedding", "n_params_updated")
SCORE_FIELDS = ("dataset", "language", "setting", "metric", "value", "stderr", "reading_error", "n_items", "n_samples")
SCORE_FIELDS += ("source", "source_file")


def index_counts(path: Path) -> dict[tuple, ProblemCounts]:
    """Group per-problem counts by model, data set, language and setting, adding each ReCode category's sum."""
    frame = pd.read_csv(path)
    changed = frame[frame["dataset"].str.startswith("recode_") & (frame["setting"] != NOMINAL)]
    total = changed.groupby([*KEYS[:-1], "problem_id"], sort=False, as_index=False)[["n_samples", "n_passed"]].sum()
    whole = pd.concat([frame, total.assign(setting=ALL_TRANSFORMATIONS)])
    return {key: _counts(own, "problem_id") for key, own in whole.groupby(KEYS, sort=False)}


def index_scenarios(path: Path) -> dict[tuple, ProblemCounts]:
    """Return valid programs of each scenario and the insecure ones among them, by the settings of `convert.py`."""
    counts = {}
    for (size, method, completion), own in pd.read_csv(path).groupby([*MODEL, "completion"], sort=False):
        scoped = own[own["rules_in_scope"].notna()]
        for suffix, rows, of, counted in (
            ("", own, "n_samples", "n_valid"),
            (",all_rules", own, "n_valid", "n_insecure"),
            (",own_weakness", scoped, "n_valid", "n_insecure_in_scope"),
        ):
            setting = f"t0.2,n20,{completion}{suffix}"
            counts[size, method, "aatk", "python", setting] = _counts(rows, "scenario_id", of, counted)
    return counts


def _counts(rows: pd.DataFrame, name: str, of: str = "n_samples", counted: str = "n_passed") -> ProblemCounts:
    names, samples, passed = (tuple(rows[column].tolist()) for column in (name, of, counted))
    return ProblemCounts(problem_ids=names, n_samples=samples, n_passed=passed)


def make_records(folder: Path) -> list[RunRecord]:
    """Return a record for each model in the tables of a folder."""
    counts = index_counts(folder / "problem_counts.csv.gz") | index_scenarios(folder / "security_counts.csv")
    scores: dict[tuple, list[Score]] = {}
    for row in pd.read_csv(folder / "scores.csv").astype({"n_samples": "Int64"}).to_dict("records"):
        fields = {name: row[name] for name in SCORE_FIELDS if not pd.isna(row[name])}
        problems = counts.get(tuple(row[name] for name in KEYS)) if row["metric"] in MEAN_METRICS else None
        if problems is not None:
            fields |= {"problems": problems, "n_passed": sum(problems.n_passed)}
        score = Score(**fields, chance=chance_level(row["dataset"], row["metric"]))
        scores.setdefault((row["size"], row["method"]), []).append(score)
    return [
        RunRecord(
            run_id=f"{RELEASED}-{row['size']}-{row['method']}",
            grid=RELEASED,
            held_out=False,
            scores=tuple(scores[row["size"], row["method"]]),
            provenance=Provenance(origin=ORIGIN),
            **{name: row[name] for name in (*MODEL, *PARAMETERS)},
        )
        for row in pd.read_csv(folder / "parameter_counts.csv").to_dict("records")
    ]


def main() -> int:
    """Write the records: ``python data/released/records.py FOLDER``."""
    if len(sys.argv) != 2:
        print("usage: python data/released/records.py FOLDER", file=sys.stderr)
        return 2
    for record in make_records(Path(sys.argv[1])):
        save(record, sys.argv[1], overwrite=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
