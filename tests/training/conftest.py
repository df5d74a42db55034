import atexit
import os
import shutil
import tempfile
from pathlib import Path

import pytest
import tiny_grid as TINY
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from training.__main__ import main
from training.corpus.embedded import EmbeddedCorpus
from training.spec.grids import HARDER_CORPUS, PRESETS

# Read by `datasets` at its import: rows that tests store are no one else's, and go with them.
os.environ["HF_DATASETS_CACHE"] = tempfile.mkdtemp(prefix="astraios-rows-")
atexit.register(shutil.rmtree, os.environ["HF_DATASETS_CACHE"], ignore_errors=True)
# More threads than one only slow models this small down, by far where cores are shared.
torch.set_num_threads(1)


def pytest_collection_modifyitems(items):
    # Notices of the pinned libraries about each other, raised by every call: nothing here can act on them.
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore::FutureWarning:transformers"))
            item.add_marker(pytest.mark.filterwarnings("ignore:Position ids are not supported:UserWarning:peft"))


VOCABULARY, POSITIONS, WIDTH, LAYERS, HEADS, KEY_VALUE_HEADS, GATED_FFN = 80, 96, 32, 2, 4, 2, 48

_GPT = {"vocab_size": VOCABULARY, "n_positions": POSITIONS, "n_embd": WIDTH, "n_layer": LAYERS, "n_head": HEADS}
_GPT |= dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
_GATED = {"vocab_size": VOCABULARY, "max_position_embeddings": POSITIONS, "hidden_size": WIDTH}
_GATED |= {"num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "intermediate_size": GATED_FFN}
# A spread wider than the library's 0.02: else a model this small has nearly equal logits, and greedy ties.
_COMMON = {"initializer_range": 0.2, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}


def make_config(model_type):
    if model_type in ("gpt_bigcode", "gpt2"):
        return AutoConfig.for_model(model_type, **_GPT, **_COMMON)
    is_gemma = model_type.startswith("gemma")
    heads = {"head_dim": WIDTH // HEADS} if is_gemma or model_type in ("mistral", "qwen3") else {}
    heads |= {} if model_type == "gpt_neox" else {"num_key_value_heads": KEY_VALUE_HEADS}
    tied = {"tie_word_embeddings": is_gemma} if model_type not in ("gpt_neox", "starcoder2") else {}
    return AutoConfig.for_model(model_type, **_GATED, **heads, **tied, **_COMMON)


@pytest.fixture(scope="session")
def config_of():
    """Return a function from model type to a small configuration."""
    return make_config


@pytest.fixture(scope="session")
def base_of():
    """Return a function from model type to a small base model, the same one each time."""

    def make(model_type):
        with torch.random.fork_rng():
            torch.manual_seed(1)
            return AutoModelForCausalLM.from_config(make_config(model_type)).eval()

    return make


@pytest.fixture(scope="session")
def tokens():
    generator = torch.Generator().manual_seed(2)
    return torch.randint(1, VOCABULARY, (3, 12), generator=generator)


@pytest.fixture(scope="session")
def train():
    """Return a function that takes optimiser steps and returns the largest gradient of every updated tensor."""

    def steps(model, tokens, n_steps=5):
        model.train()
        updated = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        optimizer = torch.optim.AdamW(updated.values(), lr=1e-2)
        largest = dict.fromkeys(updated, 0.0)
        for _ in range(n_steps):
            optimizer.zero_grad()
            model(input_ids=tokens, labels=tokens).loss.backward()
            for name, weight in updated.items():
                if weight.grad is not None:
                    largest[name] = max(largest[name], weight.grad.abs().max().item())
            optimizer.step()
        model.eval()
        return largest

    return steps


@pytest.fixture(scope="session")
def corpus():
    return EmbeddedCorpus()


@pytest.fixture(scope="session")
def wide_corpus():
    """Corpus with lists, numbers and strings, and three phrasings."""
    return EmbeddedCorpus(HARDER_CORPUS)


@pytest.fixture
def tiny(monkeypatch):
    """A grid of four small runs under the preset `tiny`, whose workers are forked."""
    TINY.fork_workers(monkeypatch)
    grid = TINY.tiny_grid()
    monkeypatch.setitem(PRESETS, "tiny", lambda: grid)
    return grid


@pytest.fixture
def told(capsys):
    """Run `python -m training` in this process, to the exit status that is expected: its two outputs, out and err."""

    def told(*arguments, status=0):
        capsys.readouterr()
        try:
            found = main([*map(str, arguments)])
        except SystemExit as exit_:
            found = exit_.code
        captured = capsys.readouterr()
        assert found == status, captured.err
        return captured

    return told


@pytest.fixture
def refused(told):
    """Run a command that must end with code 2 and nothing on standard output: what it says."""

    def refused(*arguments):
        captured = told(*arguments, status=2)
        assert captured.out == ""
        return captured.err

    return refused
