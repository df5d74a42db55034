"""Training tokens a second beside `transformers.Trainer`: same model, rows, order, schedule, logging and validation.

Both sides train full fine-tuning in float32 on packed rows with one thread, validate on the same rows as often, and
write nothing. Their loss curves must agree, or the speeds would be of different work. Time is processor time of the
whole call, both sides interleaved, the first round of each thrown away: the machine may be shared.
"""

import math
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

from training.loop.batches import TokenRows
from training.loop.train import train
from training.models.pretrained import scratch_config
from training.spec.run import LoopSettings, ModelSize, Schedule

ROUNDS = 3
VOCABULARY, LENGTH = 512, 128
SCHEDULE = Schedule(
    steps=30,
    global_batch=8,
    sequence_length=LENGTH,
    learning_rate=3e-3,
    warmup_steps=4,
    weight_decay=0.05,
    validate_every=10,
)
SIZES = [(64, 2, 4), (160, 4, 4)]


def model_of(size):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(scratch_config(size), dtype=torch.float32)


def rows_of(n, seed):
    """Rows in which most tokens follow from the one before."""
    rng = np.random.default_rng(seed)
    rows = (rng.integers(0, VOCABULARY, (n, 1)) + 7 * np.arange(LENGTH)) % VOCABULARY
    noise = rng.random(rows.shape) < 0.2
    rows[noise] = rng.integers(0, VOCABULARY, noise.sum())
    return rows


def ours(size, training, validation):
    rows = TokenRows(*([(row.tolist(), [True] * LENGTH) for row in part] for part in (training, validation)))
    model = model_of(size)
    started = time.process_time()
    result = train(model, SCHEDULE, rows, seed=0, settings=LoopSettings())
    return time.process_time() - started, list(result.train_losses), [point.loss for point in result.curve]


class Losses(TrainerCallback):
    def __init__(self):
        self.training, self.validation = [], []

    def on_log(self, arguments, state, control, logs=None, **_):
        if "loss" in logs:
            self.training.append(logs["loss"])
        if "eval_loss" in logs:
            self.validation.append(logs["eval_loss"])


class InOrder(Trainer):
    """Rows in the order given: its default is another permutation for every seed."""

    def _get_train_sampler(self, *_):
        return torch.utils.data.SequentialSampler(self.train_dataset)


def theirs(size, training, validation, folder):
    parts = [[{"input_ids": row, "labels": row} for row in part] for part in (training, validation)]
    arguments = TrainingArguments(
        output_dir=folder,
        max_steps=SCHEDULE.steps,
        per_device_train_batch_size=SCHEDULE.global_batch,
        per_device_eval_batch_size=SCHEDULE.global_batch,
        learning_rate=SCHEDULE.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=SCHEDULE.warmup_steps,
        weight_decay=SCHEDULE.weight_decay,
        max_grad_norm=1.0,
        logging_steps=1,
        eval_strategy="steps",
        eval_steps=SCHEDULE.validate_every,
        # As here: the base's own loss is part of every curve.
        eval_on_start=True,
        prediction_loss_only=True,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        dataloader_pin_memory=False,
    )
    losses, model = Losses(), model_of(size)
    started = time.process_time()
    trainer = InOrder(model=model, args=arguments, train_dataset=parts[0], eval_dataset=parts[1], callbacks=[losses])
    trainer.train()
    return time.process_time() - started, losses.training, losses.validation


@pytest.mark.parametrize("shape", SIZES, ids=lambda shape: f"{shape[0]}x{shape[1]}")
def test_training_is_as_fast_as_the_trainer_of_transformers(shape, tmp_path, capfd):
    d_model, n_layers, n_heads = shape
    size = ModelSize(
        name="s",
        d_model=d_model,
        n_layers=n_layers,
        n_heads=n_heads,
        d_ff=4 * d_model,
        vocab_size=VOCABULARY,
        n_positions=LENGTH,
    )
    training, validation = rows_of(SCHEDULE.steps * SCHEDULE.global_batch, 1), rows_of(32, 2)
    sides = {
        "ours": lambda: ours(size, training, validation),
        "Trainer": lambda: theirs(size, training, validation, tmp_path),
    }
    found = {name: SimpleNamespace(seconds=[], training=None, validation=None) for name in sides}
    for round_ in range(ROUNDS + 1):
        for name, side in sides.items():
            seconds, *curves = side()
            found[name].training, found[name].validation = curves
            if round_:
                found[name].seconds.append(seconds)
    n_tokens = SCHEDULE.steps * SCHEDULE.global_batch * LENGTH
    speed = {name: n_tokens / np.median(side.seconds) for name, side in found.items()}
    with capfd.disabled():
        print(
            f"\n{d_model}x{n_layers}: " + ", ".join(f"{name} {value:,.0f} tokens/s" for name, value in speed.items()),
            end="",
        )
        print(f" (processor time, median of {ROUNDS}); ratio {speed['ours'] / speed['Trainer']:.2f}")
    assert found["ours"].training == pytest.approx(found["Trainer"].training, abs=2e-3)
    assert found["ours"].validation == pytest.approx(found["Trainer"].validation, abs=2e-3)
    assert found["ours"].training[-1] < math.log(VOCABULARY) - 0.5
    assert speed["ours"] >= speed["Trainer"]
