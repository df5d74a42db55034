import pytest

from astraios_analysis.records.frame import METHODS, Provenance
from training.spec.run import REFERENCE_OPTIONS, LoopSettings, ModelSize, RunSpec, Schedule, Tuning, spec_of

UNKNOWN = "unknown tuning method 'lora2'; choose from adapterh, adapterp, fft, ia3, lora, parallel, ptuning"


LORA = {"peft_type": "LORA"}
INT8 = LoopSettings(base_precision="int8")


def small(**changes):
    shape = {"name": "s", "d_model": 32, "n_layers": 2, "n_heads": 4, "vocab_size": 64, "n_positions": 16}
    return ModelSize(**{**shape, **changes})


def spec(**changes):
    parts = {"grid": "g", "size": small(), "tuning": Tuning(method="lora"), "schedule": Schedule()}
    return RunSpec(**{**parts, "data": "text", "seed": 0, **changes})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: small(width=3), "Extra inputs"),
        (lambda: setattr(small(), "d_model", 64), "frozen"),
        (lambda: small(n_heads=5), "n_heads 5 does not divide d_model 32"),
        (lambda: Tuning(method="lora2"), UNKNOWN),
        (lambda: Tuning(method="lora", bottleneck=4), "bottleneck=4 does not belong to .*lora'; its options are rank"),
        (lambda: Tuning(method="fft", rank=4), "rank=4 does not belong to tuning method 'fft'; it has no options"),
        (lambda: Tuning(method="lora", peft=LORA), "'lora' has options of its own; give one with peft another name"),
        (lambda: Tuning(method="dora", peft=LORA, rank=8), "go into its peft, not beside it: .*rank"),
        (lambda: Tuning(method="dora", peft={}), "peft of tuning method 'dora' has no peft_type"),
        (lambda: Tuning.for_width("lora", 0), "d_model is 0"),
        (lambda: Schedule(steps=10), "warmup_steps 12 exceeds steps 10"),
        (lambda: LoopSettings(layout="bucketed"), r"layout\n.*should be 'packed' or 'documents'"),
        (lambda: LoopSettings(micro_batch=0), r"micro_batch\n.*greater than 0"),
        (lambda: LoopSettings(precision="fp16"), r"precision\n.*should be 'fp32' or 'bf16'"),
        (lambda: LoopSettings(max_gradient_norm=0.0), r"max_gradient_norm\n.*greater than 0"),
        (lambda: LoopSettings(log_with="x"), r"log_with\n.*Extra inputs"),
        (lambda: small(pretrained="a/b", revision="main"), "should match pattern"),
        (lambda: small(revision="b" * 40), "revision b{40} is of no model; set `pretrained`, or leave it out"),
        (lambda: spec(tuning=Tuning(method="fft"), loop=INT8), "'int8': fft has no frozen base; leave it out"),
        (lambda: spec(loop=LoopSettings(checkpoint_every=5)), r"loop\.checkpoint_every is 5, and is no part of a spec"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("method", METHODS)
def test_tuning_fills_published_options_and_no_others(method):
    options = Tuning(method=method).model_dump(exclude_none=True)
    assert options == {"method": method, **REFERENCE_OPTIONS[method]}
    # As at every published width.
    for width in (2048, 2816, 4096, 6144):
        assert Tuning.for_width(method, width) == Tuning(method=method)


@pytest.mark.parametrize(
    ("width", "bottleneck", "rank"), [(1024, 128, 8), (512, 64, 8), (128, 16, 8), (64, 16, 8), (8, 16, 8), (1, 16, 1)]
)
def test_narrow_models_keep_the_smallest_published_ratio_down_to_a_bottleneck_of_16(width, bottleneck, rank):
    assert Tuning.for_width("adapterh", width).bottleneck == bottleneck
    lora = Tuning.for_width("lora", width)
    assert (lora.rank, lora.alpha) == (rank, 2.0 * rank)
    assert Tuning.for_width("ptuning", width).virtual_tokens == 30


def test_schedule_defaults_are_the_published_ones():
    published = {"steps": 200, "global_batch": 32, "sequence_length": 2048, "learning_rate": 1e-4}
    published |= {"decay": "cosine", "warmup_steps": 12, "weight_decay": 0.05, "validate_every": 10}
    assert Schedule().model_dump() == published


def test_run_id_changes_with_anything_in_the_specification():
    changes = [{}, {"seed": 1}, {"data": "other"}, {"held_out": True}, {"grid": "h"}, {"n_validation": 64}]
    shapes = [{"n_layers": 3}, {"pretrained": "a/b"}, {"pretrained": "a/b", "revision": "b" * 40}]
    changes += [{"size": small(**shape)} for shape in shapes] + [{"tuning": Tuning(method="lora", rank=4)}]
    changes += [{"schedule": Schedule(learning_rate=2e-4)}, {"pretraining": Schedule()}]
    changes += [{"loop": LoopSettings(**loop)} for loop in ({"layout": "documents"}, {"base_precision": "bf16"})]
    variants = [spec(**change) for change in changes]
    assert len({variant.run_id for variant in variants}) == len(variants)
    assert RunSpec.model_validate_json(spec().model_dump_json()) == spec()
    assert spec().run_id == spec(size=small(d_ff=128)).run_id != spec(size=small(d_ff=48)).run_id
    assert spec().run_id.startswith("g-s-lora-s0-")


def test_a_record_gives_its_specification_or_says_what_is_wrong_with_it(make_record):
    described = spec().model_dump(mode="json", exclude_none=True)
    assert spec_of(make_record(provenance=Provenance(spec={"run": described}))) == spec()
    assert spec_of(make_record(provenance=Provenance())) is None
    described["schedule"]["bogus"] = 1
    record = make_record(provenance=Provenance(spec={"run": described}))
    with pytest.raises(
        ValueError, match=f"record {record.run_id}: provenance.spec.run, schedule.bogus: is not a field"
    ):
        spec_of(record)
