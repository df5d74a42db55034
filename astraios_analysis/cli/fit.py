"""``astraios fit``: its arguments and what it prints."""

import argparse
from pathlib import Path

from astraios_analysis.cli.arguments import add_command, add_data, level, positive, seed

POOLINGS = ("none", "shared")
DEFAULT_X, DEFAULT_Y, DEFAULT_GROUP = "n_params_base", "val_loss", "method"
INTERVALS = ("profile", "bootstrap", "delta")


def add_parser(commands) -> None:
    """Add the command to the parser of all commands."""
    fit = add_command(
        commands,
        "fit",
        "fit a law to a table or to records: parameters, intervals, certificate",
        "Fit a law to points and print its parameters with intervals, the certificate of\n"
        "the fit, and what a report of it must say. Starts are found from the data alone.\n\n"
        "Points come from a CSV file with named columns (lines that begin with # are\n"
        "comments; a missing value is an error), or from records: then the outcome is\n"
        "val_loss, the input n_params_base and the group method, unless options say\n"
        "otherwise. Held-out runs, and rows not marked train in --split, take no part.\n\n"
        "With groups, --pooling none fits each alone; shared gives all groups one floor\n"
        "and one exponent, and each its own amplitude. --list prints the laws.\n\n"
        "JSON is {law, formula, params: {name: {value, lower, upper, level, identified}},\n"
        "objective, n_obs, dof, certificate}; with --pooling none a list of them, each\n"
        "with its group. A parameter that the data do not bound has identified false, and\n"
        "null where its interval has no end.",
        "  astraios fit --law chinchilla --x N,D --y loss --huber 1e-3 --data runs.csv\n"
        "  astraios fit --law power_floor --x params --y loss --group method --data runs.csv --json\n"
        "  astraios fit --law power_floor --grid mini --pooling shared\n"
        "  astraios fit --law updated_multiplicative --x n_params_base,n_params_updated --grid mini\n"
        "  astraios fit --list\n",
    )
    add_data(fit)
    for action in fit._actions:
        if action.dest == "data":
            action.metavar, action.help = "PATH", "CSV file, or data folder (default: ./data)"
    fit.add_argument("--law", metavar="NAME", help="law to fit (see --list)")
    fit.add_argument("--list", action="store_true", help="print the laws and end")
    fit.add_argument("--x", metavar="A,B", help="columns of the law's inputs, in its order")
    fit.add_argument("--y", metavar="NAME", help="column of the outcome")
    fit.add_argument("--group", metavar="A,B", help="columns that tell groups apart (none: one law for all)")
    fit.add_argument("--split", metavar="NAME", help="column that marks the rows to fit with train")
    fit.add_argument(
        "--pooling", type=_pooling, metavar="{none,shared}", help="what groups share (table: none; records: shared)"
    )
    fit.add_argument("--huber", type=_positive_number, metavar="DELTA", help="Huber's loss (default: least squares)")
    fit.add_argument("--scale", choices=("fixed", "estimated"), default="fixed", help="scale of Huber's loss (fixed)")
    fit.add_argument("--residual", choices=("log", "linear"), help="scale of residuals (default: the law's)")
    fit.add_argument("--fix", action="append", type=_held, default=[], metavar="NAME=VALUE", help="hold a parameter")
    fit.add_argument("--starts", type=positive, metavar="N", help="starts to polish")
    fit.add_argument("--level", type=level, default=0.95, metavar="P", help="coverage of the intervals (0.95)")
    fit.add_argument("--intervals", choices=INTERVALS, default="profile", help="how intervals are made (profile)")
    fit.add_argument("--resamples", type=positive, default=2000, metavar="N", help="bootstrap refits (2000)")
    fit.add_argument("--seed", type=seed, default=0, metavar="N", help="seed of the bootstrap (0)")
    fit.add_argument("--json", action="store_true", help="print JSON")
    fit.set_defaults(run="run_fit", module="fit")


def _positive_number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number, such as 1e-3")
    return value


def _pooling(text: str) -> str:
    if text == "partial":
        raise argparse.ArgumentTypeError(
            "partial pooling is `astraios predict`'s: its form own_slopes draws slopes towards a common one, with the "
            "effects of sizes that groups share; fit with none or shared"
        )
    if text not in POOLINGS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a pooling; choose from {', '.join(POOLINGS)}")
    return text


def _held(text: str) -> tuple[str, float]:
    name, sign, value = text.partition("=")
    try:
        return (name, float(value)) if sign else _refuse_held(text)
    except ValueError:
        return _refuse_held(text)


def _refuse_held(text: str):
    raise argparse.ArgumentTypeError(f"{text!r} is not NAME=NUMBER, for example E=1.7")


