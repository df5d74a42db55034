"""Tuned models, kept in the cache so that a measure can be added later without training."""

from pathlib import Path

import torch
from peft import PeftModel
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, PreTrainedModel

from training.grid.bases import load_base, run_corpus
from training.models.adapters import (
    BottleneckConfig as BottleneckConfig,  # registers the adapters, which loading looks up
)
from training.spec.files import whole_folder
from training.spec.run import RunSpec


def tuned_folder(cache_dir: str | Path, run_id: str) -> Path:
    """Return the folder of a run's tuned weights."""
    return Path(cache_dir) / "tuned" / run_id


def save_tuned(model: PreTrainedModel | PeftModel, cache_dir: str | Path, run_id: str) -> Path:
    """Keep what a run updated: all weights after full fine-tuning, the adapter alone after any other method.

    Parameters
    ----------
    model : PreTrainedModel or PeftModel
        The tuned model, on any device.
    cache_dir : str or Path
        Cache folder.
    run_id : str
        The run.

    Returns
    -------
    Path
        The folder, ``tuned/<run_id>`` in the cache, as `save_pretrained` writes it. It appears when it is complete.
    """
    folder = tuned_folder(cache_dir, run_id)
    with whole_folder(folder) as partial:
        model.save_pretrained(partial)
    return folder


def load_tuned(spec: RunSpec, cache_dir: str | Path) -> tuple[PreTrainedModel | PeftModel, Tokenizer]:
    """Return a finished run's tuned model, which computes bit for bit what it did after training, and its tokenizer.

    Parameters
    ----------
    spec : RunSpec
        The run. The base under an adapter is trained anew if the cache lacks it.
    cache_dir : str or Path
        Cache folder.

    Returns
    -------
    tuple of (PreTrainedModel or PeftModel, tokenizers.Tokenizer)
        Weights in float32.

    Raises
    ------
    ValueError
        If the tuned weights are not in the cache or cannot be read.
    """
    folder = tuned_folder(cache_dir, spec.run_id)
    if not folder.is_dir():
        raise ValueError(
            f"tuned weights of run {spec.run_id} are not in {folder.parent}; name the cache that the grid was trained "
            "with, or delete the run's record and train it again"
        )
    if spec.tuning.method == "fft" and spec.size.pretrained is None:
        return _read(spec.run_id, folder, None), run_corpus(spec.data).tokenizer
    base = load_base(spec, cache_dir)
    return _read(spec.run_id, folder, None if spec.tuning.method == "fft" else base.model), base.tokenizer


def _read(run_id: str, folder: Path, base: PreTrainedModel | None) -> PreTrainedModel | PeftModel:
    try:
        if base is None:
            return AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
        return PeftModel.from_pretrained(base, folder)
    except Exception as error:  # json, transformers, peft and safetensors each raise their own
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"tuned weights of run {run_id} in {folder} cannot be read: {reason}; delete the folder and the run's "
            "record, and train it again"
        ) from error
