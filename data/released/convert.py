"""Turn the re-scored tables of the 28 released models into the project's names and units.

``python data/released/convert.py SOURCE data/released`` rewrites the three tables of ``data/released``. The
conversion is exact: percentages become fractions by decimal arithmetic, so no digit is gained or lost.

Rules
-----
- ``model_size`` is ``size``; percentages (values and standard errors) are divided by 100; digitised clone-detection
  values are fractions already.
- ``humanevalfixtests`` is ``humanevalfix_{language}``, ``humanevalexplainsynthesize`` ``humanevalexplain_{language}``,
  ``humanevalsynthesize`` ``humanevalsynthesize_{language}``, ``recode-X`` ``recode_X``, ``aatk-dow`` ``aatk``.
- A ReCode setting is the transformation's name; a defect-detection setting starts with ``zero_shot`` or ``one_shot``;
  other settings stay as they are, so a second file keeps ``second_file``.
- ``n_problems`` is ``n_items``.
- ``humaneval_python`` is the score and counts of ``recode_format``'s unperturbed prompts, under a name of their own.
- Parse rates and insecure rates of ``aatk`` come from ``security_counts.csv`` in the target folder (`security.py`
  beside this file writes it): all programs together, with the linearised error of a ratio over scenarios.
"""

import csv
import gzip
import io
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from pathlib import Path

from astraios_analysis.records.frame import METHODS
from astraios_analysis.records.registry import DATASETS, NOMINAL

SIZES: tuple[str, ...] = ("1b", "3b", "7b", "16b")

MODEL = ("size", "method")
SCORE_FIELDS = (*MODEL, "dataset", "language", "setting", "metric", "value", "stderr", "reading_error")
SCORE_FIELDS += ("n_items", "n_samples", "source", "source_file")
COUNT_FIELDS = (*MODEL, "dataset", "language", "setting", "problem_id", "n_samples", "n_passed")
PARAMETER_FIELDS = (*MODEL, "n_params", "n_params_base", "n_params_base_nonembedding", "n_params_updated")
PARAMETER_FIELDS += ("n_params_saved", "source")

# Width and depth of StarCoderBase, from the models' published configurations; the other numbers are shared by all.
_SHAPES = {"1b": (2048, 24), "3b": (2816, 36), "7b": (4096, 42), "16b": (6144, 40)}
_HEAD_WIDTH, _VOCABULARY, _POSITIONS = 128, 49152, 8192

_HUMANEVAL = {
    "humanevalsynthesize": "humanevalsynthesize",
    "humanevalfixtests": "humanevalfix",
    "humanevalexplainsynthesize": "humanevalexplain",
}

Row = dict[str, str]


def count_embedding_parameters(size: str) -> int:
    """Return the token and position embeddings of a StarCoderBase size (the output layer is tied to the former)."""
    width, _ = _SHAPES[size]
    return (_VOCABULARY + _POSITIONS) * width


def count_base_parameters(size: str) -> int:
    """Return all parameters of a StarCoderBase size, embeddings included, from its published shape.

    A block has a fused query-key-value projection with one key-value head, an output projection, a feed-forward layer
    of four times the width and two layer norms; a last norm follows the blocks.
    """
    width, depth = _SHAPES[size]
    qkv, hidden = width + 2 * _HEAD_WIDTH, 4 * width
    attention = width * qkv + qkv + width * width + width
    feed_forward = 2 * width * hidden + hidden + width
    return count_embedding_parameters(size) + depth * (attention + feed_forward + 4 * width) + 2 * width


def to_fraction(percentage: str) -> str:
    """Return a percentage as a fraction, exactly: ``"58.5185"`` is ``"0.585185"``."""
    fraction = Decimal(percentage) / 100
    return format(fraction.normalize(), "f") if fraction else "0"


def to_dataset(name: str, language: str) -> str:
    """Return the project's name of a data set of the source tables, without its condition; each needs a rule."""
    if name in _HUMANEVAL:
        return f"{_HUMANEVAL[name]}_{language}"
    converted = {"aatk-dow": "aatk"}.get(name, name.replace("-", "_"))
    if converted not in DATASETS:
        raise ValueError(f"unknown data set {name!r} in the source tables; add its rule to the conversion")
    return converted


def to_setting(dataset: str, setting: str) -> str:
    """Return the project's name of a setting: ``greedy,doc2comments,s1`` is ``doc2comments`` for ReCode."""
    if dataset.startswith("recode"):
        return setting.split(",")[1]
    return re.sub(r"^(zero|one)-shot", r"\1_shot", setting)


def convert_score(row: Row) -> Row:
    """Convert one row of the measured scores."""
    dataset = to_dataset(row["dataset"], row["language"])
    own = {"dataset": dataset, "setting": to_setting(dataset, row["setting"]), "source": "measured"}
    own |= {name: to_fraction(row[name]) for name in ("value", "stderr")}
    return _score(row, own | {"reading_error": "", "n_samples": row["n_samples"]})


def convert_digitised(row: Row) -> Row:
    """Convert one row of the clone-detection values that were read off plots; they are fractions already."""
    own = {"source": "digitised", "stderr": "", "reading_error": row["digitisation_error"]}
    return _score(row, own | {"n_samples": row["n_problems"]})


def _score(row: Row, own: Row) -> Row:
    known = row | {"size": row["model_size"], "n_items": row["n_problems"], "source_file": row["source"]} | own
    return {name: known[name] for name in SCORE_FIELDS}


