"""What a run costs: floating-point operations by formula, peak memory by measurement."""

import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import torch
from torch import nn

from training.loop.optimisation import updated_parameters
from training.loop.validation import count_virtual_tokens
from training.spec.run import training_flop

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


def estimate_flop(model: nn.Module, n_tokens: int, n_rows: int) -> float:
    """Return the operations of training a model (`training_flop`) on tokens without padding, of so many rows."""
    n_virtual = count_virtual_tokens(model)
    if n_virtual:
        n_base = sum(weight.numel() for weight in model.get_base_model().parameters())
        return training_flop(n_base, 0, n_tokens, n_virtual * n_rows)
    n_params = sum(weight.numel() for weight in model.parameters())
    n_updated = sum(weight.numel() for weight in updated_parameters(model).values())
    return training_flop(n_params, n_updated, n_tokens)


PEAK_FLOPS: Mapping[str, float] = MappingProxyType(
    {
        "A100": 312e12,
        "H100 PCIe": 756e12,
        "H100": 989e12,
        "H200": 989e12,
        "GH200": 989e12,
        "L40S": 362e12,
    }
)
"""Operations a second in bfloat16, dense, by a part of the device's name: NVIDIA's data sheets."""


def model_flops_utilisation(flop: float, seconds: float, n_processes: int, device_name: str) -> float | None:
    """Return the share of the devices' bfloat16 peak that training reached; None where that is unknown, as on CPUs.

    Model FLOPs utilisation (PaLM, arXiv 2204.02311, appendix B): attention and recomputed operations do not count.
    """
    # The longest name that fits: "H100 PCIe" before "H100".
    known = [name for name in PEAK_FLOPS if name in device_name]
    if not known or seconds <= 0:
        return None
    return flop / (seconds * n_processes * PEAK_FLOPS[max(known, key=len)])


class PeakMemory:
    """Peak memory since it was made: of tensors on an accelerator, of the whole process on a CPU."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._can_measure = device.type == "cuda" or _reset_process_peak()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def read(self) -> int | None:
        """Return bytes; None where the system offers no peak that can be reset (CPUs other than under Linux)."""
        if not self._can_measure:
            return None
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        for line in _STATUS.read_text("ascii", "replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        return None


def _reset_process_peak() -> bool:
    # The process's lifetime peak (getrusage) would hand one run's peak to every later run of the same process.
    if sys.platform != "linux":
        return False
    try:
        _CLEAR.write_text("5", "ascii")
    except OSError:
        return False
    return _STATUS.exists()
