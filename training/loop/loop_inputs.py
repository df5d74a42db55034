"""Whether rows, schedule, settings and model fit each other, asked before anything is computed."""

from peft import PeftModel
from transformers import PreTrainedModel

from training.loop.batches import RowSet, TokenRows, micro_batch_size, step_rows
from training.loop.validation import count_virtual_tokens
from training.spec.run import LoopSettings
from training.spec.run import Schedule


def fill_batch_sizes(settings: LoopSettings, schedule: Schedule, n_processes: int) -> LoopSettings:
    """Return settings with the batch sizes that are left open filled in.

    Raises
    ------
    ValueError
        If the global batch does not split into passes of ``micro_batch`` rows on every process.
    """
    micro_batch = micro_batch_size(schedule.global_batch, settings.micro_batch, n_processes)
    validation_batch = settings.validation_batch or micro_batch
    return settings.model_copy(update={"micro_batch": micro_batch, "validation_batch": validation_batch})


def check_rows(
    model: PreTrainedModel | PeftModel, schedule: Schedule, rows: TokenRows, settings: LoopSettings
) -> dict[str, RowSet]:
    """Return the run's rows, after the check that the model can be trained on them.

    Parameters
    ----------
    model : PreTrainedModel or PeftModel
        The tuned model.
    schedule : Schedule
        Steps, global batch and the length of a row.
    rows : TokenRows
        Training and validation rows.
    settings : LoopSettings
        The layout.

    Returns
    -------
    dict of str to RowSet
        ``training`` and ``validation``.

    Raises
    ------
    ValueError
        If the model has too few positions for a row and its virtual tokens, a row is not as the layout and the
        vocabulary ask, or no token of a step is scored.
    """
    n_virtual, n_positions = count_virtual_tokens(model), getattr(model.config, "max_position_embeddings", None)
    if n_positions is not None and schedule.sequence_length + n_virtual > n_positions:
        virtual = f" and {n_virtual} virtual tokens" if n_virtual else ""
        raise ValueError(
            f"sequence_length {schedule.sequence_length}{virtual} exceed the model's {n_positions} positions; "
            f"choose a sequence_length of at most {n_positions - n_virtual}, or a model with more positions"
        )
    vocab_size = model.get_input_embeddings().weight.shape[0]
    sets = {
        what: RowSet(given, what, settings.layout, max_length=schedule.sequence_length, vocab_size=vocab_size)
        for what, given in (("training", rows.training), ("validation", rows.validation))
    }
    for step in range(schedule.steps):
        if not sets["training"].n_targets(step_rows(len(sets["training"]), schedule.global_batch, step)):
            raise ValueError(
                f"no token of the {schedule.global_batch} rows of step {step + 1} is scored; "
                "choose a larger global_batch, or leave out rows without scored tokens"
            )
    return sets
