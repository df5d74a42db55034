import loop_runs as RUNS
import pytest
import torch
from pydantic import ValidationError
from transformers import Trainer, get_cosine_schedule_with_warmup

from astraios_analysis.records.frame import METHODS
from training.loop.optimisation import learning_rate, make_optimizer
from training.spec.run import LoopSettings, Schedule


@pytest.mark.parametrize(("steps", "warmup_steps"), [(200, 12), (10, 0), (5, 5), (1, 0)])
def test_learning_rates_are_those_of_the_studys_trainer(steps, warmup_steps):
    schedule = Schedule(steps=steps, warmup_steps=warmup_steps, learning_rate=1e-4)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-4)
    reference = get_cosine_schedule_with_warmup(optimizer, warmup_steps, steps)
    for step in range(steps):
        assert learning_rate(schedule, step) == pytest.approx(reference.get_last_lr()[0], rel=1e-12)
        optimizer.step()
        reference.step()


def decayed_names(model):
    optimizer = make_optimizer(model, Schedule())
    decayed = {id(weight) for group in optimizer.param_groups if group["weight_decay"] for weight in group["params"]}
    return {name for name, weight in model.named_parameters() if id(weight) in decayed}


@pytest.mark.parametrize("method", METHODS)
def test_what_decays_is_what_decays_in_the_studys_trainer(method):
    model = RUNS.tuned_model(method)
    expected = set(Trainer.get_decay_parameter_names(None, model))
    assert decayed_names(model) == {
        name for name, weight in model.named_parameters() if weight.requires_grad and name in expected
    }


@pytest.mark.parametrize("model_type", ["gpt_bigcode", "llama", "gpt_neox"])
def test_norms_and_biases_do_not_decay_in_any_architecture(base_of, model_type):
    model = base_of(model_type)
    undecayed = {name for name, _ in model.named_parameters()} - decayed_names(model)
    assert undecayed == {name for name, weight in model.named_parameters() if weight.ndim == 1}


def test_the_optimiser_holds_what_is_updated_and_nothing_else():
    model = RUNS.tuned_model("lora")
    optimizer = make_optimizer(model, Schedule(weight_decay=0.05))
    held = [weight for group in optimizer.param_groups for weight in group["params"]]
    assert {id(weight) for weight in held} == {id(weight) for weight in model.parameters() if weight.requires_grad}
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.05]


@pytest.mark.parametrize(
    "values",
    [{"layout": "bucketed"}, {"micro_batch": 0}, {"precision": "fp16"}, {"max_gradient_norm": 0.0}, {"log_with": "x"}],
)
def test_settings_out_of_range_are_refused(values):
    with pytest.raises(ValidationError):
        LoopSettings(**values)
