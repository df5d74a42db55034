"""The command ``grid``: which grids there are, train one, score one, compare one, and how far it is."""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from itertools import cycle, islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click

from astraios_analysis.records.commands import JSON, Group, flag, option, options
from astraios_analysis.records.frame import DATASETS, RunRecord, load
from astraios_analysis.records.notation import say, table_text
from astraios_analysis.records.refusal import Refusal, require_known
from training.cli.shared import (
    CACHE,
    CHOICE,
    DATASETS_OF_TEXT,
    JOBS,
    METHOD,
    NO_MEMORY_CHECK,
    PRESET,
    SCORING,
    TRACKERS,
    UNSAFE,
    Command,
    Number,
    at_most_one,
    check_trackers,
    choice_of,
    close,
    folder,
    processors,
    require_containment,
    scoring_of,
    several,
)
from training.grid.cluster import JobSettings, run_queue, submit
from training.grid.estimates import available_memory, describe_time, gpus, place, seconds_left
from training.grid.pilot import TEXTS, acceptance, pilot_grid, pilot_rows, write_table
from training.grid.search import search
from training.grid.workers import Folders, launch, launch_scoring
from training.spec.files import STATES, clear_failure, record_path, run_state
from training.spec.grids import PRESETS, check_corpus, fetch_corpus, preset
from training.spec.own import write_grid
from training.spec.run import RunSpec
from training.suite.request import MEASURE_NAMES, Scoring

GRID_HELP = """\
Train and score grids of tuned models, sizes x tuning methods x seeds, on this machine or a cluster.

A run's record, RUNS/<run_id>.json, is written when the run has finished; a run whose record exists is skipped, and one
that was interrupted goes on from its last checkpoint. Base models are trained once and kept in the cache.
"""

GRID_EXAMPLES = """\
examples:
  python -m training grid list
  python -m training grid run --preset smoke --jobs 2
  python -m training grid status --preset smoke
  python -m training grid run --help
"""


@click.group("grid", cls=Group, subcommand_metavar="ACTION [OPTIONS]", help=GRID_HELP, epilog=GRID_EXAMPLES)
def command() -> None:
    """Hold the actions."""


def _action(name: str, summary: str, description: str | None = None, epilog: str = "") -> Callable:
    return command.command(name, cls=Command, help=description or f"{summary}\n", short_help=summary, epilog=epilog)


LIST_EPILOG = """\
The table goes to standard output, and with --json a list of objects
{preset, sizes, held_out_sizes, methods, seeds, n_runs, data} and nothing else.
"""


@_action("list", "The grids there are.", epilog=LIST_EPILOG)
@JSON
def list_(given: SimpleNamespace) -> None:
    """Print the presets."""
    grids = [preset(name) for name in PRESETS]
    rows = [
        {
            "preset": grid.name,
            "sizes": [size.name for size in grid.sizes],
            "held_out_sizes": list(grid.held_out_sizes),
            "methods": list(grid.methods),
            "seeds": list(grid.seeds),
            "n_runs": len(grid.runs()),
            "data": grid.data,
        }
        for grid in grids
    ]
    print(json.dumps(rows, indent=2) if given.as_json else table_text(rows))


SPEC_EPILOG = """\
What is printed is TOML; change it (sizes, methods, seeds, data, schedule, learning rates) and train it with
`grid run --spec FILE`, or one run of it with `run --spec FILE`. Left out of a file, a field has its default.

examples:
  python -m training grid spec --preset ladder > my_grid.toml
  python -m training grid run --spec my_grid.toml
"""


@_action("spec", "Print a grid as a file of your own.", epilog=SPEC_EPILOG)
@PRESET
def spec_(given: SimpleNamespace) -> None:
    """Print a preset as TOML."""
    print(write_grid(preset(given.preset)), end="")


STATUS_EPILOG = """\
states:
  done       the record exists and can be read
  damaged    the record exists and cannot be read; what to do is shown
  running    a process is training it
  failed     it stopped with an error, whose last line is shown
  partial    it was interrupted and goes on from its last checkpoint
  missing    nothing of it is there, or nothing that was saved

Below the table stand the number of runs in each state and, once two runs are finished, the time that is left:
operations of what is not done, at the pace of what is, over as many runs at a time as are running now (one, where none
is). Bases that are still to be trained are not in it.

The table goes to standard output, and with --json a list of objects {run_id, size, method, seed, state, detail,
seconds_left} and nothing else; seconds_left is null where it is not known. Exit status: 0, or 2 with a message
on standard error.
"""


