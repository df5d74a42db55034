"""Shapes of saved weights, read from the headers of safetensors files; the weights themselves are never read."""

import json
import re
from math import prod
from pathlib import Path

from astraios_analysis.records.files import FileProblem, RecordError

# A header is an eight-byte length and that much JSON; 100 MB is the format's own limit.
_LENGTH_BYTES, _MAX_HEADER = 8, 100_000_000
_WHOLE_TYPES = {"F64", "F32", "F16", "BF16"}
_EMBEDDINGS = re.compile(r"(^|\.)(wte|wpe|embed_tokens|embed_in|embed_out|lm_head|embed_positions)\.weight$")
# Buffers that older versions saved beside the weights.
_BUFFERS = re.compile(r"(^|\.)(rotary_emb\.inv_freq|(attn|attention)\.(bias|masked_bias))$")


def read_shapes(path: Path) -> dict[str, list[int]]:
    """Return the shape of every weight in a safetensors file.

    Raises
    ------
    RecordError
        If the file is cut off or not in this format, or weights are quantised, so that shapes do not count parameters.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        text = file.read(length) if 0 < length <= _MAX_HEADER else b""
    try:
        header = json.loads(text)
        weights = {name: entry for name, entry in header.items() if name != "__metadata__"}
        shapes = {name: [int(n) for n in entry["shape"]] for name, entry in weights.items()}
        kinds = {entry["dtype"] for entry in weights.values()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        message = "is no safetensors file, or is cut off; save it again, or give the counts of parameters as options"
        raise RecordError([FileProblem(path, "", message)]) from error
    if kinds - _WHOLE_TYPES:
        message = (
            f"{', '.join(sorted(kinds - _WHOLE_TYPES))} holds packed weights, whose shapes do not count parameters; "
            f"allowed are {', '.join(sorted(_WHOLE_TYPES))}: give the counts of parameters as options"
        )
        raise RecordError([FileProblem(path, "dtype", message)])
    return shapes


def read_model_shapes(folder: Path) -> dict[str, list[int]] | None:
    """Return the shapes of a whole model's weights in a folder, or None where it has no safetensors weights.

    Raises
    ------
    RecordError
        If a part that the index names is missing.
    """
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        whole = folder / "model.safetensors"
        return read_shapes(whole) if whole.exists() else None
    try:
        names = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        message = "is not an index of weight files (weight_map); restore it"
        raise RecordError([FileProblem(index, "weight_map", message)]) from error
    missing = [name for name in names if not (folder / name).exists()]
    if missing:
        message = f"{missing[0]} is not in {folder}; add it, or give the counts of parameters as options"
        raise RecordError([FileProblem(index, "weight_map", message)])
    return {name: shape for part in names for name, shape in read_shapes(folder / part).items()}


def count_weights(shapes: dict[str, list[int]]) -> tuple[int, int | None]:
    """Return a model's parameters, and those without embeddings where the embeddings can be told by name."""
    shapes = {name: shape for name, shape in shapes.items() if not _BUFFERS.search(name)}
    total = sum(prod(shape) for shape in shapes.values())
    embedding = sum(prod(shape) for name, shape in shapes.items() if _EMBEDDINGS.search(name))
    return total, total - embedding if embedding else None
