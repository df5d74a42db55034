"""Memory that training takes, estimated from parameter counts and shapes. Importable without torch.

With N parameters of the tuned model, N_u updated ones, c bytes of the forward pass (4 in float32, 2 in bfloat16) and t
tokens in one forward pass (micro-batch times row, virtual tokens included), in bytes:

* weights: 4 N, as the training loop keeps them; a frozen base may be kept in bfloat16 (2 a parameter) or in 8 bits (1 a
  parameter of the blocks, 2 of embeddings);
* gradients 4 N_u and AdamW's two moments 8 N_u, in float32 always;
* activations kept for the backward pass, of every block and token: c (6 d + 2 k + 2 f) + (4 - c) 2 d, with width d,
  head width k and feed-forward width f: inputs of both norms (float32), of all four projections and of the activation
  function, queries, keys, values and the attention's output; attention itself keeps nothing that grows with the
  square of the row (flash or memory-efficient kernels). LoRA keeps a dropped copy and a mask of its inputs instead,
  (IA)^3 its products in float32. With gradient checkpointing: 4 d of every block, and one block whole;
* logits: (c + 12) V a token: as computed, in float32, their log-softmax, and its gradient;
* copies in bfloat16 that autocast makes of float32 weights: 2 N; of two blocks at a time when weights are sharded;
* with several processes and whole weights on each (DDP), buckets of gradients: 4 N_u;
* the optimiser's step: 4 N_u for a moment (torch's foreach), when activations are gone.

Sharded over g processes (FSDP2), weights, gradients and moments are divided by g. What kernels and the allocator need
on top is not estimated but a constant, `PROCESS_BYTES`.

References
----------
Korthikanti et al. 2022, arXiv 2205.05198, section 4 (activations of a block, counted tensor by tensor); Rajbhandari et
al. 2020, arXiv 1910.02054, section 3 (16 bytes a parameter of weights, gradients and moments; sharding). The counts for
this project's blocks are its own: a test holds them to what autograd keeps.
"""

from dataclasses import dataclass, replace

from training.spec.run import (
    LoopSettings,
    ModelSize,
    Schedule,
    Tuning,
    added_parameters,
    block_parameters,
    closed_form_counts,
    qkv_width,
)

GIB = 2**30


def in_gib(n_bytes: float) -> str:
    """Return a number of bytes in GiB: three digits, or all of them before the point, "1,147"."""
    gib = n_bytes / GIB
    return f"{gib:,.0f}" if gib >= 1000 else f"{gib:.3g}"


PROCESS_BYTES = GIB // 2
"""What a process takes before any model: the libraries on a CPU (measured 0.4 GiB), the context on a GPU (assumed)."""

_FLOAT32, _BFLOAT16 = 4, 2
# Two blocks at a time: the one that computes, and the next one, fetched meanwhile.
_BLOCKS_FETCHED = 2


@dataclass(frozen=True)
class Layout:
    """How one run is laid over processes.

    Attributes
    ----------
    n_processes : int
        Processes, one to a GPU.
    is_sharded : bool
        Whether weights, gradients and moments are divided among them (FSDP2), or whole on each (DDP).
    """

    n_processes: int = 1
    is_sharded: bool = False


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes of the fullest process, by what takes them.

    Attributes
    ----------
    weights, gradients, moments : float
        Of the model and its optimiser; held from the first step to the last.
    activations, logits, copies : float
        Held for a forward and backward pass.
    step : float
        Held for the optimiser's step.
    process : float
        The process without a model.
    """

    weights: float
    gradients: float
    moments: float
    activations: float
    logits: float
    copies: float
    step: float
    process: float = PROCESS_BYTES

    @property
    def total(self) -> float:
        """Return the peak: what is held, and the larger of a pass and an optimiser's step."""
        held = self.process + self.weights + self.gradients + self.moments
        return held + max(self.activations + self.logits + self.copies, self.step)


def activation_bytes(size: ModelSize, tuning: Tuning, bytes_of_pass: int) -> float:
    """Return the bytes that one block keeps of one token for the backward pass.

    Parameters
    ----------
    size : ModelSize
        Base model.
    tuning : Tuning
        Method. Those with a frozen base keep less than full fine-tuning, whose count is taken for them, too.
    bytes_of_pass : int
        Bytes of a number in the forward pass: 4 in float32, 2 under bfloat16.

    Returns
    -------
    float
        Bytes a block and token.
    """
    d, f, k, c = size.d_model, size.d_ff, size.d_model // size.n_heads, bytes_of_pass
    full = c * (6 * d + 2 * k + 2 * f) + (_FLOAT32 - c) * 2 * d
    if tuning.method == "lora":
        # Dropped copies and masks of three inputs, in place of the inputs of four frozen projections.
        return full + (c + _FLOAT32) * (2 * d + f) - c * (3 * d + f) + 3 * tuning.rank * c
    if tuning.method == "ia3":
        return full + (_FLOAT32 - c) * (qkv_width(size) + f)
    return full


