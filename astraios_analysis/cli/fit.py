"""``astraios fit``: a law fitted to a table or to records."""

from pathlib import Path
from types import SimpleNamespace

import click

import astraios_analysis as aa
from astraios_analysis.cli.shared import (
    LEVEL,
    POSITIVE,
    READ,
    RUNS_OR_TABLE,
    SEED,
    columns,
    load_runs,
    read_data,
    require_distinct,
)
from astraios_analysis.records.commands import JSON, Command, flag, option, options
from astraios_analysis.records.notation import json_text, say, table_text

HELP = """\
Fit a law to points and print its parameters with intervals, the certificate of
the fit, and what a report of it must say. Starts are found from the data alone.

Points come from a CSV file with named columns (lines that begin with # are
comments; a missing value is an error), or from records: then the outcome is
val_loss, the input n_params_base and the group method, unless options say
otherwise. Held-out runs, and rows not marked train in --split, take no part.

With groups, --pooling none fits each alone; shared gives all groups one floor
and one exponent, and each its own amplitude. --list prints the laws.

JSON is {law, formula, params: {name: {value, lower, upper, level, identified}},
objective, n_obs, dof, certificate}; with --pooling none a list of them, each
with its group. A parameter that the data do not bound has identified false, and
null where its interval has no end. -o FILE keeps the fit (law, parameters with
covariance and draws, scatter, range, versions, coded warnings) for
`astraios predict FILE --points points.csv`.
"""
EXAMPLES = """\
  astraios fit --law chinchilla --x N,D --y loss --huber 1e-3 --data runs.csv
  astraios fit --law power_floor --x params --y loss --group method --data runs.csv --json
  astraios fit --law power_floor --grid ladder --pooling shared
  astraios fit --law updated_multiplicative --x n_params_base,n_params_updated --grid ladder
  astraios fit --law chinchilla --x N,D --y loss --data runs.csv --fix alpha=beta
  astraios fit --law power_floor --derive C=6*N*D --x C --y loss --data runs.csv
  astraios fit --law skaling --x N,D --y loss --data runs.csv -o fit.json
  astraios fit --list
"""


def _held(text: str) -> tuple[str, float | str]:
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError:
        if value.isidentifier():
            return name, value
        raise click.BadParameter(f"{text!r} is not NAME=NUMBER or NAME=NAME, such as E=1.7 or alpha=beta") from None


_COLUMNS = options(
    option("--x", "A,B", "columns of the law's inputs, in its order", type=columns),
    option("--y", "NAME", "column of the outcome"),
    option("--group", "A,B", "columns that tell groups apart (none: one law for all)", type=columns),
    option("--split", "NAME", "column that marks the rows to fit with train"),
    READ,
)
_HOW = options(
    click.option(
        "--pooling", type=click.Choice(["none", "shared"]), help="what groups share (table: none; records: shared)"
    ),
    option("--huber", "DELTA", "Huber's loss (default: least squares)", type=click.FloatRange(0, min_open=True)),
    click.option("--scale", type=click.Choice(["fixed", "estimated"]), default="fixed", help="scale of Huber's loss"),
    click.option("--residual", type=click.Choice(["log", "linear"]), help="scale of residuals (default: the law's)"),
    click.option(
        "--fix", "fixed", multiple=True, type=_held, metavar="NAME=VALUE", help="hold at a number, or tie to another"
    ),
    click.option("--starts", "n_starts", type=POSITIVE, metavar="N", help="starts to polish"),
    LEVEL,
    click.option(
        "--intervals",
        type=click.Choice(["profile", "bootstrap"]),
        default="profile",
        help="how intervals are made (profile)",
    ),
    option("--resamples", "N", "bootstrap refits (2000)", type=POSITIVE, default=2000),
    option("--seed", "N", "seed of the bootstrap (0)", type=SEED, default=0),
)
_ASKED = ("x", "y", "group", "split", "pooling", "huber", "scale", "residual")
_ASKED += ("level", "intervals", "resamples", "seed")


@click.command("fit", cls=Command, help=HELP, epilog=EXAMPLES)
@RUNS_OR_TABLE
@option("--law", "NAME", "law to fit (see --list)")
@flag("--list", "print the laws and end")
@_COLUMNS
@_HOW
@click.option("-o", "--output", metavar="FILE", type=Path, help="keep the fit, for `astraios predict FILE`")
@JSON
def command(given: SimpleNamespace) -> None:
    """Fit a law and print what was found."""
    if given.list:
        print(table_text(aa.list_laws()))
        return
    if given.law is None:
        raise aa.Refusal(f"name the law to fit with --law: {', '.join(aa.list_laws()['law'])}")
    if given.group == ("none",):
        given.group = ()
    asked = {name: getattr(given, name) for name in _ASKED} | {"fixed": dict(given.fixed)}
    asked |= {"n_starts": given.n_starts} if given.n_starts else {}
    if given.data is not None and not given.data.is_dir():
        found = aa.fit(read_data(given), given.law, **asked)
    else:
        runs = load_runs(given)
        require_distinct(runs)
        found = aa.fit(runs, given.law, **asked)
    for note in found.points.notes:
        say(note)
    for name, reason in found.refused.items():
        say(f"{name} is not fitted: {reason}")
    if given.output is not None:
        found.save(given.output, given.seed)
    if given.as_json:
        reports = [_report(found, name) for name in found.fits]
        print(json_text(reports if _is_apart(found) else reports[0]))
    else:
        _print(found)


def _is_apart(found: "aa.Fit") -> bool:
    """Return whether each group has a fit of its own."""
    return found.points.group is not None and not found.members


def _report(found: "aa.Fit", group: str) -> dict[str, object]:
    """Return one fit as plain values in the form that other programs build on."""
    fit, (certificate, intervals, _) = found.fits[group], found.certified[group]
    params = {}
    for name, value in fit.params.items():
        own = intervals.get(name)
        lower, upper, level = (value, value, None) if own is None else (own.lower, own.upper, own.level)
        params[name] = {"value": _finite(value), "lower": _finite(lower), "upper": _finite(upper), "level": level}
        known = certificate.identified.get(name)
        params[name]["identified"] = None if known is None else bool(known)
    return ({"group": group} if _is_apart(found) else {}) | {
        "law": found.law.name,
        "formula": fit.law.formula,
        "params": params,
        "objective": _finite(fit.value),
        "n_obs": fit.n_obs,
        "dof": fit.dof,
        "certificate": {
            "converged": fit.status == "converged",
            "gradient_norm": _finite(fit.gradient_norm),
            "condition_number": _finite(fit.condition_number),
            "dof": fit.dof,
            "identified": {name: bool(known) for name, known in certificate.identified.items()},
            "is_lowest": bool(certificate.is_lowest),
            "n_starts": fit.n_starts,
            "n_agreeing": fit.n_agreeing,
            "residual_scale": _finite(fit.residual_scale),
            "sigma": _finite(fit.sigma),
            "warnings": found.warnings(group),
            "checklist": found.checklist(group),
        },
    }


def _finite(value: float) -> float | None:
    return float(value) if abs(value) < float("inf") else None


def _print(found: "aa.Fit") -> None:
    """Print parameters, warnings, certificates, and what a report of each fit states."""
    print(f"{found}\n\n{table_text(found.diagnostics)}")
    for group in found.fits:
        print(f"\na report of this fit{f', group {group},' if _is_apart(found) else ''} states")
        print("\n".join(f"  {item}: {text}" for item, text in found.checklist(group).items()))
