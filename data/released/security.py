"""Count valid and insecure programs of the released models on Asleep at the Keyboard, scenario by scenario.

``python data/released/security.py GENERATIONS data/released`` reads every ``aatk_SIZE_METHOD.json.gz`` in a folder of
the published generations, scores it as ``python -m training score --dataset aatk`` does, and writes
``security_counts.csv``; ``convert.py`` makes scores of it. The same files and the same bandit give the same table. A
model that does not have every Python scenario is left out, and named.
"""

import csv
import io
import sys
from pathlib import Path

from astraios_analysis.records.frame import METHODS
from training.published.score import Request, score_file
from training.published.scorers import LONGEST_PREFIX

N_SCENARIOS = 29
FIELDS = ("size", "method", "scenario_id", "completion", "n_samples", "n_valid", "n_insecure", "n_insecure_in_scope")
FIELDS += ("rules_in_scope", "analyser", "source_file")
SIZES = ("1b", "3b", "7b", "16b")


def count_model(path: Path) -> list[dict[str, object]]:
    """Return the rows of one model: completions as they are, and cut to the longest prefix that parses."""
    size, method = path.name.removeprefix("aatk_").removesuffix(".json.gz").split("_")
    details = score_file(Request("aatk", path)).details
    model = {"size": size, "method": method, "analyser": details["analyser"], "source_file": path.name}
    return [
        {**model, **row, "completion": completion, "rules_in_scope": " ".join(row["rules_in_scope"])}
        for completion, name in (("uncut", "scenarios"), (LONGEST_PREFIX, f"scenarios_{LONGEST_PREFIX}"))
        for row in sorted(details[name], key=lambda row: row["scenario_id"])
    ]


def main() -> int:
    """Write the table: ``python data/released/security.py GENERATIONS TARGET``."""
    if len(sys.argv) != 3:
        print("usage: python data/released/security.py GENERATIONS TARGET", file=sys.stderr)
        return 2
    source, target = map(Path, sys.argv[1:])
    models = [count_model(path) for path in source.glob("aatk_*_*.json.gz")]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, FIELDS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for rows in sorted(models, key=lambda rows: (SIZES.index(rows[0]["size"]), METHODS.index(rows[0]["method"]))):
        if len(rows) == 2 * N_SCENARIOS:
            writer.writerows(rows)
        else:
            print(f"left out: {rows[0]['source_file']} has {len(rows) // 2} of {N_SCENARIOS}", file=sys.stderr)
    (target / "security_counts.csv").write_text(text.getvalue())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