@_action("status", "How far a grid is.", epilog=STATUS_EPILOG)
@CHOICE
@JSON
def status(given: SimpleNamespace) -> None:
    """Print the state of every run, and the time that is left."""
    choice = choice_of(given)
    left = seconds_left(choice.specs, choice.runs_dir)
    rows = []
    for spec, seconds in zip(choice.specs, left, strict=True):
        found = run_state(choice.runs_dir, spec.run_id)
        labels = {"run_id": spec.run_id, "size": spec.size.name, "method": spec.tuning.method, "seed": spec.seed}
        rows.append({**labels, "state": found.state, "detail": found.detail, "seconds_left": seconds})
    if given.as_json:
        print(json.dumps(rows, indent=2))
        return
    counts = Counter(row["state"] for row in rows)
    print(table_text([{name: value for name, value in row.items() if name != "seconds_left"} for row in rows]))
    print(", ".join(f"{counts[state]} {state}" for state in STATES))
    if None not in left and any(left):
        at_once = max(1, counts["running"])
        print(f"about {describe_time(max(sum(left) / at_once, *left))} left with {at_once} at a time")


RUN_EPILOG = """\
Engine local: worker processes on this machine, each of which trains and scores one run at a time with one thread; base
models come first. Where there are GPUs, there is a worker on each. There are only as many workers as fit into the free
memory by the estimate of `python -m training estimate`; where not even one run does, nothing is started and the message
says what would do. Progress goes to standard error. Ctrl-C stops the workers; the same command goes on later.

Engine queue: jobs on this machine one after the other, each of --processes processes that train one run together, by
submitit: for models that take all GPUs of a machine.

Engine slurm: the same jobs on a cluster, --nodes nodes with --processes processes each: two job arrays, bases and then
runs, through submitit (pip install 'astraios[cluster]'). A job that runs out of time or is preempted goes back into the
queue and goes on from its last checkpoint. Records, cache and this installation must lie on a file system that all
nodes share. The command ends when the jobs are in the queue; `grid status` shows how far they are. Two launchers never
train one run twice, on any engine (docs/scale.md).

Programs that a model wrote run in the sandbox, without network or files (docs/sandbox.md). Where no containment works,
nothing is trained: --no-scores trains without running any program, and --unsafe runs them without containment.

Exit status: 0 when all runs asked for are finished, or in the queue; 1 when some failed, with the last line of each on
standard error, or are being trained by another process; 2 for wrong arguments; 130 after Ctrl-C. A failed run is tried
again the next time; one that diverged would diverge again, and says which file to delete to try it all the same.
"""

RUN_EXAMPLES = """
examples:
  python -m training grid run --preset smoke --size 32x2 --method lora ia3 --runs build/trial
  python -m training grid run --preset gpu --engine slurm --partition gpu --minutes 120 --no-scores
  python -m training grid run --spec my_grid.toml
"""

RETRY_HELP = """\
Train the runs of a grid again that failed, and no others.

What a failed run had saved is used; why it failed is forgotten. One that diverged is left out, for it would diverge
again, unless --diverged is given (after a change of the machine or of the libraries, say).
"""

RETRY_EXAMPLES = """
examples:
  python -m training grid retry --preset ladder --method lora --jobs 1
  python -m training grid retry --preset ladder --diverged
"""

