"""What the figures together support about choosing a tuning method, and what not: computed from their tables.

Everything is read from the CSV twins of one grid's figures. A twin that is not there leaves out what it would have
said; nothing stands in for it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from astraios_analysis.figures.decisions import CLEAR
from astraios_analysis.figures.gallery import FIGURES
from astraios_analysis.figures.spec import figure_stem, keep_shares
from astraios_analysis.figures.style import join, keep_voting, name_dataset, name_method, say_no_vote, size_label, span
from astraios_analysis.figures.transfer import refused_rows
from astraios_analysis.records.notation import count
from astraios_analysis.records.registry import LOSS, METRICS, RELEASED
from astraios_analysis.records.schema import METHODS, order_methods

RULED_OUT = 0.05
"""Probability of being best below which a method is said to be out of the question on a data set."""

LIKELY = 0.5
"""Even odds: below it, the method named first is more probably not the best."""

# Figures that say why, and how their answers are introduced.
_LEADS = {
    "backtest": "The same kind of prediction, tried on the largest measured size",
    "small_model_choices": "Choosing by small models, tried on measured sizes",
}


@dataclass(frozen=True)
class Choice:
    """What one grid says about choosing a tuning method at a larger size, in sentences and one row a data set.

    ``is_beyond``: nobody has trained the target size; otherwise it was held out. Rows have ``p_best`` in the order of
    ``methods`` (None where not measured), and ``best``, ``value``, ``lower``, ``upper``, ``regret`` of the likeliest;
    where the target was held out and measured, ``measured`` of that method and the ``winner`` (None elsewhere).
    """

    grid: str
    target: str
    is_beyond: bool
    advice: str
    supported: tuple[str, ...]
    unsupported: tuple[str, ...]
    reasons: tuple[str, ...]
    methods: tuple[str, ...]
    rows: tuple[dict[str, object], ...]


def choose_method(figures_dir: Path, grid: str, n_seeds: int | None = None) -> Choice | None:
    """Return what a grid's figures say about choosing a method, or None where it has no such prediction.

    ``n_seeds`` is the most runs that any model of the grid has.
    """
    table = read_twin(figures_dir, "best_method", grid)
    if table is None:
        return None
    table = table[table["kind"] == "predicted"].rename(columns={"n_params_base": "n_params"})
    best = keep_voting(table).dropna(subset=["p_best"])
    if best.empty:
        return None
    measured = read_twin(figures_dir, "score_scaling", grid)
    failed = _failed(read_twin(figures_dir, "backtest", grid))
    firsts = best.sort_values("p_best", ascending=False, kind="stable").groupby("dataset", sort=False).head(1)
    counts = read_twin(figures_dir, "updated_parameters", grid)
    largest = 0 if counts is None else counts["n_params_base"].max()
    methods = order_methods(best["method"])
    target = size_label(best["n_params"].max())
    return Choice(
        grid=grid,
        target=target,
        is_beyond=bool(best["n_params"].max() > largest),
        advice=_advice(best, firsts),
        supported=tuple(_supported(best, firsts[~firsts["dataset"].isin(failed)], firsts, target)),
        unsupported=(
            *_untrusted([name for name in firsts["dataset"] if name in failed]),
            *_unsupported(firsts, read_twin(figures_dir, "claim_effects", grid), n_seeds),
            *_refusals(table, target),
            *filter(None, [say_no_vote(table.dropna(subset=["p_best"])).strip()]),
        ),
        reasons=tuple(_reasons(figures_dir, grid, best, measured)),
        methods=tuple(map(name_method, methods)),
        rows=tuple(_rows(best, firsts, methods, _held_out(figures_dir, grid, measured, best["n_params"].max()))),
    )


def _failed(tested: pd.DataFrame | None) -> list[str]:
    """Return the data sets on which the back-test misses by more than no change does."""
    if tested is None:
        return []
    errors = tested.dropna(subset=["error"])[["dataset", "error", "persistence_error"]].set_index("dataset").abs()
    means = errors.groupby(level=0, sort=False).mean()
    return list(means.index[means["error"] > means["persistence_error"]])


def _untrusted(names: Sequence[str]) -> list[str]:
    where = join(map(name_dataset, names))
    return [f"Predictions on {where}: the back-test there misses by more than no change does."] if names else []


def _held_out(
    figures_dir: Path, grid: str, measured: pd.DataFrame | None, n_params: float
) -> dict[str, dict[str, float]]:
    """Return what was measured of methods at a target that was held out, by data set."""
    found: dict[str, dict[str, float]] = {}
    losses = read_twin(figures_dir, "cross_entropy", grid)
    if measured is not None:
        rows = measured[(measured["kind"] == "held_out") & (measured["n_params_base"] == n_params)]
        for row in rows.to_dict("records"):
            found.setdefault(row["dataset"], {})[row["method"]] = row["value"]
    if losses is not None and "held_out" in losses:
        held_out = losses["held_out"].astype(str).eq("True") & (losses["n_params_base"] == n_params)
        rows = losses[held_out & losses["kind"].isin(["mean", "run"])]
        found[LOSS] = dict(zip(rows["method"], rows["val_loss"], strict=True))
    return {name: values for name, values in found.items() if values}


def read_twin(figures_dir: Path, name: str, grid: str | None) -> pd.DataFrame | None:
    """Return the table of a grid's figure (None: of all grids that share it), or None where it was not drawn."""
    path = figures_dir / f"{figure_stem(name, grid or RELEASED)}.csv"
    table = pd.read_csv(path) if path.is_file() and path.stat().st_size > 1 else pd.DataFrame()
    if grid and "grid" in table:
        # One that grids share: its own rows.
        table = table[table["grid"] == grid].reset_index(drop=True)
    return table if len(table) else None


