"""The catalogue of figures: what each is called, which notebook draws it, and what its caption says."""

from collections.abc import Mapping
from pathlib import Path

from astraios_analysis.figures.spec import SUFFIXES, FigureSpec
from astraios_analysis.records.released import GRID

_RESAMPLED = ("lower", "upper")
_INTERVAL = (
    "Error bars are {level} percentile intervals from 2,000 bootstrap resamples of problems; they do not cover the "
    "variance between training runs. Digitised clone-detection accuracy has normal intervals from binomial and "
    "reading error."
)

FIGURES: dict[str, FigureSpec] = {
    spec.name: spec
    for spec in (
        FigureSpec(
            "updated_parameters",
            "Updated parameters by method and size",
            "model_suite",
            "Number of parameters each method updates, and their share of the tuned model in percent, against the "
            "parameters of the base model (embeddings included). Exact counts, both axes logarithmic.",
        ),
        FigureSpec(
            "task_performance",
            "Eight data sets by size and method",
            "task_performance",
            "Primary score of each of the study's eight data sets against the parameters of the base model. "
            f"{_INTERVAL} Methods are shifted sideways a little so that bars do not overlap; each panel names the "
            "models that were not released.",
            _RESAMPLED,
        ),
        FigureSpec(
            "mean_performance",
            "Mean performance over shared data sets",
            "task_performance",
            "Mean of the primary scores over data sets that all models of a panel have. "
            f"{_INTERVAL} All data sets built on HumanEval are resampled together.",
            ("value", *_RESAMPLED),
        ),
        FigureSpec(
            "zero_against_one_shot",
            "Clone and defect detection, zero-shot against one-shot",
            "task_performance",
            "Accuracy with no example (hollow) and with one example (filled) in the prompt, by size and method. Thick "
            "bars are {level} intervals: over problems for defect detection, binomial and reading error for clone "
            "detection. Dotted: always giving the commonest answer.",
            _RESAMPLED,
        ),
        FigureSpec(
            "best_method",
            "Probability of being the best method",
            "task_performance",
            "Share of 2,000 bootstrap resamples of problems in which a method has the highest primary score, at the "
            "largest size at which most methods were measured. It covers the choice of problems, not other training "
            "runs. An empty cell is a method that was not measured.",
            ("p_best", *_RESAMPLED),
        ),
        FigureSpec(
            "recode_categories",
            "Robustness by ReCode category",
            "robustness_security",
            "Nominal pass@1, robust pass@1 (solved under every transformation and seed of the category) and relative "
            f"drop (nominal - robust) / nominal, against base size. {_INTERVAL.split('; they')[0]}.",
            _RESAMPLED,
        ),
        FigureSpec(
            "recode_transformations",
            "Relative drop by ReCode transformation",
            "robustness_security",
            "Relative drop of pass@1 for each transformation by base size, averaged over the methods measured (number "
            "given where some are missing). No intervals; lowest and highest method are in the table.",
            ("value",),
        ),
        FigureSpec(
            "parse_rates",
            "Asleep at the Keyboard: completions that parse",
            "robustness_security",
            "Share of prompt and completion that parses, with {level} normal intervals from bootstrap standard errors "
            "over scenarios. Completions were released uncut, so a low rate mostly reflects the length limit: this is "
            "not a security score, and the released data allow none.",
            _RESAMPLED,
        ),
        FigureSpec(
            "score_scaling",
            "Scores by size, fitted and extrapolated",
            "scale_transfer",
            "Measured primary scores with {level} bootstrap intervals over problems, logit-linear lines (solid over "
            "the fitted sizes, dashed beyond), and prediction intervals for a new run at {target} parameters (50 % "
            "thick, 95 % thin). Four sizes give each method its own line with 2 degrees of freedom; otherwise one "
            "slope is shared. Fewer than four sizes leave nothing to back-test with: such data sets are not predicted.",
            ("value", "lower", "upper", "reach"),
        ),
        FigureSpec(
            "small_against_large",
            "Small against large",
            "scale_transfer",
            "Each method's primary score at the smallest size against its score at the largest size that has scores "
            "of four or more methods, with {level} intervals in both directions. Spearman's rank correlation with its "
            "exact permutation p-value.",
            ("small_lower", "small_upper", "large_lower", "large_upper"),
        ),
        FigureSpec(
            "rank_transfer",
            "Does the order of methods carry over?",
            "scale_transfer",
            "Rank correlation of methods between each smaller size and the largest, with {level} percentile intervals "
            "over resampled problems. The grey tick is the product of both sizes' mean correlation with their own "
            "resamples: about the most that rank noise lets one see. Noise pulls resampled ranks towards 0, so an "
            "interval can leave out its estimate: it says how much depends on the problems, and is no confidence "
            "interval for the order of noise-free scores.",
            ("value", "lower", "upper", "p_value", "ceiling"),
        ),
        FigureSpec(
            "backtest",
            "Back-test: the largest size held out",
            "scale_transfer",
            "Scores of the largest size, held out (hollow), and what a logit-linear fit with one shared slope "
            "predicted from the smaller sizes, with {level} prediction intervals for a new run; dots predict no "
            "change. With two training sizes no interval is possible.",
            ("predicted", "lower", "upper", "error", "persistence_error", "reach"),
        ),
        FigureSpec(
            "training_cost",
            "Cost of tuning",
            "model_suite",
            "Floating-point operations, wall-clock seconds and peak memory of each tuning run against the parameters "
            "of the base model; where a model has several seeds, large points are their means and small ones the "
            "runs. Times are of one machine that did other work as well.",
        ),
        FigureSpec(
            "cross_entropy",
            "Validation cross-entropy by size",
            "cross_entropy",
            "Final validation loss against the parameters of the base model, embeddings included, both axes "
            "logarithmic; dotted: the untuned base models. Large points are means over seeds with {level} normal "
            "intervals over validation tokens, small ones single seeds. Lines are log loss against log size, one "
            "method each, fitted to the means, with {level} confidence bands (where the line is, not where a new run "
            "falls); dashed beyond the fitted sizes. Hollow sizes are held out and take no part.",
            ("val_loss", "base_val_loss", *_RESAMPLED, "slope", "slope_lower", "slope_upper"),
        ),
        FigureSpec(
            "cross_entropy_by_step",
            "Validation cross-entropy by step",
            "cross_entropy",
            "Validation loss by optimiser step, one panel a size, axes shared; step 0 is the untuned base model. Thick "
            "lines are means over seeds, thin ones single seeds.",
            ("loss",),
        ),
        FigureSpec(
            "cross_entropy_by_updated_parameters",
            "Validation cross-entropy against updated parameters",
            "cross_entropy",
            "Final validation loss against the number of updated parameters and their share of the tuned model, axes "
            "logarithmic; a line joins the methods of one size. Large points are means over seeds, small ones single "
            "seeds; intervals over validation tokens are in the table.",
            ("val_loss", "base_val_loss", *_RESAMPLED, "percent_updated"),
        ),
        FigureSpec(
            "embedded_performance",
            "The embedded suite by size and method",
            "task_performance",
            "Primary score of each of the embedded suite's five data sets against the parameters of the base model: "
            "large points are means over seeds with {level} percentile intervals from 2,000 bootstrap resamples of "
            "problems, small ones single seeds, hollow ones sizes held out of fits. No value compares with one of a "
            "published data set.",
            ("value", *_RESAMPLED),
        ),
        FigureSpec(
            "embedded_robustness",
            "Robustness on the embedded suite",
            "robustness_security",
            "Nominal pass@1, robust pass@1 (solved under every change of the category) and relative drop (nominal - "
            "robust) / nominal, absent where nothing was solved, against base size. Large points are means over seeds "
            "with {level} bootstrap intervals over problems, small ones single seeds.",
            ("value", *_RESAMPLED),
        ),
        FigureSpec(
            "embedded_transformations",
            "Relative drop by change of the prompt",
            "robustness_security",
            "Relative drop of pass@1 for each change by base size, averaged over the methods that solved anything "
            "(number given where some did not). No intervals; lowest and highest method are in the table.",
            ("value", "lowest", "highest"),
        ),
        FigureSpec(
            "embedded_security",
            "Security on the embedded suite",
            "robustness_security",
            "Share of valid programs in which bandit finds a flaw of medium or high severity, where the input comes "
            "from outside and where it does not, and the share of programs that is valid. Large points are means over "
            "seeds with {level} normal intervals from bootstrap standard errors, small ones single seeds.",
            ("value", *_RESAMPLED),
        ),
        FigureSpec(
            "loss_performance",
            "Loss against performance",
            "loss_performance",
            "Primary score of each data set against validation loss (falling to the right), one point a model, larger "
            "for larger base models; means over seeds with {level} bootstrap intervals over problems, small points "
            "single seeds. Above each panel Spearman's rank correlation over the models that are not held out, with "
            "its {level} interval from resampled models and problems, and the verdict that follows from it.",
            ("val_loss", "value", *_RESAMPLED),
        ),
        FigureSpec(
            "loss_correlation",
            "Does the score follow the loss?",
            "loss_performance",
            "Spearman's rank correlation of validation loss with each data set's score (turned so that -1 means that "
            "less loss always comes with a better score) over all models, among the methods of one size, and among "
            "the sizes of one method, with {level} percentile intervals from resampled models and problems. Where "
            "scores hardly differ, as near a floor, many resamples have no correlation; those count towards both ends, "
            "so that an interval of everything means: not estimable. Held-out sizes take no part.",
            ("value", *_RESAMPLED, "p_value"),
        ),
        FigureSpec(
            "best_at_target",
            "Probability of being best at a larger size",
            "predictions",
            "Probability that a method is the best of those measured at a size that nobody has trained ({target}, or "
            "the held-out size of a grid out of its reach): share of joint draws of one new run of each method. Data "
            "sets that no back-test can check are named, and not predicted.",
            ("n_params", "p_best", "value", *_RESAMPLED, "reach", "expected_regret"),
        ),
        FigureSpec(
            "small_model_choices",
            "Choosing a method by small models",
            "predictions",
            "Score given up at the larger size by the method chosen at a smaller one (filled: best there; hollow: "
            "predicted best by a law of the sizes up to it), with {level} percentile intervals over problems; the dash "
            "is what a choice by lot gives up on average.",
            (
                "p_right",
                "regret",
                "regret_lower",
                "regret_upper",
                "regret_random",
                "pair_accuracy",
                "pair_lower",
                "pair_upper",
            ),
        ),
        FigureSpec(
            "cost_performance",
            "Cost against performance",
            "predictions",
            "Primary score against cost of every model (filled) and its prediction at the target size (hollow), with "
            "{level} intervals: over problems, and for one new run. The step joins measured models that no other beats "
            "in both.",
            ("n_params_base", "cost_value", "value", *_RESAMPLED, "p_frontier"),
        ),
        FigureSpec(
            "claim_effects",
            "What the study claims, judged",
            "claims",
            "Effect of each claim over all parts (diamond) and on each part (dots), with 95 % intervals of the kind "
            "that docs/claims.md names; right of the dashed line speaks for the claim. The verdict follows rules "
            "written down before; claims that the records cannot test are named in the table.",
            ("effect", *_RESAMPLED, "p_value", "p_opposite", "p_holm"),
        ),
        FigureSpec(
            "explored_fit",
            "A law, its prediction and its back-test",
            "explore",
            "What the explorer starts with: the validation loss, or without losses the score that most models have, "
            "against the parameters of the base model with {level} intervals; a law whose shape methods share (solid "
            "over the fitted sizes, dashed beyond) and prediction intervals for a new run at {target} parameters, or "
            "at the held-out size of a grid out of its reach. Right: the largest fitted size predicted from the "
            "smaller ones with {level} prediction intervals; dots predict no change. Bars that leave the frame are in "
            "the table.",
            ("value", *_RESAMPLED, "predicted", "reach"),
        ),
    )
}