def estimate_memory(
    size: ModelSize, tuning: Tuning, schedule: Schedule, loop: LoopSettings, layout: Layout | None = None
) -> MemoryEstimate:
    """Return the memory that training takes on the fullest process.

    Parameters
    ----------
    size, tuning, schedule, loop : ModelSize, Tuning, Schedule, LoopSettings
        The run. A micro-batch that is left open is a process' whole share of the global batch.
    layout : Layout, optional
        Its processes; one without it.

    Returns
    -------
    MemoryEstimate
        Bytes.
    """
    layout = layout or Layout()
    counts, added = closed_form_counts(size, tuning), added_parameters(size, tuning)
    shards = layout.n_processes if layout.is_sharded else 1
    c = _BFLOAT16 if loop.precision == "bf16" else _FLOAT32
    n_virtual = tuning.virtual_tokens or 0
    micro_batch = loop.micro_batch or max(1, schedule.global_batch // layout.n_processes)
    tokens = micro_batch * (schedule.sequence_length + n_virtual)
    of_block = activation_bytes(size, tuning, c)
    kept = of_block * size.n_layers
    if loop.gradient_checkpointing:
        kept = of_block + _FLOAT32 * size.d_model * size.n_layers
    fetched = block_parameters(size) * _BLOCKS_FETCHED
    if layout.is_sharded:
        copies = c * fetched
    else:
        copies = _BFLOAT16 * counts.n_params if c == _BFLOAT16 and loop.base_precision is None else 0
        copies += _FLOAT32 * counts.n_params_updated if layout.n_processes > 1 else 0
    return MemoryEstimate(
        weights=(_base_bytes(size, counts.n_params_base, loop) + _FLOAT32 * added) / shards,
        gradients=_FLOAT32 * counts.n_params_updated / shards,
        moments=2 * _FLOAT32 * counts.n_params_updated / shards,
        activations=kept * tokens,
        logits=(c + 12) * size.vocab_size * tokens,
        copies=copies,
        step=_FLOAT32 * counts.n_params_updated / shards,
    )


def _base_bytes(size: ModelSize, n_base: int, loop: LoopSettings) -> float:
    if loop.base_precision is None:
        return _FLOAT32 * n_base
    if loop.base_precision == "bf16":
        return _BFLOAT16 * n_base
    of_blocks = size.n_layers * block_parameters(size)
    return of_blocks + _BFLOAT16 * (n_base - of_blocks)


@dataclass(frozen=True)
class Plan:
    """Settings and processes with which a run fits.

    Attributes
    ----------
    loop : LoopSettings
        With micro-batch and gradient checkpointing chosen.
    layout : Layout
        Processes.
    memory : MemoryEstimate
        What that takes.
    """

    loop: LoopSettings
    layout: Layout
    memory: MemoryEstimate


def fitting_plan(
    size: ModelSize, tuning: Tuning, schedule: Schedule, loop: LoopSettings, *, memory_bytes: float, n_devices: int
) -> Plan | None:
    """Return the first plan that fits: few devices before many, kept activations before checkpointing, large passes.

    Precisions stay as given: they are the same for all methods of a grid unless someone decides otherwise.

    Parameters
    ----------
    size, tuning, schedule, loop : ModelSize, Tuning, Schedule, LoopSettings
        The run; a micro-batch that it names is kept.
    memory_bytes : float
        Memory of a device.
    n_devices : int
        Devices there are; powers of two up to their number are tried, sharded from two on.

    Returns
    -------
    Plan or None
        None where nothing fits.
    """
    for n_processes in (2**power for power in range(n_devices.bit_length())):
        if schedule.global_batch % n_processes:
            continue
        sharded = Layout(n_processes, is_sharded=n_processes > 1)
        for checkpointing in sorted({loop.gradient_checkpointing, True}):
            for micro_batch in _micro_batches(schedule, loop, n_processes):
                chosen = loop.model_copy(update={"micro_batch": micro_batch, "gradient_checkpointing": checkpointing})
                # Whole weights on each process, where they fit, need less talk between processes.
                for layout in dict.fromkeys((replace(sharded, is_sharded=False), sharded)):
                    memory = estimate_memory(size, tuning, schedule, chosen, layout)
                    if memory.total <= memory_bytes:
                        return Plan(chosen, layout, memory)
    return None


def _micro_batches(schedule: Schedule, loop: LoopSettings, n_processes: int) -> list[int]:
    share = schedule.global_batch // n_processes
    if loop.micro_batch is not None:
        return [loop.micro_batch] if share % loop.micro_batch == 0 else []
    return [rows for rows in range(share, 0, -1) if share % rows == 0]
