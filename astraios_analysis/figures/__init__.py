"""Figures: functions from tables to (Figure, table of what is drawn), and the registry that names them."""

from astraios_analysis.figures.catalogue import FIGURES, drawn_figures, find_spec
from astraios_analysis.figures.claims import claim_effects
from astraios_analysis.figures.decisions import best_at_target, cost_performance, small_model_choices
from astraios_analysis.figures.embedded import (
    embedded_performance,
    embedded_robustness,
    embedded_security,
    embedded_transformations,
)
from astraios_analysis.figures.gallery import Gallery, draw
from astraios_analysis.figures.loss_performance import loss_correlation, loss_performance
from astraios_analysis.figures.losses import (
    cross_entropy,
    cross_entropy_by_step,
    cross_entropy_by_updated_parameters,
)
from astraios_analysis.figures.ranks import rank_transfer, small_against_large
from astraios_analysis.figures.robustness import parse_rates, recode_categories, recode_transformations
from astraios_analysis.figures.spec import FigureSpec, figure_stem, round_table, save
from astraios_analysis.figures.suite import training_cost, updated_parameters
from astraios_analysis.figures.tasks import best_method, mean_performance, task_performance, zero_against_one_shot
from astraios_analysis.figures.transfer import backtest_panels, choose_target, score_scaling

__all__ = [
    "FIGURES",
    "FigureSpec",
    "Gallery",
    "backtest_panels",
    "best_at_target",
    "best_method",
    "choose_target",
    "claim_effects",
    "cost_performance",
    "cross_entropy",
    "cross_entropy_by_step",
    "cross_entropy_by_updated_parameters",
    "draw",
    "drawn_figures",
    "embedded_performance",
    "embedded_robustness",
    "embedded_security",
    "embedded_transformations",
    "figure_stem",
    "find_spec",
    "loss_correlation",
    "loss_performance",
    "mean_performance",
    "parse_rates",
    "rank_transfer",
    "recode_categories",
    "recode_transformations",
    "round_table",
    "save",
    "score_scaling",
    "small_against_large",
    "small_model_choices",
    "task_performance",
    "training_cost",
    "updated_parameters",
    "zero_against_one_shot",
]
