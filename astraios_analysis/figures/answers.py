"""What each figure asks, and what its table answers: one question and one computed sentence a figure.

Answers are made from the tables that are drawn (the CSV twins), so they never say what the picture does not show, and
follow when records are added. What a reader may conclude from several of them is in `findings`.
"""

from collections.abc import Callable

import pandas as pd

from astraios_analysis.figures import measured_answers, predicted_answers


def answer(figure: str, table: pd.DataFrame) -> tuple[str, str | None]:
    """Return a figure's question, and what its table answers.

    Parameters
    ----------
    figure : str
        A key of `QUESTIONS`.
    table : DataFrame
        The figure's CSV twin.

    Returns
    -------
    question : str
    answer : str or None
        None where the table has too little to answer from.
    """
    question, function = QUESTIONS[figure]
    return question, function(table) if len(table) else None


QUESTIONS: dict[str, tuple[str, Callable[[pd.DataFrame], str | None]]] = {
    "updated_parameters": ("How many parameters does each method update?", measured_answers.answer_updated_parameters),
    "training_cost": ("What does tuning cost?", measured_answers.answer_training_cost),
    "cross_entropy": ("How does the final loss depend on size and method?", measured_answers.answer_cross_entropy),
    "cross_entropy_by_step": (
        "Does the loss still fall at the last step?",
        measured_answers.answer_cross_entropy_by_step,
    ),
    "cross_entropy_by_updated_parameters": (
        "Do more updated parameters mean less loss?",
        measured_answers.answer_cross_entropy_by_updated,
    ),
    "task_performance": ("How good is each model on each data set?", measured_answers.answer_growth),
    "embedded_performance": ("How good is each model on each embedded data set?", measured_answers.answer_growth),
    "mean_performance": ("Which method is best on average?", measured_answers.answer_mean_performance),
    "zero_against_one_shot": ("Does an example in the prompt help?", measured_answers.answer_one_shot),
    "best_method": ("Which method is the best of those measured?", predicted_answers.answer_best_method),
    "recode_categories": ("How much do changed prompts cost?", measured_answers.answer_robustness),
    "embedded_robustness": ("How much do changed prompts and programs cost?", measured_answers.answer_robustness),
    "recode_transformations": ("Which change hurts?", measured_answers.answer_transformations),
    "embedded_transformations": ("Which change hurts?", measured_answers.answer_transformations),
    "parse_rates": ("How many completions are programs at all?", measured_answers.answer_parse_rates),
    "embedded_security": ("How many programs have a flaw?", measured_answers.answer_security),
    "score_scaling": ("What will a larger model score?", predicted_answers.answer_score_scaling),
    "small_against_large": (
        "Do methods keep their places from small to large?",
        predicted_answers.answer_small_against_large,
    ),
    "rank_transfer": ("Does the order of methods carry over?", predicted_answers.answer_rank_transfer),
    "backtest": ("How good are such predictions?", predicted_answers.answer_backtest),
    "loss_performance": ("Does less loss mean a better score?", predicted_answers.answer_loss_performance),
    "loss_correlation": ("Does the score follow the loss?", predicted_answers.answer_loss_correlation),
    "best_at_target": (
        "Which method will be best at a size that nobody has trained?",
        predicted_answers.answer_clearly_best,
    ),
    "small_model_choices": (
        "What comes of choosing a method by small models?",
        predicted_answers.answer_small_model_choices,
    ),
    "cost_performance": ("What does performance cost?", predicted_answers.answer_cost_performance),
    "claim_effects": ("Does what the study claims hold?", predicted_answers.answer_claims),
    "explored_fit": (
        "What does one law say, and how far would it have been right?",
        predicted_answers.answer_explored_fit,
    ),
}
"""The question of every figure, and the function that answers it from the figure's table."""
