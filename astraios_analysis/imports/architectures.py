"""The weights of known decoder architectures, listed from a ``config.json`` alone: no torch, no weights.

Module names are those of the transformers library, because adapters name the modules that they adapt. Exact counts
follow by adding up; a test holds them to the models that transformers builds.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from astraios_analysis.records.refusal import Refusal


@dataclass(frozen=True)
class Part:
    """One module's weights.

    Attributes
    ----------
    name : str
        Dotted name of the module.
    kind : {"linear", "embedding", "norm"}
    n_in, n_out : int
        Width of what goes in and of what comes out; a norm has one row.
    bias : bool
        Whether there are ``n_out`` weights more.
    """

    name: str
    kind: Literal["linear", "embedding", "norm"]
    n_in: int
    n_out: int
    bias: bool = False

    @property
    def n_params(self) -> int:
        """Return the number of weights."""
        return self.n_in * self.n_out + (self.n_out if self.bias else 0)


class _Config:
    """Typed access to a configuration; a missing or odd value is an error that names the key."""

    def __init__(self, values: Mapping[str, object]) -> None:
        self._values = values

    def count(self, key: str, default: int | None = None) -> int:
        value = self._values.get(key)
        value = default if value is None else value
        if value is None:
            raise Refusal(f"has no {key!r}, which the count of parameters needs")
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise Refusal(f"{key!r} is {value!r}, not a whole number from 1 up")
        return value

    def flag(self, key: str, default: bool | None) -> bool:
        value = self._values.get(key)
        value = default if value is None else value
        if not isinstance(value, bool):
            raise Refusal(f"{key!r} is {value!r}; it must be true or false")
        return value


def _gpt2(config: _Config, *, multi_query: bool) -> Iterator[Part]:
    width, n_head = config.count("n_embd"), config.count("n_head")
    inner = config.count("n_inner", 4 * width)
    keys = 2 * (width // n_head) if multi_query else 2 * width
    yield Part("transformer.wte", "embedding", config.count("vocab_size"), width)
    yield Part("transformer.wpe", "embedding", config.count("n_positions"), width)
    for layer in range(config.count("n_layer")):
        block = f"transformer.h.{layer}"
        yield from _norms(block, width, ("ln_1", "ln_2"), bias=True)
        yield Part(f"{block}.attn.c_attn", "linear", width, width + keys, bias=True)
        yield Part(f"{block}.attn.c_proj", "linear", width, width, bias=True)
        yield Part(f"{block}.mlp.c_fc", "linear", width, inner, bias=True)
        yield Part(f"{block}.mlp.c_proj", "linear", inner, width, bias=True)
    yield from _norms("transformer", width, ("ln_f",), bias=True)
    yield from _head(config, "lm_head", width, tied=True)


def _gpt_neox(config: _Config) -> Iterator[Part]:
    width, inner = config.count("hidden_size"), config.count("intermediate_size")
    bias = config.flag("attention_bias", True)
    yield Part("gpt_neox.embed_in", "embedding", config.count("vocab_size"), width)
    for layer in range(config.count("num_hidden_layers")):
        block = f"gpt_neox.layers.{layer}"
        yield from _norms(block, width, ("input_layernorm", "post_attention_layernorm"), bias=True)
        yield Part(f"{block}.attention.query_key_value", "linear", width, 3 * width, bias)
        yield Part(f"{block}.attention.dense", "linear", width, width, bias)
        yield Part(f"{block}.mlp.dense_h_to_4h", "linear", width, inner, bias=True)
        yield Part(f"{block}.mlp.dense_4h_to_h", "linear", inner, width, bias=True)
    yield from _norms("gpt_neox", width, ("final_layer_norm",), bias=True)
    yield from _head(config, "embed_out", width, tied=False)


def _llama(
    config: _Config, *, qkv_bias: bool, out_bias: bool, mlp_bias: bool, plain: bool = False, tied: bool = False
) -> Iterator[Part]:
    """List a Llama-like decoder; ``plain`` has a feed-forward network without a gate, and norms with a bias."""
    width, inner, n_head = (config.count(key) for key in ("hidden_size", "intermediate_size", "num_attention_heads"))
    per_head = config.count("head_dim", width // n_head)
    wide, narrow = n_head * per_head, config.count("num_key_value_heads", n_head) * per_head
    yield Part("model.embed_tokens", "embedding", config.count("vocab_size"), width)
    for layer in range(config.count("num_hidden_layers")):
        block = f"model.layers.{layer}"
        yield from _norms(block, width, ("input_layernorm", "post_attention_layernorm"), bias=plain)
        yield Part(f"{block}.self_attn.q_proj", "linear", width, wide, qkv_bias)
        for name in ("k_proj", "v_proj"):
            yield Part(f"{block}.self_attn.{name}", "linear", width, narrow, qkv_bias)
        yield Part(f"{block}.self_attn.o_proj", "linear", wide, width, out_bias)
        for name in ("c_fc",) if plain else ("gate_proj", "up_proj"):
            yield Part(f"{block}.mlp.{name}", "linear", width, inner, mlp_bias)
        yield Part(f"{block}.mlp.{'c_proj' if plain else 'down_proj'}", "linear", inner, width, mlp_bias)
    yield from _norms("model", width, ("norm",), bias=plain)
    yield from _head(config, "lm_head", width, tied)


def _norms(block: str, width: int, names: tuple[str, ...], bias: bool) -> Iterator[Part]:
    for name in names:
        yield Part(f"{block}.{name}", "norm", 1, width, bias)


def _head(config: _Config, name: str, width: int, tied: bool) -> Iterator[Part]:
    if not config.flag("tie_word_embeddings", tied):
        yield Part(name, "linear", width, config.count("vocab_size"))


def _llama_itself(config: _Config) -> Iterator[Part]:
    attention = config.flag("attention_bias", False)
    return _llama(config, qkv_bias=attention, out_bias=attention, mlp_bias=config.flag("mlp_bias", False))


def _starcoder2(config: _Config) -> Iterator[Part]:
    bias = config.flag("use_bias", True)
    return _llama(config, qkv_bias=bias, out_bias=bias, mlp_bias=bias, plain=True, tied=True)


# Defaults are those of the configuration classes; the shape-giving keys must be in the file.
ARCHITECTURES: dict[str, Callable[[_Config], Iterator[Part]]] = {
    "gpt2": lambda config: _gpt2(config, multi_query=False),
    "gpt_bigcode": lambda config: _gpt2(config, multi_query=config.flag("multi_query", True)),
    "gpt_neox": _gpt_neox,
    "llama": _llama_itself,
    "mistral": lambda config: _llama(config, qkv_bias=False, out_bias=False, mlp_bias=False),
    "qwen2": lambda config: _llama(config, qkv_bias=True, out_bias=False, mlp_bias=False),
    "starcoder2": _starcoder2,
}


def list_parts(config: Mapping[str, object]) -> list[Part]:
    """Return the weights of a base model.

    Parameters
    ----------
    config : mapping
        Content of the model's ``config.json``.

    Returns
    -------
    list of Part
        A tied output head is not listed again.

    Raises
    ------
    Refusal
        If the architecture is not known here, or the configuration lacks a key.
    """
    model_type = config.get("model_type")
    if model_type not in ARCHITECTURES:
        raise Refusal(f"model_type {model_type!r} is not one of {', '.join(ARCHITECTURES)}")
    return list(ARCHITECTURES[model_type](_Config(config)))


def count_parts(parts: list[Part]) -> tuple[int, int]:
    """Return how many parameters there are, and how many without embeddings and an untied output head."""
    total = sum(part.n_params for part in parts)
    embedding = sum(p.n_params for p in parts if p.kind == "embedding" or p.name in ("lm_head", "embed_out"))
    return total, total - embedding
