"""What can be chosen in the explorer, what of it a grid has, and the choice that it starts with."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from astraios_analysis.prediction.limits import MAX_REACH
from astraios_analysis.records.frame import RunRecord, Score
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.records.registry import DATASETS, METRICS, SECOND_FILE
from astraios_analysis.records.schema import METHODS

LOSS = "val_loss"
AVERAGED = "averaged"
LOSS_LAWS = ("power_floor", "power", AVERAGED)
SCORE_LAWS = ("logit_linear", AVERAGED)
POOLINGS = ("own", "shared", "partial")
X_LABELS = {
    "n_params_base": "base model parameters",
    "n_params_base_nonembedding": "base model parameters without embeddings",
    "n_params_updated": "updated parameters",
    "flop": "floating-point operations of tuning",
    "seconds": "seconds of tuning",
}
# Exponent, floor and level leave fewer sizes one degree of freedom, and an interval that says nothing.
_SIZES_FOR_A_FLOOR = 5
# Of these, all methods of one size have the same value.
SIZE_COLUMNS = ("n_params_base", "n_params_base_nonembedding")


@dataclass(frozen=True)
class Choice:
    """What to look at.

    Attributes
    ----------
    y : str
        ``val_loss``, or a data set.
    measure : str
        Of a data set: ``setting | metric``; empty for the primary one.
    x : str
        A key of `X_LABELS`.
    methods : tuple of str
        Empty for all that the grid has.
    law : str
        ``power_floor``, ``power`` (losses), ``logit_linear`` (scores), or ``averaged`` (as ``astraios predict``).
    pooling : {"own", "shared", "partial"}
        What methods share: nothing; all but the level; or as much as the data say.
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
    law: str = "power_floor"
    pooling: str = "shared"
    held_out: tuple[str, ...] = ()
    target: float | None = None
    level: float = 0.95

    def as_arguments(self) -> str:
        """Return the choice as the arguments that make it again, without those that are defaults."""
        shown = [(f.name, getattr(self, f.name)) for f in fields(self) if getattr(self, f.name) != f.default]
        return ", ".join(f"{name}={value!r}" for name, value in shown)


@dataclass(frozen=True)
class Options:
    """What one grid offers.

    Attributes
    ----------
    outcomes : tuple of str
        ``val_loss`` where there are losses, then the data sets with scores.
    measures : dict of str to tuple of str
        Of each data set, ``setting | metric``, the primary one first.
    inputs : tuple of str
        The keys of `X_LABELS` that are measured.
    methods, sizes : tuple of str
        In the order of methods; sizes that the records do not hold out, by number.
    always_held_out : tuple of str
        Sizes that the records hold out.
    lacking : tuple of str
        What is not offered, and why, in words.
    """

    outcomes: tuple[str, ...]
    measures: dict[str, tuple[str, ...]]
    inputs: tuple[str, ...]
    methods: tuple[str, ...]
    sizes: tuple[str, ...]
    always_held_out: tuple[str, ...]
    lacking: tuple[str, ...]


def name_measure(score: Score) -> str:
    """Return a score's setting and metric as one name."""
    return f"{score.setting} | {score.metric}"


def options_of(records: Sequence[RunRecord]) -> Options:
    """Return what a grid offers."""
    measures: dict[str, dict[str, None]] = {}
    for record in records:
        for score in record.scores:
            # Rows of a second file stay out of every analysis, and a drop is no rate that a law here could follow.
            if SECOND_FILE not in score.setting and METRICS[score.metric].lower == 0:
                measures.setdefault(score.dataset, {})[name_measure(score)] = None
    ordered = {name: _primary_first(name, list(measures[name])) for name in DATASETS if name in measures}
    has_loss = any(record.val_loss is not None for record in records)
    costs = {"flop": _has_cost(records, "flop"), "seconds": _has_cost(records, "seconds")}
    sizes = {r.size: r for r in sorted(records, key=lambda record: record.n_params_base)}
    lacking = [] if has_loss else ["losses: these runs have none (released models were published without)"]
    lacking += [f"{X_LABELS[name]}: not recorded for these runs" for name, known in costs.items() if not known]
    return Options(
        ((LOSS,) if has_loss else ()) + tuple(ordered),
        ordered,
        tuple(name for name in X_LABELS if costs.get(name, True)),
        tuple(name for name in METHODS if name in {record.method for record in records}),
        tuple(size for size, record in sizes.items() if not record.held_out),
        tuple(size for size, record in sizes.items() if record.held_out),
        tuple(lacking),
    )


