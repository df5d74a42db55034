"""Every figure by its name: drawn from records alone, for one grid or for every grid that can answer."""

import base64
import functools
import html
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from astraios_analysis.claims.judge import judge_claims
from astraios_analysis.figures import contrasts, decisions, losses, robustness, spec, suite, tasks, transfer
from astraios_analysis.figures.spec import SUFFIXES, FigureSpec, figure_stem, round_table, save
from astraios_analysis.figures.style import METHOD_STYLES, join
from astraios_analysis.prediction.chain import regress_all
from astraios_analysis.prediction.decide import COSTS, best_at_size_all, frontier, small_model_decisions
from astraios_analysis.prediction.limits import parse_size, predictable_datasets
from astraios_analysis.records.frame import RunRecord, to_frame
from astraios_analysis.records.notation import count
from astraios_analysis.records.refusal import Refusal, require_known, require_level
from astraios_analysis.records.registry import RELEASED
from astraios_analysis.records.sources import PerGrid
from astraios_analysis.scores.bootstrap import RESAMPLES, ProblemBootstrap, primary_frame, primary_measures
from astraios_analysis.scores.contrasts import contrast_all
from astraios_analysis.scores.losses import final_losses, loss_curves
from astraios_analysis.scores.means import performance_panels
from astraios_analysis.scores.models import intervals_over_seeds, model_scores
from astraios_analysis.scores.ranks import measured_datasets, over_datasets, rank_all, transfer_all
from astraios_analysis.scores.transfer import transfer_slopes

FIGURES = spec.FIGURES
ROOMS = (suite, losses, tasks, contrasts, robustness, transfer, decisions)
"""Modules that declare figures; importing them fills `FIGURES`."""
_SHORT, _NARROW = 5, 10
MIME = "application/vnd.astraios.gallery+json"
"""Type of the output, among a cell's others, by which an executed notebook tells the report what was drawn and not."""


def _or_empty(make: Callable[..., pd.DataFrame], *arguments: object, **named: object) -> pd.DataFrame:
    try:
        return make(*arguments, **named)
    except Refusal:
        return pd.DataFrame()


def _resampled(make: Callable[..., Any]) -> cached_property:
    """Return what is made of a grid's runs with intervals of its level, from its resamples of problems."""
    return cached_property(lambda self: make(self.runs, level=self.level, bootstrap=self.bootstrap))


