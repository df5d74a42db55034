"""The bottleneck, and the layer that puts bottlenecks around a frozen module."""

from typing import Any, NoReturn

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers.pytorch_utils import Conv1D

from training.models.adapter_config import BottleneckConfig


class Bottleneck(nn.Module):
    """The adapter's update delta(z) = s U tanh(D z), without biases.

    Parameters
    ----------
    in_features, out_features : int
        Width of z and of the update.
    config : BottleneckConfig
        Width of the bottleneck, scaling and initialisation.
    """

    def __init__(self, in_features: int, out_features: int, config: BottleneckConfig) -> None:
        super().__init__()
        self.down = nn.Linear(in_features, config.bottleneck_size, bias=False)
        self.up = nn.Linear(config.bottleneck_size, out_features, bias=False)
        self.scaling = config.scaling
        nn.init.normal_(self.down.weight, std=config.init_std)
        if config.init_identity:
            nn.init.zeros_(self.up.weight)
        else:
            nn.init.normal_(self.up.weight, std=config.init_std)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Return the update for z of shape (..., in_features), in the precision of the adapter's weights."""
        return self.scaling * self.up(torch.tanh(self.down(z.to(self.down.weight.dtype))))


class BottleneckLayer(nn.Module, BaseTunerLayer):
    """A frozen module f with bottlenecks before, beside and after it; each adapter uses one place or several.

    An input adapter makes f(x + delta(x)), a parallel one f(x) + delta(x), an output one f(x) + delta(f(x)). Several
    active adapters act one after the other. The sum is taken in the precision of the adapter's weights, which PEFT
    keeps in float32, and returned in that of the frozen module.

    Parameters
    ----------
    base_layer : torch.nn.Module
        The frozen module: a projection, or a block that maps the residual stream to itself.
    hidden_size : int, optional
        Width of the residual stream; needed where the module is a block.

    Raises
    ------
    TypeError
        If the module is no projection and ``hidden_size`` is not given.
    """

    adapter_layer_names = ("bottleneck_input", "bottleneck_parallel", "bottleneck_output")
    other_param_names = ()

    def __init__(self, base_layer: nn.Module, hidden_size: int | None = None) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.bottleneck_input = nn.ModuleDict()
        self.bottleneck_parallel = nn.ModuleDict()
        self.bottleneck_output = nn.ModuleDict()
        self.in_features, self.out_features = _widths(self.get_base_layer(), hidden_size)
        self._disable_adapters = False
        self.merged_adapters = []

    def update_layer(self, adapter_name: str, config: BottleneckConfig, positions: tuple[str, ...]) -> None:
        """Add an adapter at the given positions, on the device of the frozen module.

        Parameters
        ----------
        adapter_name : str
            Name of the adapter.
        config : BottleneckConfig
            Its configuration.
        positions : tuple of str
            Any of ``input``, ``parallel``, ``output``.
        """
        widths = {
            "input": (self.in_features, self.in_features),
            "parallel": (self.in_features, self.out_features),
            "output": (self.out_features, self.out_features),
        }
        reference = next(self.get_base_layer().parameters(), None)
        for position in positions:
            bottleneck = Bottleneck(*widths[position], config)
            # PEFT's low-memory loading makes the adapter on the meta device and fills it later.
            if reference is not None and not bottleneck.down.weight.is_meta:
                # Weights of 8- and 4-bit modules are integers: the device is theirs, the precision is not.
                dtype = reference.dtype if reference.dtype.is_floating_point else None
                bottleneck = bottleneck.to(reference.device, dtype)
            getattr(self, f"bottleneck_{position}")[adapter_name] = bottleneck
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Run the frozen module with the active adapters around it; alone when adapters are disabled."""
        if self.disable_adapters:
            return self.base_layer(x, *args, **kwargs)
        for bottleneck in self._active(self.bottleneck_input):
            x = (x + bottleneck(x)).to(x.dtype)
        y = self.base_layer(x, *args, **kwargs)
        for bottleneck in self._active(self.bottleneck_parallel):
            y = (y + bottleneck(x)).to(y.dtype)
        for bottleneck in self._active(self.bottleneck_output):
            y = (y + bottleneck(y)).to(y.dtype)
        return y

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> NoReturn:
        """Raise ValueError: a bottleneck is not linear in its input."""
        raise not_linear(adapter_names or self.active_adapters)

    def unmerge(self) -> NoReturn:
        """Raise ValueError: a bottleneck is never merged."""
        raise not_linear(self.active_adapters)

    def _active(self, bottlenecks: nn.ModuleDict) -> list[nn.Module]:
        return [bottlenecks[name] for name in self.active_adapters if name in bottlenecks]


def not_linear(adapter_names: list[str]) -> ValueError:
    """Return the error that says why bottleneck adapters cannot be merged, and what to do instead."""
    return ValueError(
        f"bottleneck adapter {', '.join(adapter_names)} cannot be merged into the base weights: U tanh(D x) is not "
        "linear in x; keep the adapter on the model, or call unload() to get the base model back without it"
    )


def _widths(module: nn.Module, hidden_size: int | None) -> tuple[int, int]:
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    if isinstance(module, Conv1D):
        return module.nx, module.nf
    if hidden_size is None:
        raise TypeError(
            f"a bottleneck adapter cannot tell the widths of a {type(module).__name__}; target a projection "
            "(torch.nn.Linear or Conv1D), or a block of a model whose configuration has a hidden_size"
        )
    return hidden_size, hidden_size
