"""What a user says about runs that no file says, and values as they stand in files; what is missing is asked for."""

import json
import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    field_validator,
)

from astraios_analysis.records.notation import COUNT_UNITS, parse_count
from astraios_analysis.records.refusal import FileProblem, RecordError, Refusal, fail
from astraios_analysis.records.registry import RELEASED, chance_level, find_dataset
from astraios_analysis.records.schema import METHODS, RunRecord, Score, validating

COUNTS = ("n_params", "n_params_base", "n_params_base_nonembedding", "n_params_updated")
TIME_UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0}
# To nats per token. A loss in bits per byte or per character needs the tokenizer, so there is no factor for it.
LOSS_UNITS: dict[str, Callable[[float], float]] = {
    "nats": lambda loss: loss,
    "bits": lambda loss: loss * math.log(2),
    "perplexity": math.log,
}
_LONGEST_NAME = 100
_SIZE_UNITS = ((10**9, "b"), (10**6, "m"), (10**3, "k"))


Count = Annotated[int, BeforeValidator(lambda said: parse_count(str(said))), Field(ge=1)]


class ScoreColumn(NamedTuple):
    """A column that holds one data set's score: what it is, as far as the data set does not say it itself."""

    column: str
    dataset: str
    metric: str | None = None
    setting: str | None = None
    language: str | None = None


class Options(BaseModel):
    """What a user says of runs and files, by the names of mapping files; the command's help describes each option.

    Fields of a run that no column gives are those of ``runs`` by name of run, or of the named groups of
    ``name_pattern`` in that name. What is said of tasks goes by their names, or by the empty name for all others.
    ``setting`` stands in place of the one made from a file's configuration; variants and filters stay behind it.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    grid: str | None = None
    run_id: str | None = None
    method: Annotated[str, AfterValidator(lambda said: read_method(said, {}))] | None = None
    size: str | None = None
    seed: Annotated[int, Field(ge=0)] | None = None
    held_out: tuple[str, ...] = ()
    n_params: Count | None = None
    n_params_base: Count | None = None
    n_params_base_nonembedding: Count | None = None
    n_params_updated: Count | None = None
    n_tokens: Count | None = None
    methods: dict[str, str] = {}
    n_items: dict[str, Count] = {}
    metrics: dict[str, str] = {}
    languages: dict[str, str] = {}
    skip_unknown: bool = False
    columns: dict[str, str] = {}
    scores: tuple[ScoreColumn, ...] = ()
    percent: bool = False
    params_unit: Literal[tuple(COUNT_UNITS)] = "1"
    loss_unit: Literal[tuple(LOSS_UNITS)] = "nats"
    time_unit: Literal[tuple(TIME_UNITS)] = "s"
    delimiter: str | None = None
    runs: dict[str, dict[str, JsonValue]] = {}
    name_pattern: re.Pattern | None = None
    datasets: dict[str, str] = {}
    setting: str | None = None
    base_config: Path | None = None
    counts: Path | None = None
    eval: str | None = None
    checkpoint: Literal["last", "best"] = "last"
    repeated_step: Literal["first", "last"] | None = None
    unfinished: bool = False
    out: Path = Path()
    replace: bool = False
    quiet: bool = False

    @field_validator("delimiter")
    @classmethod
    def _one_character(cls, said: str | None) -> str | None:
        found = "\t" if said == "tab" else said
        if found is not None and len(found) != 1:
            raise ValueError(f"{said!r} is not one character; for tabs give the word tab")
        return found

    def given_counts(self) -> dict[str, int]:
        """Return the counts of parameters that were given."""
        return {name: value for name in COUNTS if (value := getattr(self, name)) is not None}

    def of_task(self, name: str, task: str, dataset: str) -> object:
        """Return what an option says of a task, of its data set, or of all tasks; None where it says nothing."""
        values = getattr(self, name)
        return next((values[key] for key in (task, dataset, "") if key in values), None)


def read_options(said: Mapping[str, object], path: Path | None = None) -> Options:
    """Return options from plain values by name, as they stand in a mapping file (``path``) or were given."""
    try:
        with validating(path or Path()):
            return Options.model_validate_json(json.dumps(said, default=str))
    except RecordError as error:
        if path is not None:
            raise
        names = [problem.field.partition(".")[0].replace("_", "-") for problem in error.problems]
        lines = [f"--{name}: {problem.message}" for name, problem in zip(names, error.problems, strict=True)]
        raise Refusal("\n".join(lines)) from error


@dataclass
class Imported:
    """What an import found: records, what it left out, and what a reader of the files may not expect.

    Of results of harnesses there are ``scores`` instead, and ``names`` of their tasks and data sets; ``extended`` are
    the names of runs that scores were added to.
    """

    records: list[RunRecord] = field(default_factory=list)
    left_out: list[FileProblem] = field(default_factory=list)
    notes: list[FileProblem] = field(default_factory=list)
    scores: list[Score] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    extended: set[str] = field(default_factory=set)

    def add(self, other: "Imported") -> None:
        """Take over what another one found."""
        self.records += other.records
        self.left_out += other.left_out
        self.notes += other.notes


def size_label(n_params_base: int) -> str:
    """Return the label of a size that nobody named: its parameters to three digits, for example ``1.14b``."""
    for unit, suffix in _SIZE_UNITS:
        if n_params_base >= 0.9995 * unit:
            return f"{float(f'{n_params_base / unit:.3g}'):g}{suffix}"
    return str(n_params_base)


def complete_counts(counts: Mapping[str, int], method: str | None) -> dict[str, int]:
    """Return counts with what follows from the method.

    Full fine-tuning updates every parameter and adds none; every other method updates what it adds. Where that is not
    so, ``n_params`` must be given.
    """
    counts = dict(counts)
    updated, base = counts.get("n_params_updated"), counts.get("n_params_base")
    if method == "fft" and None not in (updated, base) and updated != base:
        raise Refusal(
            f"n_params_updated is {updated} and n_params_base {base}, and fft updates every parameter; leave it out, "
            "or give the method another name"
        )
    if method == "fft" and "n_params_base" in counts:
        counts.setdefault("n_params_updated", counts["n_params_base"])
        counts.setdefault("n_params", counts["n_params_base"])
    if method is not None and {"n_params_base", "n_params_updated"} <= counts.keys():
        counts.setdefault("n_params", counts["n_params_base"] + counts["n_params_updated"])
    return counts


def run_fields(
    options: Options, method: str | None, counts: Mapping[str, int], run_id: str, *, seed=None, n_tokens=None
) -> dict[str, object]:
    """Return what a record says of its run; what an option says goes before what a file says.

    No tokens are what a file did not count.
    """
    size = options.size or size_label(counts["n_params_base"])
    return {
        **counts,
        "run_id": options.run_id or run_name(run_id),
        "grid": options.grid,
        "method": method,
        "size": size,
        "seed": seed if options.seed is None else options.seed,
        "held_out": size in options.held_out,
        "n_tokens": options.n_tokens or n_tokens or None,
    }


def run_name(*parts: object) -> str:
    """Return the name of a run made of what tells it apart, with the signs that names may have."""
    return _spell("-".join(str(part) for part in parts if part is not None), "-", "_.-")


def data_name(text: str) -> str:
    """Return the name of a data set, task or language as records write it: small letters, digits, underscores."""
    return _spell(text.lower(), "_")


def _spell(text: str, sign: str, kept: str = "") -> str:
    """Return a text with one sign in place of all between letters and digits, which may be of any script."""
    text = unicodedata.normalize("NFKC", text)
    # Marks are parts of letters.
    is_kept = [c.isalnum() or c in kept or unicodedata.category(c)[0] == "M" for c in text]
    plain = "".join(c if keep else " " for c, keep in zip(text, is_kept, strict=True))
    return re.sub(" +", sign, plain).strip("-_. ")


def read_method(text: str, names: Mapping[str, str]) -> str:
    """Return a tuning method in one word: as the user maps its name, by its display name (``(IA)^3``), or as it is."""
    if text in names:
        return names[text]
    plain = re.sub(r"[\s_()^-]", "", unicodedata.normalize("NFKC", text).lower())
    found = plain if plain in METHODS else re.sub(r"[\s,]+", "_", text.strip())
    if not any(c.isalnum() for c in found) or len(found) > _LONGEST_NAME:
        raise Refusal(f"{text!r} is no name of a tuning method; say its name with --method-name {text!r} METHOD")
    return found


def read_number(text: str) -> float:
    """Return a finite number."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not math.isfinite(value):
        raise Refusal(f"{text!r} is not a finite number; leave a cell empty where nothing was measured")
    return value