def _rows(
    best: pd.DataFrame, firsts: pd.DataFrame, methods: Sequence[str], measured: dict[str, dict[str, float]]
) -> list[dict[str, object]]:
    found = []
    chosen = firsts.set_index("dataset")
    for dataset, own in best.groupby("dataset", sort=False):
        p = own.set_index("method")["p_best"]
        first, known = chosen.loc[dataset], measured.get(dataset, {})
        row = {"dataset": name_dataset(dataset), "metric": METRICS[first["metric"]].label}
        row |= {"p_best": [float(p[method]) if method in p else None for method in methods]}
        row |= {"best": name_method(first["method"]), "regret": float(first["expected_regret"])}
        pick = max if METRICS[first["metric"]].higher_is_better is not False else min
        row |= {"measured": known.get(first["method"])}
        row |= {"winner": name_method(pick(known, key=known.get)) if known else None}
        found.append(row | {name: float(first[name]) for name in ("value", "lower", "upper", "level")})
    return found


def _advice(best: pd.DataFrame, firsts: pd.DataFrame) -> str:
    """Say which method has the least expected regret, and whether to choose by the records at all."""
    # What has one unit: shares, or else the first of the other scores, or the loss.
    scores, unit, factor = keep_shares(best), "points", 100
    if scores.empty:
        metric = best.sort_values("dataset", key=lambda names: names == LOSS, kind="stable")["metric"].iloc[0]
        scores, unit, factor = best[best["metric"] == metric], METRICS[metric].label, 1
    regrets = scores.pivot_table(index="method", columns="dataset", values="expected_regret")
    means = factor * regrets.dropna().mean(axis=1).sort_values(kind="stable")
    if means.empty:
        return ""
    over = f"on average over {regrets.shape[1]} data sets" if regrets.shape[1] > 1 else "on average"
    second = f"; {name_method(means.index[1])} {means.iloc[1]:.2g}, the worst {means.iloc[-1]:.2g}" * (len(means) > 2)
    clear = firsts[firsts["dataset"].isin(regrets.columns)]["p_best"] >= CLEAR
    lead = "Choose" if clear.mean() > LIKELY else "Do not choose by these records; if you must:"
    return f"{lead} {name_method(means.index[0])} (expected regret {means.iloc[0]:.2g} {unit} {over}{second})."


def _supported(best: pd.DataFrame, trusted: pd.DataFrame, firsts: pd.DataFrame, target: str) -> list[str]:
    """Return what the records support; a method is named only where the back-test supports the procedure (trusted)."""
    n = len(trusted)
    clear, likely = trusted[trusted["p_best"] >= CLEAR], trusted[trusted["p_best"] >= LIKELY]
    found, n_sets = [], count(n, "data set")
    if len(clear):
        found.append(f"At {target}, one method is the best with a probability of {CLEAR:g} or more: {_name(clear)}.")
    between = likely[likely["p_best"] < CLEAR]
    if len(between):
        found.append(f"On {len(between)} of {n_sets} one method is more probably the best than not: {_name(between)}.")
    kept = best[best["dataset"].isin(trusted["dataset"])]
    out = kept[kept["p_best"] < RULED_OUT].groupby("method")["dataset"].nunique().sort_values(ascending=False)
    if len(out):
        listed = join(f"{name_method(method)} on {places}" for method, places in out.items())
        found.append(
            f"Some choices can be left out: of {n_sets}, the probability of being best is below {RULED_OUT:g} "
            f"for {listed}."
        )
    found += _costs(firsts, best)
    return found