def find_spec(stem: str, figures: Mapping[str, FigureSpec] = FIGURES) -> tuple[FigureSpec, str] | None:
    """Return whose file a stem is: the figure and the grid; None if it is no figure's.

    Parameters
    ----------
    stem : str
        Of a file, as `spec.figure_stem` makes it.
    figures : mapping of str to FigureSpec
    """
    if stem in figures:
        return figures[stem], GRID
    named = [name for name in figures if stem.startswith(f"{name}_")]
    if not named:
        return None
    # The longest: one figure's name may begin another's.
    name = max(named, key=len)
    return figures[name], stem[len(name) + 1 :]


def drawn_figures(
    folder: str | Path, notebook: str, figures: Mapping[str, FigureSpec] = FIGURES
) -> list[tuple[str, FigureSpec, str]]:
    """Return a notebook's figures that have files in a folder.

    Returns
    -------
    list of (str, FigureSpec, str)
        File stem, figure and grid: figure by figure, the released models first, then other grids by name.
    """
    stems = sorted({path.stem for path in Path(folder).glob("*.*") if path.suffix.lstrip(".") in SUFFIXES})
    found = [(stem, *named) for stem in stems if (named := find_spec(stem, figures)) and named[0].notebook == notebook]
    order = list(figures)
    return sorted(found, key=lambda item: (order.index(item[1].name), item[2] != GRID, item[2]))