def read_percentage(text: str) -> float:
    """Return a share from a percentage; divided in decimals, so that 1.8 is 0.018 and not a neighbour of it."""
    text = text.strip().removesuffix("%")
    read_number(text)
    return float(Decimal(text.strip()) / 100)


def read_loss(text: str, unit: str = "nats") -> float:
    """Return a cross-entropy in nats per token from nats, bits per token or perplexity."""
    value = read_number(text)
    if unit == "perplexity" and value < 1:
        raise Refusal(f"{text!r} is no perplexity, which is 1 or more; is the column a loss in nats?")
    return LOSS_UNITS[unit](value)


def make_record(path: Path, place: str, fields: Mapping[str, object]) -> RunRecord:
    """Return a record, or the error that names the file, the place in it and everything wrong with the fields.

    ``cost``, ``provenance`` and the points of ``val_curve`` are given as mappings of their fields.
    """
    if fields.get("grid") == RELEASED:
        raise fail(path, f"{RELEASED!r} is the grid of the published models; choose another name with --grid", place)
    with validating(path, place):
        return RunRecord(**{**fields, "cost": fields.get("cost") or None})


def make_score(path: Path, place: str, fields: Mapping[str, object]) -> Score:
    """Return a score, measured unless its fields say otherwise, with its chance level; or the error that names all."""
    name = str(fields["dataset"])
    fields = {"n_items": find_dataset(name).n_items} | {key: v for key, v in fields.items() if v is not None}
    if fields["n_items"] is None:
        raise fail(path, f"the number of problems of {name} is not known; say it with --n-items {name}=N", place)
    chance = chance_level(name, str(fields["metric"]))
    with validating(path, place):
        return Score(**({"chance": chance, "source": "measured"} | fields))
