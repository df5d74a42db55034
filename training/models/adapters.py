"""Bottleneck adapters (AdapterH, AdapterP, Parallel) as a PEFT tuner.

Importing this package registers the tuner with PEFT: afterwards `get_peft_model`, `PeftModel.from_pretrained` and
`AutoPeftModelForCausalLM` know it as any other method. Import it before loading a saved adapter.
"""

from peft import PeftType
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.utils import register_peft_method

from training.models.adapter_config import PEFT_TYPE, BottleneckConfig, add_peft_type
from training.models.adapter_layer import Bottleneck, BottleneckLayer
from training.models.adapter_model import BottleneckModel

__all__ = ["PEFT_TYPE", "Bottleneck", "BottleneckConfig", "BottleneckLayer", "BottleneckModel"]

add_peft_type()
if PEFT_TYPE_TO_CONFIG_MAPPING.get(PeftType(PEFT_TYPE)) is not BottleneckConfig:
    register_peft_method(name=PEFT_TYPE.lower(), config_cls=BottleneckConfig, model_cls=BottleneckModel)
