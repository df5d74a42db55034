"""How a run is trained on the machine at hand: what the schedule leaves open. Importable without torch."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

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
