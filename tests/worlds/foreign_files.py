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


def write_weights(path, shapes, dtype="F32"):
    """Write the header of a safetensors file and return its path."""
    header = {name: {"dtype": dtype, "shape": shape, "data_offsets": [0, 0]} for name, shape in shapes.items()}
    text = json.dumps({"__metadata__": {"format": "pt"}} | header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    return path


def peft_result(name, config, total, updated, **changes):
    metrics = [{"step": 10, "train loss": 0.5}, {"step": 20, "test accuracy": 605 / 1319, "train total tokens": 99}]
    train = {"num_trainable_params": updated, "num_total_params": total, "status": "success", "train_time": 9.5}
    settings = {"model_id": "some/Tiny-1B", "seed": 0, "optimizer_type": "AdamW"}
    return {
        "run_info": {"experiment_name": name, "train_config": settings, "peft_config": config},
        "train_info": train | {"metrics": metrics, "cuda_memory_max": 77} | changes,
        "meta_info": {"dataset_info": {"metamath": {}, "gsm8k": {}}},
    }
