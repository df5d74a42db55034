"""What a PEFT ``adapter_config.json`` says: which tuning method it is, and how many parameters it updates."""

import re
from collections.abc import Mapping, Sequence

from astraios_analysis.imports.architectures import Part
from astraios_analysis.records.refusal import Refusal
from astraios_analysis.records.schema import METHODS

# Options of PEFT that change which weights are updated, with the values that change nothing.
_PLAIN: dict[str, tuple[object, ...]] = {
    "bias": ("none",),
    "modules_to_save": ([],),
    "rank_pattern": ({},),
    "layers_to_transform": ([],),
    "layer_replication": ([],),
    "exclude_modules": ([],),
    "trainable_token_indices": ([], {}),
    "target_parameters": ([],),
    "lora_bias": (False,),
    "megatron_config": (),
}
_ADAPTER_KEYS = re.compile(r"lora_|ia3_|adapter_|bottleneck_")


def adapter_method(config: Mapping[str, object]) -> str:
    """Return the tuning method of an adapter.

    Bottleneck adapters are told apart by ``variant`` (this project) or by ``use_parallel_adapter`` and
    ``use_adapterp`` (LLM-Adapters, Hu et al. 2023, with which the study was run).

    Raises
    ------
    Refusal
        If the adapter is none of the methods that records know.
    """
    kind = str(config.get("peft_type"))
    variants = [name for name in ("use_dora", "use_qalora", "use_bdlora", "arrow_config") if config.get(name)]
    if kind == "LORA" and not variants:
        return "lora"
    if kind in ("P_TUNING", "IA3"):
        return {"P_TUNING": "ptuning", "IA3": "ia3"}[kind]
    if kind == "BOTTLENECK" and config.get("variant") in ("adapterh", "adapterp", "parallel"):
        return str(config["variant"])
    if kind == "BOTTLENECK" and "use_parallel_adapter" in config:
        if config["use_parallel_adapter"]:
            return "parallel"
        return "adapterp" if config.get("use_adapterp") else "adapterh"
    shown = f"peft_type {kind!r}" + (f" with {', '.join(variants)}" if variants else "")
    raise Refusal(f"{shown} is none of the methods that records know: {', '.join(METHODS)}")


def count_updated(config: Mapping[str, object], parts: Sequence[Part]) -> int:
    """Return how many parameters an adapter updates, from its configuration and the base model's modules.

    Parameters
    ----------
    config : mapping
        Content of ``adapter_config.json``.
    parts : sequence of Part
        The base model's modules.

    Raises
    ------
    Refusal
        If an option is set whose effect on the count is not known here, or nothing is adapted.
    """
    for name, plain in _PLAIN.items():
        if config.get(name) is not None and config[name] not in plain:
            raise Refusal(f"its parameters cannot be counted from the configuration: {name} is {config[name]!r}")
    method = adapter_method(config)
    if method == "ptuning":
        return _count_prompt_encoder(config)
    if method == "lora":
        return _integer(config, "r") * sum(p.n_in + p.n_out for p in _adapted(config, "target_modules", parts))
    if method == "ia3":
        inside = set(_adapted(config, "feedforward_modules", parts)) if config.get("feedforward_modules") else set()
        return sum(p.n_in if p in inside else p.n_out for p in _adapted(config, "target_modules", parts))
    return _integer(config, "bottleneck_size") * _bottleneck_widths(config, method, parts)


def _bottleneck_widths(config: Mapping[str, object], method: str, parts: Sequence[Part]) -> int:
    """Sum, over bottlenecks, the widths of what they read and of what they write."""
    fields = {name: config.get(name) for name in ("input_modules", "output_modules", "parallel_modules")}
    if not any(fields.values()):
        targets = config.get("target_modules")
        targets = targets if isinstance(targets, list) else []
        if method == "parallel":
            fields["parallel_modules"] = targets
        else:
            # LLM-Adapters reads the direction off the name: into the feed-forward network, or out of it.
            unknown = [name for name in targets if name.split(".")[-1] not in ("c_fc", "c_proj")]
            if unknown:
                raise Refusal(f"it is not known whether target_modules {unknown} are adapted before or behind")
            fields["input_modules"] = [name for name in targets if name.split(".")[-1] == "c_fc"]
            fields["output_modules"] = [name for name in targets if name.split(".")[-1] == "c_proj"]
    widths = 0
    for name, value in fields.items():
        for part in _adapted({name: value}, name, parts) if value else ():
            widths += {"input": 2 * part.n_in, "output": 2 * part.n_out}.get(name[:-8], part.n_in + part.n_out)
    if not widths:
        raise Refusal("target_modules names nothing, so no parameter is updated")
    return widths


def _adapted(config: Mapping[str, object], field: str, parts: Sequence[Part]) -> list[Part]:
    """Return the modules that a list of name endings, or a regular expression, chooses, as PEFT does."""
    targets = config.get(field)
    if isinstance(targets, str):
        chosen = [part for part in parts if re.fullmatch(targets, part.name)]
    elif isinstance(targets, list) and targets:
        chosen = [p for p in parts if any(p.name == t or p.name.endswith(f".{t}") for t in targets)]
    else:
        raise Refusal(f"{field} is {targets!r}; it must name the modules that are adapted")
    if not chosen:
        raise Refusal(f"{field} {targets!r} names no module of the base model, such as {parts[-2].name}")
    odd = [part.name for part in chosen if part.kind != "linear"]
    if odd:
        raise Refusal(f"its parameters cannot be counted from the configuration: {odd[0]} is no linear module")
    return chosen


def _count_prompt_encoder(config: Mapping[str, object]) -> int:
    """Count virtual tokens and the encoder, a network of three layers (PEFT's PromptEncoder)."""
    kind = config.get("encoder_reparameterization_type", "MLP")
    if kind != "MLP":
        raise Refusal(f"its parameters cannot be counted: encoder_reparameterization_type is {kind!r}, not 'MLP'")
    tokens, width = _integer(config, "num_virtual_tokens"), _integer(config, "token_dim")
    hidden = _integer(config, "encoder_hidden_size")
    tokens *= _integer(config, "num_transformer_submodules")
    return tokens * width + (width + 1) * hidden + (hidden + 1) * hidden + (hidden + 1) * width


def _integer(config: Mapping[str, object], key: str) -> int:
    value = config.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise Refusal(f"{key} is {value!r}, not a whole number from 1 up")
    return value


def count_saved(shapes: Mapping[str, Sequence[int]], method: str) -> int | None:
    """Return the parameters in an adapter's weight file, or None where they are not those that were updated.

    PEFT saves the virtual tokens of P-Tuning without their encoder, and embeddings that were not trained.
    """
    if method == "ptuning" or not shapes or not all(_ADAPTER_KEYS.search(name) for name in shapes):
        return None
    total = 0
    for shape in shapes.values():
        size = 1
        for length in shape:
            size *= length
        total += size
    return total