def _costs(firsts: pd.DataFrame, best: pd.DataFrame) -> list[str]:
    """Say what a wrong choice costs: in points of the scores that are shares, and in units of what is not."""
    shares, found = keep_shares(firsts), []
    lots = best.groupby("dataset")["expected_regret"].mean()
    for row in firsts.drop(shares.index).to_dict("records"):
        found.append(
            f"On {name_dataset(row['dataset'])} the most probable method is expected to be "
            f"{row['expected_regret']:.2g} worse than the true best ({METRICS[row['metric']].label}), a random choice "
            f"{lots[row['dataset']]:.2g}."
        )
    if shares.empty:
        return found
    regret, lot = shares["expected_regret"], lots[shares["dataset"]]
    found.insert(
        0,
        f"What a wrong choice costs: the expected regret of the most probable method is {100 * regret.median():.1f} of "
        f"100 points in the median over data sets (at most {100 * regret.max():.1f}, on "
        f"{name_dataset(shares.loc[regret.idxmax(), 'dataset'])}), that of a random choice {100 * lot.median():.1f}.",
    )
    return found


def _name(rows: pd.DataFrame) -> str:
    return join(
        f"{name_method(row['method'])} on {name_dataset(row['dataset'])} ({row['p_best']:.3g})"
        for row in rows.to_dict("records")
    )


def _unsupported(firsts: pd.DataFrame, claims: pd.DataFrame | None, n_seeds: int | None) -> list[str]:
    top, n_sets, found = firsts.loc[firsts["p_best"].idxmax()], count(len(firsts), "data set"), []
    if top["p_best"] < CLEAR:
        where = f"{name_method(top['method'])} on {name_dataset(top['dataset'])}"
        found.append(
            f"Naming one best method: on none of {n_sets} does P(best) reach {CLEAR:g}; the highest is "
            f"{top['p_best']:.2f}, for {where}."
        )
    odds = int((firsts["p_best"] < LIKELY).sum())
    if odds:
        found.append(
            f"Trusting the method named first: on {odds} of {n_sets} it is more probably not the best than the best "
            f"(P(best) below {LIKELY:g})."
        )
    if firsts["method"].nunique() > 1:
        names = join(map(name_method, dict.fromkeys(firsts["method"])))
        found.append(f"One choice for all tasks: the most probable method depends on the data set ({names}).")
    if n_seeds == 1:
        found.append(
            "How another training run would do: there is one run of each model, so that differences between methods "
            "are not told from differences between runs, other than by how far models lie from the fitted lines."
        )
    if claims is not None:
        untested = claims[claims["verdict"] == "not testable here"].drop_duplicates(["claim", "reason"])
        for row in untested.to_dict("records"):
            found.append(f"“{row['statement'].rstrip('.')}” cannot be tested: {_entitle(row['reason'])}.")
    return found


def _refusals(table: pd.DataFrame, target: str) -> list[str]:
    return [
        f"Any choice at {target} on {join(name_dataset(name) for name in own['dataset'])}: {reason}."
        for reason, own in refused_rows(table).groupby("refusal", sort=False)
    ]


def _reasons(figures_dir: Path, grid: str, best: pd.DataFrame, measured: pd.DataFrame | None) -> list[str]:
    found = []
    if measured is not None:
        sizes = measured[measured["kind"] == "measured"].groupby("dataset")["n_params_base"].nunique()
        found.append(
            f"The target lies up to {best['reach'].max():.1f} times beyond the largest size fitted, and each data set "
            f"has scores at {span(sizes)} sizes only."
        )
    shares = keep_shares(best)
    if len(shares):
        width, values = (shares["upper"] - shares["lower"]).median(), shares.groupby("dataset")["value"]
        spread = (values.max() - values.min()).median()
        found.append(
            f"{100 * best['level'].iloc[0]:g} % prediction intervals for one new run are {100 * width:.0f} of 100 "
            "points wide in the median; the highest and lowest of the methods' predictions lie "
            f"{100 * spread:.1f} points apart."
        )
    for name, lead in _LEADS.items():
        if sentence := FIGURES[name].say(read_twin(figures_dir, name, grid)):
            found.append(f"{lead}: {sentence[0].lower()}{sentence[1:]}")
    return found


def claim_board(figures_dir: Path, grids: Sequence[str]) -> list[dict[str, object]]:
    """Return the verdicts on every claim: the pooled rows of `figures.claim_effects`, grid by grid."""
    found = []
    for grid in grids:
        table = read_twin(figures_dir, "claim_effects", grid)
        if table is not None:
            whole = table[table["part"] == "pooled"]
            found += whole.astype(object).where(whole.notna(), None).to_dict("records")
    return [row | {"reason": _entitle(row["reason"])} for row in found]


def _entitle(text: str) -> str:
    """Return a text with titles in place of the names of data sets and of the study's methods."""
    return re.sub(r"\w+", lambda one: name_method(one[0]) if one[0] in METHODS else name_dataset(one[0]), text)
