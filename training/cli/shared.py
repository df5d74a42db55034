"""What commands share: how they are declared, the options that choose runs, notes and tables."""

import functools
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click

from astraios_analysis.records.frame import METHODS
from astraios_analysis.records.refusal import Refusal
from training.grid.workers import Outcome
from training.published.tasks import TASKS
from training.sandbox.pool import Sandbox
from training.sandbox.programs import SandboxUnavailable
from training.spec.grids import CORPORA, PRESETS, Grid, check_corpus, preset
from training.spec.own import read_grid
from training.spec.run import LoopSettings, RunSpec
from training.suite.request import MEASURE_NAMES, Scoring

_NUMBER = re.compile(r"-?\d[\d,]*(\.\d*)?(e[+-]?\d+)?")


class _Texts:
    """Shows descriptions and examples as they are written, line by line."""

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write(f"\n{self.help}" if self.help else "")

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write(f"\n{self.epilog}" if self.epilog else "")


class Group(_Texts, click.Group):
    """A command of actions."""


class Command(_Texts, click.Command):
    """A command whose options may take several values at once (``--size 1b 7b``), and that says what it refuses."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Give every value of an option that takes several an option of its own, as click wants it."""
        several = {name for option in self.params if getattr(option, "multiple", False) for name in option.opts}
        given: list[str] = []
        current = None
        for word, following in pairwise([*args, "-"]):
            if word in several and following.startswith("-"):
                raise click.BadOptionUsage(word, f"Option '{word}' requires an argument.", ctx)
            if word.startswith("-"):
                current = word if word in several else None
            given += [current, word] if current not in (None, word) else [] if current else [word]
        return super().parse_args(ctx, given)

    def invoke(self, ctx: click.Context) -> Any:
        """Call the command with all that was given in one namespace; what it refuses is shown as wrong usage."""
        try:
            return self.callback(SimpleNamespace(**ctx.params))
        except ValueError as error:
            raise click.UsageError(str(error), ctx) from error


def options(*decorators: Callable) -> Callable:
    """Return one decorator of several, the first one's option shown first."""
    return functools.reduce(lambda outer, inner: lambda function: outer(inner(function)), decorators)


def several(name: str, metavar: str, text: str, **settings: Any) -> Callable:
    """Return an option that takes one or more values; None where it is not given."""
    settings.setdefault("callback", lambda ctx, option, values: list(values) or None)
    return click.option(name, metavar=f"{metavar} ...", multiple=True, help=text, **settings)


def folder(name: str, text: str, default: str | None = None, **settings: Any) -> Callable:
    """Return an option for a folder or a file."""
    metavar = settings.pop("metavar", "DIR")
    shown = {"default": default, "show_default": default is not None}
    return click.option(name, *settings.pop("names", ()), metavar=metavar, type=Path, help=text, **shown, **settings)


def flag(name: str, text: str) -> Callable:
    """Return an option that is on or off."""
    return click.option(name, is_flag=True, help=text)


def at_most_one(**given: Any) -> None:
    """Refuse options that exclude each other."""
    set_ = [f"--{name.replace('_', '-')}" for name, value in given.items() if value]
    if len(set_) > 1:
        raise click.UsageError(f"argument {set_[1]}: not allowed with argument {set_[0]}")


JSON = click.option("--json", "as_json", is_flag=True, help="print JSON: full precision, nothing else")
UNSAFE = flag("--unsafe", "run programs that models wrote without any containment; records say so")
NO_MEMORY_CHECK = flag("--no-memory-check", "start whatever the estimate of memory says")
CACHE = folder("--cache", "models", "build/cache")
DATASETS_OF_TEXT = options(
    several("--dataset", "NAME", "runs on text are scored on these data sets of the study (default: all of them)"),
    folder("--problems", "their problems, files NAME.jsonl (default: from the hub)"),
)
SCORING = options(flag("--no-scores", "train only; `grid score` adds the scores later"), UNSAFE, DATASETS_OF_TEXT)
PRESET = click.option("--preset", "name", metavar="NAME", required=True, help=f"the grid: {', '.join(PRESETS)}")
JOBS = click.option("--jobs", metavar="N", type=int, help="worker processes (default: the processors of this process)")
METHOD = several("--method", "METHOD", f"tuning methods: {', '.join(METHODS)} (default: all)")
TRACKERS = options(
    several(
        "--log-with", "TRACKER", "report losses and speed to trackers of accelerate: tensorboard, wandb, mlflow, ..."
    ),
    folder("--log-dir", "where trackers that write files put them", "build/trackers"),
)
_SETTING_NAMES = ("micro_batch", "gradient_checkpointing", "precision", "base_precision")
CHOICE = options(
    click.option("--preset", "name", metavar="NAME", help=f"the grid: {', '.join(PRESETS)}"),
    folder("--spec", "the grid in a file of your own (`grid spec --preset NAME` prints one)"),
    several("--size", "SIZE", "sizes (default: all of the grid)"),
    METHOD,
    several("--seed", "SEED", "seeds (default: all)", type=int),
    folder("--runs", "folder of the records (default: build/runs/PRESET)"),
    click.option("--micro-batch", metavar="ROWS", type=int, help="rows of one forward pass on one process *"),
    flag("--gradient-checkpointing", "compute activations anew instead of keeping them *"),
    click.option("--precision", metavar="P", help="of the forward pass: fp32 or bf16 *"),
    click.option(
        "--base-precision",
        metavar="P",
        help="of a frozen base's weights: bf16, int8 as in the study, or nf4 (QLoRA)  (* part of a run: with another "
        "setting it has another name)",
    ),
)
"""Options that choose runs of a grid, and their settings: `choice_of`."""


