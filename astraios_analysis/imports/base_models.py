"""How many parameters a base model and its adapter have: from weight files, from configurations, or not at all."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from astraios_analysis.imports.adapters import count_saved, count_updated
from astraios_analysis.imports.architectures import Part, count_parts, list_parts
from astraios_analysis.imports.inputs import fail, read_json
from astraios_analysis.imports.weight_files import count_weights, read_model_shapes, read_shapes
from astraios_analysis.records.refusal import Refusal

CONFIG, ADAPTER_CONFIG, ADAPTER_WEIGHTS = "config.json", "adapter_config.json", "adapter_model.safetensors"


@dataclass(frozen=True)
class BaseModel:
    """A base model as far as its files tell.

    Attributes
    ----------
    counts : dict of str to int
        ``n_params_base`` and ``n_params_base_nonembedding``, those that are known.
    parts : tuple of Part
        Its modules; empty where its architecture is not known here.
    lacks : str
        Why something is not known; empty where everything is.
    """

    counts: dict[str, int]
    parts: tuple[Part, ...] = ()
    lacks: str = ""


def read_base_model(path: Path) -> BaseModel:
    """Count a base model's parameters from its ``config.json``, or from the headers of its safetensors weights.

    Parameters
    ----------
    path : Path
        The configuration, or the folder that holds it.

    Raises
    ------
    RecordError
        If a file is there and cannot be read, or weights and configuration disagree.
    """
    folder, config = (path, path / CONFIG) if path.is_dir() else (path.parent, path)
    shapes = read_model_shapes(folder) if path.is_dir() else None
    counts: dict[str, int] = {}
    if shapes is not None:
        total, rest = count_weights(shapes)
        counts = {"n_params_base": total} | ({"n_params_base_nonembedding": rest} if rest else {})
    if not config.exists():
        if shapes is None:
            raise fail(config, "does not exist; give the base model's config.json, or the folder that holds it")
        return BaseModel(counts, lacks=f"{folder} has no {CONFIG}")
    try:
        parts = list_parts(read_json(config))
    except Refusal as error:
        return BaseModel(counts, lacks=f"{config} {error}")
    total, rest = count_parts(parts)
    if counts.get("n_params_base", total) != total:
        message = (
            f"describes {total} parameters, and the weights beside it hold {counts['n_params_base']}; correct the one "
            "that is not of this model, or give the counts as options"
        )
        raise fail(config, message)
    return BaseModel({"n_params_base": total, "n_params_base_nonembedding": rest}, tuple(parts))


def count_adapter(
    folder: Path, config: Mapping[str, object], method: str, base: BaseModel | None
) -> tuple[int | None, str]:
    """Return how many parameters an adapter updates, or None and the reason why that is not known.

    The weight file and the configuration are both asked; they must agree.

    Raises
    ------
    RecordError
        If they do not.
    """
    weights = folder / ADAPTER_WEIGHTS
    saved = count_saved(read_shapes(weights), method) if weights.exists() else None
    computed, reason = None, f"neither {ADAPTER_WEIGHTS} nor the base model's architecture is known"
    if (base is not None and base.parts) or method == "ptuning":
        try:
            computed = count_updated(config, base.parts if base else ())
        except Refusal as error:
            reason = str(error)
    elif base is not None:
        reason = base.lacks
    if saved is not None and computed is not None and saved != computed:
        message = (
            f"holds {saved} parameters, and {ADAPTER_CONFIG} describes {computed} on this base model; is --base-config "
            "the base model of this run? If so, give --n-params-updated"
        )
        raise fail(weights, message)
    return (computed if saved is None else saved), reason
