"""What can be chosen in the explorer, what of it a grid has, and the choice that it starts with."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from math import inf

import numpy as np
import pandas as pd

import astraios_analysis as aa
from astraios_analysis.records.frame import RunRecord
from astraios_analysis.records.refusal import Refusal, require_level
from astraios_analysis.records.registry import LOSS, METRICS, SECOND_FILE, find_dataset, order_datasets
from astraios_analysis.records.schema import order_methods

AVERAGED = "averaged"
LOSS_LAWS = ("power", "power_floor", AVERAGED)
SCORE_LAWS = (AVERAGED, "logit_linear")
SURFACE_LAWS = (AVERAGED, "chinchilla", "multiplicative", "skaling")
# How the outcome of a table is read.
LOSS_MEASURE, RATE_MEASURE = "loss", "rate"
SHARED = {"shared": "shared shape, own level", "none": "no pooling", AVERAGED: "poolings averaged"}
X_LABELS = {
    "n_params_base": "base model parameters",
    "n_params_base_nonembedding": "base model parameters without embeddings",
    "n_params_updated": "updated parameters",
    "flop": "floating-point operations of tuning",
    "seconds": "seconds of tuning",
}
# Of these, all methods of one size have the same value.
SIZE_COLUMNS = ("n_params_base", "n_params_base_nonembedding")


@dataclass(frozen=True)
class Choice:
    """What to look at; what is left empty is filled in from what a grid has.

    Attributes
    ----------
    y : str
        ``val_loss``, or a data set.
    measure : str
        Of a data set: ``setting | metric``; the primary one by default.
    x : str
        A key of `X_LABELS`.
    methods : tuple of str
        All by default.
    law : str
        ``power``, ``power_floor`` (losses), ``logit_linear`` (scores), or ``averaged``: what ``predict`` says.
    pooling : str
        What methods share: ``none``, or ``shared`` for all but the level. Averaged laws average over that too.
    held_out : tuple of str
        Sizes that take no part in the fit, beside those that the records hold out.
    target : float or None
        Where to predict, in units of x; None for twice the largest value fitted.
    level : float
        Coverage of the intervals.
    """

    y: str = LOSS
    measure: str = ""
    x: str = "n_params_base"
    methods: tuple[str, ...] = ()
    law: str = ""
    pooling: str = ""
    held_out: tuple[str, ...] = ()
    target: float | None = None
    level: float = 0.95

    @property
    def arguments(self) -> str:
        """The arguments that make the choice again, without those that are defaults."""
        shown = [(f.name, getattr(self, f.name)) for f in fields(self) if getattr(self, f.name) != f.default]
        return ", ".join(f"{name}={value!r}" for name, value in shown)

    @property
    def is_loss(self) -> bool:
        """Whether the outcome is a loss, which has a floor, and not a share."""
        return is_loss(self.y, self.measure)


@dataclass(frozen=True)
class Options:
    """What one grid offers.

    ``measures`` of each data set begin with that of ``primary``, where it has one; ``inputs`` are keys of `X_LABELS`,
    ``sizes`` those that the records do not hold out, by number; ``lacking`` says what is not offered, and why;
    ``fullest`` is the outcome to begin with; ``is_surface``: laws are of two inputs.
    """

    outcomes: tuple[str, ...]
    measures: dict[str, tuple[str, ...]]
    primary: dict[str, str]
    inputs: tuple[str, ...]
    methods: tuple[str, ...]
    sizes: tuple[str, ...]
    always_held_out: tuple[str, ...]
    lacking: tuple[str, ...]
    fullest: str
    is_surface: bool = False

    def measure(self, y: str) -> str:
        """Return an outcome's first measure."""
        return self.measures.get(y, ("",))[0]

    def laws(self, y: str, measure: str = "") -> tuple[str, ...]:
        """Return the laws that suit an outcome."""
        if self.is_surface:
            return SURFACE_LAWS
        return LOSS_LAWS if is_loss(y, measure) else SCORE_LAWS


def measures_of(scores: pd.DataFrame) -> pd.Series:
    """Return setting and metric of each of a table's scores as one name."""
    return scores["setting"] + " | " + scores["metric"]


