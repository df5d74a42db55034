"""Where a tuning method acts in each architecture: names of the modules that play each role. Importable without torch.

A role is filled by one module where the architecture fuses it, by several where it splits it (each is then adapted on
its own). What a method does with the roles is in `training.models.tuning` (LoRA, (IA)^3) and in
`training.models.adapters` (bottleneck adapters).
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Architecture:
    """Modules of one block by their role, as the ends of their dotted names."""

    model_types: tuple[str, ...]
    # Projections to queries, keys and values; those among them that make keys and values (a fused one: queries too).
    attention_in: tuple[str, ...]
    key_value: tuple[str, ...]
    attention_out: tuple[str, ...]
    # Modules whose input and output are those of the feed-forward network. A gated one reads its input twice (gate and
    # up), so there the whole network is both: it has one input to adapt, not two.
    ffn_entry: tuple[str, ...]
    ffn_exit: tuple[str, ...]
    ffn_down: tuple[str, ...]


_GPT2 = Architecture(
    # GPTBigCode (StarCoder) keeps GPT-2's module names; its multi-query c_attn is narrower, and it has no q_attn.
    model_types=("gpt_bigcode", "gpt2"),
    attention_in=("attn.c_attn",),
    key_value=("attn.c_attn",),
    attention_out=("attn.c_proj",),
    ffn_entry=("mlp.c_fc",),
    ffn_exit=("mlp.c_proj",),
    ffn_down=("mlp.c_proj",),
)

_GPT_NEOX = Architecture(
    model_types=("gpt_neox",),
    attention_in=("attention.query_key_value",),
    key_value=("attention.query_key_value",),
    attention_out=("attention.dense",),
    ffn_entry=("mlp.dense_h_to_4h",),
    ffn_exit=("mlp.dense_4h_to_h",),
    ffn_down=("mlp.dense_4h_to_h",),
)

_STARCODER2 = Architecture(
    model_types=("starcoder2",),
    attention_in=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    key_value=("self_attn.k_proj", "self_attn.v_proj"),
    attention_out=("self_attn.o_proj",),
    ffn_entry=("mlp.c_fc",),
    ffn_exit=("mlp.c_proj",),
    ffn_down=("mlp.c_proj",),
)

_LLAMA = Architecture(
    model_types=("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text"),
    attention_in=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    key_value=("self_attn.k_proj", "self_attn.v_proj"),
    attention_out=("self_attn.o_proj",),
    ffn_entry=("mlp",),
    ffn_exit=("mlp",),
    ffn_down=("mlp.down_proj",),
)

ARCHITECTURES: dict[str, Architecture] = {
    model_type: architecture
    for architecture in (_GPT2, _GPT_NEOX, _STARCODER2, _LLAMA)
    for model_type in architecture.model_types
}
"""Architectures by ``model_type``."""


def architecture_of(model_type: str) -> Architecture:
    """Return where the methods act in a model of this type."""
    if model_type not in ARCHITECTURES:
        raise ValueError(
            f"unknown architecture {model_type!r}: no target modules are known for it; choose a model of type "
            f"{', '.join(sorted(ARCHITECTURES))}, or a method that works on any causal language model: fft, lora, "
            "ptuning, or one of PEFT's with target_modules of its own"
        )
    return ARCHITECTURES[model_type]