def run_fit(arguments: argparse.Namespace) -> int:
    """Fit a law and print what was found."""
    from astraios_analysis.laws.fit import IntervalOptions, fit_points
    from astraios_analysis.laws.forms import LAWS, find_law
    from astraios_analysis.laws.residuals import Objective
    from astraios_analysis.records.printing import json_text, say, table_text
    from astraios_analysis.records.refusal import Refusal

    if arguments.list:
        print(table_text(law_table(LAWS.values())))
        return 0
    if arguments.law is None:
        raise Refusal(f"name the law to fit with --law: {', '.join(LAWS)}")
    law = find_law(arguments.law)
    points = load_points(arguments, law)
    objective = Objective(arguments.residual or law.residual, arguments.huber or float("inf"), arguments.scale)
    pooling = choose_pooling(arguments, points)
    options = IntervalOptions(arguments.level, arguments.intervals, arguments.resamples, arguments.seed)
    more = {"n_starts": arguments.starts} if arguments.starts else {}
    found = fit_points(law, points, objective, pooling, fixed=dict(arguments.fix), options=options, **more)
    for note in points.notes:
        say(note)
    for group, reason in found.refused.items():
        say(f"{group} is not fitted: {reason}")
    if arguments.json:
        reports = [fit_json(found, group) for group in found.fits]
        print(json_text(reports if pooling == "none" else reports[0]))
    else:
        print("\n\n".join(fit_text(found, group) for group in found.fits))
    return 0


def fit_json(found, group: str) -> dict[str, object]:
    """Return one fit as plain values in the form that other programs build on."""
    from astraios_analysis.laws.fit import ALL

    fit, (certificate, intervals, _) = found.fits[group], found.certified[group]
    params = {}
    for name, value in fit.params.items():
        own = intervals.get(name)
        lower, upper, level = (value, value, None) if own is None else (own.lower, own.upper, own.level)
        params[name] = {"value": _finite(value), "lower": _finite(lower), "upper": _finite(upper), "level": level}
        params[name]["identified"] = None if own is None else bool(certificate.identified[name])
    return ({} if group == ALL else {"group": group}) | {
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


def fit_text(found, group: str) -> str:
    """Return one fit as text for people: parameters, warnings, certificate, and what a report of it states."""
    import pandas as pd

    from astraios_analysis.laws.fit import ALL
    from astraios_analysis.records.printing import table_text

    fit, (certificate, intervals, _) = found.fits[group], found.certified[group]
    percent = f"{100 * certificate.level:g} %"
    rows = []
    for name, value in fit.params.items():
        own = intervals.get(name)
        lower, upper = (None, None) if own is None else (own.lower, own.upper)
        row = {"parameter": name, "value": value, f"lower {percent}": lower, f"upper {percent}": upper}
        row["identified"] = "held" if own is None else ("yes" if certificate.identified[name] else "NO")
        rows.append(row | {"unit": fit.law.parameters[fit.law.index(name)].unit})
    title = f"{found.law.name}: {fit.law.formula}" + ("" if group == ALL else f", group {group}")
    lines = [title, "", table_text(pd.DataFrame(rows)), ""]
    lines += [f"warning: {text}" for text in found.warnings(group)]
    lines += [
        f"objective {fit.value!r}, {fit.n_obs} points, {fit.dof} degrees of freedom, residual scale "
        f"{fit.residual_scale:.4g}",
        f"certificate: {fit.status}, relative gradient {fit.gradient_norm:.1e}, condition number "
        f"{fit.condition_number:.3g}, {fit.n_agreeing} of {fit.n_starts} starts at this minimum",
        "",
        "a report of this fit states",
    ]
    return "\n".join(lines + [f"  {item}: {text}" for item, text in found.checklist(group).items()])


def choose_pooling(arguments: argparse.Namespace, points) -> str | None:
    """Return what groups share; None where there are no groups."""
    if points.group is None:
        if arguments.pooling not in (None, "none"):
            from astraios_analysis.records.refusal import Refusal

            raise Refusal(f"--pooling {arguments.pooling} needs groups; name their columns with --group")
        return None
    is_table = arguments.data is not None and Path(arguments.data).is_file()
    return arguments.pooling or ("none" if is_table else "shared")


def load_points(arguments: argparse.Namespace, law):
    """Return the points of the table or of the records that the arguments name."""
    from astraios_analysis.cli.shared import load_runs, require_distinct
    from astraios_analysis.laws.tables import read_table, record_points, select_points
    from astraios_analysis.records.frame import to_frame
    from astraios_analysis.records.refusal import Refusal

    group = [] if arguments.group in (None, "none") else arguments.group.split(",")
    if arguments.data is not None and not Path(arguments.data).is_dir():
        if arguments.x is None or arguments.y is None:
            raise Refusal(f"name the columns of {arguments.data} with --x and --y, as in --x N,D --y loss")
        x = _input_columns(arguments.x, law)
        return select_points(read_table(arguments.data), x, arguments.y, group, arguments.split, str(arguments.data))
    records = load_runs(arguments)
    require_distinct(records)
    x = _input_columns(arguments.x or DEFAULT_X, law)
    group = [DEFAULT_GROUP] if arguments.group is None else group
    return record_points(to_frame(records, per="run"), x, arguments.y or DEFAULT_Y, group)


def _input_columns(text: str, law) -> list[str]:
    from astraios_analysis.records.refusal import Refusal

    names = text.split(",")
    if len(names) != len(law.inputs):
        wanted = ", ".join(law.inputs)
        raise Refusal(f"{law.name} has {len(law.inputs)} inputs ({wanted}) and --x names {len(names)}: {text}")
    return names


def law_table(laws):
    """Return the laws as a table: name, formula, inputs, source."""
    import pandas as pd

    rows = [(law.name, law.formula, ", ".join(law.inputs), law.source) for law in laws]
    return pd.DataFrame(rows, columns=["law", "formula", "inputs", "source"])
