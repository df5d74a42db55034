"""The command ``score``: score a file of generations, published or one's own. It works without torch."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

SCORE_HELP = """\
Score generations: programs are run in the sandbox, answers read, scripts analysed, all with standard errors.

The file is JSON, plain or gzipped, in the layout that the study published: for each problem a list of samples.
Identical programs run once. Every verdict is written down at once, so that the same command goes on where it was
stopped. docs/scoring.md says how each data set is scored.
"""

SCORE_EPILOG = """\
The table goes to standard output, and with --json one object and nothing else:
{dataset, n_problems, n_samples, "pass@1", ..., stderr, settings, sandbox, per_problem: [{problem_id, n_samples,
n_passed}]}, in the order of the problem file. Progress and notes go to standard error.

Exit status: 0; 1 when scoring could not be finished, with what was found out kept; 2 for wrong arguments, files or a
machine that lacks what is needed; 130 after Ctrl-C.

examples:
  python -m training score --list
  python -m training score --dataset humanevalfix_python generations.json --problems humanevalpack_python.jsonl
  python -m training score --dataset defect_detection generations.json.gz --json
  python -m training score --dataset recode_syntax syntax.json --nominal format.json --problems humaneval.jsonl.gz
"""


def add_score_command(commands: Any) -> None:
    """Add the command to the sub-parsers of ``python -m training``."""
    score = commands.add_parser(
        "score",
        help="score a file of generations",
        description=SCORE_HELP,
        epilog=SCORE_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    score.add_argument("generations", metavar="GENERATIONS", type=Path, nargs="?", help="the file, .json or .json.gz")
    score.add_argument("--dataset", metavar="NAME", help="what the generations answer; --list names them")
    score.add_argument("--list", action="store_true", help="list the data sets and how they are scored")
    score.add_argument(
        "--problems", metavar="FILE", type=Path, help="JSONL file of the problems (default: from the hub)"
    )
    score.add_argument("--nominal", metavar="FILE", type=Path, help="ReCode: generations for the prompts as they were")
    score.add_argument("--json", action="store_true", help="print JSON: full precision, nothing else")
    score.add_argument("--workers", metavar="N", type=int, help="programs at a time (default: the processors)")
    score.add_argument(
        "--resume", metavar="DIR", type=Path, help="folder of the journals of verdicts (default: build/scoring)"
    )
    score.add_argument("--fresh", action="store_true", help="forget the journal of this file and run everything")
    score.add_argument(
        "--cpu-seconds", metavar="S", type=float, help="processor time of a program (default: Python 1, Java 3)"
    )
    score.add_argument(
        "--unsafe", action="store_true", help="run programs without containment: only ever programs of your own"
    )
    score.set_defaults(command=_score, parser=score)


def _score(arguments: argparse.Namespace) -> int:
    if arguments.list:
        _print(_list_tasks(arguments.json))
        return 0
    for name in ("dataset", "generations"):
        if getattr(arguments, name) is None:
            raise ValueError(f"{'--dataset' if name == 'dataset' else 'GENERATIONS'} is missing; see --help")

    from training.published.score import score_file
    from training.published.security import AnalyserUnavailable
    from training.published.verdicts import JournalError, ProgramsNotRun
    from training.sandbox.programs import JavaUnavailable, SandboxUnavailable

    request = _request(arguments)
    try:
        report = score_file(request, _note)
    except JavaUnavailable as error:
        raise ValueError(f"{error} On Debian and Ubuntu: apt-get install openjdk-17-jdk-headless") from error
    except (SandboxUnavailable, AnalyserUnavailable) as error:
        raise ValueError(str(error)) from error
    except (JournalError, ProgramsNotRun) as error:
        _note(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        _note("stopped; the same command goes on from there")
        raise
    return _print(json.dumps(report.to_json(), indent=2) if arguments.json else report.to_table())


def _request(arguments: argparse.Namespace) -> Any:
    from training.published.score import DEFAULT_FOLDER, Request

    if arguments.workers is not None and arguments.workers < 1:
        raise ValueError(f"--workers {arguments.workers}: give a positive number")
    if arguments.cpu_seconds is not None and not 0 < arguments.cpu_seconds < 3600:
        raise ValueError(f"--cpu-seconds {arguments.cpu_seconds:g}: give seconds above 0 and below 3600")
    return Request(
        arguments.dataset,
        arguments.generations,
        problems=arguments.problems,
        nominal=arguments.nominal,
        workers=arguments.workers or len(os.sched_getaffinity(0)),
        is_unsafe=arguments.unsafe,
        folder=arguments.resume or DEFAULT_FOLDER,
        is_fresh=arguments.fresh,
        cpu_seconds=arguments.cpu_seconds,
    )


def _list_tasks(as_json: bool) -> str:
    from training.published.tasks import TASKS

    rows = [
        {
            "dataset": task.name,
            "language": task.language,
            "n_problems": task.n_problems,
            "metric": task.metric,
            "chance": task.chance,
            "scoring": task.scoring,
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
        _note(f"error: standard output cannot be written ({error.strerror}); the verdicts are kept, run it again")
        # What is left in the buffer would fail once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


def _note(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