def convert_counts(row: Row) -> Row:
    """Convert one row of the per-problem counts, whose source carries the condition in the data set's name."""
    name, _, condition = row["dataset"].partition("/")
    setting = condition or "t0.2,n20"
    if name.startswith("defect_detection_"):
        name, shot = "defect_detection", name.removeprefix("defect_detection_")
        setting = {"zeroshot": "zero_shot/full2732", "oneshot": "one_shot/full2732"}[shot]
    elif name.endswith("_secondfile"):
        name, setting = name.removesuffix("_secondfile"), "t0.2,n20,second_file"
    known = row | {"size": row["model_size"], "dataset": to_dataset(name, row["language"]), "setting": setting}
    return {name: known[name] for name in COUNT_FIELDS}


def convert_parameters(row: Row) -> Row:
    """Convert one row of the parameter counts, adding the tuned model's total and the base without embeddings."""
    size, base, updated = row["model_size"], int(row["n_params_base"]), int(row["n_params_updated"])
    if base != count_base_parameters(size):
        raise ValueError(f"{size}: n_params_base {base} is not {count_base_parameters(size)}, the count of its shape")
    total = base if row["method"] == "fft" else base + updated
    rest = base - count_embedding_parameters(size)
    known = row | {"size": size, "n_params": str(total), "n_params_base_nonembedding": str(rest)}
    return {name: known[name] for name in PARAMETER_FIELDS}


def add_humaneval(rows: Iterable[Row]) -> list[Row]:
    """Return rows and those of the data set that ReCode's unperturbed prompts make: HumanEval, greedy."""
    rows = list(rows)
    plain = [row for row in rows if (row["dataset"], row["setting"]) == ("recode_format", NOMINAL)]
    return rows + [row | {"dataset": "humaneval_python", "setting": "greedy"} for row in plain]


def make_security_scores(rows: Iterable[Row]) -> list[Row]:
    """Return parse rates and insecure rates of the models in a table of `security.py`."""
    models: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        models.setdefault((row["size"], row["method"], row["completion"]), []).append(row)
    found = []
    for (size, method, completion), own in models.items():
        in_scope = [row for row in own if row["rules_in_scope"]]
        model = {"model_size": size, "method": method, "dataset": "aatk", "language": "python"}
        for metric, counted, of, scenarios in (
            ("parse_rate", "n_valid", "n_samples", own),
            ("insecure_rate", "n_insecure", "n_valid", own),
            ("insecure_rate", "n_insecure_in_scope", "n_valid", in_scope),
        ):
            if (completion, metric) == ("uncut", "parse_rate"):
                continue  # In the source tables already.
            pairs = [(int(row[counted]), int(row[of])) for row in scenarios]
            total = sum(n for _, n in pairs)
            rate = sum(k for k, _ in pairs) / total
            error = sum((k - rate * n) ** 2 for k, n in pairs) ** 0.5 / total
            rules = {"n_insecure": ",all_rules", "n_insecure_in_scope": ",own_weakness"}.get(counted, "")
            row = model | {"metric": metric, "n_problems": str(len(pairs)), "source": own[0]["source_file"]}
            values = {"value": f"{rate:.8f}", "stderr": f"{error:.8f}", "reading_error": "", "n_samples": str(total)}
            found.append(_score(row, values | {"setting": f"t0.2,n20,{completion}{rules}", "source": "measured"}))
    return found


def _order(row: Row) -> tuple[object, ...]:
    return (
        list(DATASETS).index(row["dataset"]),
        row["language"],
        row["setting"],
        row.get("metric", ""),
        SIZES.index(row["size"]),
        METHODS.index(row["method"]),
        int(row.get("problem_id", 0)),
    )


def _read(path: Path) -> Iterator[Row]:
    content = path.read_bytes()
    text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
    yield from csv.DictReader(io.StringIO(text, newline=""))


def _to_csv(rows: Iterable[Row], fields: tuple[str, ...]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fields, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def convert(source: Path, target: Path) -> None:
    """Convert the four source tables in ``source`` and write ``target``; the same input gives the same bytes."""

    def converted(name: str, rule: Callable[[Row], Row]) -> list[Row]:
        return [rule(row) for row in _read(source / name)]

    scores = converted("astraios_released_scores.csv", convert_score)
    scores += converted("astraios_clone_detection_digitised.csv", convert_digitised)
    security = target / "security_counts.csv"
    scores = add_humaneval(scores) + (make_security_scores(_read(security)) if security.exists() else [])
    counts = add_humaneval(converted("astraios_released_per_problem.csv.gz", convert_counts))
    parameters = converted("astraios_parameter_counts.csv", convert_parameters)
    parameters.sort(key=lambda row: (SIZES.index(row["size"]), METHODS.index(row["method"])))
    target.mkdir(parents=True, exist_ok=True)
    (target / "scores.csv").write_bytes(_to_csv(sorted(scores, key=_order), SCORE_FIELDS))
    (target / "parameter_counts.csv").write_bytes(_to_csv(parameters, PARAMETER_FIELDS))
    packed = gzip.compress(_to_csv(sorted(counts, key=_order), COUNT_FIELDS), compresslevel=9, mtime=0)
    (target / "problem_counts.csv.gz").write_bytes(packed)


def main() -> int:
    """Run the conversion: ``python data/released/convert.py SOURCE TARGET``."""
    if len(sys.argv) != 3:
        print("usage: python data/released/convert.py SOURCE TARGET", file=sys.stderr)
        return 2
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
