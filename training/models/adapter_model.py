"""The PEFT tuner that puts bottleneck adapters into a model."""

from typing import Any

from peft.tuners.tuners_utils import BaseTuner
from torch import nn

from training.models.adapter_config import BottleneckConfig
from training.models.adapter_layer import BottleneckLayer, not_linear
from training.models.architectures import Architecture, architecture_of


class BottleneckModel(BaseTuner):
    """A model with bottleneck adapters (AdapterH, AdapterP, Parallel) around its frozen modules.

    Made by `peft.get_peft_model`, with the methods of any PEFT tuner, except merging: the adapters are not linear.

    Parameters
    ----------
    model : torch.nn.Module
        The model to adapt.
    config : BottleneckConfig
        Configuration of the adapter.
    adapter_name : str
        Name of the adapter.
    """

    prefix = "bottleneck_"
    tuner_layer_cls = BottleneckLayer

    @staticmethod
    def _prepare_adapter_config(peft_config: BottleneckConfig, model_config: dict[str, Any]) -> BottleneckConfig:
        if not peft_config.has_modules():
            placement = _placement(peft_config.variant, architecture_of(model_config.get("model_type", "")))
            peft_config.set_modules(**{name: list(modules) for name, modules in placement.items()})
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
        layer.set_adapter(self.active_adapters)
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