def _has_cost(records: Sequence[RunRecord], name: str) -> bool:
    return any(record.cost is not None and getattr(record.cost, name) is not None for record in records)


def _primary_first(dataset: str, found: list[str]) -> tuple[str, ...]:
    known = DATASETS[dataset]
    primary = f"{known.primary_setting} | {known.primary_metric}"
    return tuple(sorted(found, key=lambda name: (name != primary, name)))


def laws_for(y: str) -> tuple[str, ...]:
    """Return the laws that suit an outcome."""
    return LOSS_LAWS if y == LOSS else SCORE_LAWS


def poolings_for(law: str, x: str) -> tuple[str, ...]:
    """Return what methods can share under a law.

    A logit-linear law is pooled through the sizes that methods share, so that only a size can be its input then.
    """
    if law == AVERAGED:
        return ("partial",)
    if law == "logit_linear":
        return ("own", "shared") if x in SIZE_COLUMNS else ("own",)
    return POOLINGS[:2]


def starting_choice(records: Sequence[RunRecord], *, level: float = 0.95, target: float | None = None) -> Choice:
    """Return the choice to begin with: the loss, or without losses the primary score that most models have.

    Parameters
    ----------
    records : sequence of RunRecord
        Of one grid.
    level : float
    target : float, optional
        Base parameters to predict at. Where a grid's sizes do not reach as far, it is the size held out by the
        records, or twice the largest.

    Raises
    ------
    Refusal
        If there is neither a loss nor a rate.
    """
    found = options_of(records)
    if not found.outcomes:
        raise Refusal("these runs have neither losses nor rates to look at; train or score a grid")
    largest = max((r.n_params_base for r in records if not r.held_out), default=0)
    if target is not None and largest and not largest / MAX_REACH <= target <= largest * MAX_REACH:
        target = max((float(r.n_params_base) for r in records if r.held_out), default=None)
    y = found.outcomes[0]
    if y != LOSS:
        y = max(found.outcomes, key=lambda name: _count_models(records, name, found.measures[name][0]))
    n_sizes = len({record.n_params_base for record in records if not record.held_out})
    law = laws_for(y)[0]
    if law == "power_floor" and n_sizes < _SIZES_FOR_A_FLOOR:
        law = "power"
    return replace(Choice(level=level, target=target), y=y, law=law)


def _count_models(records: Sequence[RunRecord], dataset: str, measure: str) -> int:
    having = {
        (record.size, record.method)
        for record in records
        for score in record.scores
        if score.dataset == dataset and name_measure(score) == measure
    }
    # Of data sets with as many models, those of programs that ran say more than answers to yes-or-no questions.
    return 2 * len(having) + (DATASETS[dataset].kind == "robustness")


def complete(choice: Choice, found: Options) -> Choice:
    """Return a choice with its defaults filled in, or say what the grid does not have.

    Raises
    ------
    Refusal
        Naming the value and what there is.
    """
    measures = found.measures.get(choice.y, ("",))
    allowed = {
        "y": found.outcomes,
        "measure": measures,
        "x": found.inputs,
        "law": laws_for(choice.y),
        "pooling": poolings_for(choice.law, choice.x),
    }
    choice = replace(choice, measure=choice.measure or measures[0], methods=choice.methods or found.methods)
    for name, values in allowed.items():
        _require(name, getattr(choice, name), values, found)
    for method in choice.methods:
        _require("method", method, found.methods, found)
    for size in choice.held_out:
        _require("held-out size", size, found.sizes, found)
    ordered = {"methods": found.methods, "held_out": found.sizes}
    return replace(
        choice, **{name: tuple(v for v in values if v in getattr(choice, name)) for name, values in ordered.items()}
    )


def _require(name: str, value: str, allowed: Sequence[str], found: Options) -> None:
    if value not in allowed:
        reasons = f" (not offered: {'; '.join(found.lacking)})" if found.lacking and name in ("x", "y") else ""
        raise Refusal(f"{name} {value!r} is not there; choose from {', '.join(allowed)}{reasons}")
