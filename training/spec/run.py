"""What a run is: base model shape, tuning method, schedule. Frozen, validated, importable without torch.

The published study's shapes and settings are the constants here, each with its source:

* Zhuo et al. 2024, Astraios: Parameter-Efficient Instruction Tuning Code Large Language Models, arXiv 2401.00788
  (tuning methods, their settings, and the schedule);
* Li et al. 2023, StarCoder: may the source be with you!, arXiv 2305.06161, and the ``config.json`` published with each
  StarCoderBase model (base model shapes).
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveInt, StringConstraints, model_validator

from astraios_analysis.records.frame import RunRecord, known_method
from astraios_analysis.records.schema import validating
from training.corpus.settings import Frozen

Layout = Literal["packed", "documents"]
Precision = Literal["fp32", "bf16"]
BasePrecision = Literal["bf16", "int8", "nf4"]


CHUNK_LOGITS = 2**24
"""Logits held at a time: more are computed in chunks of scored tokens, and anew in the backward pass."""


class LoopSettings(Frozen):
    """Settings of the training loop that are no part of the study's schedule."""

    # A row is a block of the sequence length cut from documents one after the other (the study's way), or one document.
    layout: Layout = "packed"
    # Rows of one forward pass on one process; without it, the global batch is split among the processes, no further.
    micro_batch: PositiveInt | None = None
    validation_batch: PositiveInt | None = None
    # Of the forward pass (bf16 by autocast); weights, gradients and the optimiser are float32 either way.
    precision: Precision = "fp32"
    # How a frozen base is kept; int8 is LLM.int8() (Dettmers et al. 2022, arXiv 2208.07339), as in the study, nf4 is
    # QLoRA's (Dettmers et al. 2023, arXiv 2305.14314).
    base_precision: BasePrecision | None = None
    # Euclidean norm over all updated parameters; 1 in the study's trainer, None for no clipping.
    max_gradient_norm: Annotated[float, Field(gt=0)] | None = 1.0
    # Less memory, about a third more time.
    gradient_checkpointing: bool = False
    # Of a base trained from scratch: its rows start at a position drawn from 0 to this one, as texts in packed blocks
    # do anywhere. Absent, and not 0, where rows start at 0: older specifications keep their names.
    position_offsets: PositiveInt | None = None
    # Steps; the last step is saved in any case.
    checkpoint_every: PositiveInt | None = None


def micro_batch_size(global_batch: int, micro_batch: int | None, n_processes: int) -> int:
    """Return the rows of one forward pass on one process, such that all processes take the same number of passes."""
    size = micro_batch or max(1, global_batch // n_processes)
    if global_batch % (size * n_processes):
        share = global_batch // n_processes if global_batch % n_processes == 0 else 0
        divisors = [str(divisor) for divisor in range(1, share + 1) if share % divisor == 0]
        advice = (
            f"choose micro_batch from {', '.join(divisors)}"
            if divisors
            else "choose a global_batch that the number of processes divides"
        )
        raise ValueError(
            f"a global batch of {global_batch} rows does not split into passes of {size} rows on each of "
            f"{n_processes} processes; {advice}"
        )
    return size


def check_sharding(settings: LoopSettings, is_sharded: bool) -> None:
    """Raise ValueError if sharding is asked for with what does not go with it, or has not been tried with it."""
    if is_sharded and settings.base_precision in ("int8", "nf4"):
        raise ValueError(
            f"a base in {settings.base_precision} is not sharded here, which has not been tried; choose "
            "--base-precision bf16, or leave out --shard"
        )


Label = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.]*$")]
GridName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_]*$")]

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


