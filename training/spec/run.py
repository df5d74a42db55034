"""What a run is: base model shape, tuning method, schedule. Frozen, validated, importable without torch.

The published study's shapes and settings are the constants here, each with its source:

* Zhuo et al. 2024, Astraios: Parameter-Efficient Instruction Tuning Code Large Language Models, arXiv 2401.00788
  (tuning methods, their settings, and the schedule);
* Li et al. 2023, StarCoder: may the source be with you!, arXiv 2305.06161, and the ``config.json`` published with each
  StarCoderBase model (base model shapes).
"""

from typing import Annotated, Literal
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
import hashlib
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, StringConstraints, model_validator
from astraios_analysis.records.frame import known_method


Layout = Literal["packed", "documents"]
Precision = Literal["fp32", "bf16"]
BasePrecision = Literal["bf16", "int8"]


class LoopSettings(BaseModel):
    """Settings of the training loop that are no part of the study's schedule.

    Attributes
    ----------
    layout : {"packed", "documents"}
        What a row is: a block of the schedule's sequence length, cut from documents one after the other (the study's
        way), or one document, shorter ones padded on the right.
    micro_batch : int, optional
        Rows of one forward pass on one process; gradients add up over as many passes as the schedule's global batch
        takes. Without it, the global batch is split among the processes and not further.
    validation_batch : int, optional
        Rows of one forward pass in validation; ``micro_batch`` without it.
    precision : {"fp32", "bf16"}
        Precision of the forward pass: float32, or bfloat16 where torch's autocast takes it. Weights, gradients and
        the optimiser are float32 either way.
    base_precision : {"bf16", "int8"}, optional
        How the weights of a frozen base are kept: in bfloat16, or its projections in 8 bits (LLM.int8(), as in the
        study); float32 without it. Full fine-tuning has no frozen base and refuses it. A base that is trained from
        scratch is always trained in float32.
    max_gradient_norm : float, optional
        Gradients are scaled down to this Euclidean norm over all updated parameters; 1 as the study's trainer does,
        absent for no clipping.
    gradient_checkpointing : bool
        Compute activations anew in the backward pass instead of keeping them: less memory, about a third more time.
    compile : bool, optional
        Compute blocks by kernels that torch.compile makes (numbers differ by rounding); absent, and not false, where
        it is not so: specifications from before it was there keep their names.
    checkpoint_every : int, optional
        Steps between two checkpoints, where there is a folder for them; the last step is saved in any case. Without
        it, only the last step is.

    Raises
    ------
    pydantic.ValidationError
        If a value is out of range.

    References
    ----------
    Zhuo et al. 2024, arXiv 2401.00788, trained with the Trainer of transformers and its defaults (gradient norm 1), all
    bases but those of full fine-tuning in 8 bits; Dettmers et al. 2022, LLM.int8(), arXiv 2208.07339.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    layout: Layout = "packed"
    micro_batch: PositiveInt | None = None
    validation_batch: PositiveInt | None = None
    precision: Precision = "fp32"
    base_precision: BasePrecision | None = None
    max_gradient_norm: Annotated[float, Field(gt=0)] | None = 1.0
    gradient_checkpointing: bool = False
    compile: Literal[True] | None = None
    checkpoint_every: PositiveInt | None = None


def check_sharding(settings: LoopSettings, is_sharded: bool) -> None:
    """Raise ValueError if blocks shall be compiled and sharded, which together have not been tried."""
    if is_sharded and settings.compile:
        raise ValueError("blocks that are sharded are not compiled here; leave out --compile or --shard")


Label = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.]*$")]

BOTTLENECK_METHODS = ("adapterh", "adapterp", "parallel")

# Bottleneck adapters of Astraios: width 256, tanh, no bias, no dropout, scaling 1, both matrices drawn N(0, 0.02^2).
_BOTTLENECK = MappingProxyType({"bottleneck": 256, "scaling": 1.0, "init_std": 0.02, "init_identity": False})

REFERENCE_OPTIONS: Mapping[str, Mapping[str, int | float | bool]] = MappingProxyType(
    {
        "fft": MappingProxyType({}),
        "lora": MappingProxyType({"rank": 8, "alpha": 16.0, "dropout": 0.05}),
        "ptuning": MappingProxyType({"virtual_tokens": 30}),
        "ia3": MappingProxyType({}),
        "adapterh": _BOTTLENECK,
        "adapterp": _BOTTLENECK,
        "parallel": _BOTTLENECK,
    }
)
"""Options of each tuning method with their values in Astraios (arXiv 2401.00788), the same at every published size."""

REFERENCE_WIDTH = 2048
"""Width of the smallest published model (StarCoderBase-1B): below it, the bottleneck shrinks with the width."""

SMALLEST_BOTTLENECK = 16
"""Width of a bottleneck below which it does not shrink."""


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class ModelSize(_Spec):
    """Shape of a GPTBigCode base model: learned positions, multi-query attention, tied output head.

    With width d, depth L, feed-forward width f, heads h, key width k = d / h, vocabulary V and positions P it has
    V d + P d + L [d (d + 2 k) + (d + 2 k) + d^2 + d + 2 d f + f + d + 4 d] + 2 d parameters.

    Attributes
    ----------
    name : str
        Label of the size. Sizes are ordered by their number of parameters, never by label.
    d_model : int
        Width of the residual stream, d.
    n_layers, n_heads : int
        Blocks L, and attention heads h in each; h divides d.
    d_ff : int
        Width of the feed-forward layer, f; 4 d unless given.
    vocab_size, n_positions : int
        Rows of the token and of the position embedding.
    pretrained : str, optional
        Hub name or local folder of pre-trained weights; absent for a model trained from scratch.

    Raises
    ------
    pydantic.ValidationError
        If a number is not positive, or the heads do not divide the width.
    """

    name: Label
    d_model: PositiveInt
    n_layers: PositiveInt
    n_heads: PositiveInt
    d_ff: PositiveInt
    vocab_size: PositiveInt
    n_positions: PositiveInt
    pretrained: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _fill_d_ff(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("d_ff") is None and isinstance(data.get("d_model"), int):
            return {**data, "d_ff": 4 * data["d_model"]}
        return data

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.d_model % self.n_heads:
            raise ValueError(
                f"n_heads {self.n_heads} does not divide d_model {self.d_model}; choose a divisor, "
                "so that every head has the same width"
            )
        return self


class Tuning(_Spec):
    """A tuning method and its options; an option left out has the published value (`REFERENCE_OPTIONS`).

    Attributes
    ----------
    method : str
        One of ``fft lora ptuning ia3 adapterh adapterp parallel``.
    rank : int, optional
        LoRA: rank r of the update B A.
    alpha : float, optional
        LoRA: the update is scaled by alpha / r.
    dropout : float, optional
        LoRA: dropout probability on the input of the update.
    virtual_tokens : int, optional
        P-Tuning: trained tokens put before the prompt.
    bottleneck : int, optional
        Adapters: width b of the bottleneck.
    scaling : float, optional
        Adapters: factor s of s U tanh(D x).
    init_std : float, optional
        Adapters: standard deviation of the normal draw for D and U.
    init_identity : bool, optional
        Adapters: start from U = 0, so that the tuned model begins as the base model.

    Raises
    ------
    pydantic.ValidationError
        If the method is unknown, or an option belongs to another method or is out of range.
    """

    method: str
    rank: PositiveInt | None = None
    alpha: Annotated[float, Field(gt=0)] | None = None
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    virtual_tokens: PositiveInt | None = None
    bottleneck: PositiveInt | None = None
    scaling: Annotated[float, Field(gt=0)] | None = None
    init_std: Annotated[float, Field(gt=0)] | None = None
    init_identity: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _fill_and_check_options(cls, data: Any) -> Any:
        if not isinstance(data, dict) or not isinstance(data.get("method"), str):
            return data
        method = known_method(data["method"])
        given = {name: value for name, value in data.items() if value is not None}
        allowed = REFERENCE_OPTIONS[method]
        for name in given.keys() & (cls.model_fields.keys() - {"method"} - allowed.keys()):
            options = f"its options are {', '.join(allowed)}" if allowed else "it has no options"
            raise ValueError(f"{name}={given[name]!r} does not belong to tuning method {method!r}; {options}")
        return {**allowed, **given}

    @classmethod
    def for_width(cls, method: str, d_model: int) -> "Tuning":
        """Return the published options of a method, the bottleneck rescaled where the model is narrow.

        From the width of StarCoderBase-1B (2048) on, options are those of the study. A narrower model keeps the 1B
        model's ratio of the bottleneck to the width down to 16, bottleneck = max(16, round(256 d / 2048)): narrower
        ones change so little of a small model that its loss hardly moves (docs/grid.md). Everything else (rank, virtual
        tokens, dropout, scaling, initialisation) keeps its published value, the rank 8 as far as the width allows it.

        Parameters
        ----------
        method : str
            Tuning method.
        d_model : int
            Width of the base model.

        Returns
        -------
        Tuning
            The method with its options; a run records them all.

        Raises
        ------
        ValueError
            If the method is unknown or the width not positive.
        """
        if d_model < 1:
            raise ValueError(f"d_model is {d_model}; a base model's width is a positive integer")
        options = dict(REFERENCE_OPTIONS[known_method(method)])
        shrink = min(1.0, d_model / REFERENCE_WIDTH)
        if "bottleneck" in options:
            options["bottleneck"] = max(SMALLEST_BOTTLENECK, round(options["bottleneck"] * shrink))
        if "rank" in options:
            alpha_over_rank = options["alpha"] / options["rank"]
            options["rank"] = min(options["rank"], d_model)
            options["alpha"] = alpha_over_rank * options["rank"]
        return cls(method=method, **options)


class Schedule(_Spec):
    """Optimisation schedule: AdamW, cosine decay after a linear warm-up. The defaults are those of Astraios.

    Attributes
    ----------
    steps : int
        Optimiser steps.
    global_batch : int
        Sequences in one step, over all processes and accumulated micro-batches.
    sequence_length : int
        Tokens in a sequence.
    learning_rate : float
        Peak learning rate.
    decay : {"cosine"}
        Shape of the decay from the peak to zero.
    warmup_steps : int
        Steps of linear warm-up.
    weight_decay : float
        Decoupled weight decay.
    validate_every : int
        Steps between two validations.

    Raises
    ------
    pydantic.ValidationError
        If a number is out of range, or the warm-up is longer than the run.
    """

    steps: PositiveInt = 200
    global_batch: PositiveInt = 32
    sequence_length: PositiveInt = 2048
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    decay: Literal["cosine"] = "cosine"
    warmup_steps: Annotated[int, Field(ge=0)] = 12
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    validate_every: PositiveInt = 10

    @model_validator(mode="after")
    def _warmup_fits(self) -> Self:
        if self.warmup_steps > self.steps:
            raise ValueError(f"warmup_steps {self.warmup_steps} exceeds steps {self.steps}; warm up for fewer steps")
        return self


class RunSpec(_Spec):
    """Everything that makes a run: base model size, tuning, schedule, data and seed.

    Attributes
    ----------
    grid : str
        Grid the run belongs to.
    size : ModelSize
        Base model.
    tuning : Tuning
        Method and its options.
    schedule : Schedule
        Optimisation schedule.
    data : str
        Label of the corpus.
    seed : int
        Seed of the base model, of the texts and their order, and of the initialisation.
    held_out : bool
        Whether the size is kept out of every fit and every choice.
    pretraining : Schedule, optional
        Schedule on which a base model without pre-trained weights is trained from scratch.
    pretraining_instructions : float, optional
        Share of that training's documents that are documents of the instruction stream, in (0, 1); none without it.
    loop : LoopSettings
        Layout, batch sizes and precision of both trainings.
    n_validation : int
        Rows of the fixed validation sets, the same for every method and seed.

    Raises
    ------
    pydantic.ValidationError
        If a value is out of range, or ``loop`` has what is no part of the run: checkpoints, or a base it does not have.
    """

    grid: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_]*$")]
    size: ModelSize
    tuning: Tuning
    schedule: Schedule
    data: Annotated[str, StringConstraints(min_length=1)]
    seed: Annotated[int, Field(ge=0)]
    held_out: bool = False
    pretraining: Schedule | None = None
    pretraining_instructions: Annotated[float, Field(gt=0, lt=1)] | None = None
    loop: LoopSettings = LoopSettings()
    n_validation: PositiveInt = 512

    @model_validator(mode="after")
    def _loop_is_of_this_run(self) -> Self:
        if self.loop.checkpoint_every is not None:
            raise ValueError(
                f"loop.checkpoint_every is {self.loop.checkpoint_every}, and is no part of a specification; "
                "leave it out, and give it to training.grid.run.run"
            )
        if self.tuning.method == "fft" and self.loop.base_precision is not None:
            raise ValueError(f"loop.base_precision {self.loop.base_precision!r}: fft has no frozen base; leave it out")
        return self

    @property
    def run_id(self) -> str:
        """Return the run's name: grid, size, method, seed and a digest of the whole specification.

        Two specifications that differ anywhere have different names, so a finished run is never taken for one with
        other settings. Options that are absent do not enter the digest.
        """
        text = json.dumps(self.model_dump(mode="json", exclude_none=True), sort_keys=True, separators=(",", ":"))
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        return f"{self.grid}-{self.size.name}-{self.tuning.method}-s{self.seed}-{digest}"


def _starcoderbase(name: str, d_model: int, n_layers: int, n_heads: int, hub_name: str) -> ModelSize:
    # Vocabulary 49,152, context 8,192 and feed-forward width 4 d at every size (arXiv 2305.06161 and config.json).
    return ModelSize(
        name=name,
        d_model=d_model,
        n_layers=n_layers,
        n_heads=n_heads,
        vocab_size=49152,
        n_positions=8192,
        pretrained=f"bigcode/{hub_name}",
    )


STARCODERBASE_SIZES: tuple[ModelSize, ...] = (
    _starcoderbase("1b", 2048, 24, 16, "starcoderbase-1b"),
    _starcoderbase("3b", 2816, 36, 22, "starcoderbase-3b"),
    _starcoderbase("7b", 4096, 42, 32, "starcoderbase-7b"),
    _starcoderbase("16b", 6144, 40, 48, "starcoderbase"),
)
"""The four published StarCoderBase models (1.137, 3.043, 7.327 and 15.517 billion parameters)."""