@dataclass
class Tables:
    """What the figures of one grid are drawn from, each made when a figure first asks for it.

    ``level`` is the coverage of intervals, ``target`` the size to predict at (a number of base parameters, or ``34b``),
    ``cost`` the column that performance is weighed against. A figure function's arguments are called as they are here.
    """

    runs: Sequence[RunRecord]
    level: float = 0.95
    target: float | str = 34e9
    cost: str = "n_params_updated"
    bootstrap: ProblemBootstrap = RESAMPLES

    def __post_init__(self) -> None:
        """Refuse what every figure would be lacking for."""
        require_level(self.level)
        require_known("cost", [self.cost], COSTS)
        self.target = parse_size(str(self.target))

    def __repr__(self) -> str:
        """Say how many runs there are."""
        return count(len(self.runs), "run")

    def draw(self, name: str) -> tuple[Figure, pd.DataFrame]:
        """Draw a figure from the tables that its function's arguments name."""
        if (spec := find_figure(name)).rows:
            table = self.rows(name)
            return spec.draw(table), table
        METHOD_STYLES.order(run.method for run in self.runs)
        return self._call(spec.draw)

    def rows(self, name: str) -> pd.DataFrame:
        """Return this grid's table of a figure that grids share."""
        METHOD_STYLES.order(run.method for run in self.runs)
        table = round_table(self._call(FIGURES[name].rows)).drop(columns="grid", errors="ignore")
        table.insert(0, "grid", self.runs[0].grid)
        return table

    def _call(self, function: Callable) -> Any:
        return function(**{each: getattr(self, each) for each in inspect.signature(function).parameters})

    frame = cached_property(lambda self: to_frame(self.runs, per="run"))
    scores = _resampled(intervals_over_seeds)  # every score with its interval; of several seeds the means too
    panels = _resampled(performance_panels)  # mean performance by the title of its panel
    ranks = _resampled(rank_all)  # how probably each method is the best of those measured
    differences = _resampled(contrast_all)  # every method less full fine-tuning, by size
    # Rank correlations of smaller sizes with the largest; empty where methods are too few for any.
    transfers = _resampled(functools.partial(_or_empty, transfer_all))
    losses = cached_property(lambda self: final_losses(self.runs, level=self.level))
    curves = cached_property(lambda self: loss_curves(self.runs))  # validation losses by step
    # Scores regressed on the validation loss, by data set, and why some are not.
    regressions = cached_property(lambda self: regress_all(self.runs, level=self.level))
    datasets = cached_property(lambda self: predictable_datasets(self.runs))  # those with enough sizes to fit
    judgements = cached_property(lambda self: judge_claims(self.runs))  # the verdict on each of the study's claims

    @cached_property
    def primary(self) -> pd.DataFrame:
        """The scores that stand for their data sets."""
        wanted = {(name, *measure) for name, measure in primary_measures(self.runs).items()}
        return intervals_over_seeds(self.runs, level=self.level, bootstrap=self.bootstrap, wanted=wanted)

    @cached_property
    def slopes(self) -> pd.DataFrame:
        """Scores of larger sizes regressed on those of smaller ones."""
        ways = {"level": self.level, "bootstrap": self.bootstrap, "loss": False}
        nothing = "no data set has scores of 4 or more methods at two sizes; add runs"
        return over_datasets(transfer_slopes, self.runs, nothing, **ways)

    @cached_property
    def votes(self) -> dict[str, bool]:
        """Which data sets have a vote: those on which some model surely beats the commonest answer."""
        kept = [run for run in self.runs if not run.held_out]
        return {n: model_scores(kept, n, self.bootstrap).has_vote for n in measured_datasets(kept)}

    @cached_property
    def target_size(self) -> float:
        """The size to predict at: the target, or what the grid's sizes support."""
        measured = primary_frame(to_frame(self.runs))
        return transfer.choose_target(measured if len(measured) else self.frame, self.target)

    @cached_property
    def best(self) -> pd.DataFrame:
        """How probably each method is the best at the target size; empty where nothing can be predicted."""
        return _or_empty(best_at_size_all, self.runs, self.target_size, level=self.level)

    @cached_property
    def choices(self) -> pd.DataFrame:
        """What methods chosen at smaller sizes give up at larger ones; empty where there is no choice."""
        return _or_empty(over_datasets, small_model_decisions, self.runs, level=self.level)

    @cached_property
    def frontier(self) -> pd.DataFrame:
        """Score against cost, measured and at the target size."""
        ways = {"cost": self.cost, "target": self.target_size, "level": self.level}
        return over_datasets(frontier, self.runs, **ways)


def find_figure(name: str) -> FigureSpec:
    """Return the figure of a name."""
    require_known("figure", [name], sorted(FIGURES))
    return FIGURES[name]


@dataclass(frozen=True)
class Gallery:
    """One figure of several grids: tables and PNG files of those that have it, and for the others why they lack it."""

    name: str
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    pictures: dict[str, Path] = field(default_factory=dict)
    lacking: dict[str, str] = field(default_factory=dict)

    @property
    def table(self) -> pd.DataFrame:
        """The tables below one another, with the grid in front."""
        return PerGrid(self.tables, self.lacking).table

    @property
    def short(self) -> pd.DataFrame:
        """The beginning of the table in three digits, without columns that hold one value; the CSV has all of it."""
        whole = self.table
        varied = [name for name in whole if whole[name].nunique(dropna=False) > 1] or list(whole)
        keys = whole["grid"] if "grid" in varied else [0] * len(whole)
        shown = whole[varied].groupby(keys, sort=False).head(_SHORT)
        rounded = {name: shown[name].map(lambda value: float(f"{value:.3g}")) for name in shown.select_dtypes("float")}
        return shown.assign(**rounded).iloc[:, :_NARROW].reset_index(drop=True)

    def __repr__(self) -> str:
        """Return one line a grid."""
        drawn = [f"{grid}: {path.name}" for grid, path in self.pictures.items()]
        return "\n".join([*drawn, *(f"{grid}: {reason}" for grid, reason in self.lacking.items())])

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, object]:
        # Besides what people see: for the report, which reads executed notebooks.
        drawn = {grid: path.stem for grid, path in self.pictures.items()}
        return {MIME: {"figure": self.name, "drawn": drawn, "lacking": self.lacking}}

    def _repr_html_(self) -> str:
        parts = []
        for grid, path in self.pictures.items():
            picture = base64.b64encode(path.read_bytes()).decode("ascii")
            words = html.escape(f"{self.name}, grid {grid}")
            parts.append(f"<p>Grid <b>{html.escape(grid)}</b></p>")
            parts.append(f'<img src="data:image/png;base64,{picture}" alt="{words}" style="max-width: 100%">')
        for grid, reason in self.lacking.items():
            parts.append(f"<p>Grid <b>{html.escape(grid)}</b> is not shown: {html.escape(reason)}</p>")
        return "\n".join(parts)