class ModelSize(Frozen):
    """Shape of a GPTBigCode base model: learned positions, multi-query attention, tied output head.

    With width d, depth L, feed-forward width f, heads h, key width k = d / h, vocabulary V and positions P it has
    V d + P d + L [d (d + 2 k) + (d + 2 k) + d^2 + d + 2 d f + f + d + 4 d] + 2 d parameters.
    """

    name: Label
    d_model: PositiveInt
    n_layers: PositiveInt
    n_heads: PositiveInt
    d_ff: PositiveInt
    vocab_size: PositiveInt
    n_positions: PositiveInt
    # Hub name or local folder of weights; absent for a model trained from scratch.
    pretrained: str | None = None
    # Commit on the hub; without it the newest is taken, and recorded.
    revision: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")] | None = None

    @model_validator(mode="before")
    @classmethod
    def _fill_d_ff(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("d_ff") is None and isinstance(data.get("d_model"), int):
            return {**data, "d_ff": 4 * data["d_model"]}
        return data

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        if self.d_model % self.n_heads:
            raise ValueError(
                f"n_heads {self.n_heads} does not divide d_model {self.d_model}; choose a divisor, "
                "so that every head has the same width"
            )
        if self.revision is not None and self.pretrained is None:
            raise ValueError(f"revision {self.revision} is of no model; set `pretrained`, or leave it out")
        return self


class Tuning(Frozen):
    """A tuning method and its options; an option left out has the published value (`REFERENCE_OPTIONS`).

    A method beside the seven has a name of its own and PEFT's configuration, as an ``adapter_config.json`` holds it:
    ``{"method": "dora", "peft": {"peft_type": "LORA", "use_dora": true, "r": 8}}``.
    """

    method: Label
    peft: dict[str, Any] | None = None
    # LoRA: B A of this rank, scaled by alpha / rank.
    rank: PositiveInt | None = None
    alpha: Annotated[float, Field(gt=0)] | None = None
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    virtual_tokens: PositiveInt | None = None
    # Adapters: s U tanh(D x) with D and U drawn N(0, init_std^2), or U = 0 with init_identity.
    bottleneck: PositiveInt | None = None
    scaling: Annotated[float, Field(gt=0)] | None = None
    init_std: Annotated[float, Field(gt=0)] | None = None
    init_identity: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _fill_and_check_options(cls, data: Any) -> Any:
        if not isinstance(data, dict) or not isinstance(data.get("method"), str):
            return data
        if data.get("peft") is not None:
            return _checked_peft(data)
        method = known_method(data["method"])
        given = {name: value for name, value in data.items() if value is not None}
        allowed = REFERENCE_OPTIONS[method]
        for name in given.keys() & (cls.model_fields.keys() - {"method"} - allowed.keys()):
            options = f"its options are {', '.join(allowed)}" if allowed else "it has no options"
            raise ValueError(f"{name}={given[name]!r} does not belong to tuning method {method!r}; {options}")
        return {**allowed, **given}

    def __hash__(self) -> int:
        """Return a hash; a configuration of PEFT is a dictionary, which has none."""
        return hash(self.model_dump_json())

    @classmethod
    def for_width(cls, method: str, d_model: int) -> "Tuning":
        """Return the published options of a method, the bottleneck rescaled where the model is narrow.

        Below the width of StarCoderBase-1B (2048) it is max(16, round(256 d / 2048)): narrower ones than 16 change so
        little that the loss hardly moves (docs/grid.md). The rank 8 is kept as far as the width allows it.
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


def _checked_peft(data: dict[str, Any]) -> dict[str, Any]:
    method, others = data["method"], sorted(name for name, value in data.items() if value is not None)
    if method in REFERENCE_OPTIONS:
        raise ValueError(f"tuning method {method!r} has options of its own; give one with peft another name")
    if others != ["method", "peft"]:
        raise ValueError(f"options of tuning method {method!r} go into its peft, not beside it: {', '.join(others)}")
    if not (isinstance(data["peft"], dict) and isinstance(data["peft"].get("peft_type"), str)):
        raise ValueError(f"peft of tuning method {method!r} has no peft_type; give one of PEFT's, such as LORA")
    return data


class Schedule(Frozen):
    """Optimisation schedule: AdamW, cosine decay after a linear warm-up. The defaults are those of Astraios."""

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


class RunSpec(Frozen):
    """Everything that makes a run; the seed is that of base model, texts and their order, and initialisation."""

    grid: GridName
    size: ModelSize
    tuning: Tuning
    schedule: Schedule
    data: Annotated[str, StringConstraints(min_length=1)]
    seed: Annotated[int, Field(ge=0)]
    held_out: bool = False
    # Of a base model trained from scratch, and the share of instruction documents in it.
    pretraining: Schedule | None = None
    pretraining_instructions: Annotated[float, Field(gt=0, lt=1)] | None = None
    loop: LoopSettings = LoopSettings()
    # Rows of the fixed validation sets, the same for every method and seed.
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
        """Return the run's name, with a digest of all that is set: other settings are another run."""
        text = json.dumps(self.model_dump(mode="json", exclude_none=True), sort_keys=True, separators=(",", ":"))
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        return f"{self.grid}-{self.size.name}-{self.tuning.method}-s{self.seed}-{digest}"


def spec_of(record: RunRecord) -> RunSpec | None:
    """Return the specification of a run that this project trained, None where a record has none."""
    described = (record.provenance.spec or {}).get("run")
    if described is None:
        return None
    with validating(Path(f"record {record.run_id}"), "provenance.spec.run"):
        return RunSpec.model_validate_json(json.dumps(described))


def _starcoderbase(
    name: str, d_model: int, n_layers: int, n_heads: int, hub_name: str, revision: str | None = None
) -> ModelSize:
    # Vocabulary 49,152, context 8,192 and feed-forward width 4 d at every size (arXiv 2305.06161 and config.json).
    return ModelSize(
        name=name,
        d_model=d_model,
        n_layers=n_layers,
        n_heads=n_heads,
        vocab_size=49152,
        n_positions=8192,
        pretrained=f"bigcode/{hub_name}",
        revision=revision,
    )


STARCODERBASE_SIZES: tuple[ModelSize, ...] = (
    # The commits of the other, gated repositories are not known here; runs record the one they found.
    _starcoderbase("1b", 2048, 24, 16, "starcoderbase-1b", "182f0165fdf8da9c9935901eec65c94337f01c11"),
    _starcoderbase("3b", 2816, 36, 22, "starcoderbase-3b"),
    _starcoderbase("7b", 4096, 42, 32, "starcoderbase-7b"),
    _starcoderbase("16b", 6144, 40, 48, "starcoderbase"),
)
"""The four published StarCoderBase models (1.137, 3.043, 7.327 and 15.517 billion parameters)."""


@dataclass(frozen=True)
class ParameterCounts:
    """Numbers of parameters of a tuned model; a tensor that is used twice (a tied head) is counted once."""

    n_params: int
    n_params_base: int
    # Token and position embeddings, and an untied output head (as for Pythia, Biderman et al. 2023, arXiv 2304.01373).
    n_params_embedding: int
    n_params_updated: int

    @property
    def n_params_base_nonembedding(self) -> int:
        """Return the base model's parameters without embeddings."""
        return self.n_params_base - self.n_params_embedding

    @property
    def percent_updated(self) -> float:
        """Return updated parameters as a percentage of ``n_params``: added parameters count in the whole."""
        return 100 * self.n_params_updated / self.n_params


def qkv_width(size: ModelSize) -> int:
    """Return the width of the fused query, key and value projection: d + 2 d / h, with one key and value head."""
    return size.d_model + 2 * (size.d_model // size.n_heads)


def block_parameters(size: ModelSize) -> int:
    """Return the parameters of one block: d q + q + d^2 + d + 2 d f + f + d + 4 d, with q = d + 2 d / h."""
    d, f, q = size.d_model, size.d_ff, qkv_width(size)
    return d * q + q + d * d + d + 2 * d * f + f + d + 4 * d


def added_parameters(size: ModelSize, tuning: Tuning) -> int:
    """Return the parameters that a tuning method adds to a base model: those it updates, unless it updates all.

    Width d, feed-forward width f, and q = d + 2 d / h of the fused query, key and value projection.
    """
    d, f, q, depth = size.d_model, size.d_ff, qkv_width(size), size.n_layers
    match tuning.method:
        case "fft":
            return 0
        case "lora":
            return depth * tuning.rank * ((d + q) + 2 * d + (f + d))
        case "ptuning":
            return tuning.virtual_tokens * d + 3 * (d * d + d)
        case "ia3":
            return depth * (q + f)
        case "adapterh":
            return 4 * depth * tuning.bottleneck * d
        case "adapterp":
            return 2 * depth * tuning.bottleneck * d
        case "parallel":
            return depth * tuning.bottleneck * (d + q)
    raise ValueError(f"no closed form for tuning method {tuning.method!r}; add it, or use training.models.counts")


def is_closed_form(size: ModelSize, tuning: Tuning) -> bool:
    """Whether `closed_form_counts` holds: for the seven methods on GPTBigCode's shape, the study's or from scratch."""
    return tuning.peft is None and (size.pretrained in {None, *(known.pretrained for known in STARCODERBASE_SIZES)})


def closed_form_counts(size: ModelSize, tuning: Tuning) -> ParameterCounts:
    """Return the parameter counts of a tuned GPTBigCode model without building it."""
    n_embedding = (size.vocab_size + size.n_positions) * size.d_model
    n_base = n_embedding + size.n_layers * block_parameters(size) + 2 * size.d_model
    n_added = added_parameters(size, tuning)
    return ParameterCounts(
        n_params=n_base + n_added,
        n_params_base=n_base,
        n_params_embedding=n_embedding,
        n_params_updated=n_base if tuning.method == "fft" else n_added,
    )


def training_flop(n_params: int, n_updated: int, n_tokens: int, n_virtual: int = 0) -> float:
    """Return the floating-point operations of training over all processes, C = (4 N + 2 N_u) D.

    A token costs 2 N forward, 2 N backward for the gradients of activations, which go through frozen weights too, and
    2 N_u for those of the N_u updated weights: 6 N D for full fine-tuning (Kaplan et al. 2020, arXiv 2001.08361;
    Hoffmann et al. 2022, arXiv 2203.15556). N counts embeddings, D tokens without padding and, of all rows, the
    ``n_virtual`` ones; P-Tuning makes these once a batch, so that N is the base model there, and N_u 0. Attention's own
    products, validation and recomputed activations are left out.
    """
    return (4.0 * n_params + 2.0 * n_updated) * (n_tokens + n_virtual)
