"""The command ``astraios``: its commands, its help and its exit codes. A command's module is imported when named."""

import sys
from collections.abc import Sequence

import click

from astraios_analysis.records.commands import Program
from astraios_analysis.records.refusal import RecordError, Refusal

COMMANDS = {
    "figures": "render the notebooks: figures, tables, report",
    "records": "validate records, or print them as a table",
    "rank": "rank methods at each size; does the order carry over to larger ones?",
    "compare": "how far apart are two methods, how sure is that, and what would turn it?",
    "transfer": "scores at a large size regressed on those at a small one, methods as points",
    "regress": "scores regressed on the loss: curve, parameters, the held-out size predicted",
    "predict": "predict losses and scores at a size nobody has measured",
    "claims": "judge what the study claims, for these models and for others",
    "plan": "which run to make next, and what performance costs",
    "allocate": "the size and the data that a budget buys, from a table of runs",
    "fit": "fit a law to a table or to records: parameters, intervals, certificate",
    "backtest": "predict held-out rows of a table, or sizes of records, and score the predictions",
    "import": "records from tables, Trainer folders, results of harnesses",
}
"""Commands, and one line about each."""
_PLACES = {"import": "imports", "transfer": "compare:transfer", "regress": "compare:regress"}

HELP = """\
Scaling laws for tuned code language models: from measured runs to figures,
ranks and predictions for sizes nobody has tried.

The data folder (default: ./data, or else what astraios was installed with) holds
the scores of the 28 released Astraios models (data/released) and any records of
runs you trained (data/runs/**.json).
Where it holds several grids, rank and predict want to know which: --grid NAME.
"""

EXAMPLES = """\
  astraios figures                       render every notebook, figure and the report
  astraios figures --only scale_transfer --jobs 1
  astraios records check data            validate everything, exit 1 if anything is wrong
  astraios records show --method lora --size 7b --dataset humanevalfix_python
  astraios records show --format csv > scores.csv
  astraios rank --dataset humanevalsynthesize_java
  astraios compare lora fft --size 7b
  astraios transfer --dataset mean_generation
  astraios regress --grid ladder --dataset embedded_fix
  astraios predict --method lora --size 34b --dataset recode_format
  astraios predict --method all --size 34b --json
  astraios claims
  astraios plan --size 34b --dataset recode_format
  astraios plan --data pool.csv --x N,D --y loss --cost "6*N*D" --target big.csv --budget 10%
  astraios fit --law chinchilla --x N,D --y loss --huber 1e-3 --data runs.csv
  astraios allocate --data runs.csv --x N,D --y loss --budget 1e22
  astraios import csv runs.csv --grid mine --out my_data

results go to standard output, progress and notes to standard error.
exit codes: 0 done, 1 something is wrong with the data or a notebook,
2 the command or its arguments, or a prediction that the data cannot support.
"""

commands = Program(
    "astraios",
    {name: (f"astraios_analysis.cli.{_PLACES.get(name, name)}", line) for name, line in COMMANDS.items()},
    help=HELP,
    epilog=EXAMPLES,
)
commands = click.version_option(package_name="astraios", message="astraios %(version)s")(commands)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    try:
        return commands.run("astraios", argv)
    except RecordError as error:
        return _fail(str(error), 1)
    except Refusal as error:
        return _fail(str(error), 2)


def _fail(text: str, code: int) -> int:
    print(text, file=sys.stderr)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