_JOB, _SHARE = JobSettings(), Number(0, 1, min_open=True, max_open=True)
_TRAINING = options(
    CHOICE,
    JOBS,
    CACHE,
    NO_MEMORY_CHECK,
    SCORING,
    TRACKERS,
    option("--engine", "ENGINE", "local (default), queue or slurm", default="local"),
    flag("--shard", "queue, slurm: divide a model among the processes of its job (FSDP2)"),
    option("--partition", "NAME", "slurm: partition of the jobs"),
    option("--account", "NAME", "slurm: account of the jobs"),
    option("--qos", "NAME", "slurm: quality of service"),
    *(
        option(
            f"--{name.replace('_', '-')}",
            "N",
            f"queue, slurm: {meaning}",
            type=type(getattr(_JOB, name)),
            default=getattr(_JOB, name),
            show_default=True,
        )
        for name, meaning in {
            "minutes": "time of a job",
            "memory_gib": "main memory of a job",
            "cpus": "processors of a job",
            "gpus": "GPUs of a job on every node",
            "nodes": "nodes of a job",
            "processes": "processes of a job on every node (default: one for each GPU)",
            "at_once": "jobs that run at the same time",
            "max_timeouts": "how often a job may run out of time",
        }.items()
    ),
    option("--setup", "COMMAND", "slurm: a shell command before Python starts", multiple=True),
)


@_action("run", "Train a grid.", epilog=RUN_EPILOG + RUN_EXAMPLES)
@_TRAINING
def run(given: SimpleNamespace) -> int:
    """Train runs that have no record."""
    choice = choice_of(given)
    return _train(choice.specs, choice.runs_dir, given)


@_action("retry", "Train failed runs again.", RETRY_HELP, RUN_EPILOG + RETRY_EXAMPLES)
@_TRAINING
@flag("--diverged", "those that diverged, too")
def retry(given: SimpleNamespace) -> int:
    """Forget why runs failed, and train them."""
    choice = choice_of(given)
    states = {spec: run_state(choice.runs_dir, spec.run_id) for spec in choice.specs}
    failed = [spec for spec, found in states.items() if found.state == "failed"]
    hopeless = [] if given.diverged else [spec for spec in failed if states[spec].is_divergence]
    if hopeless:
        say(f"{len(hopeless)} runs that diverged would diverge again and are left out; --diverged tries them")
    again = tuple(spec for spec in failed if spec not in hopeless)
    if not again:
        say(f"no failed run to try again in {choice.runs_dir}")
        return 0
    for spec in again:
        clear_failure(choice.runs_dir, spec.run_id)
    return _train(again, choice.runs_dir, given)


def _train(specs: Sequence[RunSpec], runs_dir: Path, given: SimpleNamespace) -> int:
    require_known("engine", [given.engine], ("local", "queue", "slurm"))
    if given.shard and given.engine == "local":
        raise Refusal("--shard divides a run among the processes of a job; choose --engine queue or slurm")
    # Asked before any process is started.
    check_trackers(given.log_with)
    scoring = scoring_of(specs, given)
    missing = [spec for spec in specs if not record_path(runs_dir, spec.run_id).exists()]
    # Once, and here: workers of one launch do not all ask the hub, and nodes of a cluster may not reach it.
    for data in dict.fromkeys(spec.data for spec in missing):
        fetch_corpus(data)
    folders = Folders(runs_dir, given.cache, scoring, tuple(given.log_with or ()), given.log_dir, given.shard)
    if given.engine == "slurm":
        jobs = submit(specs, folders, _job(given))
        if jobs:
            say(f"{len(jobs)} jobs are in the queue, {jobs[0].job_id} to {jobs[-1].job_id}; see `grid status`")
        else:
            say(f"all {len(specs)} runs were finished before")
        return 0
    require_containment(scoring, "grid run --no-scores trains without running any program")
    if given.engine == "queue":
        outcomes = run_queue(specs, folders, _job(given), say)
    else:
        places = _places(missing, given)
        with _stopped("the same command goes on from the last checkpoints"):
            outcomes = launch(specs, folders, jobs=len(places), report=say, places=places)
    return close(outcomes, f"runs are finished; records are in {runs_dir}")


def _job(given: SimpleNamespace) -> JobSettings:
    return JobSettings(**{field.name: getattr(given, field.name) for field in fields(JobSettings)})


@contextmanager
def _stopped(ending: str) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        say(f"stopped; {ending}")
        raise


def _places(missing: Sequence[RunSpec], given: SimpleNamespace) -> tuple[str | None, ...]:
    found = gpus()
    asked = given.jobs or len(found) or processors()
    if given.no_memory_check or not missing:
        return tuple(islice(cycle(found or (None,)), asked))
    places = place(missing, min(asked, len(missing)), found, available_memory())
    if len(places) < min(asked, len(missing)):
        say(f"{len(places)} of {asked} workers: more would not fit into the free memory")
    return places