def draw(name: str, grids: PerGrid[Tables], figures_dir: str | Path) -> Gallery:
    """Draw a figure for each grid, or one of all, and save it; a grid that cannot is named with the reason.

    Files that an earlier run left where nothing can be drawn are removed: they would show other records.
    """
    gallery, spec, folder = Gallery(name), find_figure(name), Path(figures_dir)
    shared: dict[str, pd.DataFrame] = {}
    for grid in [*grids, *grids.lacking]:
        try:
            if spec.rows:
                shared[grid] = gallery.tables[grid] = grids[grid].rows(name)
                continue
            picture, gallery.tables[grid] = grids[grid].draw(name)
        except Refusal as error:
            gallery.lacking[grid] = str(error)
            if not spec.rows:
                _remove(folder, figure_stem(name, grid))
            continue
        save(picture, gallery.tables[grid], figure_stem(name, grid), folder)
        gallery.pictures[grid] = folder / f"{figure_stem(name, grid)}.png"
    if shared:
        METHOD_STYLES.order(method for tables in grids.values() for method in {run.method for run in tables.runs})
        table = stack(list(shared.values()))
        save(spec.draw(table), table, name, folder)
        gallery.pictures[join(shared)] = folder / f"{name}.png"
    elif spec.rows:
        _remove(folder, name)
    return gallery


def stack(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return tables below one another, whole numbers whole where only some tables have a column."""
    whole = {name for table in tables for name in table.select_dtypes("integer")}
    whole -= {name for table in tables for name in table.select_dtypes("float")}
    found = pd.concat(tables, ignore_index=True)
    return found.astype({name: "Int64" for name in whole if found[name].isna().any()})


def _remove(folder: Path, stem: str) -> None:
    for suffix in SUFFIXES:
        (folder / f"{stem}.{suffix}").unlink(missing_ok=True)


def find_spec(stem: str, figures: Mapping[str, FigureSpec] = FIGURES) -> tuple[FigureSpec, str] | None:
    """Return whose file a stem is: the figure and the grid (empty where grids share it); None if it is no figure's."""
    if stem in figures:
        return figures[stem], "" if figures[stem].rows else RELEASED
    named = [name for name, spec in figures.items() if stem.startswith(f"{name}_") and not spec.rows]
    if not named:
        return None
    # The longest: one figure's name may begin another's.
    name = max(named, key=len)
    return figures[name], stem[len(name) + 1 :]


def drawn_figures(
    folder: str | Path, notebook: str, figures: Mapping[str, FigureSpec] = FIGURES
) -> list[tuple[str, FigureSpec, str]]:
    """Return (stem, figure, grid) of a notebook's figures that have files: released models first, then other grids."""
    stems = sorted({path.stem for path in Path(folder).glob("*.*") if path.suffix.lstrip(".") in SUFFIXES})
    found = [(stem, *named) for stem in stems if (named := find_spec(stem, figures)) and named[0].notebook == notebook]
    order = list(figures)
    return sorted(found, key=lambda item: (order.index(item[1].name), item[2] != RELEASED, item[2]))