@dataclass(frozen=True)
class Choice:
    """The runs of a grid that were chosen, with the settings that were given, and the folder of their records."""

    preset: str
    specs: tuple[RunSpec, ...]
    runs_dir: Path


def choice_of(given: SimpleNamespace) -> Choice:
    """Return the runs that the options `CHOICE` choose."""
    # Off and absent are one, and do not enter a run's name.
    settings = {option: value for option in _SETTING_NAMES if (value := getattr(given, option)) not in (None, False)}
    grid = named_grid(given.name, given.spec)
    specs = tuple(_with_settings(one, settings) for one in grid.runs(given.size, given.method, given.seed))
    return Choice(grid.name, specs, given.runs or Path("build/runs") / grid.name)


def named_grid(name: str | None, spec: Path | None) -> Grid:
    """Return the grid of a preset or of a file."""
    at_most_one(preset=name, spec=spec)
    if name is None and spec is None:
        raise click.UsageError("Missing option '--preset' (or '--spec FILE')")
    return preset(name) if spec is None else read_grid(spec)


def _with_settings(spec: RunSpec, given: dict[str, Any]) -> RunSpec:
    # Full fine-tuning has no frozen base: it stays as it is beside methods that have one.
    mine = {name: value for name, value in given.items() if name != "base_precision" or spec.tuning.method != "fft"}
    if not mine:
        return spec
    fields = {name: getattr(spec, name) for name in RunSpec.model_fields}
    return RunSpec(**{**fields, "loop": LoopSettings(**{**spec.loop.model_dump(), **mine})})


def scoring_of(specs: Sequence[RunSpec], given: SimpleNamespace) -> Scoring | None:
    """Return how runs are scored: on the suite of their corpus, or, on text, on data sets of the study."""
    is_unscored = getattr(given, "no_scores", False)
    at_most_one(no_scores=is_unscored, unsafe=given.unsafe)
    for spec in specs:
        check_corpus(spec.data)
    if is_unscored:
        return None
    how = {"unsafe": given.unsafe, "force": getattr(given, "force", False)}
    if specs[0].data in CORPORA:
        if given.dataset or given.problems:
            raise Refusal(f"--dataset and --problems are for runs on text; {specs[0].data} has a suite of its own")
        return Scoring(tuple(getattr(given, "measures", None) or MEASURE_NAMES), **how)
    scoring = Scoring((), **how, datasets=tuple(given.dataset or TASKS), problems=given.problems)
    for name in scoring.datasets:
        scoring.problems_of(name)
    return scoring


def check_trackers(names: Sequence[str] | None) -> None:
    """Refuse trackers that cannot be used here, before anything is started."""
    if not names:
        return
    # Brings torch, which a launch without trackers does without: only its workers load it.
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    available = {str(name) for name in get_available_trackers()}
    for name in names:
        if name not in LOGGER_TYPE_TO_CLASS:
            raise Refusal(f"unknown tracker {name!r}; choose from {', '.join(sorted(LOGGER_TYPE_TO_CLASS))}")
        if name not in available:
            raise Refusal(f"tracker {name!r} is not installed; install its package (pip install {name})")


def close(outcomes: Sequence[Outcome], ending: str) -> int:
    """Say what is not finished and how much is, and return the exit status."""
    unfinished = [outcome for outcome in outcomes if outcome.status in ("failed", "busy")]
    for outcome in unfinished:
        note(f"{outcome.status}: {outcome.run_id}: {outcome.message}")
    note(f"{len(outcomes) - len(unfinished)} of {len(outcomes)} {ending}")
    return 1 if unfinished else 0


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0))


def jobs_of(given: SimpleNamespace) -> int:
    """Return how many worker processes are asked for."""
    return processors() if given.jobs is None else given.jobs


def require_containment(scoring: Scoring | None, otherwise: str) -> None:
    """Find out before anything is computed whether programs can be run at all."""
    if scoring is None or scoring.unsafe:
        return
    try:
        Sandbox(workers=1).close()
    except SandboxUnavailable as error:
        raise Refusal(f"{error}; {otherwise}") from error


def note(line: str) -> None:
    """Print a line of progress to standard error."""
    print(line, file=sys.stderr, flush=True)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return rows of one set of columns as a table with a header; columns of numbers end at the right."""
    cells = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    columns = []
    for header, *texts in zip(*cells, strict=True):
        width = max(map(len, (header, *texts)))
        is_number = all(_NUMBER.fullmatch(text) or text in ("", "-") for text in texts) and any(texts)
        columns.append([text.rjust(width) if is_number else text.ljust(width) for text in (header, *texts)])
    return "\n".join("  ".join(line).rstrip() for line in zip(*columns, strict=True))


def _cell(value: Any) -> str:
    return (" ".join(map(str, value)) or "-") if isinstance(value, list) else str(value)