SCORE_HELP = """\
Score finished runs on the embedded suite (docs/embedded_suite.md), without training.

`grid run` scores every run after its training. This adds what a record lacks: runs trained with --no-scores, a measure
that is new, or one whose version has changed. Tuned models come from the cache.
"""

SCORE_EPILOG = f"""\
measures: {", ".join(MEASURE_NAMES[:5])},
  {", ".join(MEASURE_NAMES[5:])}

A record is replaced in one step after every measure, so that Ctrl-C costs one measure at most; measures that it has
from this version of the suite are not taken again, unless --force is given. Progress goes to standard error.

--base scores each base model of the grid once, in no record, also on its own task, embedded_completion. The table of
the headline scores goes to standard output, and with --json a list of all of them, objects {{size, seed, n_params_base,
dataset, setting, metric, value, stderr, n_items}}, and nothing else.

Exit status: 0 when every finished run has the measures; 1 when some failed, with the last line of each on standard
error, or are another process' work; 2 for wrong arguments; 130 after Ctrl-C.

examples:
  python -m training grid score --preset smoke --measures clone defect --jobs 1
  python -m training grid score --preset smoke --size 32x2 --measures security --force
"""


@_action("score", "Add scores to the records of a grid.", SCORE_HELP, SCORE_EPILOG)
@CHOICE
@JOBS
@CACHE
@several("--measures", "MEASURE", "measures to take (default: all)")
@UNSAFE
@DATASETS_OF_TEXT
@flag("--force", "take measures again that a record has")
@flag("--base", "score the untuned base models instead, and print the scores")
@JSON
def score(given: SimpleNamespace) -> int:
    """Take measures that records lack, or those of base models."""
    choice = choice_of(given)
    at_most_one(force=given.force, base=given.base)
    scoring = scoring_of(choice.specs, given)
    if given.base and scoring.datasets:
        raise Refusal("--base scores bases on the suite of their corpus, and these are on text; use `generate --model`")
    if given.as_json and not given.base:
        raise Refusal("--json belongs to --base; scores of runs go into their records (astraios records show)")
    require_containment(scoring, "nothing was scored")
    if given.base:
        _print_base_scores(choice.specs, given.cache, scoring, given.as_json)
        return 0
    with _stopped("the same command goes on after the last measure of each run"):
        folders = Folders(choice.runs_dir, given.cache, scoring)
        outcomes = launch_scoring(choice.specs, folders, jobs=given.jobs or processors(), report=say)
    return close(outcomes, f"records in {choice.runs_dir} have the measures")


def _print_base_scores(specs: Sequence[RunSpec], cache: Path, scoring: Scoring, as_json: bool) -> None:
    # Brings torch. Every other action leaves that to its workers: an accelerator that the parent touches stays in use.
    from training.grid.run import base_scores

    bases = {(spec.size.name, spec.seed): spec for spec in specs}
    rows: list[dict[str, Any]] = []
    for number, ((size, seed), spec) in enumerate(bases.items(), 1):
        say(f"[{number}/{len(bases)}] base {size}, seed {seed}")
        rows += base_scores(spec, cache, scoring)
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    primary = {known.name: (known.primary_setting, known.primary_metric) for known in DATASETS.values()}
    primary = {name: stands for name, stands in primary.items() if stands[1]}
    # Of what no score stands for, all are shown.
    shown = [row for row in rows if primary.get(row["dataset"]) in (None, (row["setting"], row["metric"]))]
    print(table_text(shown))


SEARCH_HELP = """\
Search learning rates for the methods of a grid.

Every method is trained at the grid's smallest size, or --size, with a pilot seed: at the grid's own rate, half of it
and twice, until the rate with the smallest validation loss has a larger and a smaller one beside it. No test score is
looked at.
"""

SEARCH_EPILOG = """\
Trials are kept as records in RUNS; an interrupted search goes on, and finished trials are not trained again. The table
goes to standard output and, as CSV with full precision, to OUT. Progress goes to standard error.

Exit status: 0; 2 with a message when a rate cannot be found; 130 after Ctrl-C.

examples:
  python -m training grid search --preset ladder --method ptuning
  python -m training grid search --preset ladder --method ptuning ia3 --size 32x2 --out build/rates_32x2.csv
"""


