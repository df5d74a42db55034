"""Bottleneck adapters (AdapterH, AdapterP, Parallel) as a PEFT tuner.

Importing this module registers the tuner with PEFT: afterwards `get_peft_model`, `PeftModel.from_pretrained` and
`AutoPeftModelForCausalLM` know it as any other method. Import it before loading a saved adapter.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import torch
from peft import PeftConfig, PeftType
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from peft.utils import register_peft_method
from torch import nn
from transformers.pytorch_utils import Conv1D

from training.models.architectures import Architecture, architecture_of

PEFT_TYPE = "BOTTLENECK"
"""Name of the method in PEFT's registry and in a saved ``adapter_config.json``."""

VARIANTS = ("adapterh", "adapterp", "parallel")
"""Placements: before and after the feed-forward network, after it, beside the attention's input projection."""

_MODULE_FIELDS = ("input_modules", "output_modules", "parallel_modules")


def add_peft_type() -> None:
    """Add `PEFT_TYPE` to PEFT's enumeration of methods, made as the enumeration makes its own.

    PEFT's registry accepts its members only and offers no way to add one (peft 0.21); a test holds this to it.
    """
    if PEFT_TYPE in PeftType.__members__:
        return
    member = str.__new__(PeftType, PEFT_TYPE)
    member._name_ = PEFT_TYPE
    member._value_ = PEFT_TYPE
    member._sort_order_ = len(PeftType)
    member.__objclass__ = PeftType
    # Set before it enters the member map, which forbids setting it; from Python 3.12 members are class attributes.
    type.__setattr__(PeftType, PEFT_TYPE, member)
    PeftType._member_names_.append(PEFT_TYPE)
    PeftType._member_map_[PEFT_TYPE] = member
    PeftType._value2member_map_[PEFT_TYPE] = member


@dataclass
class BottleneckConfig(PeftConfig):
    """Configuration of bottleneck adapters: delta(z) = s U tanh(D z), D of shape (b, in), U of shape (out, b).

    Houlsby et al. 2019, arXiv 1902.00751 (AdapterH); Pfeiffer et al. 2021, arXiv 2005.00247 (AdapterP); He et al. 2022,
    arXiv 2110.04366 (Parallel); placements and values of Zhuo et al. 2024, arXiv 2401.00788.
    """

    variant: str | None = field(default=None, metadata={"help": f"Placement: {', '.join(VARIANTS)}"})
    input_modules: list[str] | None = field(default=None, metadata={"help": "Modules adapted at their input"})
    output_modules: list[str] | None = field(default=None, metadata={"help": "Modules adapted at their output"})
    parallel_modules: list[str] | None = field(default=None, metadata={"help": "Modules adapted beside them"})
    target_modules: list[str] | None = field(default=None, metadata={"help": "Union of the three lists"})
    bottleneck_size: int = field(default=256, metadata={"help": "Width of the bottleneck"})
    scaling: float = field(default=1.0, metadata={"help": "Factor of the adapter's output"})
    init_std: float = field(default=0.02, metadata={"help": "Standard deviation of the initial weights"})
    init_identity: bool = field(default=False, metadata={"help": "Start from an up-projection of zeros"})

    def __post_init__(self) -> None:
        """Check the values and derive ``target_modules``."""
        super().__post_init__()
        self.peft_type = PeftType(PEFT_TYPE)
        if self.variant is not None and self.variant not in VARIANTS:
            raise ValueError(f"unknown adapter variant {self.variant!r}; choose from {', '.join(VARIANTS)}")
        if self.variant is None and not self.has_modules():
            raise ValueError(
                f"bottleneck adapters need a place: give variant ({', '.join(VARIANTS)}) "
                f"or at least one of {', '.join(_MODULE_FIELDS)}"
            )
        if self.bottleneck_size < 1:
            raise ValueError(f"bottleneck_size is {self.bottleneck_size}; it must be at least 1")
        if self.init_std <= 0:
            raise ValueError(f"init_std is {self.init_std}; it must be positive (init_identity=True starts from U = 0)")
        given = self.target_modules
        self.set_modules({name: getattr(self, name) for name in _MODULE_FIELDS})
        # A saved configuration carries the union; anything else would be lost without a word.
        if given is not None and list(given) != self.target_modules:
            raise ValueError(
                f"target_modules={given!r} does not say where bottlenecks go; leave it out, "
                f"and give variant or {', '.join(_MODULE_FIELDS)}"
            )

    def has_modules(self) -> bool:
        """Return whether any module list is given."""
        return any(getattr(self, name) for name in _MODULE_FIELDS)

    def set_modules(self, modules: Mapping[str, Sequence[str] | None]) -> None:
        """Set the three lists of modules, and ``target_modules`` to their union."""
        # Ordered: a set would be saved in a different order each time.
        union: dict[str, None] = {}
        for name in _MODULE_FIELDS:
            given = modules.get(name)
            setattr(self, name, None if given is None else list(given))
            union |= dict.fromkeys(given or ())
        self.target_modules = list(union) or None

    def positions_of(self, key: str) -> tuple[str, ...]:
        """Return where the module named ``key`` is adapted: any of ``input``, ``parallel``, ``output``."""
        places = {"input": self.input_modules, "parallel": self.parallel_modules, "output": self.output_modules}
        return tuple(
            place
            for place, names in places.items()
            if any(key == name or key.endswith(f".{name}") for name in names or ())
        )


