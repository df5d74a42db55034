"""What commands share: options, the runs that these choose, and what is asked before anything starts."""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import click

from astraios_analysis.records import commands
from astraios_analysis.records.commands import flag, option, options
from astraios_analysis.records.frame import METHODS
from astraios_analysis.records.notation import say
from astraios_analysis.records.refusal import Refusal
from training.grid.workers import Outcome
from training.published.security import AnalyserUnavailable, describe_analyser
from training.published.tasks import TASKS
from training.sandbox.pool import Sandbox
from training.sandbox.programs import JavaUnavailable, SandboxUnavailable
from training.spec.grids import CORPORA, PRESETS, check_corpus, preset
from training.spec.own import read_grid
from training.spec.run import BasePrecision, LoopSettings, Precision, RunSpec
from training.suite.request import MEASURE_NAMES, Scoring


class Command(commands.Command):
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
        """Call the command; what it refuses is shown as wrong usage."""
        try:
            return super().invoke(ctx)
        except ValueError as error:
            raise click.UsageError(str(error), ctx) from error


class Number(click.FloatRange):
    """A finite number within bounds; click's own type takes nan to be within any."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return what was given as a number."""
        if not math.isfinite(found := super().convert(value, param, ctx)):
            self.fail(f"{value} is no finite number.", param, ctx)
        return found


def several(name: str, metavar: str, text: str, **settings: Any) -> Callable:
    """Return an option that takes one or more values; None where it is not given."""
    settings.setdefault("callback", lambda ctx, option, values: list(values) or None)
    return click.option(name, metavar=f"{metavar} ...", multiple=True, help=text, **settings)


def folder(name: str, text: str, default: str | None = None, **settings: Any) -> Callable:
    """Return an option for a folder or a file."""
    metavar = settings.pop("metavar", "DIR")
    shown = {"default": default, "show_default": default is not None}
    return click.option(name, *settings.pop("names", ()), metavar=metavar, type=Path, help=text, **shown, **settings)


def at_most_one(**given: Any) -> None:
    """Refuse options that exclude each other."""
    set_ = [f"--{name.replace('_', '-')}" for name, value in given.items() if value]
    if len(set_) > 1:
        raise click.UsageError(f"argument {set_[1]}: not allowed with argument {set_[0]}")


UNSAFE = flag("--unsafe", "run programs that models wrote without any containment; records say so")
NO_MEMORY_CHECK = flag("--no-memory-check", "start whatever the estimate of memory says")
CACHE = folder("--cache", "models", "build/cache")
DATASETS_OF_TEXT = options(
    several("--dataset", "NAME", "runs on text are scored on these data sets of the study (default: all of them)"),
    folder("--problems", "their problems, files NAME.jsonl (default: from the hub)"),
)
SCORING = options(flag("--no-scores", "train only; `grid score` adds the scores later"), UNSAFE, DATASETS_OF_TEXT)
PRESET = option("--preset", "NAME", f"the grid: {', '.join(PRESETS)}", required=True)
_JOBS = "worker processes (default: the processors of this process)"
JOBS = option("--jobs", "N", _JOBS, type=click.IntRange(min=1))
METHOD = several("--method", "METHOD", f"tuning methods: {', '.join(METHODS)} (default: all)")
TRACKERS = options(
    several(
        "--log-with", "TRACKER", "report losses and speed to trackers of accelerate: tensorboard, wandb, mlflow, ..."
    ),
    folder("--log-dir", "where trackers that write files put them", "build/trackers"),
)
_SETTING_NAMES = ("micro_batch", "gradient_checkpointing", "precision", "base_precision")
CHOICE = options(
    option("--preset", "NAME", f"the grid: {', '.join(PRESETS)}"),
    folder("--spec", "the grid in a file of your own (`grid spec --preset NAME` prints one)", metavar="FILE"),
    several("--size", "SIZE", "sizes (default: all of the grid)"),
    METHOD,
    several("--seed", "SEED", "seeds (default: all)", type=int),
    folder("--runs", "folder of the records (default: build/runs/PRESET)"),
    option("--micro-batch", "ROWS", "rows of one forward pass on one process *", type=click.IntRange(min=1)),
    flag("--gradient-checkpointing", "compute activations anew instead of keeping them *"),
    option("--precision", "P", "of the forward pass: fp32 or bf16 *", type=click.Choice(get_args(Precision))),
    option(
        "--base-precision",
        "P",
        "of a frozen base's weights: bf16, int8 as in the study, or nf4 (QLoRA)  (* part of a run: with another "
        "setting it has another name)",
        type=click.Choice(get_args(BasePrecision)),
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
    at_most_one(preset=given.preset, spec=given.spec)
    if given.preset is None and given.spec is None:
        raise click.UsageError("Missing option '--preset' (or '--spec FILE')")
    grid = preset(given.preset) if given.spec is None else read_grid(given.spec)
    specs = tuple(_with_settings(one, settings) for one in grid.runs(given.size, given.method, given.seed))
    return Choice(grid.name, specs, given.runs or Path("build/runs") / grid.name)


def _with_settings(spec: RunSpec, given: dict[str, Any]) -> RunSpec:
    # Full fine-tuning has no frozen base: it stays as it is beside methods that have one.
    mine = {name: value for name, value in given.items() if name != "base_precision" or spec.tuning.method != "fft"}
    if not mine:
        return spec
    return RunSpec(**dict(spec) | {"loop": LoopSettings(**dict(spec.loop) | mine)})


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
        say(f"{outcome.status}: {outcome.run_id}: {outcome.message}")
    say(f"{len(outcomes) - len(unfinished)} of {len(outcomes)} {ending}")
    return 1 if unfinished else 0


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0))


def require_containment(scoring: Scoring | None, otherwise: str) -> None:
    """Find out before anything is computed whether programs can be run, and analysed, at all."""
    if scoring is None:
        return
    tasks = [TASKS[name] for name in scoring.datasets]
    try:
        with Sandbox(workers=1, unsafe=scoring.unsafe) as sandbox:
            for language in sorted({task.language for task in tasks if task.kind in ("programs", "robustness")}):
                sandbox.require(language)
        if "security" in (*scoring.measures, *(task.kind for task in tasks)):
            describe_analyser()
    except (SandboxUnavailable, JavaUnavailable, AnalyserUnavailable) as error:
        raise Refusal(f"{str(error).rstrip('.')}; {otherwise}") from error
