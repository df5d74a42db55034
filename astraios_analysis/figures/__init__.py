"""Figures: functions from tables to (Figure, table of what is drawn), and the registry that names them."""

from astraios_analysis.figures.robustness import parse_rates, recode_categories, recode_transformations
from astraios_analysis.figures.spec import FigureError, FigureSpec, round_table, save
from astraios_analysis.figures.suite import updated_parameters
from astraios_analysis.figures.tasks import best_method, mean_performance, task_performance, zero_against_one_shot
from astraios_analysis.figures.transfer import backtest_panels, rank_transfer, score_scaling, small_against_large

__all__ = [
    "FIGURES",
    "FigureError",
    "FigureSpec",
    "backtest_panels",
    "best_method",
    "mean_performance",
    "parse_rates",
    "rank_transfer",
    "recode_categories",
    "recode_transformations",
    "round_table",
    "save",
    "score_scaling",
    "small_against_large",
    "task_performance",
    "updated_parameters",
    "zero_against_one_shot",
]

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
            "slope is shared.",
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
    )
}