def is_loss(y: str, measure: str) -> bool:
    """Whether an outcome is a loss, which has a floor, and not a share."""
    metric = METRICS.get(measure.rpartition(" | ")[2])
    return y == LOSS or measure == LOSS_MEASURE or bool(metric and not metric.is_bounded)


def options_of(records: Sequence[RunRecord]) -> Options:
    """Return what a grid offers."""
    scores, primary = aa.frame(records), aa.frame(records, per="primary")
    primary = dict(zip(primary["dataset"], measures_of(primary), strict=True))
    metrics = scores["metric"].map(METRICS)
    # Rows of a second file stay out of every analysis, and laws here follow shares and losses.
    is_followed = np.array([(one.lower, one.upper) == (0, 1) or one.upper == inf for one in metrics], dtype=bool)
    scores = scores[is_followed & ~scores["setting"].str.contains(SECOND_FILE).to_numpy(dtype=bool)]
    found = measures_of(scores).groupby(scores["dataset"]).unique()
    measures = {
        dataset: tuple(sorted(found[dataset], key=lambda name: (name != primary.get(dataset), name)))
        for dataset in order_datasets(found.index)
    }
    has_loss = any(record.val_loss is not None for record in records)
    known = aa.frame(records, per="run").notna().any()
    models = scores.assign(measure=measures_of(scores)).groupby(["dataset", "measure"])
    models = models.apply(lambda own: len(own[["size", "method"]].drop_duplicates()))
    # Of data sets with as many models, those of programs that ran say more than answers to yes-or-no questions.
    n_models = {y: 2 * models[y, own[0]] + (find_dataset(y).kind == "robustness") for y, own in measures.items()}
    sizes = {record.size: record for record in sorted(records, key=lambda record: record.n_params_base)}
    lacking = [] if has_loss else ["losses: these runs have none (released models were published without)"]
    lacking += [f"{label}: not recorded for these runs" for name, label in X_LABELS.items() if not known[name]]
    return Options(
        (LOSS,) * has_loss + tuple(measures),
        measures,
        primary,
        tuple(name for name in X_LABELS if known[name]),
        tuple(order_methods(record.method for record in records)),
        tuple(size for size, record in sizes.items() if not record.held_out),
        tuple(size for size, record in sizes.items() if record.held_out),
        tuple(lacking),
        LOSS if has_loss else max(n_models, key=n_models.get, default=""),
    )


def poolings_for(law: str) -> tuple[str, ...]:
    """Return what methods can share under a law; a logit-linear one has no amplitude that they could own."""
    own = {AVERAGED: (AVERAGED,), "logit_linear": ("none",)} | dict.fromkeys(SURFACE_LAWS[1:], ("none",))
    return own.get(law, ("shared", "none"))


def complete(choice: Choice, found: Options) -> Choice:
    """Return a choice with its defaults filled in; what the grid does not have is refused, with what there is."""
    require_level(choice.level)
    measures = found.measures.get(choice.y, ("",))
    measure = choice.measure or measures[0]
    laws = found.laws(choice.y, measure if measure in measures else measures[0]) if choice.y in found.outcomes else ()
    law = choice.law or next(iter(laws), "")
    filled = {"measure": measure, "law": law, "methods": choice.methods or found.methods}
    choice = replace(choice, pooling=choice.pooling or poolings_for(law)[0], **filled)
    allowed = {
        "y": found.outcomes,
        "measure": measures,
        "x": found.inputs,
        "law": laws,
        "pooling": poolings_for(law),
        "methods": found.methods,
        "held_out": found.sizes,
    }
    for name, values in allowed.items():
        chosen = getattr(choice, name)
        for value in chosen if isinstance(chosen, tuple) else (chosen,):
            if value not in values:
                why = f" (not offered: {'; '.join(found.lacking)})" if found.lacking and name in ("x", "y") else ""
                raise Refusal(f"{name} {value!r} is not there; choose from {', '.join(values)}{why}")
    ordered = {name: tuple(v for v in allowed[name] if v in getattr(choice, name)) for name in ("methods", "held_out")}
    return replace(choice, **ordered)
