"""Files as other tools leave them."""

import json

LORA = {"peft_type": "LORA", "r": 8, "bias": "none", "target_modules": ["c_proj", "c_attn"], "modules_to_save": None}
COUNTS = ("--n-params-base", "1,000,000", "--n-params-updated", 1000)
LOG = [{"step": 100, "eval_loss": 0.98}, {"step": 200, "eval_loss": 1.05, "eval_router_loss": 0.01}]
STATE = {"global_step": 200, "max_steps": 200, "total_flos": 0, "num_input_tokens_seen": 0}


def write(path, content):
    """Write text, or JSON, and return the file's name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path.name


def trainer_folder(folder, log=LOG, adapter=LORA, name="out", **state):
    """Write the output folder of a Trainer and return its name."""
    write(folder / name / "trainer_state.json", STATE | state | {"log_history": log})
    if adapter:
        write(folder / name / "adapter_config.json", adapter)
    return name