class Bottleneck(nn.Module):
    """The adapter's update delta(z) = s U tanh(D z), without biases."""

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

    Input: f(x + delta(x)), parallel: f(x) + delta(x), output: f(x) + delta(f(x)); active adapters act one after the
    other. Sums are taken in the adapter's precision (float32 in PEFT), and returned in that of the frozen module.
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
        """Add an adapter at the given positions, on the device of the frozen module."""
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


class BottleneckModel(BaseTuner):
    """A model with bottleneck adapters around its frozen modules, as `peft.get_peft_model` makes it; never merged."""

    prefix = "bottleneck_"
    tuner_layer_cls = BottleneckLayer

    @staticmethod
    def _prepare_adapter_config(peft_config: BottleneckConfig, model_config: dict[str, Any]) -> BottleneckConfig:
        if not peft_config.has_modules():
            peft_config.set_modules(
                _placement(peft_config.variant, architecture_of(model_config.get("model_type", "")))
            )
        return peft_config

    def _create_and_replace(
        self,
        peft_config: BottleneckConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        positions = peft_config.positions_of(current_key)
        if isinstance(target, BottleneckLayer):
            target.update_layer(adapter_name, peft_config, positions)
            return
        layer = BottleneckLayer(target, hidden_size=getattr(self.model.config, "hidden_size", None))
        layer.update_layer(adapter_name, peft_config, positions)
        self._replace_module(parent, target_name, layer, target)

    def _replace_module(self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module) -> None:
        # PEFT's own expects a projection with a weight; a block has none, and the layer places its adapters itself.
        setattr(parent, child_name, new_module)

    def _check_merge_allowed(self) -> None:
        raise not_linear(self.active_adapters)

    def unmerge_adapter(self) -> None:
        """Raise ValueError: bottleneck adapters are never merged."""
        raise not_linear(self.active_adapters)


def _placement(variant: str, architecture: Architecture) -> dict[str, tuple[str, ...]]:
    placements = {
        "adapterh": {"input_modules": architecture.ffn_entry, "output_modules": architecture.ffn_exit},
        "adapterp": {"output_modules": architecture.ffn_exit},
        "parallel": {"parallel_modules": architecture.attention_in},
    }
    return placements[variant]


add_peft_type()
if PEFT_TYPE_TO_CONFIG_MAPPING.get(PeftType(PEFT_TYPE)) is not BottleneckConfig:
    register_peft_method(name=PEFT_TYPE.lower(), config_cls=BottleneckConfig, model_cls=BottleneckModel)