@_action("search", "Search learning rates for a grid.", SEARCH_HELP, SEARCH_EPILOG)
@PRESET
@METHOD
@option("--size", "SIZE", "the size that is searched at (default: the smallest)")
@folder("--runs", "folder of the trials' records (default: build/runs/PRESET_search)")
@folder("--out", "the table (default: RUNS/learning_rates.csv)", metavar="FILE")
@JOBS
@CACHE
def search_(given: SimpleNamespace) -> None:
    """Try learning rates until the best of every method lies between two others."""
    grid, size = preset(given.preset), given.size
    check_corpus(grid.data)
    grid.runs(None if size is None else [size], given.method)
    runs_dir = given.runs or Path("build/runs") / f"{grid.name}_search"
    folders, jobs = Folders(runs_dir, given.cache), given.jobs or processors()
    trials = search(grid, folders, jobs=jobs, methods=given.method, size=size, report=say)
    out = given.out or runs_dir / "learning_rates.csv"
    write_table(trials, out)
    print(table_text(trials.assign(chosen=trials["chosen"].map({True: "*", False: ""})).to_dict("records")))
    say(f"the table is in {out}")


PILOT_HELP = """\
Train pilots of a grid on seeds that it has not, without its held-out size, and say what can be told apart there.

--text, --offsets and --instructions try another base text, other start positions or another share of instructions;
each is another run. --accept adds the table of acceptance: range of every measure, differences between sizes and
between methods beside those between seeds, each method against its base, each beside its threshold (docs/ladder.md).
"""

PILOT_EPILOG = """\
Records go to RUNS, the table of the runs, one row each, to OUT, and with --accept that of acceptance to ACCEPT and to
standard output. Runs that were trained before are not trained again. Progress goes to standard error.

Exit status: 0 when all pilots are finished; 1 when some failed; 2 for wrong arguments; 130 after Ctrl-C.

examples:
  python -m training grid pilot --preset ladder --seed 1004 --size 16x2 32x2 --method lora ptuning
  python -m training grid pilot --preset ladder --seed 1004 --size 32x2 --text plain --offsets 0
  python -m training grid pilot --preset ladder --seed 1004 --size 32x2 --instructions 0.005
  python -m training grid pilot --preset ladder --seed 1011 1012 1013 --accept data/pilots/ladder_signal.csv
"""


@_action("pilot", "Train pilots of a grid, and hold them against thresholds.", PILOT_HELP, PILOT_EPILOG)
@PRESET
@several("--size", "SIZE", "sizes (default: all but the held-out one)")
@METHOD
@several("--seed", "SEED", "seeds, none of the grid's (default: 1004)", type=int)
@option("--text", "TEXT", f"base text: {', '.join(TEXTS)}", default="skills", show_default=True)
@option("--offsets", "N", "last start position of base text (default: the grid's)", type=click.IntRange(min=0))
@option("--instructions", "SHARE", "of instructions in base text (default: the grid's)", type=_SHARE)
@folder("--runs", "folder of the records (default: build/runs/PRESET_pilot)")
@folder("--out", "the table of runs (default: RUNS/pilots.csv)", metavar="FILE")
@folder("--accept", "the table of acceptance", metavar="FILE")
@JOBS
@CACHE
@UNSAFE
def pilot(given: SimpleNamespace) -> int:
    """Train and score pilots, and write their tables."""
    changes = {name: getattr(given, name) for name in ("text", "offsets", "instructions")}
    grid = pilot_grid(preset(given.preset), given.seed or [1004], **changes)
    specs, runs_dir = grid.runs(given.size, given.method), given.runs or Path("build/runs") / grid.name
    folders = Folders(runs_dir, given.cache, Scoring(unsafe=given.unsafe))
    how = {"jobs": given.jobs or processors(), "report": say}
    require_containment(folders.scoring, "no pilot was trained")
    outcomes = launch(specs, folders, **how)
    if any(outcome.status == "skipped" for outcome in outcomes):
        # Trained before, perhaps without a measure that is new.
        launch_scoring(specs, folders, **how)
    records = [load(path) for spec in specs if (path := record_path(runs_dir, spec.run_id)).exists()]
    write_table(table := pilot_rows(records), given.out or runs_dir / "pilots.csv")
    if given.accept is not None and records:
        write_table(found := acceptance(table), given.accept)
        print(found.to_string(index=False, float_format="{:.3g}".format))
    return close(outcomes, f"pilots are finished; records are in {runs_dir}")


