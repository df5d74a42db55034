import loop_runs as RUNS
import pytest
import torch
from transformers import Trainer, get_cosine_schedule_with_warmup

from astraios_analysis.records.frame import METHODS
from training.loop.optimisation import learning_rate, make_optimizer
from training.spec.run import Schedule


@pytest.mark.parametrize(("steps", "warmup_steps"), [(200, 12), (10, 0), (5, 5), (1, 0)])
def test_learning_rates_are_those_of_the_studys_trainer(steps, warmup_steps):
    schedule = Schedule(steps=steps, warmup_steps=warmup_steps, learning_rate=1e-4)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-4)
    reference = get_cosine_schedule_with_warmup(optimizer, warmup_steps, steps)
    for step in range(steps):
        assert learning_rate(schedule, step) == pytest.approx(reference.get_last_lr()[0], rel=1e-12)
        optimizer.step()
        reference.step()


@pytest.mark.parametrize("which", [*METHODS, "llama", "gpt_neox"])
def test_what_decays_is_what_decays_in_the_studys_trainer(base_of, which):
    model = RUNS.tuned_model(which) if which in METHODS else base_of(which)
    groups = make_optimizer(model, Schedule(weight_decay=0.05)).param_groups
    decayed = {id(weight) for group in groups if group["weight_decay"] for weight in group["params"]}
    updated = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    assert {id(weight) for group in groups for weight in group["params"]} == set(map(id, updated.values()))
    assert {group["weight_decay"] for group in groups} <= {0.0, 0.05}
    expected = updated.keys() & set(Trainer.get_decay_parameter_names(None, model))
    assert {name for name, weight in updated.items() if id(weight) in decayed} == expected
    if which not in METHODS:
        # Norms and biases do not.
        assert updated.keys() - expected == {name for name, weight in updated.items() if weight.ndim == 1}
