"""The command ``score``: score a file of generations, published or one's own. It works without torch."""

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import click

from astraios_analysis.records.commands import JSON, flag, option
from astraios_analysis.records.frame import load, save
from astraios_analysis.records.notation import count, say, table_text
from astraios_analysis.records.refusal import Refusal
from training.cli.shared import Command, Number, folder, processors
from training.published.measures import Report
from training.published.score import DEFAULT_FOLDER, Request, score_file
from training.published.security import AnalyserUnavailable
from training.published.tasks import TASKS
from training.published.verdicts import ProgramsNotRun
from training.published.writing import Writing, with_published
from training.sandbox.programs import JavaUnavailable, SandboxUnavailable
from training.spec.files import JournalError

HELP = """\
Score generations: programs are run in the sandbox, answers read, scripts analysed, all with standard errors.

The file is JSON, plain or gzipped, in the layout that the study published: for each problem a list of samples.
Identical programs run once. Every verdict is written down at once, so that the same command goes on where it was
stopped. docs/scoring.md says how each data set is scored.
"""

EPILOG = """\
The table goes to standard output, and with --json one object and nothing else:
{dataset, n_problems, n_samples, "pass@1", ..., stderr, settings, sandbox, per_problem: [{problem_id, n_samples,
n_passed}]}, in the order of the problem file. Progress and notes go to standard error.

Exit status: 0; 1 when scoring could not be finished, with what was found out kept; 2 for wrong arguments, files or a
machine that lacks what is needed; 130 after Ctrl-C.

examples:
  python -m training score --list
  python -m training score --dataset defect_detection generations.json.gz --json
  python -m training score --dataset humanevalfix_python generations.json --problems p.jsonl --record runs/RUN.json
  python -m training score --dataset recode_syntax syntax.json --nominal format.json --problems humaneval.jsonl.gz
"""


_SECONDS = Number(0, 3600, min_open=True, max_open=True)


@click.command("score", cls=Command, help=HELP, epilog=EPILOG)
@click.argument("generations", metavar="GENERATIONS", type=Path, required=False)
@option("--dataset", "NAME", "what the generations answer; --list names them")
@flag("--list", "list the data sets and how they are scored")
@folder("--problems", "JSONL file of the problems (default: from the hub)", metavar="FILE")
@folder("--nominal", "ReCode: generations for the prompts as they were", metavar="FILE")
@JSON
@option("--workers", "N", "programs at a time (default: the processors)", type=click.IntRange(min=1))
@folder("--resume", "folder of the journals of verdicts", str(DEFAULT_FOLDER))
@flag("--fresh", "forget the journal of this file and run everything")
@option("--cpu-seconds", "S", "processor time of a program (default: Python 1, Java 3)", type=_SECONDS)
@flag("--unsafe", "run programs without containment: only ever programs of your own")
@folder("--record", "put the scores into this record of a run", metavar="FILE")
@option("--setting", "TEXT", "--record: how it was generated (default: as the study, t0.2,n20, with the file's n)")
def command(given: SimpleNamespace) -> int:
    """Score generations, or list the data sets."""
    if given.list:
        return _print(_list_tasks(given.as_json))
    for name, value in {"--dataset": given.dataset, "GENERATIONS": given.generations}.items():
        if value is None:
            raise Refusal(f"{name} is missing; see --help")
    request = Request(
        given.dataset,
        given.generations,
        problems=given.problems,
        nominal=given.nominal,
        workers=given.workers or processors(),
        is_unsafe=given.unsafe,
        folder=given.resume,
        is_fresh=given.fresh,
        cpu_seconds=given.cpu_seconds,
    )
    if given.record is not None:
        # Refused before programs are run; read again after that, for others may have put scores into it meanwhile.
        load(given.record)
    try:
        report = score_file(request, say)
    except JavaUnavailable as error:
        raise Refusal(f"{error} On Debian and Ubuntu: apt-get install openjdk-17-jdk-headless") from error
    except (SandboxUnavailable, AnalyserUnavailable) as error:
        raise Refusal(str(error)) from error
    except (JournalError, ProgramsNotRun) as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("stopped; the same command goes on from there")
        raise
    if given.record is not None:
        usual = Writing(report.dataset, n_samples=report.whole.per_problem[0].n_samples).setting
        scored = with_published(load(given.record), report, given.setting or usual, {})
        save(scored, given.record.parent, overwrite=True, name=given.record.name)
        say(f"{given.record} has the scores")
    return _print(json.dumps(report.to_json(), indent=2) if given.as_json else report_table(report))


def report_table(report: Report) -> str:
    """Return a report as a table for people."""
    rows = [
        {
            "setting": setting,
            "metric": name,
            "value": f"{value:.4f}",
            "stderr": f"{part.stderr[name]:.4f}" if name in part.stderr else "",
        }
        for setting, part in {"all": report.whole, **report.settings}.items()
        for name, value in part.values.items()
    ]
    n_problems, n_samples = len(report.whole.per_problem), report.whole.n_samples
    head = f"{report.dataset}: {count(n_problems, 'problem')}, {count(n_samples, 'sample')}"
    where = f"programs were executed in: {report.sandbox}" if report.sandbox else "no program was executed"
    foot = f"stderr: over problems, which are resampled; {where}"
    return "\n".join([head, "", table_text(rows), "", *report.notes, foot])


def _list_tasks(as_json: bool) -> str:
    names = ("language", "n_problems", "metric", "chance", "scoring")
    rows = [
        {
            "dataset": task.name,
            **{name: getattr(task, name) for name in names},
            "hub": task.hub.name,
            "reference": task.reference,
        }
        for task in TASKS.values()
    ]
    if as_json:
        return json.dumps(rows, indent=2)
    parts = []
    for row in rows:
        chance = "" if row["chance"] is None else f", chance {row['chance']:g}"
        parts.append(
            f"{row['dataset']}  ({row['language']}, {row['n_problems']} problems, {row['metric']}{chance})\n"
            f"    {row['scoring']}\n    {row['reference']}; hub: {row['hub']}"
        )
    return "\n".join(parts)


def _print(text: str) -> int:
    try:
        print(text, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        say(f"error: standard output cannot be written ({error.strerror}); the verdicts are kept, run it again")
        # What is left in the buffer would fail once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0