COMPARE_HELP = """\
Hold the records of a grid against others of the same runs: losses before and after tuning, the whole validation curve,
and scores. The same specification and seed on the same kind of machine give the same numbers; on another kind, sums are
rounded in another order.
"""

COMPARE_EPILOG = """\
The table goes to standard output: for every run in both folders the largest difference of losses and of scores. Runs
that only one folder has are counted on standard error.

Exit status: 0 when all losses agree; 1 when some do not; 2 for wrong arguments, or when no run is in both folders.

examples:
  python -m training grid compare --preset ladder
  python -m training grid compare --preset ladder --seed 0 --runs build/again --with data/runs/ladder --tolerance 1e-4
"""

LOSS_TOLERANCE = 1e-3
"""Largest difference of losses that counts as the same, in nats per token."""


def difference(one: RunRecord, other: RunRecord) -> tuple[float, float | None]:
    """Return the largest differences of losses (infinite where one lacks a point) and of scores, if both have some."""
    losses = [_losses(record) for record in (one, other)]
    # Losses of answers are taken like scores, and older records are without.
    answers = [{task: found.loss for task, found in record.task_losses.items()} for record in (one, other)]
    scores = [{s.key: s.value for s in r.scores} | a for r, a in zip((one, other), answers, strict=True)]
    shared = scores[0].keys() & scores[1].keys()
    return _largest(*losses, losses[0].keys() | losses[1].keys()), _largest(*scores, shared) if shared else None


def _losses(record: RunRecord) -> dict[Any, float]:
    ends = {"before": record.base_val_loss, "after": record.val_loss}
    curve = {point.step: point.loss for point in record.val_curve}
    return {name: loss for name, loss in ends.items() if loss is not None} | curve


def _largest(one: dict[Any, float], other: dict[Any, float], keys: Any) -> float:
    return max((abs(one.get(key, math.inf) - other.get(key, -math.inf)) for key in keys), default=0.0)


@_action("compare", "Hold a grid's records against committed ones.", COMPARE_HELP, COMPARE_EPILOG)
@CHOICE
@folder("--with", "the other records (default: data/runs/PRESET)", names=("other",))
@option(
    "--tolerance", "NATS", "largest difference of losses", type=Number(0), default=LOSS_TOLERANCE, show_default=True
)
def compare(given: SimpleNamespace) -> int:
    """Print how far records of the same runs are apart."""
    choice, tolerance = choice_of(given), given.tolerance
    folders = choice.runs_dir, given.other or Path("data/runs") / choice.preset
    places = {spec.run_id: [record_path(folder, spec.run_id) for folder in folders] for spec in choice.specs}
    pairs = {run_id: list(map(load, own)) for run_id, own in places.items() if all(path.exists() for path in own)}
    if not pairs:
        raise Refusal(
            f"none of the {len(choice.specs)} runs has a record both in {folders[0]} and in {folders[1]}; "
            "train them with `grid run`, or name the folders with --runs and --with"
        )
    found = {run_id: difference(*pair) for run_id, pair in pairs.items()}
    print(
        table_text([{"run_id": name, "loss": f"{loss:.2g}", "score": score} for name, (loss, score) in found.items()])
    )
    apart = [run_id for run_id, (loss, _) in found.items() if not loss <= tolerance]
    if len(found) < len(choice.specs):
        say(f"{len(choice.specs) - len(found)} of {len(choice.specs)} runs are not in both folders")
    say(
        f"{len(found) - len(apart)} of {len(found)} runs have losses within {tolerance:g} nats per token; "
        f"the largest difference is {max(loss for loss, _ in found.values()):.2g}"
    )
    kinds = {tuple(r.provenance.processor or "an unknown kind" for r in pairs[run_id]) for run_id in apart}
    for one, other in sorted(kinds):
        if one != other:
            say(f"trained on {one} and on {other}: kinds of processors round differently")
    return 1 if apart else 0
